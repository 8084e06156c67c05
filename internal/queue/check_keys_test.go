package queue

import "fmt"

// checkLines: who is ready or leased leads the line of its key; who waits behind it is remembered there.
func checkLines(_ *State, q *Queue) string {
	remembered := map[uint64]bool{}
	for _, l := range q.lines {
		for _, r := range l.rest {
			remembered[r&(1<<63-1)] = true // the top bit is an order, if anything
		}
	}
	standing, fail := map[string]bool{}, ""
	q.each(func(seq uint64, _ *chunk, m *msg) bool {
		l, key := q.lineOf(seq, m)
		leads := l != nil && l.head == seq
		switch inLine := m.state != delayed || m.delivery() > 1; { // what was delayed at first is not, before it is due
		case key == "":
			if m.state == behind {
				fail = fmt.Sprintf("message %d waits behind a key and has none", seq)
			}
			return fail == ""
		case !inLine && leads:
			fail = fmt.Sprintf("message %d of key %q leads before it is due", seq, key)
		case !inLine:
			return true
		case m.state == behind && leads:
			fail = fmt.Sprintf("message %d of key %q waits behind itself", seq, key)
		case (m.state == ready || m.state == leased) && !leads:
			fail = fmt.Sprintf("message %d of key %q is in state %d and does not lead", seq, key, m.state)
		case l == nil || !leads && !remembered[seq]:
			fail = fmt.Sprintf("message %d of key %q is in state %d and in no line", seq, key, m.state)
		}
		standing[key] = true
		return fail == ""
	})
	for key, l := range q.lines {
		if _, m := q.find(l.head); fail == "" && (m == nil || !standing[key]) {
			fail = fmt.Sprintf("the line of key %q is led by %d, which is not there", key, l.head)
		}
	}
	return fail
}
