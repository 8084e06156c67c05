package queue

import "slices"

// The model says again what a queue is, in the most obvious way: slices, maps
// and linear scans. history_test.go compares it with the State.

type mMessage struct {
	seq       uint64
	ref       Ref
	size      uint32
	body      int64
	at        int64 // published
	attempts  int
	returns   int // counted or not
	state     int
	due       int64
	end       int64 // of the lease; 0: never
	returning bool
	restored  bool
	delivered bool
	holder    *mConsumer
	dead      *Dead
}

type mConsumer struct {
	real    *Consumer
	q       *mQueue
	limit   int
	leased  int
	until   int64
	listed  bool
	blocked bool
}

type mQueue struct {
	id       uint32
	name     string
	s        Settings
	paused   bool
	gone     bool
	msgs     []*mMessage
	last     uint64
	deadLast uint64
	n        Counts // but for Ready, Delayed, Leased
	shield   []uint64
	ring     []*mConsumer // the first is next
}

type model struct {
	clock  int64 // the latest time in a record
	queues map[string]*mQueue
}

func (w *model) byID(id uint32) *mQueue {
	for _, q := range w.queues {
		if q.id == id {
			return q
		}
	}
	return nil
}

func (q *mQueue) find(seq uint64) *mMessage {
	for _, m := range q.msgs {
		if m.seq == seq {
			return m
		}
	}
	return nil
}

func (q *mQueue) count(state int) (n int) {
	for _, m := range q.msgs {
		if m.state == state {
			n++
		}
	}
	return n
}

func (q *mQueue) bytes() (n int64) {
	for _, m := range q.msgs {
		n += m.body
	}
	return n
}

func (q *mQueue) firstReady() *mMessage {
	for _, m := range q.msgs {
		if m.state == ready && !q.paused {
			return m
		}
	}
	return nil
}

// turn puts c into the ring, at its end, or takes it out, as it may have something now.
func (c *mConsumer) turn() {
	able := c.listed && !c.blocked && c.leased < c.limit && !c.q.gone
	i := slices.Index(c.q.ring, c)
	if able && i < 0 {
		c.q.ring = append(c.q.ring, c)
	} else if !able && i >= 0 {
		c.q.ring = slices.Delete(c.q.ring, i, i+1)
	}
}

func (m *mMessage) free() {
	if m.state == leased {
		m.holder.leased--
		m.holder.turn()
		m.holder, m.end, m.returning = nil, 0, false
	}
}

func (q *mQueue) drop(m *mMessage) {
	m.free()
	q.msgs = slices.DeleteFunc(q.msgs, func(x *mMessage) bool { return x == m })
}

func (q *mQueue) fits(n int, bytes int64) bool {
	return (q.s.MaxMessages == 0 || int64(len(q.msgs)+n) <= q.s.MaxMessages) && (q.s.MaxBytes == 0 || q.bytes()+bytes <= q.s.MaxBytes)
}

// victims are the fewest of the oldest messages without which the others fit.
func (q *mQueue) victims(n int, bytes int64) (vs []*mMessage) {
	without := 0
	for _, m := range q.msgs {
		if q.fits(n-without, bytes) {
			return vs
		}
		if !slices.Contains(q.shield, m.seq) {
			vs = append(vs, m)
			without++
			bytes -= m.body
		}
	}
	if q.fits(n-without, bytes) {
		return vs
	}
	return nil
}

func (w *model) publish(q *mQueue, ms []*mMessage) bool {
	var bytes int64
	for _, m := range ms {
		bytes += m.body
	}
	if !q.fits(len(ms), bytes) {
		tooBig := q.s.MaxMessages > 0 && int64(len(ms)) > q.s.MaxMessages || q.s.MaxBytes > 0 && bytes > q.s.MaxBytes
		vs := q.victims(len(ms), bytes)
		if q.s.Overflow == Reject || tooBig || vs == nil {
			return false
		}
		for _, m := range vs {
			if q.s.Overflow == DeadLetterIt && DeadName(q.name) != "" {
				w.bury(q, m, "overflow: the queue was full")
			} else {
				q.drop(m)
				q.n.Dropped++
			}
		}
	}
	for _, m := range ms {
		w.store(q, m)
	}
	return true
}

func (w *model) store(q *mQueue, m *mMessage) {
	q.last++
	m.seq, m.at, m.state = q.last, w.clock, ready
	q.msgs = append(q.msgs, m)
	q.n.Published++
}

func (w *model) bury(q *mQueue, m *mMessage, reason string) {
	d := w.queues[DeadName(q.name)]
	if d == nil {
		s := q.s
		s.MaxMessages, s.MaxBytes, s.MaxDeliveries, s.Overflow = 0, 0, 0, Reject
		d = &mQueue{id: q.id + 1, name: DeadName(q.name), s: s, last: q.deadLast}
		w.queues[d.name] = d
	}
	q.drop(m)
	q.n.Dead++
	if !d.fits(1, m.body) && d.s.Overflow == DropOldest {
		for _, v := range d.victims(1, m.body) {
			d.drop(v)
			d.n.Dropped++
		}
	}
	w.store(d, &mMessage{ref: m.ref, size: m.size, body: m.body, dead: &Dead{q.name, m.seq, uint32(m.attempts), reason}})
}

func (w *model) settle(q *mQueue, seqs []uint64) (n int) {
	for _, seq := range seqs {
		if m := q.find(seq); m != nil {
			q.drop(m)
			n++
		}
	}
	q.n.Acked += uint64(n)
	return n
}

func (w *model) giveBack(q *mQueue, rs []Return, reason string, counted, dead bool) (n int) {
	for _, r := range rs {
		m := q.find(r.Seq)
		if m == nil {
			continue
		}
		n++
		m.returns++
		if counted {
			m.attempts++
		}
		worn := q.s.MaxDeliveries > 0 && int64(m.attempts) >= q.s.MaxDeliveries
		if DeadName(q.name) != "" && (dead || worn) {
			if !dead {
				reason := "max_deliveries: " + reason
				w.bury(q, m, reason)
				continue
			}
			w.bury(q, m, reason)
			continue
		}
		m.free()
		if m.state, m.due = delayed, r.Due; r.Due <= w.clock {
			m.state = ready
		}
	}
	return n
}

func (w *model) purge(q *mQueue) (n int) {
	for _, m := range slices.Clone(q.msgs) {
		q.drop(m)
		n++
	}
	q.n.Purged += uint64(n)
	return n
}

func (w *model) remove(q *mQueue) {
	w.purge(q)
	if src := w.byID(q.id - 1); q.id&1 != 0 && src != nil {
		src.deadLast = q.last
	}
	q.gone = true
	delete(w.queues, q.name)
}

func (w *model) dueAt(now int64) {
	for _, q := range w.queues {
		for _, m := range q.msgs {
			if m.state == delayed && m.due <= now {
				m.state = ready
			}
		}
	}
}

// reborn: consumers and leases are gone, and everything may have been delivered before.
func (w *model) reborn(now int64) {
	for _, q := range w.queues {
		q.ring = nil
		for _, m := range q.msgs {
			m.restored = true
			if m.state == leased {
				m.state, m.holder, m.end, m.returning = ready, nil, 0, false
			}
		}
	}
	w.dueAt(now)
}
