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
	j      *storage // where records are kept; nil: in log
	log    [][]byte
	newest []byte // the record that was carried out last
	snap   []byte // covers the first snapAt records
	snapAt int
	live   map[Ref]uint32 // what is retained: ref to size, of which several messages may have a part each
	parts  map[Ref]int
}

// start is when every test begins: 2026-01-01.
const start = 1767225600e9

func newRig(t testing.TB) *rig {
	return &rig{TB: t, st: New(1), boot: 1, now: start, live: map[Ref]uint32{}, parts: map[Ref]int{}}
}

func spanOf(i int, record []byte) Span { return Span{Ref(i+1) << 6, uint32(len(record) + 12)} }

func (r *rig) apply(record []byte) Outcome { return r.carryOut(r.keep([][]byte{record})[0], record) }

// keep keeps records, all or none, and says where.
func (r *rig) keep(records [][]byte) (spans []Span) {
	if r.j != nil {
		return r.j.keep(records)
	}
	for _, record := range records {
		spans = append(spans, spanOf(len(r.log), record))
		r.log = append(r.log, slices.Clone(record))
	}
	return spans
}

// recordAt is the record that is kept there.
func (r *rig) recordAt(ref Ref) []byte {
	if r.j != nil {
		return r.j.read(ref)
	}
	return r.log[ref>>6-1]
}

func (r *rig) carryOut(span Span, record []byte) Outcome {
	r.newest = record
	out, err := r.st.Apply(span, record)
	if err != nil {
		r.Fatalf("Apply: %v", err)
	}
	r.spans()
	return out
}

// spans keeps account of what the state retains. What is retained is released once.
func (r *rig) spans() {
	for r.someSpans(); r.st.Owes(); {
		r.someSpans()
	}
}

func (r *rig) someSpans() {
	retained, released := r.st.Spans()
	if r.j != nil {
		r.j.refer(retained, released)
	}
	r.retain(retained)
	for _, s := range released {
		size, n := r.live[s.Ref], r.parts[s.Ref]
		if n == 0 || size < s.Size || n == 1 && size != s.Size {
			r.Fatalf("record %d: %d bytes are released, %d are retained by %d", s.Ref, s.Size, size, n)
		}
		if r.live[s.Ref], r.parts[s.Ref] = size-s.Size, n-1; n == 1 {
			delete(r.live, s.Ref)
			delete(r.parts, s.Ref)
		}
	}
}

func (r *rig) retain(spans []Span) {
	for _, s := range spans {
		r.live[s.Ref] += s.Size
		r.parts[s.Ref]++
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
	clear(r.parts)
	r.st = st
	st.Resume(r.retain)
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
