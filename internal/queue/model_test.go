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

	text     string // the body
	sent     int64  // the time in its record
	topic    string
	shares   int // how many messages the record is that of, log2
	priority int
	key      string
	expires  int64 // by its own ttl; 0: never
	id       string
	ending   int   // what has been proposed that ends or moves it: nobody gets it meanwhile
	over     bool  // it came back too late, and the owner is still to be told
	retry    int64 // its end could not be recorded: to be tried again
}

type mID struct {
	id      string
	seq     uint64
	expires int64
}

type mConsumer struct {
	real    *Consumer
	q       *mQueue
	limit   int
	leased  int
	until   int64
	listed  bool
	blocked bool
	aside   bool // its turn came while it was blocked
}

type mQueue struct {
	id       uint32
	name     string
	s        Settings
	paused   bool
	frozen   int // purges on their way that say what stays
	gone     bool
	msgs     []*mMessage
	last     uint64
	deadLast uint64
	n        Counts // but for Ready, Delayed, Leased
	shield   []uint64
	ring     []*mConsumer // the first is next
	ids      []mID        // known, in the order of their publishing
}

type model struct {
	clock  int64 // the latest time in a record
	looked int64 // the latest time at which the ends of messages were looked at
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

func (q *mQueue) firstReady() (first *mMessage) {
	turns := q.turns()
	for _, m := range q.msgs {
		if m.state == ready && m.ending == 0 && !q.paused && q.frozen == 0 && (!m.waitsInLine() || turns[m.key] == m) && (first == nil || m.priority > first.priority) {
			first = m
		}
	}
	return first
}

// waitsInLine: dead letters keep their keys and do not wait for each other; what was delayed when it was published
// does not stand in line before it is due.
func (m *mMessage) waitsInLine() bool {
	return m.key != "" && m.dead == nil && (m.state != delayed || m.returns > 0)
}

// turns says of each key whose turn it is: the one that is leased, else the first of those that have been returned, else the first.
func (q *mQueue) turns() map[string]*mMessage {
	turns := map[string]*mMessage{}
	rank := func(m *mMessage) int {
		switch {
		case m.state == leased:
			return 2
		case m.returns > 0:
			return 1
		}
		return 0
	}
	for _, m := range q.msgs {
		if first := turns[m.key]; m.waitsInLine() && (first == nil || rank(m) > rank(first)) {
			turns[m.key] = m
		}
	}
	return turns
}

// turn puts c into the ring, at its end, or takes it out, as it may have something now.
func (c *mConsumer) turn() {
	able := c.listed && !c.aside && c.leased < c.limit && !c.q.gone
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

func (q *mQueue) shielded(m *mMessage) bool { return slices.Contains(q.shield, m.seq) }

// victims are the fewest of the oldest messages without which the others fit, but for those that are spared.
func (q *mQueue) victims(n int, bytes int64, spared func(*mMessage) bool) (vs []*mMessage) {
	without := 0
	for _, m := range q.msgs {
		if q.fits(n-without, bytes) {
			return vs
		}
		if !spared(m) {
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

// publish stores what is not known by its id, all or none, and says the seqs of all and what was known. What was
// promised is stored whether there is room or not.
func (w *model) publish(q *mQueue, ms []*mMessage, promised bool) (seqs []uint64, known []bool, ok bool) {
	fresh := w.fresh(q, ms)
	var bytes int64
	for _, m := range fresh {
		bytes += m.body
	}
	if len(fresh) > 0 && !q.fits(len(fresh), bytes) {
		tooBig := q.s.MaxMessages > 0 && int64(len(fresh)) > q.s.MaxMessages || q.s.MaxBytes > 0 && bytes > q.s.MaxBytes
		vs := q.victims(len(fresh), bytes, q.shielded)
		if q.s.Overflow == Reject || tooBig || vs == nil {
			if !promised {
				return nil, nil, false
			}
			vs = nil
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
		new := slices.Contains(fresh, m)
		if new {
			w.store(q, m)
			w.remember(q, m)
		}
		seq := q.last
		if !new {
			seq = q.known(m.id).seq
		}
		seqs, known = append(seqs, seq), append(known, !new)
	}
	return seqs, known, true
}

// fresh are those of ms that q does not know yet, after it has forgotten what is too old.
func (w *model) fresh(q *mQueue, ms []*mMessage) (fresh []*mMessage) {
	if q.s.DedupWindow > 0 && slices.ContainsFunc(ms, func(m *mMessage) bool { return m.id != "" }) {
		q.ids = slices.DeleteFunc(q.ids, func(x mID) bool { return x.expires <= w.clock })
	}
	for _, m := range ms {
		twin := func(x *mMessage) bool { return x.id == m.id }
		if q.s.DedupWindow == 0 || m.id == "" || q.known(m.id) == nil && !slices.ContainsFunc(fresh, twin) {
			fresh = append(fresh, m)
		}
	}
	return fresh
}

func (q *mQueue) known(id string) *mID {
	for i := range q.ids {
		if q.ids[i].id == id {
			return &q.ids[i]
		}
	}
	return nil
}

func (w *model) remember(q *mQueue, m *mMessage) {
	if q.s.DedupWindow == 0 || m.id == "" {
		return
	}
	x := mID{m.id, m.seq, w.clock + int64(q.s.DedupWindow)}
	if n := len(q.ids); n > 0 {
		x.expires = max(x.expires, q.ids[n-1].expires)
	}
	q.ids = append(q.ids, x)
}

func (w *model) store(q *mQueue, m *mMessage) {
	q.last++
	m.seq, m.at, m.state = q.last, w.clock, ready
	if m.due > w.clock {
		m.state = delayed
	}
	q.msgs = append(q.msgs, m)
	q.n.Published++
}

// expiresAt is when a message's time is over; 0: never.
func (q *mQueue) expiresAt(m *mMessage) int64 {
	at := m.expires
	if ttl := int64(q.s.TTL); ttl > 0 && (at == 0 || m.at+ttl < at) {
		at = m.at + ttl
	}
	if m.dead != nil {
		return 0
	}
	return at
}

// comeBack keeps a message from consumers that comes back when its time is over.
func (w *model) comeBack(q *mQueue, m *mMessage) {
	if at := q.expiresAt(m); at != 0 && at <= max(w.clock, w.looked) {
		m.ending, m.over = 1, true
	}
}

// outlived are the messages whose time is over and that nobody has. What is to be tried again may be tried
// before that: a ttl made shorter and longer leaves timers of its own. So tried says what is.
func (w *model) outlived(q *mQueue, now int64, tried []uint64) (seqs []uint64) {
	for _, m := range q.msgs {
		at := q.expiresAt(m)
		if m.over || m.state != leased && m.ending == 0 && at != 0 && at <= now &&
			(m.retry <= now || slices.Contains(tried, m.seq)) {
			if !m.over {
				m.ending = 1
			}
			m.over, m.retry = false, 0
			seqs = append(seqs, m.seq)
		}
	}
	return seqs
}

// spare is told that a proposal about a message was lost.
func (w *model) spare(q *mQueue, m *mMessage, again int64) {
	if m.ending == 0 {
		return
	}
	if m.ending--; m.ending == 0 && q.expiresAt(m) != 0 && q.expiresAt(m) <= w.looked {
		m.retry = again
	}
}

func (w *model) expire(q *mQueue, seqs []uint64) (n int) {
	for _, seq := range seqs {
		m := q.find(seq)
		if m == nil {
			continue
		}
		n++
		if q.s.DeadLetterExpired && DeadName(q.name) != "" {
			w.bury(q, m, "expired: its ttl is over")
			continue
		}
		q.drop(m)
		q.n.Expired++
	}
	return n
}

func (w *model) cancel(q *mQueue, seq uint64) int {
	m := q.find(seq)
	if m == nil {
		return 0
	}
	q.drop(m)
	q.n.Cancelled++
	return 1
}

func (w *model) moveTo(q *mQueue, seq uint64, due int64) int {
	m := q.find(seq)
	if m == nil || m.state == leased {
		return 0
	}
	if m.ending--; m.ending == 0 {
		w.comeBack(q, m)
	}
	if m.state, m.due = ready, due; due > w.clock {
		m.state = delayed
	}
	return 1
}

func (w *model) update(q *mQueue, s Settings) {
	if s.TTL != q.s.TTL {
		for _, m := range q.msgs {
			m.retry = 0
		}
	}
	if s.DedupWindow == 0 {
		q.ids = nil
	}
	q.s = s
}

func (w *model) bury(q *mQueue, m *mMessage, reason string) {
	d := w.queues[DeadName(q.name)]
	if d == nil {
		s := q.s
		s.MaxMessages, s.MaxBytes, s.MaxDeliveries, s.Overflow, s.TTL = 0, 0, 0, Reject, 0
		d = &mQueue{id: q.id + 1, name: DeadName(q.name), s: s, last: q.deadLast}
		w.queues[d.name] = d
	}
	q.drop(m)
	q.n.Dead++
	if !d.fits(1, m.body) && d.s.Overflow == DropOldest {
		for _, v := range d.victims(1, m.body, d.shielded) {
			d.drop(v)
			d.n.Dropped++
		}
	}
	x := m.anew()
	x.dead = &Dead{q.name, m.seq, uint32(m.attempts), reason}
	w.store(d, x)
}

// anew is the message as it goes to another queue.
func (m *mMessage) anew() *mMessage {
	return &mMessage{ref: m.ref, size: m.size, shares: m.shares, body: m.body, priority: m.priority, key: m.key, topic: m.topic, text: m.text, sent: m.sent}
}

// redriven takes out dead letters that have been published to a queue of another state.
func (w *model) redriven(d *mQueue, seqs []uint64) (n int) {
	for _, seq := range seqs {
		if m := d.find(seq); m != nil {
			d.drop(m)
			n++
		}
	}
	d.n.Redriven += uint64(n)
	return n
}

// redrive moves dead letters into the queue to, or, where that is 0, each to where it came from.
func (w *model) redrive(d *mQueue, seqs []uint64, to uint32) (n int) {
	for _, seq := range seqs {
		m := d.find(seq)
		if m == nil {
			continue
		}
		q := w.byID(to)
		if to == 0 && m.dead != nil {
			q = w.queues[m.dead.Queue]
		}
		if q == nil || q == d || !q.fits(1, m.body) {
			w.spare(d, m, w.clock)
			continue
		}
		d.drop(m)
		d.n.Redriven++
		w.store(q, m.anew())
		n++
	}
	return n
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
		if m == nil || r.Number != 0 && int(r.Number) != m.returns+1 {
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
		if m.state == leased {
			w.comeBack(q, m)
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

// purgeSome ends the messages that a list names, or those up to a seq that it does not.
func (w *model) purgeSome(q *mQueue, list []uint64, but bool, upTo uint64) (n int) {
	for _, m := range slices.Clone(q.msgs) {
		if named := slices.Contains(list, m.seq); m.seq <= upTo && named != but {
			q.drop(m)
			n++
		}
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
	w.looked = 0
	for _, q := range w.queues {
		q.ring, q.frozen = nil, 0
		for _, m := range q.msgs {
			m.restored, m.ending, m.over, m.retry = true, 0, false, 0
			if m.state == leased {
				m.state, m.holder, m.end, m.returning = ready, nil, 0, false
			}
		}
	}
	w.dueAt(now)
}
