package queue

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
)

// Whatever a journal holds where its checksums are right must be refused or
// do no harm: no panic, no memory beyond what its length explains.

// bounded fails if f takes more than a fixed amount and a multiple of n bytes.
func bounded(t *testing.T, n int, f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20+uint64(n)*4096 {
		t.Errorf("%d bytes of input take %d of memory", n, got)
	}
}

// use does what an owner does with a state, whatever is in it.
func use(st *State) {
	st.Resume(func([]Span) {})
	st.Spans()
	now := st.now + 1
	st.Due(now)
	for _, q := range st.Queues() {
		c := &Consumer{Queue: q, Limit: 3, Lease: 1}
		st.Subscribe(c)
		q.Shield(2)
		q.Oldest()
		st.Holds(q, 1, Receipt{1, q.ID, 1})
	}
	for range 100 {
		if _, ok := st.Take(now); !ok {
			break
		}
	}
	st.Expired(now+1, func(*Queue, uint64) {})
	over := []place{}
	st.Outlived(now+1e15, func(q *Queue, seq uint64) { over = append(over, place{q.ID, seq}) })
	for _, at := range over {
		st.Spare(st.ids[at.queue], at.seq, now)
	}
	for _, q := range st.Queues() {
		seq, _, _ := q.oldest()
		if st.Hold(q, seq) {
			st.Spare(q, seq, now)
		}
		st.Explain(q, seq)
		st.Peek(q, "", 0, 3)
	}
	st.Next()
}

func FuzzLoadSnapshot(f *testing.F) {
	r := everything(f)
	f.Add(r.st.AppendSnapshot(nil))
	f.Add(New(1).AppendSnapshot(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		st := New(1)
		var err error
		bounded(t, len(b), func() { err = st.LoadSnapshot(b) })
		if err == nil {
			snap := st.AppendSnapshot(nil)
			again := New(1)
			if err := again.LoadSnapshot(snap); err != nil {
				t.Fatalf("what was loaded and written again is refused: %v", err)
			}
			if !bytes.Equal(snap, again.AppendSnapshot(nil)) {
				t.Fatal("what was loaded and written again is another state")
			}
			use(st)
		}
	})
}

// FuzzApply carries out records, each with its length in front, on a state in which there is something.
func FuzzApply(f *testing.F) {
	r := everything(f)
	var all []byte
	for _, rec := range r.log {
		b := append(binary.LittleEndian.AppendUint16(nil, uint16(len(rec))), rec...)
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		st := New(1)
		s := testSettings()
		if _, err := st.Apply(Span{1, 99}, AppendCreate(nil, 2, 5, "orders", &s)); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			rec := publishRecord(2, 5, "body", false)
			if _, err := st.Apply(spanOf(i, rec), rec); err != nil {
				t.Fatal(err)
			}
		}
		c := &Consumer{Queue: st.Queue("orders"), Limit: 2, Lease: 5}
		st.Subscribe(c)
		st.Take(6)
		st.Take(6)
		bounded(t, len(b), func() {
			for i := 9; len(b) >= 2; i++ {
				n := min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
				if _, err := st.Apply(spanOf(i, b[2:2+n]), b[2:2+n]); err != nil {
					break
				}
				b = b[2+n:]
			}
		})
		if s := check(st); s != "" {
			t.Fatal(s)
		}
		st.Unsubscribe(c)
		use(st)
	})
}

func FuzzDescribe(f *testing.F) {
	for _, rec := range everything(f).log {
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			Describe(b, true)  //nolint:errcheck
			Describe(b, false) //nolint:errcheck
			HeldSeqs(b)
			ReturnedSeqs(b)
		})
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		if len(e.Headers)+len(e.Body) > len(b) {
			t.Errorf("headers %d and body %d of a record of %d", len(e.Headers), len(e.Body), len(b))
		}
		moved, err := AppendRelocate(nil, 9, 8, b)
		if err != nil {
			t.Fatal(err)
		}
		if x, err := ParseEnvelope(moved); err != nil || x.Published != e.Published || x.Base64 != e.Base64 || !bytes.Equal(x.options, e.options) ||
			!bytes.Equal(x.Headers, e.Headers) || !bytes.Equal(x.Body, e.Body) {
			t.Errorf("relocated %+v is %+v, %v", e, x, err)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	f.Add([]byte("zz.2.1"))
	f.Add([]byte("1z141z3.1z141z3.1z141z3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := ParseReceipt(b)
		if !ok {
			return
		}
		again := AppendReceipt(nil, r)
		if x, ok := ParseReceipt(again); !ok || x != r {
			t.Errorf("%q is %+v, which is written %q and read %+v", b, r, again, x)
		}
	})
}
