package queue

import (
	"runtime"
	"testing"
	"time"
)

// bench is a state with one queue and n subscribers, fed without a journal's bookkeeping.
type bench struct {
	st   *State
	q    *Queue
	now  int64
	ref  Ref
	pub  []byte
	buf  []byte
	seqs []uint64
}

func newBench(t testing.TB, consumers, credit int) *bench {
	b := &bench{st: New(1), now: start, pub: publishRecord(2, start, "twenty-four bytes of body", false)}
	s := testSettings()
	b.apply(t, AppendCreate(nil, b.st.NewID(), b.now, "q", &s))
	b.q = b.st.Queue("q")
	for range consumers {
		b.st.Subscribe(&Consumer{Queue: b.q, Limit: credit, Lease: 30 * time.Second})
	}
	return b
}

func (b *bench) apply(t testing.TB, rec []byte) {
	b.ref += 64
	if _, err := b.st.Apply(Span{b.ref, uint32(len(rec) + 12)}, rec); err != nil {
		t.Fatal(err)
	}
	b.st.Spans()
}

func (b *bench) publish(t testing.TB, n int) {
	for range n {
		b.apply(t, b.pub)
	}
}

// take takes all there is and notes the seqs.
func (b *bench) take() {
	b.seqs = b.seqs[:0]
	for {
		d, ok := b.st.Take(b.now)
		if !ok {
			return
		}
		b.seqs = append(b.seqs, d.Seq)
	}
}

func (b *bench) settle(t testing.TB) {
	b.buf = AppendSettle(b.buf[:0], 2, b.now, b.seqs)
	b.apply(t, b.buf)
}

func (b *bench) round(t testing.TB, n int) {
	b.publish(t, n)
	b.take()
	b.settle(t)
	b.now += 1e6
	b.st.Expired(b.now, func(*Queue, uint64) { t.Fatal("a lease is over") })
}

// TestSteadyStateAllocates: a message that is published, taken and settled costs no allocation;
// a burst of them costs a chunk for every 64 at most.
func TestSteadyStateAllocates(t *testing.T) {
	packAsUsual(t)
	for _, n := range []int{1, 32, 1000} {
		b := newBench(t, 3, 1000)
		for range 300 {
			b.round(t, n)
		}
		got := testing.AllocsPerRun(100, func() { b.round(t, n) })
		if most := float64(2*n/64 + n/500); got > most {
			t.Errorf("%d messages: %v allocations, at most %v", n, got, most)
		}
	}
}

// packAsUsual lets a test pack no more than the real thing does. It is for tests that are alone.
func packAsUsual(t testing.TB) {
	packBehind = 64
	t.Cleanup(func() { packBehind = 0 })
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestBacklogMemory: a message that waits costs 32 bytes at most.
func TestBacklogMemory(t *testing.T) {
	const n = 300_000
	before := heap()
	b := newBench(t, 0, 0)
	b.publish(t, n)
	each := float64(heap()-before) / n
	t.Logf("%.1f bytes a message", each)
	if each > 32 {
		t.Errorf("a message in the backlog takes %.1f bytes", each)
	}
	runtime.KeepAlive(b)
}

func BenchmarkRound(b *testing.B) {
	packAsUsual(b)
	for name, c := range map[string]int{"1": 1, "1000": 1000} {
		b.Run("consumers="+name, func(b *testing.B) {
			x := newBench(b, c, 1024)
			x.round(b, 512)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += 512 {
				x.round(b, 512)
			}
		})
	}
}

func BenchmarkBacklog(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		before := heap()
		x := newBench(b, 0, 0)
		x.publish(b, n)
		b.ReportMetric(float64(heap()-before)/n, "B/msg")
		snap := x.st.AppendSnapshot(nil)
		b.ReportMetric(float64(len(snap))/n, "snapshot-B/msg")
	}
}

// BenchmarkDelayed makes a million messages wait, snapshots them, and lets them become ready.
func BenchmarkDelayed(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		x := newBench(b, 0, 0)
		x.publish(b, n)
		rs := make([]Return, 1000)
		before := heap()
		for i := range n / len(rs) {
			for k := range rs {
				rs[k] = Return{Seq: uint64(i*len(rs) + k + 1), Due: x.now + int64(i*7919%1000+1)*1e9}
			}
			x.apply(b, AppendReturn(nil, 2, x.now, rs, "nack", true, false))
		}
		b.ReportMetric(float64(heap()-before)/n, "B/msg")
		x.st.AppendSnapshot(nil)
		x.st.Due(x.now + 2000e9)
		if x.q.Counts.Ready != n {
			b.Fatal(x.q.Counts)
		}
	}
}

// BenchmarkExpire ends 100,000 leases.
func BenchmarkExpire(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		x := newBench(b, 10, n)
		x.publish(b, n)
		x.take()
		got := 0
		x.st.Expired(x.now+60e9, func(*Queue, uint64) { got++ })
		if got != n {
			b.Fatal(got)
		}
	}
}

// TestExtendAddsNoTimer: a client that extends one lease over and over in one request fills no heap.
func TestExtendAddsNoTimer(t *testing.T) {
	b := newBench(t, 1, 1)
	b.publish(t, 1)
	b.take()
	for range 10_000 {
		if !b.st.Extend(b.q, 1, b.now+60e9) {
			t.Fatal("not leased")
		}
	}
	if n := len(b.st.leaseEnds.heap); n != 2 {
		t.Errorf("%d timers", n)
	}
}

// TestMemoryIsGivenBack: what a million of something needed is not kept when it is over.
func TestMemoryIsGivenBack(t *testing.T) {
	b := newBench(t, 0, 0)
	b.publish(t, 100_000)
	rs := make([]Return, 100_000)
	for i := range rs {
		rs[i] = Return{Seq: uint64(i + 1), Due: b.now + 1e9}
	}
	b.apply(t, AppendReturn(nil, 2, b.now, rs, "nack", true, false))
	b.st.Due(b.now + 1e9)
	b.apply(t, AppendPurge(nil, 2, b.now))
	b.st.Spans()
	for name, n := range map[string]int{"delays": cap(b.st.delays.heap), "retained": cap(b.st.retained), "released": cap(b.st.released)} {
		if n > 5000 {
			t.Errorf("%s keeps room for %d", name, n)
		}
	}
}
