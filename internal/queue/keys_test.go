package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A crew works off a queue whose messages all have keys, and notices what comes out of order or too late.
type crew struct {
	*rig
	q       *Queue
	rnd     *rand.Rand
	hands   []*hand
	done    []int   // by key: how many of its messages are settled
	failed  []int   // how often the first that is not has failed
	out     []bool  // somebody has it
	free    []int64 // since when it could have been delivered
	waited  int64   // the longest that one had to wait for that
	ahead   int     // the most that one key was ahead of another
	redone  int
	settled int
}

// A hand is one consumer and what it is at.
type hand struct {
	*Consumer
	seq  uint64
	what int
}

const (
	idle = iota
	acks
	nacks
	sleeps // until its lease is over
)

const (
	crewKeys, crewEach, crewHands = 1000, 100, 16

	workTime = 10 * time.Millisecond
)

func newCrew(t *testing.T) *crew {
	w := &crew{rig: newRig(t), rnd: rand.New(rand.NewPCG(5, 16)), done: make([]int, crewKeys), failed: make([]int, crewKeys),
		out: make([]bool, crewKeys), free: make([]int64, crewKeys)}
	s := testSettings()
	s.Lease, s.MaxDeliveries, s.RetryMax = 2*time.Second, 0, 4*time.Second
	w.apply(AppendCreate(nil, w.st.NewID(), w.now, "work", &s))
	for i := range crewKeys * crewEach { // the keys take turns
		rec := AppendPublish(nil, &Publish{Body: []byte{1}, Priority: DefaultPriority, Key: fmt.Appendf(nil, "key %d", i%crewKeys)})
		Address(rec, 2, w.now)
		w.apply(rec)
	}
	for i := range w.free {
		w.free[i] = w.now
	}
	w.hire()
	return w
}

func (w *crew) hire() {
	w.q, w.hands = w.st.Queue("work"), nil
	for range crewHands {
		h := &hand{Consumer: &Consumer{Queue: w.q, Limit: 1, Lease: w.q.Settings.Lease}}
		h.Tag = h
		w.hands = append(w.hands, h)
		w.st.Subscribe(h.Consumer)
	}
}

// place is a message's key, and which of the key's messages it is.
func (w *crew) place(seq uint64) (key, number int) {
	return int(seq-1) % crewKeys, int(seq-1) / crewKeys
}

func (w *crew) take() {
	for d, ok := w.st.Take(w.now); ok; d, ok = w.st.Take(w.now) {
		key, number := w.place(d.Seq)
		if w.out[key] || number != w.done[key] || int(d.Attempt) != w.failed[key]+1 {
			w.Fatalf("key %d: message %d of it is delivered, attempt %d; %d are done, the next has failed %d times, somebody has it: %v",
				key, number, d.Attempt, w.done[key], w.failed[key], w.out[key])
		}
		w.out[key] = true
		w.waited = max(w.waited, w.now-w.free[key])
		h := d.C.Tag.(*hand)
		switch h.seq, h.what = d.Seq, acks; w.rnd.IntN(20) {
		case 0:
			h.what = nacks
		case 1:
			h.what = sleeps
		}
	}
}

// work ends what the hands are at, most of it.
func (w *crew) work() {
	var seqs []uint64
	for _, h := range w.hands {
		switch h.what {
		case acks:
			key, _ := w.place(h.seq)
			w.done[key], w.failed[key], w.out[key], w.free[key] = w.done[key]+1, 0, false, w.now
			seqs = append(seqs, h.seq)
		case nacks:
			w.giveBack(h.seq, "nack")
		}
		if h.what != sleeps {
			h.what = idle
		}
	}
	if len(seqs) > 0 {
		w.settled += w.apply(AppendSettle(nil, 2, w.now, seqs)).N
	}
	w.ahead = max(w.ahead, slices.Max(w.done)-slices.Min(w.done))
}

func (w *crew) giveBack(seq uint64, reason string) {
	key, _ := w.place(seq)
	counted, number := w.q.Attempts(seq)
	due := w.now + int64(w.q.Settings.Backoff(counted+1, w.rnd.Uint64()))
	w.apply(AppendReturn(nil, 2, w.now, []Return{{Seq: seq, Due: due, Number: number}}, reason, true, false))
	w.failed[key], w.out[key], w.free[key] = w.failed[key]+1, false, due
	w.redone++
}

// pass lets time pass.
func (w *crew) pass() {
	w.now += int64(workTime)
	w.st.Due(w.now)
	var over []uint64
	w.st.Expired(w.now, func(_ *Queue, seq uint64) { over = append(over, seq) })
	for _, seq := range over {
		w.giveBack(seq, "lease expired")
	}
	for _, h := range w.hands {
		if h.what == sleeps && h.leased == 0 {
			h.what = idle
		}
	}
}

// crash ends the process: what was leased is ready, and nobody's attempt has counted.
func (w *crew) crash() {
	w.snapshot()
	w.restart(true)
	for key := range w.out {
		if w.out[key] {
			w.out[key], w.free[key] = false, w.now
		}
	}
	w.hire()
}

// TestThousandKeys: 1,000 keys with 100 messages each are worked off by 16 consumers that fail one time in ten, by a nack
// or by a lease that ends, through restarts: in order within each key, and no key waits long for its turn.
func TestThousandKeys(t *testing.T) {
	t.Parallel()
	w := newCrew(t)
	begin := w.now
	for step := 1; w.settled < crewKeys*crewEach; step++ {
		if w.take(); step%8000 == 0 {
			w.crash()
			w.take()
		}
		w.pass()
		w.work()
		if step > 50*crewEach*crewKeys/crewHands {
			t.Fatalf("after %v %d messages are settled", time.Duration(w.now-begin), w.settled)
		}
	}
	t.Logf("%v, %d deliveries failed, a key waited %v at most for its turn and was %d messages behind another", time.Duration(w.now-begin),
		w.redone, time.Duration(w.waited), w.ahead)
	// A round of all keys takes the crew seven seconds, most of them asleep.
	if w.waited > int64(20*time.Second) || w.ahead > 5 {
		t.Error("a key has been starved")
	}
	if c := w.q.Counts; c.Acked != crewKeys*crewEach || c.Live() != 0 || len(w.q.lines) != 0 || w.redone < crewKeys*crewEach/20 {
		t.Errorf("%+v, %d lines are left, %d deliveries failed", c, len(w.q.lines), w.redone)
	}
	if f := check(w.st); f != "" {
		t.Error(f)
	}
}

// TestLinesAreBounded: what is rescheduled over and over while it waits behind its key fills no heap.
func TestLinesAreBounded(t *testing.T) {
	const n = 1000
	b := newBench(t, 1, 1)
	for range n {
		b.apply(t, b.record(Publish{Priority: DefaultPriority, Key: []byte("a")}))
	}
	b.take()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 * n {
		seq := 2 + rnd.Uint64N(n-1)
		b.apply(t, AppendMoveTo(nil, 2, b.now, seq, b.now+1e9))
		b.apply(t, AppendMoveTo(nil, 2, b.now, seq, b.now))
	}
	if l := b.q.lines["a"]; len(l.rest) > 4*n {
		t.Errorf("a line of %d remembers %d", n, len(l.rest))
	}
	if f := check(b.st); f != "" {
		t.Error(f)
	}
	for range n {
		b.settle(t)
		b.take()
	}
	if c := b.q.Counts; c.Acked != n || len(b.q.lines) != 0 {
		t.Errorf("%+v, %d lines", c, len(b.q.lines))
	}
}
