package queue

import (
	"testing"
	"time"
)

func (b *bench) record(p Publish) []byte {
	p.Body = []byte("twenty-four bytes of body")
	rec := AppendPublish(nil, &p)
	Address(rec, 2, b.now)
	return rec
}

// TestMixedPriorities: messages of all priorities cost no allocation in the steady state.
func TestMixedPriorities(t *testing.T) {
	b := newBench(t, 3, 1000)
	var recs [10][]byte
	for p := range recs {
		recs[p] = b.record(Publish{Priority: uint8(p)})
	}
	const n = 1000
	round := func() {
		for i := range n {
			b.apply(t, recs[i*7%10])
		}
		b.round(t, 0)
	}
	for range 300 {
		round()
	}
	if got, most := testing.AllocsPerRun(100, round), float64(2*n/64+n/500); got > most {
		t.Errorf("%v allocations, at most %v", got, most)
	}
}

// TestEndsAreBounded: what happens to one message over and over, or to the queue's ttl, fills no heap.
func TestEndsAreBounded(t *testing.T) {
	b := newBench(t, 1, 1)
	s := b.q.Settings
	s.TTL, s.MaxDeliveries = 24*time.Hour, 0
	b.apply(t, AppendUpdate(nil, 2, b.now, &s))
	b.publish(t, 3000)
	for i := range 5000 {
		b.take()
		b.apply(t, AppendReturn(nil, 2, b.now, []Return{{Seq: b.seqs[0]}}, "nack", false, false))
		b.apply(t, AppendMoveTo(nil, 2, b.now, 3000, b.now+int64(1+i%2)*1e9))
		if i%100 == 0 {
			s.TTL = time.Duration(24-i/100%3) * time.Hour
			b.apply(t, AppendUpdate(nil, 2, b.now, &s))
		}
	}
	if n := len(b.st.ends.heap); n > 2*3000+1024 {
		t.Errorf("%d timers of ends", n)
	}
	if n := len(b.st.delays.heap); n > 1100 {
		t.Errorf("%d timers of delays", n)
	}
	if f := check(b.st); f != "" {
		t.Error(f)
	}
}

// TestTTLInOldChunk: a message published long after its neighbours does not end before its time.
func TestTTLInOldChunk(t *testing.T) {
	r := newRig(t)
	s := testSettings()
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "a", &s))
	for range 3 {
		r.apply(publishRecord(2, r.now, "x", false))
		r.now += int64(40 * 24 * time.Hour)
	}
	s.TTL = 50 * 24 * time.Hour
	r.apply(AppendUpdate(nil, 2, r.now, &s))
	r.snapshot()
	for _, snapshot := range []bool{true, false} {
		for day, want := range map[int]int{9: 2, 11: 3} { // the third is 40 days old
			r.restart(snapshot)
			n := 0
			r.st.Outlived(r.now+int64(day)*int64(24*time.Hour), func(*Queue, uint64) { n++ })
			if n != want {
				t.Errorf("snapshot %v: after %d days %d have outlived, should be %d", snapshot, day, n, want)
			}
		}
	}
	if f := check(r.st); f != "" {
		t.Error(f)
	}
}

// TestTooManyIDs: a queue remembers so many ids; what it knows, and what has none, goes on.
func TestTooManyIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0, 0)
	id := []byte("12345678")
	publish := func(id []byte) Outcome {
		rec := b.record(Publish{Priority: DefaultPriority, DedupID: id})
		out, err := b.st.Apply(Span{1, uint32(len(rec))}, rec)
		if err != nil {
			t.Fatal(err)
		}
		b.st.Spans()
		return out
	}
	publish(id)
	for i := range MaxDedupIDs - 1 { // as if they had been published
		b.q.dedup.remember(string([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), 1, b.now+1e9)
	}
	if out := publish([]byte("one more")); out.Refusal != TooManyIDs || b.q.Counts.Published != 1 {
		t.Errorf("%+v", out)
	}
	if out := publish(id); out.Refusal != Done || out.Seqs == nil || out.Seqs[0] != 1 {
		t.Errorf("a known id: %+v", out)
	}
	if out := publish(nil); out.Refusal != Done || out.Seq != 2 {
		t.Errorf("no id: %+v", out)
	}
	b.now += int64(b.q.Settings.DedupWindow)
	if out := publish([]byte("one more")); out.Refusal != Done || len(b.q.dedup.seqs) != 1 {
		t.Errorf("after the window: %+v, %d known", out, len(b.q.dedup.seqs))
	}
}
