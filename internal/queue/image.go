package queue

import (
	"cmp"
	"maps"
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

// A Listing finds the messages of a state whose records are in another node's journal, some at a time and in the order of the records. Nothing but relocate and
// rebase records may be applied to the state meanwhile.
type Listing struct {
	queues    []*Queue
	cur       *chunk // of queues[0], the next to be looked at
	chunks    []listed
	counts    map[Ref]int // how many messages have their records in each stretch
	stretches []Ref       // those that are left, in order; known when all chunks have been looked at
	loose     [2][]listed // what the latest two Wants were of: to be packed when these are here
}

// listed is a chunk with messages whose records are abroad, and the stretches in which the first and the last of these lie.
type listed struct {
	queue       *Queue
	chunk       *chunk
	first, last Ref
}

// stretchBits is how long a stretch of a journal is, the least that is listed at a time: some thousand records.
const stretchBits = 20

// List begins a listing.
func (st *State) List() *Listing {
	l := &Listing{queues: st.Queues(), counts: map[Ref]int{}}
	l.find()
	return l
}

// find finds the next queue that has chunks.
func (l *Listing) find() {
	for l.cur == nil && len(l.queues) > 0 {
		if l.cur = l.queues[0].head; l.cur == nil {
			l.queues = l.queues[1:]
		}
	}
}

// Next looks at about so many messages; it is true when none is left.
func (l *Listing) Next(messages int) bool {
	for n := 0; n < messages && len(l.queues) > 0; n += chunkLen {
		l.look(l.queues[0], l.cur)
		if l.cur = l.cur.next; l.cur == nil {
			l.queues = l.queues[1:]
			l.find()
		}
	}
	if len(l.queues) > 0 {
		return false
	}
	if l.stretches == nil {
		l.stretches = slices.Sorted(maps.Keys(l.counts))
	}
	return true
}

// look notes where the records of a chunk's messages lie.
func (l *Listing) look(q *Queue, c *chunk) {
	var tmp [chunkLen]msg
	in := listed{queue: q, chunk: c, first: Foreign}
	ms := c.look(&tmp)
	for i := range ms {
		if m := &ms[i]; m.state != gone && m.ref&Foreign != 0 {
			at := m.ref &^ Foreign >> stretchBits
			in.first, in.last = min(in.first, at), max(in.last, at)
			l.counts[at]++
		}
	}
	if in.first != Foreign {
		l.chunks = append(l.chunks, in)
	}
}

// Wants appends the next messages, about so many; none where there are no more. Next has looked at all; what Wants gave the last time may still be on its way here.
func (l *Listing) Wants(into []Want, most int) []Want {
	for _, in := range l.loose[0] {
		in.queue.pack(in.chunk)
	}
	l.loose[0], l.loose[1] = l.loose[1], l.loose[0][:0]
	for len(into) == 0 && len(l.stretches) > 0 { // what lay there may have come here otherwise
		into = l.next(into, most)
	}
	slices.SortFunc(into, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Span.Ref, b.Span.Ref), cmp.Compare(a.Queue.ID, b.Queue.ID), cmp.Compare(a.Seq, b.Seq))
	})
	return into
}

// next appends the messages of the next stretches.
func (l *Listing) next(into []Want, most int) []Want {
	n, first, last := 0, l.stretches[0], Ref(0)
	for len(l.stretches) > 0 && (n == 0 || n+l.counts[l.stretches[0]] <= most) {
		last, n = l.stretches[0], n+l.counts[l.stretches[0]]
		l.stretches = l.stretches[1:]
	}
	left := l.chunks[:0]
	for _, in := range l.chunks {
		if in.first <= last && in.last >= first {
			into = in.wants(into, first, last)
			l.loose[1] = append(l.loose[1], in)
		}
		if in.last > last {
			left = append(left, in)
		}
	}
	l.chunks = left
	return into
}

// wants appends the messages of a chunk whose records lie in stretches from one to another.
func (in listed) wants(into []Want, first, last Ref) []Want {
	var tmp [chunkLen]msg
	ms := in.chunk.look(&tmp)
	for i := range ms {
		m := &ms[i]
		if at := m.ref &^ Foreign >> stretchBits; m.state != gone && m.ref&Foreign != 0 && at >= first && at <= last {
			into = append(into, Want{in.queue, in.chunk.key<<chunkBits + uint64(i), Span{m.ref &^ Foreign, m.size}, m.shares() > 0})
		}
	}
	return into
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
