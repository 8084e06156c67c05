package queue

import (
	"slices"
	"testing"
	"time"
)

// A rig plays the owner of a State: it keeps the records as a journal would,
// gives each its place, and counts which of them the state refers to.
type rig struct {
	testing.TB
	st     *State
	now    int64
	boot   uint32
	log    [][]byte
	snap   []byte // covers the first snapAt records
	snapAt int
	live   map[Ref]uint32 // what is retained: ref to size
}

// start is when every test begins: 2026-01-01.
const start = 1767225600e9

func newRig(t testing.TB) *rig {
	return &rig{TB: t, st: New(1), boot: 1, now: start, live: map[Ref]uint32{}}
}

func spanOf(i int, record []byte) Span { return Span{Ref(i+1) << 6, uint32(len(record) + 12)} }

func (r *rig) apply(record []byte) Outcome {
	r.log = append(r.log, slices.Clone(record))
	out, err := r.st.Apply(spanOf(len(r.log)-1, record), record)
	if err != nil {
		r.Fatalf("Apply: %v", err)
	}
	r.spans()
	return out
}

// spans keeps account of what the state retains. A record is retained once and released once.
func (r *rig) spans() {
	retained, released := r.st.Spans()
	for _, s := range retained {
		if _, twice := r.live[s.Ref]; twice {
			r.Fatalf("record %d is retained twice", s.Ref>>6)
		}
		r.live[s.Ref] = s.Size
	}
	for _, s := range released {
		if size, ok := r.live[s.Ref]; !ok || size != s.Size {
			r.Fatalf("record %d (%d bytes) is released, retained is %v, %d bytes", s.Ref>>6, s.Size, ok, size)
		}
		delete(r.live, s.Ref)
	}
}

func (r *rig) snapshot() {
	r.snap, r.snapAt = r.st.AppendSnapshot(nil), len(r.log)
}

// restart begins a new life from the newest snapshot and the records behind it, or from all records.
func (r *rig) restart(snapshot bool) {
	r.boot++
	st, from := New(r.boot), 0
	if snapshot && r.snap != nil {
		if err := st.LoadSnapshot(r.snap); err != nil {
			r.Fatalf("LoadSnapshot: %v", err)
		}
		from = r.snapAt
	}
	for i, record := range r.log[from:] {
		if _, err := st.Apply(spanOf(from+i, record), record); err != nil {
			r.Fatalf("replay: %v", err)
		}
	}
	clear(r.live)
	r.st = st
	st.Resume(func(spans []Span) {
		for _, s := range spans {
			if _, twice := r.live[s.Ref]; twice {
				r.Fatalf("record %d is retained twice", s.Ref>>6)
			}
			r.live[s.Ref] = s.Size
		}
	})
	st.Due(r.now)
}

func testSettings() Settings {
	return Settings{Storage: "disk", Lease: 30 * time.Second, MaxDeliveries: 10, RetryMin: time.Second,
		RetryMax: 5 * time.Minute, RetryFactor: 2, RetryJitter: 0.2, DedupWindow: 5 * time.Minute}
}

// publishRecord is one message, addressed.
func publishRecord(q uint32, at int64, body string, more bool) []byte {
	rec := appendPlain(nil, nil, []byte(body), false, more)
	Address(rec, q, at)
	return rec
}

// appendPlain is AppendPublish of a message that asks for nothing.
func appendPlain(dst, headers, body []byte, base64, more bool) []byte {
	return AppendPublish(dst, &Publish{Headers: headers, Body: body, Base64: base64, More: more, Priority: DefaultPriority})
}
