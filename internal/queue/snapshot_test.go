package queue

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var golden = flag.Bool("golden", false, "write testdata/golden-v2 anew; not once it has been released")

// everything is a journal in which every kind of record occurs.
func everything(t testing.TB) *rig {
	r := newRig(t)
	s := testSettings()
	s.MaxDeliveries, s.MaxMessages, s.Overflow = 3, 80, DeadLetterIt
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "orders", &s))
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "orders", &s)) // refused
	r.apply([]byte{kindNoop, 15: 0})
	for i := range 90 {
		r.now += 1e6 + 1
		rec := appendPlain(nil, []byte(`{"n":"`+fmt.Sprint(i)+`"}`), []byte(`"body"`), i%2 == 0, i%9 < 8)
		Address(rec, 2, r.now)
		r.apply(rec)
	}
	r.apply(AppendSettle(nil, 2, r.now, []uint64{11, 13, 80, 1000}))
	r.apply(AppendReturn(nil, 2, r.now, []Return{{Seq: 14, Due: 0}, {Seq: 15, Due: r.now + 5e9}, {Seq: 16, Due: r.now + 1e18}, {Seq: 15, Due: r.now + 9e9}}, "nack", true, false))
	r.apply(AppendReturn(nil, 2, r.now, []Return{{Seq: 17, Due: 0}, {Seq: 16, Due: r.now + 7e9}}, "shutdown", false, false))
	r.apply(AppendReturn(nil, 2, r.now, []Return{{Seq: 18, Due: 0}, {Seq: 2, Due: 0}}, "nack: no", true, true))
	r.apply(AppendShield(nil, 2, r.now, []uint64{19, 12}))
	r.apply(publishRecord(2, r.now, "pushes out", false))
	r.apply(AppendPause(nil, 2, r.now+1, true))
	rec, err := AppendRelocate(nil, 2, 20, r.log[22])
	if err != nil {
		t.Fatal(err)
	}
	r.apply(rec)
	s.MaxDeliveries = 5
	r.apply(AppendUpdate(nil, 2, r.now, &s))
	for i, name := range []string{"purged", "deleted", "small"} {
		s.MaxMessages, s.Overflow = 1, DropOldest
		id := r.st.NewID()
		r.apply(AppendCreate(nil, id, r.now, name, &s))
		r.apply(publishRecord(id, r.now, "a", false))
		r.apply(publishRecord(id, r.now+int64(time.Hour), "b", false))
		r.apply([][]byte{AppendPurge(nil, id, r.now), AppendDelete(nil, id, r.now), AppendPause(nil, id, r.now, false)}[i])
	}
	r.apply(AppendReturn(nil, 2, r.now, []Return{{Seq: 22, Due: r.st.now + 1e9}, {Seq: 23, Due: r.st.now + 1}}, "nack", true, false))
	everyOption(r)
	r.st.Due(r.st.now)
	return r
}

// everyOption adds a queue in which every option of a message and every setting about them occurs.
func everyOption(r *rig) {
	s := testSettings()
	s.TTL, s.DedupWindow, s.DeadLetterExpired = 90*time.Second, 20*time.Second, true
	id := r.st.NewID()
	r.now = r.st.now
	r.apply(AppendCreate(nil, id, r.now, "options", &s))
	publish := func(ps ...Publish) {
		for i, p := range ps {
			p.Body, p.More = fmt.Appendf(nil, "body %d", len(r.log)), i < len(ps)-1
			rec := AppendPublish(nil, &p)
			Address(rec, id, r.now)
			r.apply(rec)
		}
		r.now += 1e9
	}
	publish(Publish{Priority: 0}, Publish{Priority: 9, Headers: []byte(`{"a":"b"}`), Base64: true})
	publish(Publish{Priority: 4, Delay: time.Minute}, Publish{Priority: 5, At: r.now + 70e9}, Publish{Priority: 4, At: 1})
	publish(Publish{Priority: 4, TTL: 10 * time.Second}, Publish{Priority: 4, TTL: time.Hour, Delay: 30 * time.Second})
	publish(Publish{Priority: 4, DedupID: []byte("one")}, Publish{Priority: 3, DedupID: []byte("two"), Key: []byte("k")})
	publish(Publish{Priority: 4, DedupID: []byte("two")}, Publish{Priority: 4, Key: []byte("k")}, Publish{Priority: 4, DedupID: []byte("three")})
	publish(Publish{Priority: 4, Key: []byte("k"), Delay: 2 * time.Minute, TTL: time.Minute})
	for _, rec := range [][]byte{
		AppendMoveTo(nil, id, r.now, 3, r.now+3e9), AppendMoveTo(nil, id, r.now, 3, r.now+20e9), AppendMoveTo(nil, id, r.now, 4, 0),
		AppendMoveTo(nil, id, r.now, 1, r.now+1e18), AppendCancel(nil, id, r.now, 8), AppendCancel(nil, id, r.now, 99),
		AppendReturn(nil, id, r.now, []Return{{Seq: 3, Due: r.now + 4e9}, {Seq: 2, Due: 0}}, "nack", true, false),
		AppendExpire(nil, id, r.now, []uint64{6, 99, 7}),
		AppendReturn(nil, id, r.now, []Return{{Seq: 10}, {Seq: 9}}, "nack: no", true, true),
		AppendRedrive(nil, id+1, r.now, 0, []uint64{1, 99}), AppendRedrive(nil, id+1, r.now, id, []uint64{2}),
	} {
		r.apply(rec)
	}
	r.now += 12e9
	publish(Publish{Priority: 4, DedupID: []byte("three")}, Publish{Priority: 4, DedupID: []byte("four")})
	rec, err := AppendRelocate(nil, id, 2, r.log[r.logOf(id, 2)])
	if err != nil {
		r.Fatal(err)
	}
	r.apply(rec)
	s.TTL, s.DedupWindow, s.DeadLetterExpired = 100*time.Second, 10*time.Second, false
	r.apply(AppendUpdate(nil, id, r.now, &s))
	publish(Publish{Priority: 7, DedupID: []byte("five")})
	r.apply(AppendExpire(nil, id, r.now, []uint64{5}))
}

// logOf is the index of the record that a message refers to.
func (r *rig) logOf(id uint32, seq uint64) int {
	_, m := r.st.ids[id].find(seq)
	return int(m.ref>>6) - 1
}

// dump says a state in words, so that it can be compared whatever snapshots look like.
func dump(st *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "now %d, next id %d\n", st.now, st.nextID)
	for _, q := range st.Queues() {
		fmt.Fprintf(&b, "queue %d %q %+v\n  counts %+v, %d bytes, paused %v, last %d, shield %v\n", q.ID, q.Name, q.Settings, q.Counts, q.Bytes, q.Paused, q.last, q.shield)
		for _, x := range q.dedup.order[q.dedup.first:] {
			fmt.Fprintf(&b, "  known %q: %d until %d\n", x.id, q.dedup.seqs[x.id], x.expires)
		}
		q.each(func(seq uint64, c *chunk, m *msg) bool {
			fmt.Fprintf(&b, "  %d: record %d of %d bytes, body %d, %d counted, %d not, published %d, due %d", seq, m.ref, m.size, m.body(),
				m.attempts, m.uncounted, q.publishedAt(seq, c, m), c.due(seq).at)
			if p := m.priority(); p != DefaultPriority {
				fmt.Fprintf(&b, ", priority %d", p)
			}
			if x := q.extras[seq]; x.expires != 0 || x.key != "" {
				fmt.Fprintf(&b, ", expires %d, key %q", x.expires, x.key)
			}
			if d := q.dead[seq]; d != nil {
				fmt.Fprintf(&b, ", dead %+v", *d)
			}
			b.WriteString("\n")
			return true
		})
	}
	return b.String()
}

// TestSnapshot: a snapshot taken anywhere, and the records behind it, come to the same as all records.
func TestSnapshot(t *testing.T) {
	r := everything(t)
	if f := check(r.st); f != "" {
		t.Fatal(f)
	}
	want := r.st.AppendSnapshot(nil)
	for cut := 0; cut <= len(r.log); cut++ {
		first := New(7)
		for i, rec := range r.log[:cut] {
			if _, err := first.Apply(spanOf(i, rec), rec); err != nil {
				t.Fatal(err)
			}
		}
		if len(first.group) > 0 {
			continue // an all-or-none publish is never cut
		}
		first.Due(first.now)
		snap := first.AppendSnapshot(nil)
		st := New(8)
		if err := st.LoadSnapshot(snap); err != nil {
			t.Fatal(err)
		}
		if again := st.AppendSnapshot(nil); !bytes.Equal(snap, again) {
			t.Fatalf("after %d records: loading a snapshot and writing it changes it", cut)
		}
		if f := check(st); f != "" {
			t.Fatal(f)
		}
		for i, rec := range r.log[cut:] {
			if _, err := st.Apply(spanOf(cut+i, rec), rec); err != nil {
				t.Fatal(err)
			}
		}
		st.Due(st.now)
		if got := st.AppendSnapshot(nil); !bytes.Equal(got, want) {
			t.Fatalf("snapshot after %d records: the state is another", cut)
		}
	}
}

// TestSnapshotFinds: what lies in sparse places is reported in passing.
func TestSnapshotFinds(t *testing.T) {
	r := everything(t)
	found := map[Ref]uint32{}
	s := r.st.BeginSnapshot(func(ref Ref) bool { return ref>>6%3 == 0 }, func(q *Queue, seq uint64, s Span) {
		if _, m := q.find(seq); m == nil || m.span() != s {
			t.Errorf("%q %d is reported at %+v", q.Name, seq, s)
		}
		found[s.Ref] = s.Size
	})
	s.Next(nil, 1<<30)
	for ref, size := range r.live {
		if (ref>>6%3 == 0) != (found[ref] == size) {
			t.Errorf("record %d: found %d bytes of %d", ref>>6, found[ref], size)
		}
	}
}

// TestSnapshotAges: publishing times survive, also where a chunk spans more time than it can express.
func TestSnapshotAges(t *testing.T) {
	r := newRig(t)
	s := testSettings()
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "a", &s))
	for range 4 {
		r.now += int64(40*24*time.Hour) + 123
		r.apply(publishRecord(2, r.now, "x", false))
	}
	r.apply(AppendSettle(nil, 2, r.now, []uint64{1}))
	r.snapshot()
	for _, snapshot := range []bool{true, false} {
		before := r.st.AppendSnapshot(nil)
		r.restart(snapshot)
		if !bytes.Equal(before, r.st.AppendSnapshot(nil)) {
			t.Errorf("snapshot %v: the state is another", snapshot)
		}
		r.apply(publishRecord(2, r.now, "x", false))
	}
}

// TestGolden: what the first release wrote means the same for ever.
func TestGolden(t *testing.T) {
	for _, name := range []string{"testdata/golden-v1", "testdata/golden-v2"} { // v2: snapshots of packed chunks
		t.Run(filepath.Base(name), func(t *testing.T) { replayGolden(t, name, *golden && name == "testdata/golden-v2") })
	}
}

func replayGolden(t *testing.T, name string, write bool) {
	if write {
		r := everything(t)
		var b []byte
		for _, rec := range r.log {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(rec))), rec...)
		}
		for file, data := range map[string][]byte{".journal": b, ".snapshot": r.st.AppendSnapshot(nil), ".state": []byte(dump(r.st))} {
			if err := os.WriteFile(name+file, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(ext string) []byte {
		b, err := os.ReadFile(name + ext)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := string(read(".state"))
	replayed, b := New(1), read(".journal")
	for i := 0; len(b) > 0; i++ {
		n := binary.LittleEndian.Uint32(b)
		rec := b[4 : 4+n]
		if _, err := replayed.Apply(spanOf(i, rec), rec); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if _, err := Describe(rec, true); err != nil {
			t.Errorf("Describe of record %d: %v", i, err)
		}
		b = b[4+n:]
	}
	replayed.Due(replayed.now)
	if got := dump(replayed); got != want {
		t.Errorf("the journal replays to another state: %s", difference(got, want))
	}
	loaded := New(1)
	if err := loaded.LoadSnapshot(read(".snapshot")); err != nil {
		t.Fatal(err)
	}
	if got := dump(loaded); got != want {
		t.Errorf("the snapshot loads as another state: %s", difference(got, want))
	}
}

// difference is the first line of got that is not in want.
func difference(got, want string) string {
	w := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(w) || line != w[i] {
			return fmt.Sprintf("line %d:\n%s\nshould be\n%s", i+1, line, w[min(i, len(w)-1)])
		}
	}
	return "it is shorter"
}

func TestBackoff(t *testing.T) {
	s := Settings{RetryMin: time.Second, RetryMax: 5 * time.Minute, RetryFactor: 2, RetryJitter: 0.2}
	none := Settings{RetryMax: time.Minute, RetryFactor: 100}
	for _, c := range []struct {
		s      *Settings
		n      int
		chance uint64
		want   time.Duration
	}{
		{&s, 1, 1 << 63, time.Second}, {&s, 0, 1 << 63, time.Second}, {&s, 4, 1 << 63, 8 * time.Second},
		{&s, 1, 0, 800 * time.Millisecond}, {&s, 10, 1 << 63, 5 * time.Minute}, {&s, math.MaxInt, 0, 4 * time.Minute},
		{&none, 1, 0, 0}, {&none, 65535, 1 << 63, 0},
		{&Settings{RetryMin: time.Hour, RetryMax: time.Minute}, 3, 7, time.Minute},
	} {
		if got := c.s.Backoff(c.n, c.chance); got != c.want {
			t.Errorf("Backoff(%d, %d) of %v to %v is %v, should be %v", c.n, c.chance, c.s.RetryMin, c.s.RetryMax, got, c.want)
		}
	}
}

// TestSnapshotMeanwhile: a snapshot that is written a little at a time, while everything goes on changing, is the one
// of the moment at which it began.
func TestSnapshotMeanwhile(t *testing.T) {
	t.Parallel()
	whole := 0
	for seed := range uint64(30) {
		h := newHistory(t, rand.New(rand.NewPCG(seed, 1)), temper{keys: 3, keyed: 2, body: 40})
		for step := range 1500 {
			h.act()
			if step%50 != 49 {
				continue
			}
			want := h.st.AppendSnapshot(nil)
			s := h.st.BeginSnapshot(nil, nil)
			var got []byte
			for done := false; !done; {
				if h.act(); h.st.snap != s { // it restarted, or wrote another
					break
				}
				if got, done = s.Next(got, h.rnd.IntN(200)); !done {
					continue
				}
				whole++
				if !bytes.Equal(got, want) {
					t.Fatalf("seed %d, step %d: the snapshot is another", seed, step)
				}
			}
		}
	}
	if whole < 100 {
		t.Errorf("only %d snapshots came to their end", whole)
	}
}
