package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
)

// A past is random records of one shard, and the state that they truly add up to.
type past struct {
	rnd     *rand.Rand
	truth   *shardState
	records [][]byte
	at      int64
	n       int
	moved   map[journal.Ref]bool // messages that went from one queue to another: their numbers are others then
	ended   map[journal.Ref]int  // by which record
}

func (p *past) add(payload []byte) {
	ref := journal.MakeRef(1, uint32(len(p.records)))
	before := p.live()
	p.records = append(p.records, payload)
	if err := p.truth.Apply(ref, payload); err != nil {
		panic(err) // the test makes records that nobody can read
	}
	after := p.live()
	for r, was := range before {
		is, there := after[r]
		switch {
		case !there:
			p.ended[r] = len(p.records) - 1
		case is != was:
			p.moved[r] = true
		}
	}
}

// message is where a message is.
type message struct {
	queue uint32
	seq   uint64
}

func (s *shardState) messages() map[journal.Ref]message {
	all := map[journal.Ref]message{}
	s.snapshot(func(journal.Ref) bool { return true }, func(q *queue.Queue, seq uint64, span queue.Span) {
		all[journal.Ref(span.Ref)] = message{q.ID, seq}
	}, func(b []byte) []byte { return b })
	return all
}

func (p *past) live() map[journal.Ref]message { return p.truth.messages() }

// some are messages of a queue that are there.
func (p *past) some(q *queue.Queue) (seqs []uint64) {
	live := p.live()
	for _, ref := range slices.Sorted(maps.Keys(live)) { // the same for the same seed
		m := live[ref]
		if m.queue == q.ID && p.rnd.IntN(3) == 0 {
			seqs = append(seqs, m.seq)
		}
	}
	return seqs
}

func (p *past) step() {
	p.at += p.rnd.Int64N(int64(time.Second))
	names := []string{"free", "full", "dropping", "dying"}
	name := names[p.rnd.IntN(len(names))]
	q := p.truth.Queue(name)
	if q == nil {
		s := queue.Settings{Storage: "file", Lease: time.Second, RetryMin: 1, RetryMax: 1, RetryFactor: 1}
		switch name {
		case "full":
			s.MaxMessages = 4
		case "dropping":
			s.MaxMessages, s.Overflow = 4, queue.DropOldest
		case "dying":
			s.MaxDeliveries = 2
		}
		p.add(queue.AppendCreate(nil, p.truth.NewID(), p.at, name, &s))
		return
	}
	if d := p.truth.Queue(queue.DeadName(name)); d != nil && p.rnd.IntN(3) == 0 {
		q = d
	}
	switch p.rnd.IntN(16) {
	case 0, 1, 2, 3:
		p.settle(q)
	case 4:
		var rs []queue.Return
		for _, seq := range p.some(q) {
			rs = append(rs, queue.Return{Seq: seq, Due: p.at + p.rnd.Int64N(1e9)})
		}
		if len(rs) > 0 {
			p.add(queue.AppendReturn(nil, q.ID, p.at, rs, "seqs=[1 2] Seq:3", true, p.rnd.IntN(3) == 0))
		}
	case 5:
		if seqs := p.some(q); len(seqs) > 0 {
			p.add(queue.AppendCancel(nil, q.ID, p.at, seqs[0]))
		}
	case 6:
		if seqs := p.some(q); len(seqs) > 0 {
			p.add(queue.AppendMoveTo(nil, q.ID, p.at, seqs[0], p.at+1e9))
		}
	case 7:
		if seqs := p.some(q); len(seqs) > 0 {
			p.add(queue.AppendExpire(nil, q.ID, p.at, seqs))
		}
	case 8:
		if seqs := p.some(q); len(seqs) > 0 && q.ID&1 != 0 {
			p.add(queue.AppendRedrive(nil, q.ID, p.at, 0, seqs))
		}
	case 9:
		switch p.rnd.IntN(12) {
		case 0, 1:
			p.add(queue.AppendDelete(nil, q.ID, p.at))
		case 2:
			p.add(queue.AppendPurge(nil, q.ID, p.at))
		}
	case 10:
		s := q.Settings
		s.MaxMessages = int64(p.rnd.IntN(6))
		p.add(queue.AppendUpdate(nil, q.ID, p.at, &s))
	default:
		p.publish(q)
	}
}

func (p *past) settle(q *queue.Queue) {
	if seqs := p.some(q); len(seqs) > 0 {
		p.add(queue.AppendSettle(nil, q.ID, p.at, seqs))
	}
}

func (p *past) publish(q *queue.Queue) {
	for more := p.rnd.IntN(3); more >= 0; more-- {
		p.n++
		record := queue.AppendPublish(nil, &queue.Publish{Body: fmt.Appendf(nil, `"%d seqs=[7]"`, p.n), Priority: queue.DefaultPriority, More: more > 0})
		queue.Address(record, q.ID, p.at)
		p.add(record)
	}
}

// Every kind of record that the core can describe is known here; one that is new must be put among those that
// mean messages by their numbers, or among those that do not.
func TestEveryRecordIsUnderstood(t *testing.T) {
	kinds := 0
	for kind := range 256 {
		record := make([]byte, 64)
		record[0] = byte(kind)
		if _, err := queue.Describe(record, false); err != nil {
			continue
		}
		kinds++
		if _, err := read(record); err != nil {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	if kinds < 15 {
		t.Errorf("only %d kinds were tried", kinds)
	}
	for _, test := range []struct {
		record []byte
		kind   string
		seqs   string
	}{
		{queue.AppendSettle(nil, 4, 1, []uint64{3, 1}), "settle", "[3 1]"},
		{queue.AppendExpire(nil, 4, 1, []uint64{7}), "expire", "[7]"},
		{queue.AppendCancel(nil, 4, 1, 9), "cancel", "[9]"},
		{queue.AppendMoveTo(nil, 4, 1, 9, 77), "move to", "[9]"},
		{queue.AppendRedrive(nil, 4, 1, 6, []uint64{5, 8}), "redrive", "[5 8]"},
		{queue.AppendReturn(nil, 4, 1, []queue.Return{{Seq: 5, Due: 6, Number: 7}}, "seqs=[9]", true, false), "return", "[5]"},
		{queue.AppendRebase(nil, 4, 1, 5, 6, 7, 8), "rebase", "[5]"},
		{queue.AppendPurge(nil, 4, 1), "purge", "[]"},
		{queue.AppendDelete(nil, 4, 1), "delete", "[]"},
	} {
		r, err := read(test.record)
		if err != nil || r.kind != test.kind || r.id != 4 || fmt.Sprint(r.seqs) != test.seqs {
			t.Errorf("%s: %+v, %v", test.kind, r, err)
		}
	}
	message := queue.AppendPublish(nil, &queue.Publish{Body: []byte(`"seq=5 published=1 seqs=[6]"`)})
	moved, err := queue.AppendRelocate(nil, 4, 11, message)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := read(moved); err != nil || fmt.Sprint(r) != "{relocate 4 [11]}" {
		t.Errorf("relocate: %+v, %v", r, err)
	}
}

// What is behind a gap does no harm: no message is gone whose record is there and that nobody has settled, none
// that was acked before the gap comes again, and none that was published before and acked behind.
func TestMendedStateLosesNothing(t *testing.T) {
	again, total := 0, 0
	for seed := range uint64(300) {
		p := &past{rnd: rand.New(rand.NewPCG(seed, 11)), truth: newShardState(), at: 1e18, moved: map[journal.Ref]bool{}, ended: map[journal.Ref]int{}}
		for len(p.records) < 120 {
			p.step()
		}
		from := p.rnd.IntN(len(p.records))
		to := from + 1 + p.rnd.IntN(6)
		mended := newMendedState()
		left := map[journal.Ref]bool{}
		for i, record := range p.records {
			if i == from {
				mended.Gap()
			}
			if i >= from && i < to {
				continue
			}
			ref := journal.MakeRef(1, uint32(i))
			err := mended.Apply(ref, record)
			if left[ref] = errors.Is(err, filejournal.ErrLeftOut); err != nil && !left[ref] {
				t.Fatalf("seed %d, record %d: %v", seed, i, err)
			}
		}
		data, _ := mended.Snapshot(func(journal.Ref) bool { return false })
		loaded := newShardState()
		if err := loaded.Load(data); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		there := loaded.messages()
		lost := func(ref journal.Ref) bool { i := int(ref.Offset()); return i >= from && i < to || left[ref] }
		for ref := range p.live() {
			if _, ok := there[ref]; !ok && !lost(ref) && !p.batchEnds(ref, from, to) {
				t.Errorf("seed %d, gap %d-%d: message %d is there, its record is whole, and it is gone", seed, from, to, ref.Offset())
			}
		}
		for ref := range there {
			if _, ok := p.live()[ref]; !ok {
				again++
				by, ended := p.ended[ref]
				if ended && by < from {
					t.Errorf("seed %d, gap %d-%d: message %d, which ended before the gap, comes again", seed, from, to, ref.Offset())
				}
				if r, err := read(p.records[by]); err != nil || ended && r.kind == "settle" && by >= to && int(ref.Offset()) < from && !p.moved[ref] && !p.batchEnds(ref, from, to) {
					t.Errorf("seed %d, gap %d-%d: message %d, which was published before the gap and acked behind it, comes again (%v)", seed, from, to, ref.Offset(), err)
				}
			}
		}
		total += len(there)
		for _, q := range loaded.Queues() {
			if want := p.truth.Queue(q.Name); want != nil && want.ID == q.ID && q.Settings.Overflow != want.Settings.Overflow {
				t.Errorf("seed %d: queue %s has other settings", seed, q.Name)
			}
		}
	}
	t.Logf("%d messages, %d of them come again", total, again)
	if again == 0 || again > total*9/10 {
		t.Error("that is no test")
	}
}

// batchEnds reports whether the gap has a part of the batch that a message belongs to, or what follows it.
func (p *past) batchEnds(ref journal.Ref, from, to int) bool {
	for i := int(ref.Offset()); i < len(p.records); i++ {
		if i >= from && i < to {
			return true
		}
		if r, err := read(p.records[i]); err != nil || r.kind != "publish" || !more(p.records[i]) {
			return false
		}
	}
	return false
}

// more reports whether a publish belongs together with the one behind it.
func more(record []byte) bool {
	text, err := queue.Describe(record, false)
	if err != nil {
		return false
	}
	var id uint32
	var at int64
	var base64, more bool
	_, err = fmt.Sscanf(text, "publish queue=%d published=%d base64=%t more=%t", &id, &at, &base64, &more)
	return err == nil && more
}
