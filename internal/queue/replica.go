package queue

import (
	"encoding/binary"
	"hash/fnv"
)

// Of several replicas of a state one is led from: its owner gives leases and proposes. The others apply the same records, and
// nobody has anything of them. What is here changes the owner's view and nothing that records decide.

// Follow ends all that the owner has begun: nobody has a message, nobody waits for one, nothing is on its way. What the owner
// has proposed may still be applied. Consumers are forgotten: none of them may be used again.
func (st *State) Follow() {
	clear(st.waiting)
	clear(st.dirty)
	st.dirty, st.turn, st.removed, st.held = st.dirty[:0], 0, nil, nil
	st.waits = timers{}
	st.ends.keep(func(t timer) bool { return t.about != endsNow })
	for _, q := range st.names {
		for _, c := range q.subs {
			c.listed, c.prev, c.next = false, nil, nil
		}
		q.subs, q.ring, q.dirty, q.Consumers = nil, nil, false, 0
		q.Deleting, q.frozen = false, 0
		q.Proposed, q.ProposedBytes, q.Promised = 0, 0, 0
		for c := q.head; c != nil; c = c.next {
			if c.m != nil {
				st.freeAll(q, c)
			}
		}
	}
	st.leaseEnds = leaseEnds{} // none is left
}

// freeAll gives back what is leased, or kept from consumers, in a chunk that is not packed: what is packed is neither.
func (st *State) freeAll(q *Queue, c *chunk) {
	for i := range c.m {
		m, seq := &c.m[i], c.seq(i)
		switch {
		case m.state == gone, m.state != leased && m.flags&msgEnding == 0:
			continue
		case m.state == leased:
			st.unlease(q, seq, c)
			m.flags &^= msgEnding
			st.stepBack(q, seq, m)
			st.makeReady(q, seq, m)
		default:
			m.flags &^= msgEnding
			if m.state == ready {
				q.Counts.Ready--
				st.makeReady(q, seq, m)
			}
		}
		st.mortal(q, seq, c, m) // its timer may have been passed over
	}
}

// Lead begins to be led from: everything that is there may have been delivered before, as after a restart. boot names this
// leadership in receipts; no other may have had it.
func (st *State) Lead(boot uint32) {
	st.Follow()
	st.boot = boot
	for _, q := range st.names {
		q.restored, q.Shielded = q.last, len(q.shield) > 0
	}
}

// Digest is over all that records decide, and nothing of where it lies: two replicas that have applied the same records have
// the same, whatever their owners have done besides. Of when messages are due it has what is later than now.
func (st *State) Digest(now int64) uint64 {
	h := fnv.New64a()
	var b []byte
	b = binary.AppendVarint(b, st.now)
	b = binary.AppendUvarint(b, uint64(st.nextID))
	for _, name := range st.DocumentNames() {
		b = appendString(appendString(b, name), string(st.Document(name)))
	}
	for _, q := range st.Queues() {
		b = binary.AppendVarint(q.appendHead(b), q.Bytes)
		b = appendRemembered(b, q.dedup.order[q.dedup.first:])
		q.view(func(seq uint64, c *chunk, m *msg) bool {
			b = binary.AppendUvarint(b, seq)
			b = binary.AppendVarint(b, q.publishedAt(seq, c, m))
			b = binary.AppendVarint(b, m.body())
			b = binary.AppendUvarint(b, uint64(m.attempts)<<16|uint64(m.uncounted))
			b = append(b, m.flags&keptFlags)
			if d := c.due(seq); d.at > now {
				b = binary.AppendVarint(b, d.at)
			}
			if m.flags&msgExtra != 0 {
				x := q.extras[seq]
				b = appendString(binary.AppendVarint(b, x.expires), x.key)
			}
			if m.flags&msgDead != 0 {
				d := q.dead[seq]
				b = appendString(binary.AppendUvarint(appendString(b, d.Queue), d.Seq), d.Reason)
			}
			if len(b) > 1<<16 {
				_, _ = h.Write(b) // a hash takes everything
				b = b[:0]
			}
			return true
		})
	}
	_, _ = h.Write(b)
	return h.Sum64()
}

// A Change is what a record says that others than a queue's consumers want to know.
type Change uint8

// The changes.
const (
	NoChange Change = iota
	QueueMade
	QueueGone
	Bound       // to a pattern
	Unbound     // from a pattern
	DocumentPut // of a name
)

// ChangeOf says what a record changes, and which pattern or document it is about.
func ChangeOf(record []byte) (Change, string) {
	if len(record) < headBytes {
		return NoChange, ""
	}
	r := reader{b: record[headBytes:]}
	switch record[0] {
	case kindCreate:
		return QueueMade, ""
	case kindDelete:
		return QueueGone, ""
	case kindBind:
		return Bound, r.string()
	case kindUnbind:
		return Unbound, r.string()
	case kindDocument:
		return DocumentPut, r.string()
	}
	return NoChange, ""
}
