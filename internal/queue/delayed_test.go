package queue

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

const month = int64(30 * 24 * time.Hour)

// A delayedBench has many messages that are due at random within 30 days.
type delayedBench struct {
	*bench
	rnd *rand.Rand
	due []int64 // by seq; 0: it has been cancelled, or delivered
}

func newDelayedBench(t testing.TB, n int) *delayedBench {
	b := &delayedBench{newBench(t, 0, 0), rand.New(rand.NewPCG(1, 2)), make([]int64, n+1)}
	for seq := range b.due[1:] {
		delay := 1 + b.rnd.Int64N(month)
		b.apply(t, b.record(Publish{Priority: DefaultPriority, Delay: time.Duration(delay)}))
		b.due[seq+1] = b.now + delay
	}
	return b
}

// cancel cancels n of them at random, while everything is out of the way that a scan would go through: the list of the
// chunks, and the heap of timers.
func (b *delayedBench) cancel(t *testing.T, n int) {
	timers, head, tail := b.st.delays.heap, b.q.head, b.q.tail
	b.st.delays.heap, b.q.head, b.q.tail = nil, nil, nil
	for n > 0 {
		seq := 1 + b.rnd.Uint64N(uint64(len(b.due)-1))
		c, m := b.q.find(seq)
		if m == nil || c.live == 1 { // a chunk that is empty leaves the list
			continue
		}
		if n--; !b.st.Hold(b.q, seq) {
			t.Fatalf("message %d cannot be cancelled", seq)
		}
		b.buf = AppendCancel(b.buf[:0], b.q.ID, b.now, seq)
		b.apply(t, b.buf)
		b.due[seq] = 0
	}
	b.st.delays.heap, b.q.head, b.q.tail = timers, head, tail
}

// restart goes on with a new state, from a snapshot.
func (b *delayedBench) restart(t *testing.T) {
	snap := b.st.AppendSnapshot(nil)
	b.st, b.q = New(2), nil
	if err := b.st.LoadSnapshot(snap); err != nil {
		t.Fatal(err)
	}
	b.st.Resume(func([]Span) {})
	b.q = b.st.Queue("q")
}

// takeDue takes what is due now, which was not yet at the time before.
func (b *delayedBench) takeDue(t *testing.T, before int64) {
	b.st.Due(b.now)
	b.take()
	for _, seq := range b.seqs {
		if due := b.due[seq]; due <= before || due > b.now {
			t.Fatalf("message %d comes between %d and %d, and is due at %d", seq, before, b.now, due)
		}
		b.due[seq] = 0
	}
}

// TestMillionDelayed: a million messages that are due at random within 30 days cost at most 64 bytes each more than those
// that are ready; any of them can be cancelled without a scan; after a restart each of the others comes when it is due.
func TestMillionDelayed(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	packBehind = 64 // as it really is
	before := heap()
	plain := newBench(t, 0, 0)
	plain.publish(t, n)
	ready := float64(heap()-before) / float64(n)
	runtime.KeepAlive(plain)
	plain = nil
	before = heap()
	b := newDelayedBench(t, n)
	each := float64(heap()-before)/float64(n) - 8 - ready // the test's own note of a message takes 8
	t.Logf("%.1f bytes beyond the %.1f of a ready one", each, ready)
	if each > 64 || b.q.Counts.Delayed != n {
		t.Errorf("a delay costs %.1f bytes; %+v", each, b.q.Counts)
	}
	packBehind = 0
	t.Parallel() // from here on it need not be alone
	b.cancel(t, n/1000)
	b.restart(t)
	b.cancel(t, n/1000)
	b.st.Subscribe(&Consumer{Queue: b.q, Limit: n, Lease: time.Hour, Auto: true})
	times := []int64{b.now + month}
	for range 500 { // just before one of them is due, and when it is
		if due := b.due[1+b.rnd.IntN(n)]; due != 0 {
			times = append(times, due-1, due)
		}
	}
	slices.Sort(times)
	for i, at := range times {
		before := b.now
		b.now = at
		b.takeDue(t, before)
		if i+1 < len(times) && times[i+1] == at+1 && b.st.Next() != at+1 {
			t.Fatalf("a message is due at %d, and the next thing to be done at %d", at+1, b.st.Next())
		}
	}
	for seq, due := range b.due {
		if due != 0 {
			t.Fatalf("message %d is due at %d and has not come", seq, due)
		}
	}
	if c := b.q.Counts; c.Leased != n-2*(n/1000) || c.Cancelled != uint64(2*(n/1000)) {
		t.Errorf("%+v", c)
	}
}

// TestCancelledTimers: the timers of what has been cancelled go as well.
func TestCancelledTimers(t *testing.T) {
	const n = 50_000
	b := newDelayedBench(t, n)
	b.cancel(t, n*9/10)
	b.apply(t, b.record(Publish{Priority: DefaultPriority, Delay: time.Hour}))
	if got := len(b.st.delays.heap); got > n/5+1024 || b.q.Counts.Delayed != n/10+1 {
		t.Errorf("%d timers for %d messages", got, b.q.Counts.Delayed)
	}
	if f := check(b.st); f != "" {
		t.Error(f)
	}
}
