package queue

import (
	"slices"
	"testing"
)

// TestTimersOfLeasesAreGivenBack: of many leases that were settled nothing is kept, and those that are left end when they should, with the numbers that
// their timers have then.
func TestTimersOfLeasesAreGivenBack(t *testing.T) {
	const many, left = 50_000, 10
	b := newBench(t, 1, many+left)
	b.publish(t, many)
	b.take()
	kept := slices.Clone(b.seqs[:left])
	b.seqs = b.seqs[left:]
	b.settle(t)
	for range 10 { // a lease that is given lets what is over be looked for
		b.publish(t, 1)
		b.take()
		b.settle(t)
	}
	e := &b.st.leaseEnds
	if len(e.heap) > 2*left+1024+1 || cap(e.over) > 4*len(e.heap)+8192 || cap(e.unused) > 4*len(e.heap)+8192 {
		t.Errorf("%d timers are kept, and room for %d and %d numbers", len(e.heap), cap(e.over), cap(e.unused))
	}
	if f := check(b.st); f != "" {
		t.Fatal(f)
	}
	if !b.st.Extend(b.q, kept[0], b.now+90e9) {
		t.Fatal("not leased")
	}
	var ended []uint64
	b.st.Expired(b.now+60e9, func(_ *Queue, seq uint64) { ended = append(ended, seq) })
	if slices.Sort(ended); !slices.Equal(ended, kept[1:]) {
		t.Errorf("these leases ended: %v, should be %v", ended, kept[1:])
	}
	b.st.Unreturn(b.q, kept[1]) // its timer has been: there is another one now
	ended = ended[:0]
	b.st.Expired(b.now+100e9, func(_ *Queue, seq uint64) { ended = append(ended, seq) })
	if slices.Sort(ended); !slices.Equal(ended, kept[:2]) {
		t.Errorf("then these ended: %v, should be %v", ended, kept[:2])
	}
	if f := check(b.st); f != "" {
		t.Fatal(f)
	}
}
