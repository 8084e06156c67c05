package queue

import "slices"

// A keyLine is the messages of one key in one queue: one of them at a time may be delivered, in order of
// seq; a message that has been delivered holds the line until it is settled, also while its retry waits. It is
// the owner's view: where the line stands follows from the messages and is in no snapshot.
type keyLine struct {
	head  uint64  // the one whose turn it is; a line without is none
	rest  seqHeap // the ranks of those that wait behind it, and of some that are no more
	stale int     // how many of rest are no more, at least
}

// lineOf is the line of a message and its key; nil where there is none yet, "" where the message has no key.
func (q *Queue) lineOf(seq uint64, m *msg) (*keyLine, string) {
	if m.flags&msgExtra == 0 || m.flags&msgDead != 0 { // dead letters keep their keys, and wait for nobody
		return nil, ""
	}
	key := q.extras[seq].key
	if key == "" {
		return nil, ""
	}
	return q.lines[key], key
}

// fresh is in the rank of a message that has not been returned.
const fresh = 1 << 63

// rank is the order of a line: what has been returned holds its place before what has not.
func rank(seq uint64, m *msg) uint64 {
	if m.delivery() == 1 {
		return seq | fresh
	}
	return seq
}

// waits is whether a message stands in line behind the head, or could: what was delayed when it was
// published does not before it is due, what waits for its retry does.
func (m *msg) waits() bool { return m.state == behind || m.state == delayed && m.delivery() > 1 }

// queueUp is asked before a message becomes ready, or waits for its retry. It is false where the
// message has to wait behind its key.
func (st *State) queueUp(q *Queue, seq uint64, m *msg) bool {
	l, key := q.lineOf(seq, m)
	switch {
	case key == "" || l != nil && l.head == seq:
		return true
	case l == nil:
		if q.lines == nil {
			q.lines = map[string]*keyLine{}
		}
		q.lines[key] = &keyLine{head: seq}
		return true
	}
	_, h := q.find(l.head)
	if h.state == leased || rank(seq, m) > rank(l.head, h) {
		l.rest.push(rank(seq, m))
		return false
	}
	if h.state == ready {
		h.state = behind // it came out of order: this one goes first
	}
	l.rest.push(rank(l.head, h))
	l.head = seq
	return true
}

// stepUp is told that a message is no more, or does not want its turn; whoever is next in its line gets it.
func (st *State) stepUp(q *Queue, seq uint64, m *msg) {
	l, key := q.lineOf(seq, m)
	if l == nil {
		return
	}
	if l.head != seq {
		l.leave(q, seq, m)
		return
	}
	if next, n := l.next(q, seq); n != nil {
		st.lead(q, l, next, n)
		return
	}
	delete(q.lines, key)
}

// stepBack is told that the head comes back: what was returned meanwhile may stand before it.
func (st *State) stepBack(q *Queue, seq uint64, m *msg) {
	if l, _ := q.lineOf(seq, m); l != nil && l.head == seq {
		if next, n := l.next(q, seq); n != nil && rank(next, n) < rank(seq, m) {
			st.lead(q, l, next, n)
		}
	}
}

// next is the first of those behind the head, which is seq.
func (l *keyLine) next(q *Queue, seq uint64) (uint64, *msg) {
	for len(l.rest) > 0 {
		next := l.rest[0] &^ fresh
		if _, n := q.find(next); n != nil && n.waits() && next != seq {
			return next, n
		}
		l.rest.pop()
	}
	return 0, nil
}

// lead makes a message the head of its line.
func (st *State) lead(q *Queue, l *keyLine, seq uint64, m *msg) {
	l.head = seq
	if m.state == behind {
		q.Counts.Ready--
		st.makeReady(q, seq, m)
	}
}

// leave notes that a message behind the head is no more. What has gone is thrown out of rest once it is the majority.
func (l *keyLine) leave(q *Queue, seq uint64, m *msg) {
	if !m.waits() {
		return
	}
	if l.stale++; l.stale < len(l.rest)/2+64 {
		return
	}
	l.stale = 0
	l.rest = slices.DeleteFunc(l.rest, func(r uint64) bool {
		_, n := q.find(r &^ fresh)
		return n == nil || !n.waits() || r&^fresh == seq
	})
	slices.Sort(l.rest) // that is a heap, too; what has queued up several times is in it once
	l.rest = shrink(slices.Compact(l.rest))
}
