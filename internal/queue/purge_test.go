package queue

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

// A purge of a deep queue leaves out looking at what is packed. It comes to the same as one that looks at every
// message, which a snapshot makes it do.
func TestPurgeOfABacklog(t *testing.T) {
	const deep = 200 * chunkLen
	fill := func() *rig {
		r := newRig(t)
		s := testSettings()
		r.apply(AppendCreate(nil, r.st.NewID(), r.now, "q", &s))
		for i := range deep {
			p := Publish{Body: []byte("body"), Priority: DefaultPriority}
			switch i % 9 {
			case 1:
				p.Delay = time.Duration(i) * time.Second
			case 2:
				p.Key = fmt.Appendf(nil, "k%d", i)
			case 3:
				p.TTL = time.Hour
			}
			rec := AppendPublish(nil, &p)
			Address(rec, 2, r.now)
			r.apply(rec)
		}
		c := &Consumer{Queue: r.st.Queue("q"), Limit: 10, Lease: time.Minute}
		r.st.Subscribe(c)
		for {
			if _, ok := r.st.Take(r.now); !ok {
				break
			}
		}
		return r
	}
	looking, quick := fill(), fill()
	snap := looking.st.BeginSnapshot(nil, nil)
	for _, r := range []*rig{looking, quick} {
		packed := 0
		for c := r.st.Queue("q").head; c != nil; c = c.next {
			if c.m == nil {
				packed++
			}
		}
		if packed < 50 {
			t.Fatalf("only %d chunks are packed: this shows nothing", packed)
		}
		if out := r.apply(AppendPurge(nil, 2, r.now)); out.N != deep {
			t.Errorf("%d of %d messages are purged", out.N, deep)
		}
		if len(r.live) != 0 {
			t.Errorf("%d records are still retained", len(r.live))
		}
		if s := check(r.st); s != "" {
			t.Error(s)
		}
	}
	if _, done := snap.Next(nil, 1<<30); !done {
		t.Fatal("the snapshot has no end")
	}
	same := func(when string) {
		t.Helper()
		if a, b := looking.st.AppendSnapshot(nil), quick.st.AppendSnapshot(nil); !bytes.Equal(a, b) {
			t.Errorf("%s the states differ:\n%s", when, difference(dump(quick.st), dump(looking.st)))
		}
		for seq := uint64(1); seq <= deep; seq++ {
			if a, b := looking.st.Queue("q").past.of(seq), quick.st.Queue("q").past.of(seq); !slices.Equal(a, b) {
				t.Fatalf("%s of message %d is remembered: %v; should be %v", when, seq, b, a)
			}
		}
	}
	same("after the purge")
	for _, r := range []*rig{looking, quick} { // and goes on as any queue
		for range 3 * chunkLen {
			r.apply(publishRecord(2, r.now, "after", false))
		}
		r.st.Due(r.now + int64(10*time.Hour))
	}
	same("afterwards")
}
