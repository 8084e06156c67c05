package queue

import (
	"time"
)

// A Consumer takes messages of one queue: a subscription, a receive that
// waits, or a session's receives taken together. The owner fills in the exported fields before Subscribe or Take.
//
// What every delivery needs is in its first 64 bytes.
type Consumer struct {
	Tag   any           // the owner's
	Crew  *Crew         // whom Block keeps from getting more, with others; nil: nobody does
	Lease time.Duration // how long each message
	Limit int           // messages leased at a time; a waiting receive: 1

	leases uint64    // seq of the newest
	next   *Consumer // in the ring
	leased int32
	Auto   bool // its deliveries are settled by being delivered: the lease has no end
	waits  bool // Until is set
	listed bool
	aside  bool // in Crew.aside, and in no ring

	prev  *Consumer
	Queue *Queue
	index int // in Queue.subs while listed
	id    uint64

	// Until is set for a receive that waits: the time at which Waited returns
	// it, unix ns. It is in the ring once.
	Until int64
}

// A Crew is consumers of one connection, and of one state: what their connection does not take, none of them gets. Where there are many of
// them it must cost nothing to stop them: each stays where it is until its turn comes.
type Crew struct {
	blocked bool
	aside   []*Consumer // whose turn came meanwhile, in that order
}

// held reports whether c gets nothing for now.
func (c *Consumer) held() bool { return c.Crew != nil && c.Crew.blocked }

// Leased is how many messages the consumer has.
func (c *Consumer) Leased() int { return int(c.leased) }

// Listed are the consumers that take part in the deliveries of the queue, waiting receives among them, in no
// particular order. The slice is the queue's own, and good until something is done to it.
func (q *Queue) Listed() []*Consumer { return q.subs }

// Subscribe lets c take part in the deliveries of its queue. Where the queue
// is no more, c is among the Removed.
func (st *State) Subscribe(c *Consumer) {
	q := c.Queue
	if q.gone {
		st.removed = append(st.removed, c)
		return
	}
	c.listed, c.waits, c.index = true, c.Until != 0, len(q.subs)
	q.subs = append(q.subs, c)
	if c.Until == 0 {
		q.Consumers++
	} else {
		st.lastC++
		c.id = st.lastC
		st.waiting[c.id] = c
		st.waits.add(timer{at: c.Until, seq: c.id})
		st.waits.tidy(len(st.waiting), func(t timer) bool { return st.waiting[t.seq] != nil })
	}
	st.enterRing(c)
}

// Unsubscribe ends c's part in the deliveries and returns the messages it has: the owner
// proposes their return.
func (st *State) Unsubscribe(c *Consumer) (seqs []uint64) {
	st.unlist(c)
	for seq := c.leases; seq != 0; {
		ck, _ := c.Queue.find(seq)
		l := ck.lease(seq)
		if !l.returning {
			l.returning = true
			seqs = append(seqs, seq)
		}
		seq = l.next
	}
	return seqs
}

// Drain ends c's part in the deliveries and leaves it what it has: each message returns by itself, or with Unsubscribe.
func (st *State) Drain(c *Consumer) { st.unlist(c) }

// Block keeps a crew from getting more until Unblock: its connection takes no more.
func (st *State) Block(g *Crew) { g.blocked = true }

// Unblock ends Block. Whose turn came meanwhile is behind everybody else now.
func (st *State) Unblock(g *Crew) {
	g.blocked = false
	for i, c := range g.aside {
		g.aside[i] = nil
		if c.aside {
			c.aside = false
			st.enterRing(c)
		}
	}
	g.aside = shrink(g.aside[:0])
}

// putAside takes a held consumer out of the ring whose turn has come.
func (st *State) putAside(c *Consumer) {
	st.leaveRing(c)
	c.aside = true
	c.Crew.aside = append(c.Crew.aside, c)
}

// Removed hands over the consumers whose queue has been deleted.
func (st *State) Removed() []*Consumer {
	r := st.removed
	st.removed = nil
	return r
}

// unlist takes c out of everything but its leases.
func (st *State) unlist(c *Consumer) {
	if !c.listed {
		return
	}
	q := c.Queue
	c.listed, c.aside = false, false
	last := len(q.subs) - 1
	q.subs[c.index] = q.subs[last]
	q.subs[c.index].index = c.index
	q.subs[last] = nil
	q.subs = q.subs[:last]
	if c.Until == 0 {
		q.Consumers--
	}
	delete(st.waiting, c.id)
	st.leaveRing(c)
}

func (st *State) enterRing(c *Consumer) {
	if c.next != nil || !c.listed || c.aside || c.Leased() >= c.Limit || c.Queue.gone {
		return
	}
	q := c.Queue
	if q.ring == nil {
		c.prev, c.next, q.ring = c, c, c
	} else { // behind everybody else
		first := q.ring
		c.prev, c.next = first.prev, first
		first.prev.next, first.prev = c, c
	}
	st.touch(q)
}

func (st *State) leaveRing(c *Consumer) {
	if c.next == nil {
		return
	}
	q := c.Queue
	if c.next == c {
		q.ring = nil
	} else {
		c.prev.next, c.next.prev = c.next, c.prev
		if q.ring == c {
			q.ring = c.next
		}
	}
	c.prev, c.next = nil, nil
}

// touch notes that q may have something to deliver.
func (st *State) touch(q *Queue) {
	if !q.dirty && q.ring != nil && q.Counts.Ready > 0 && !q.idle() {
		q.dirty = true
		st.dirty = append(st.dirty, q)
	}
}

// idle reports whether nothing of q may be delivered.
func (q *Queue) idle() bool { return q.Paused || q.gone || q.frozen > 0 }

// A Delivery is one message on its way to one consumer.
type Delivery struct {
	C           *Consumer
	Queue       *Queue // of a message
	Seq         uint64
	Span        Span
	Attempt     uint32
	Number      uint32 // of the delivery: what the receipt names
	Redelivered bool
	Dead        *Dead // where the message is a dead letter
}

// Take gives the next message to the consumer whose turn it is: queues take
// turns, and consumers of a queue do. Where that is a receive that waits, it is
// unsubscribed and returned without a message (Seq 0): the owner takes for it what it asked for.
func (st *State) Take(now int64) (d Delivery, ok bool) {
	for len(st.dirty) > 0 {
		if st.turn >= len(st.dirty) {
			st.turn = 0
		}
		q := st.dirty[st.turn]
		if q.ring != nil && !q.idle() {
			c := q.ring
			if c.held() && st.Deliverable(q) {
				st.putAside(c)
				continue
			}
			if c.waits {
				if st.Deliverable(q) { // not only what is kept from consumers
					st.unlist(c)
					st.turn++
					return Delivery{C: c}, true
				}
			}
			if d, ok = st.TakeFor(c, now); ok { // never for one that is held: there is nothing
				if q.ring == c { // still has credit: the next one first
					q.ring = c.next
				}
				if q.Counts.Ready > 0 {
					st.turn++
				} else { // rather now than when its turn comes again: it is in no cache by then
					st.clean(q)
				}
				return d, true
			}
		}
		st.clean(q)
	}
	return d, false
}

// clean takes the queue whose turn it is out of the dirty ones. Another one that has not had its turn takes its place.
func (st *State) clean(q *Queue) {
	q.dirty = false
	last := len(st.dirty) - 1
	st.dirty[st.turn] = st.dirty[last]
	st.dirty[last] = nil
	st.dirty = st.dirty[:last]
}

// TakeFor gives the next message of its queue to c, whosever turn it is.
func (st *State) TakeFor(c *Consumer, now int64) (d Delivery, ok bool) {
	q := c.Queue
	seq, ck, m, heap := q.nextReady()
	if m == nil || q.idle() {
		return d, false
	}
	if heap == nil {
		q.cursor++
	} else {
		heap.pop()
	}
	m.flags &^= msgInHeap
	m.state = leased
	q.Counts.Ready--
	q.Counts.Leased++
	q.Delivered++
	st.leasedN++
	st.lease(q, c, seq, ck, now)
	d = Delivery{
		C: c, Queue: q, Seq: seq, Span: m.span(), Attempt: uint32(m.attempts) + 1, Number: m.delivery(),
		Redelivered: m.delivery() > 1 || seq <= q.restored,
	}
	if m.flags&msgDead != 0 {
		d.Dead = q.dead[seq]
	}
	return d, true
}

// Deliverable reports whether q has a message that a consumer could have now.
func (st *State) Deliverable(q *Queue) bool {
	_, _, m, _ := q.nextReady()
	return m != nil && !q.idle()
}

// nextReady is the message that goes next: by priority, then by seq. heap is where
// it lies; nil means that the cursor is at it.
func (q *Queue) nextReady() (seq uint64, c *chunk, m *msg, heap *seqHeap) {
	if q.Counts.Ready == 0 {
		return 0, nil, nil, nil
	}
	for p := len(q.returned) - 1; p > DefaultPriority && q.heaps>>(DefaultPriority+1) != 0; p-- {
		if seq, c, m = q.top(p); m != nil {
			return seq, c, m, &q.returned[p]
		}
	}
	if q.heaps&(1<<DefaultPriority) != 0 {
		if seq, c, m = q.top(DefaultPriority); m != nil { // the cursor is behind all that was returned
			return seq, c, m, &q.returned[DefaultPriority]
		}
	}
	if seq, c, m = q.atCursor(); m != nil {
		return seq, c, m, nil
	}
	for p := DefaultPriority - 1; p >= 0; p-- {
		if seq, c, m = q.top(p); m != nil {
			return seq, c, m, &q.returned[p]
		}
	}
	return 0, nil, nil, nil
}

// top is the first deliverable message of a heap; what is no more is taken out in passing.
func (q *Queue) top(p int) (uint64, *chunk, *msg) {
	for h := &q.returned[p]; len(*h) > 0; {
		seq := (*h)[0]
		c, m := q.find(seq)
		if m != nil && m.state == ready && m.flags&msgEnding == 0 {
			return seq, c, m
		}
		if h.pop(); m != nil {
			m.flags &^= msgInHeap
		}
	}
	q.heaps &^= 1 << p
	return 0, nil, nil
}

// atCursor moves the cursor to the next message that is ready and in no heap.
func (q *Queue) atCursor() (uint64, *chunk, *msg) {
	for c := q.from; c != nil; c = c.next {
		q.from = c
		if c.m == nil { // the cursor will have done with it soon
			q.unpack(c)
		}
		first := c.seq(0)
		seq := max(q.cursor, first)
		for i := seq - first; i < uint64(len(c.m)); i++ {
			if m := &c.m[i]; m.state == ready && m.flags&(msgInHeap|msgEnding) == 0 {
				q.cursor = first + i
				return q.cursor, c, m
			}
		}
		q.cursor = max(seq, min(c.key<<chunkBits+chunkLen, q.last+1))
	}
	return 0, nil, nil
}

// unlease ends the lease of a leased message; its state is the caller's to change.
func (st *State) unlease(q *Queue, seq uint64, ck *chunk) {
	l := ck.lease(seq)
	c := l.c
	if l.prev != 0 {
		pc, _ := q.find(l.prev)
		pc.lease(l.prev).next = l.next
	} else {
		c.leases = l.next
	}
	if l.next != 0 {
		nc, _ := q.find(l.next)
		nc.lease(l.next).prev = l.prev
	}
	st.leaseEnds.drop(l.timer)
	st.leases.drop(ck, seq)
	c.leased--
	q.Counts.Leased--
	st.leasedN--
	st.enterRing(c)
}

// Next is when Due, Expired or Waited have something to say: unix ns, 0 for
// never. It may be early, never late.
func (st *State) Next() int64 {
	next := st.leaseEnds.next()
	for _, t := range [...]int64{st.delays.next(), st.waits.next(), st.ends.next()} {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	return next
}

// Due makes ready what has waited long enough.
func (st *State) Due(now int64) {
	for t := st.delays.next(); t != 0 && t <= now; t = st.delays.next() {
		e := st.delays.pop()
		if st.isDelayed(e) {
			q := st.byID(e.queue)
			c, m := q.find(e.seq)
			st.changes(q, c)
			st.leaveState(q, e.seq, c, m)
			st.makeReady(q, e.seq, m)
		}
	}
}

// Waited calls f for each receive that has waited long enough, after unsubscribing it.
func (st *State) Waited(now int64, f func(c *Consumer)) {
	for t := st.waits.next(); t != 0 && t <= now; t = st.waits.next() {
		if c := st.waiting[st.waits.pop().seq]; c != nil {
			st.unlist(c)
			f(c)
		}
	}
}

// A Receipt names one delivery: the life of the process that made it, its queue,
// and its number. The zero Receipt is none.
type Receipt struct{ Boot, Queue, Number uint32 }

// Receipt is the receipt of delivery number of a message of q.
func (st *State) Receipt(q *Queue, number uint32) Receipt { return Receipt{st.boot, q.ID, number} }

// AppendReceipt appends the text of r: three numbers to the base of 36, dots between them.
func AppendReceipt(dst []byte, r Receipt) []byte {
	dst = append36(dst, r.Boot)
	dst = append36(append(dst, '.'), r.Queue)
	return append36(append(dst, '.'), r.Number)
}

// append36 is strconv.AppendUint to the base of 36, which divides by a constant.
func append36(dst []byte, v uint32) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var b [7]byte
	i := len(b)
	for ; v >= 36; v /= 36 {
		i--
		b[i] = digits[v%36]
	}
	i--
	b[i] = digits[v]
	return append(dst, b[i:]...)
}

// ParseReceipt reads a receipt; ok is false where it is none of ours.
func ParseReceipt(b []byte) (r Receipt, ok bool) {
	part, dots := [3]uint64{}, 0
	for _, c := range b {
		switch {
		case c == '.' && dots < 2:
			dots++
			continue
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'z':
			c -= 'a' - 10
		default:
			return Receipt{}, false
		}
		if part[dots] = part[dots]*36 + uint64(c); part[dots] > 1<<32-1 {
			return Receipt{}, false
		}
	}
	return Receipt{uint32(part[0]), uint32(part[1]), uint32(part[2])}, dots == 2 && part[2] != 0
}

// A Holding is where a message stands, for one who wants to settle it.
type Holding uint8

// The holdings.
const (
	Settled  Holding = iota // it is no longer there
	Current                 // leased, and by this receipt if one was shown
	Unleased                // not leased, but nobody else has had it since
	Back                    // as Unleased, and its return has been counted already, or will be
	Stale                   // it has been delivered again since
)

// Holds tells where message seq of q stands for one who shows the receipt r. A receipt of an
// earlier life of the process is good until the message is delivered again.
func (st *State) Holds(q *Queue, seq uint64, r Receipt) Holding {
	c, m := q.find(seq)
	if m == nil {
		return Settled
	}
	if r.Number != 0 && r.Queue != q.ID {
		return Stale
	}
	n := m.delivery()
	if m.state == leased {
		switch {
		case r.Number != 0 && (r.Number != n || r.Boot != st.boot):
			return Stale
		case c.lease(seq).returning:
			return Back
		}
		return Current
	}
	switch r.Number {
	case n: // delivered by a life that ended before the message could return
		if r.Boot != st.boot && seq <= q.restored {
			return Unleased
		}
	case 0, n - 1:
		return Back
	}
	return Stale
}

// Attempts is how many attempts of a message have been counted, and the number of its
// delivery: the one that is out, or the next.
func (q *Queue) Attempts(seq uint64) (counted int, number uint32) {
	if _, m := q.find(seq); m != nil {
		return int(m.attempts), m.delivery()
	}
	return 0, 0
}

// Returning notes that the return of a leased message has been proposed, so
// that its lease does not end a second time. It is false where the message is not leased,
// or on its way back already: proposing that again would count its attempt twice.
func (st *State) Returning(q *Queue, seq uint64) bool {
	c, m := q.find(seq)
	if m == nil || m.state != leased {
		return false
	}
	l := c.lease(seq)
	first := !l.returning
	l.returning = true
	return first
}
