package queue

import (
	"cmp"
	"slices"
)

// A state can be made of another node's snapshot, whose refs are places in that node's journal. They are foreign until
// the records are here too; where they are is then told by Adopt, or by relocate and rebase records of this node's.

// Foreign is set in the ref of a record that is in another node's journal. No journal gives such refs.
const Foreign Ref = 1 << 63

// Heir is a state without queues that is to take this one's place.
func (st *State) Heir() *State { return New(st.boot) }

// LoadImage makes an empty state what another node's AppendSnapshot wrote. All its refs are foreign.
func (st *State) LoadImage(b []byte) error { return st.load(b, Foreign) }

// An Adoption lets messages of a state refer to the records that an earlier state of the same shard has of them, some at a time. Between two
// times both may have records applied.
type Adoption struct {
	from   *State
	here   func(Ref) bool
	queues []*Queue
	cur    *chunk // of queues[0], the next to be looked at
}

// Adopt begins an adoption of those records that are here: after a restart a state may refer to some that are gone.
func (st *State) Adopt(from *State, here func(Ref) bool) *Adoption {
	a := &Adoption{from: from, here: here, queues: st.Queues()}
	a.find()
	return a
}

// find finds the next queue that both have.
func (a *Adoption) find() {
	for a.cur == nil && len(a.queues) > 0 {
		if a.cur = a.queues[0].head; a.cur == nil || a.from.ids[a.queues[0].ID] == nil {
			a.cur, a.queues = nil, a.queues[1:]
		}
	}
}

// Next goes on with about so many messages; it is true when none is left. retain is called with what the state refers to now; the slice is its own
// during the call only.
func (a *Adoption) Next(messages int, retain func([]Span)) bool {
	var spans []Span
	for n := 0; n < messages && len(a.queues) > 0; n += chunkLen {
		q := a.queues[0]
		if old := a.from.ids[q.ID]; old != nil { // it may have been deleted meanwhile
			if oc := old.byKey[a.cur.key]; oc != nil {
				spans = q.adopt(a.cur, oc, a.here, spans)
			}
		}
		if a.cur = a.cur.next; a.cur == nil {
			a.queues = a.queues[1:]
			a.find()
		}
	}
	if len(spans) > 0 {
		retain(spans)
	}
	return len(a.queues) == 0
}

// adopt does it for the messages of a chunk; what is packed stays so.
func (q *Queue) adopt(c, from *chunk, here func(Ref) bool, spans []Span) []Span {
	var room, theirs [chunkLen]msg
	ms, old, some := c.look(&room), from.look(&theirs), false
	for i := range ms {
		m, o := &ms[i], &old[i]
		if m.state == gone || o.state == gone || m.ref&Foreign == 0 || o.ref&Foreign != 0 || m.body() != o.body() || !here(o.ref) {
			continue
		}
		m.move(o.span())
		m.setShares(o.shares())
		spans, some = append(spans, m.stake()), true
	}
	switch {
	case !some, len(c.m) == chunkLen:
	case c.m == nil:
		c.packed = append([]byte(nil), appendPacked(nil, ms)...)
	default:
		copy(c.m, ms[c.low:])
	}
	return spans
}

// A Want is a message whose record is in another node's journal, or a copy that shares it.
type Want struct {
	Queue  *Queue
	Seq    uint64
	Span   Span // without Foreign
	Shared bool
}

// Abroad is how many messages have their record in another node's journal, by segment, in order.
func (st *State) Abroad() []Abroad {
	counts := map[uint32]int{}
	st.foreigners(func(w Want) { counts[w.Span.Ref.segment()]++ })
	out := make([]Abroad, 0, len(counts))
	for segment, n := range counts {
		out = append(out, Abroad{segment, n})
	}
	slices.SortFunc(out, func(a, b Abroad) int { return cmp.Compare(a.Segment, b.Segment) })
	return out
}

// An Abroad is a segment of another node's journal, and how many messages have their records in it.
type Abroad struct {
	Segment  uint32
	Messages int
}

// Wants appends the messages whose records lie in segments of another node's journal from one to another, in the order of the records.
func (st *State) Wants(into []Want, from, to uint32) []Want {
	st.foreigners(func(w Want) {
		if s := w.Span.Ref.segment(); s >= from && s <= to {
			into = append(into, w)
		}
	})
	slices.SortFunc(into, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Span.Ref, b.Span.Ref), cmp.Compare(a.Queue.ID, b.Queue.ID), cmp.Compare(a.Seq, b.Seq))
	})
	return into
}

func (r Ref) segment() uint32 { return uint32(r >> 32) }

func (st *State) foreigners(f func(Want)) {
	for _, q := range st.names {
		q.view(func(seq uint64, _ *chunk, m *msg) bool {
			if m.ref&Foreign != 0 {
				f(Want{q, seq, Span{m.ref &^ Foreign, m.size}, m.shares() > 0})
			}
			return true
		})
	}
}

// Repack packs what relocate and rebase have unpacked.
func (st *State) Repack() {
	for _, q := range st.names {
		for c := q.head; c != nil; c = c.next {
			q.pack(c)
		}
	}
}

// Stakes calls f with all that the state refers to, some of it at a time; the slice is its own during the call only.
func (st *State) Stakes(f func([]Span)) {
	spans := make([]Span, 0, resumeSpans)
	for _, q := range st.Queues() {
		q.view(func(_ uint64, _ *chunk, m *msg) bool {
			if spans = append(spans, m.stake()); len(spans) == resumeSpans {
				f(spans)
				spans = spans[:0]
			}
			return true
		})
	}
	f(spans)
}
