package queue

import (
	"math/rand/v2"
	"testing"
)

// The histories and scenarios are too short for a real backlog: they pack whatever can be packed.
func init() { packBehind = 0 }

func TestPackedIsTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 20_000 {
		var ms, back [chunkLen]msg
		var last msg
		for i := range ms {
			if rng.IntN(5) == 0 {
				continue
			}
			m := expected(&last)
			if rng.IntN(3) == 0 {
				m.ref = Ref(rng.Uint64() >> rng.IntN(64))
			}
			if rng.IntN(3) == 0 {
				m.size, m.over = rng.Uint32()>>rng.IntN(32), uint16(rng.Uint32())
			}
			if rng.IntN(3) == 0 {
				m.ageShares = rng.Uint32() >> rng.IntN(32)
			}
			if rng.IntN(3) == 0 {
				m.flags, m.attempts, m.uncounted = uint8(rng.Uint32()), uint16(rng.Uint32()), uint16(rng.Uint32()>>rng.IntN(32))
			}
			if m.state = ready; rng.IntN(4) == 0 {
				m.state = delayed
			}
			ms[i], last = m, m
		}
		packed := appendPacked(nil, &ms)
		r := reader{b: packed}
		if readPacked(&r, &back); back != ms || len(r.b) > 0 || r.err != nil {
			t.Fatalf("packed and unpacked, %+v is %+v", ms, back)
		}
	}
}

// What waits far behind the cursor is packed, whatever is done to some of it meanwhile, and what is needed is not.
func TestBacklogIsPacked(t *testing.T) {
	b := newBench(t, 0, 0)
	b.publish(t, 100*chunkLen)
	packed := func() (n int) {
		for c := b.q.head; c != nil; c = c.next {
			if c.m == nil {
				n++
			}
		}
		return n
	}
	if n := packed(); n < 100-int(packBehind)-2 {
		t.Errorf("%d of 100 chunks are packed", n)
	}
	for i := range 100 {
		b.apply(t, AppendCancel(nil, 2, b.now, uint64(i*chunkLen+7)))
	}
	b.publish(t, 100*sweepEvery+4*chunkLen)
	if n := packed(); n < 100-int(packBehind)-8 {
		t.Errorf("%d of 100 chunks are packed after one message of each was cancelled", n)
	}
	if s := check(b.st); s != "" {
		t.Error(s)
	}
}
