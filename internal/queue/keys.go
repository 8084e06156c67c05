package queue

// A keyLine is the messages of one key in one queue: one of them at a time may be delivered, in order of
// seq; a message that has been delivered holds the line until it is settled, also while its retry waits. It is
// the owner's view: where the line stands follows from the messages and is in no snapshot.
type keyLine struct {
	head  uint64  // the one whose turn it is; a line without is none
	rest  seqHeap // those that wait behind it, and some that are no more
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
	fresh := h.state == ready && h.delivery() == 1
	if !fresh || seq > l.head && m.delivery() == 1 {
		l.rest.push(seq)
		return false
	}
	h.state = behind // it came out of order: this one goes first
	l.rest.push(l.head)
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
	for len(l.rest) > 0 {
		next := l.rest.pop()
		if _, n := q.find(next); n != nil && n.state == behind && next != seq {
			q.Counts.Ready--
			l.head = next
			st.makeReady(q, next, n)
			return
		}
	}
	delete(q.lines, key)
}

// leave notes that a message behind the head is no more. What has gone is thrown out of rest once it is the majority.
func (l *keyLine) leave(q *Queue, seq uint64, m *msg) {
	if m.state != behind {
		return
	}
	if l.stale++; l.stale < len(l.rest)/2+64 {
		return
	}
	old := l.rest
	l.rest, l.stale = nil, 0
	for _, s := range old {
		if _, n := q.find(s); n != nil && n.state == behind && s != seq {
			l.rest.push(s)
		}
	}
}
