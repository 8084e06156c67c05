package queue

import (
	"cmp"
	"slices"
)

// What few messages have, and what ends them by themselves: a time of their own, a time to
// live, an id that keeps them from being published twice.

// An extra is what few messages have beyond msg; msgExtra says that there is one.
type extra struct {
	expires int64 // by the message's own ttl, unix ns; 0: none
	key     string
}

func (q *Queue) setExtra(seq uint64, m *msg, x extra) {
	if q.extras == nil {
		q.extras = map[uint64]extra{}
	}
	q.extras[seq] = x
	m.flags |= msgExtra
}

// expiresAt is when a message's time is over, unix ns; 0: never. In a dead-letter queue it is never.
func (q *Queue) expiresAt(seq uint64, c *chunk, m *msg) int64 {
	if m.flags&msgDead != 0 {
		return 0
	}
	at := int64(0)
	if m.flags&msgExtra != 0 {
		at = q.extras[seq].expires
	}
	if ttl := q.Settings.TTL; ttl > 0 {
		if by := later(q.publishedAt(seq, c, m), uint64(ttl)); at == 0 || by < at {
			at = by
		}
	}
	return at
}

// mortal sees to it that a message's end by time is noticed.
func (st *State) mortal(q *Queue, seq uint64, c *chunk, m *msg) {
	if at := q.expiresAt(seq, c, m); at != 0 {
		st.ends.add(timer{at: at, seq: seq, queue: q.ID})
		st.ends.tidy(st.liveN, func(t timer) bool {
			q, _ := st.outlived(t)
			return q != nil
		})
	}
}

// over keeps from consumers a message that comes back when its time is over, and lets Outlived tell
// the owner: the timer may have been passed over meanwhile. What has time left has its timer.
func (st *State) over(q *Queue, seq uint64, c *chunk, m *msg) {
	if at := q.expiresAt(seq, c, m); at != 0 && at <= max(st.now, st.looked) {
		m.flags |= msgEnding
		st.ends.add(timer{at: at, seq: seq, queue: q.ID, about: endsNow})
	}
}

const endsNow = 1 // in timer.about: the message is kept from consumers already

// outlived is the message that a timer of ends is about, nil where it is no more or may live longer.
func (st *State) outlived(t timer) (*Queue, *msg) {
	q := st.byID(t.queue)
	if q == nil {
		return nil, nil
	}
	c, m := q.find(t.seq)
	if m == nil {
		return nil, nil
	}
	if at := q.expiresAt(t.seq, c, m); t.about != endsNow && (at == 0 || at > t.at) {
		return nil, nil
	}
	return q, m
}

// Outlived calls f for each message whose time is over and that nobody has. From then on
// nobody gets it; the owner proposes its end. What is leased is left to its consumer.
func (st *State) Outlived(now int64, f func(q *Queue, seq uint64)) {
	st.looked = max(st.looked, now)
	for t := st.ends.next(); t != 0 && t <= now; t = st.ends.next() {
		e := st.ends.pop()
		if q, m := st.outlived(e); q != nil && m.state != leased && (m.flags&msgEnding == 0) == (e.about != endsNow) {
			m.flags |= msgEnding
			f(q, e.seq)
		}
	}
}

type place struct {
	queue uint32
	seq   uint64
}

// Hold keeps a message from being leased until its end or its new time, which the owner
// proposes, is decided. It is false where a consumer has the message.
func (st *State) Hold(q *Queue, seq uint64) bool {
	_, m := q.find(seq)
	if m == nil || m.state == leased {
		return false
	}
	if m.flags&msgEnding != 0 {
		if st.held == nil {
			st.held = map[place]int{}
		}
		st.held[place{q.ID, seq}]++
	}
	m.flags |= msgEnding
	return true
}

// release undoes one Hold or Outlived; the message is free where there was no other. A journal's reader
// does not know who had the message when: nobody may get it before all that was proposed is decided.
func (st *State) release(q *Queue, seq uint64, m *msg) bool {
	at := place{q.ID, seq}
	switch n := st.held[at]; n {
	case 0:
		m.flags &^= msgEnding
		return true
	case 1:
		delete(st.held, at)
	default:
		st.held[at] = n - 1
	}
	return false
}

// Spare undoes Outlived and Hold for a message where what was proposed could not be recorded. Where its
// time is over it is tried again at that time at the latest.
func (st *State) Spare(q *Queue, seq uint64, again int64) {
	c, m := q.find(seq)
	if m == nil || m.flags&msgEnding == 0 || !st.release(q, seq, m) {
		return
	}
	if m.state == ready {
		q.Counts.Ready--
		st.makeReady(q, seq, m)
	}
	if at := q.expiresAt(seq, c, m); at != 0 && at <= st.looked { // else it has its timer
		st.ends.add(timer{at: max(at, again), seq: seq, queue: q.ID})
	}
}

// Retry is Spare where it may be somebody else's to propose by now: nobody gets a message meanwhile whose time is over.
func (st *State) Retry(q *Queue, seq uint64, again int64) {
	c, m := q.find(seq)
	if m == nil || m.flags&msgEnding == 0 {
		return
	}
	at := q.expiresAt(seq, c, m)
	if at == 0 || at > st.looked {
		st.Spare(q, seq, again)
	} else if st.release(q, seq, m) {
		m.flags |= msgEnding
		st.ends.add(timer{at: max(at, again), seq: seq, queue: q.ID, about: endsNow})
	}
}

func (st *State) expire(q *Queue, r *reader) (n int) {
	for count := r.uvarint(); count > 0 && r.err == nil; count-- {
		seq := r.uvarint()
		c, m := q.find(seq)
		if m == nil {
			continue
		}
		n++
		if q.Settings.DeadLetterExpired && DeadName(q.Name) != "" {
			st.bury(q, st.deadQueue(q), seq, c, m, "expired: its ttl is over")
			continue
		}
		q.Counts.Expired++
		st.happened(q, seq, m, hasExpired, "its ttl is over")
		st.end(q, seq, c, m)
	}
	return n
}

func (st *State) cancel(q *Queue, r *reader) int {
	seq := r.uvarint()
	c, m := q.find(seq)
	if m == nil || r.err != nil {
		return 0
	}
	q.Counts.Cancelled++
	st.happened(q, seq, m, wasCancelled, "")
	st.end(q, seq, c, m)
	return 1
}

// moveTo lets a message that nobody has be due at another time.
func (st *State) moveTo(q *Queue, r *reader) int {
	seq, due := r.uvarint(), r.varint()
	c, m := q.find(seq)
	if m == nil || r.err != nil || m.state == leased { // Hold keeps it from being leased
		return 0
	}
	st.changes(q, c)
	if st.release(q, seq, m) {
		st.over(q, seq, c, m)
	}
	if l, _ := q.lineOf(seq, m); l != nil && l.head != seq {
		l.leave(q, seq, m) // it queues up anew
	}
	st.leaveState(q, seq, c, m)
	st.wait(q, seq, c, m, due)
	st.rows.updated(q, seq, q, seq)
	return 1
}

// leaveState takes a message out of the count of its state, of ready or delayed.
func (st *State) leaveState(q *Queue, seq uint64, c *chunk, m *msg) {
	switch m.state {
	case ready, behind:
		q.Counts.Ready--
	case delayed:
		c.dropDue(seq)
		q.Counts.Delayed--
		st.delayedN--
	}
}

// MaxDedupIDs is how many ids a queue remembers at most; a publish with one more is refused.
const MaxDedupIDs = 1_000_000

// dedup is the ids of messages published within the queue's window, in the order in which
// they will be forgotten. Ids stay known when their messages are settled.
type dedup struct {
	seqs  map[string]uint64
	order []remembered // from index first on
	first int
}

type remembered struct {
	id      string
	seq     uint64
	expires int64
}

// MayRemember reports whether the queue has room for n more ids.
func (q *Queue) MayRemember(n int, now int64) bool {
	d := &q.dedup
	over, _ := slices.BinarySearchFunc(d.order[d.first:], now, func(e remembered, now int64) int { return cmp.Compare(e.expires, now+1) })
	return q.Settings.DedupWindow <= 0 || len(d.seqs)-over+n <= MaxDedupIDs
}

// knows reports whether an id is known, whether or not those have been forgotten whose time is over.
func (d *dedup) knows(id string, now int64) bool {
	seq, ok := d.seqs[id]
	i, found := slices.BinarySearchFunc(d.order[d.first:], seq, func(e remembered, seq uint64) int { return cmp.Compare(e.seq, seq) })
	return ok && found && d.order[d.first+i].expires > now
}

// forget drops the ids whose window is over.
func (d *dedup) forget(now int64) {
	for d.first < len(d.order) && d.order[d.first].expires <= now {
		delete(d.seqs, d.order[d.first].id)
		d.first++ // and not cleared: a snapshot may be looking at it
	}
	if d.first > 1024 && d.first > len(d.order)/2 {
		d.order = append(d.order[:0:0], d.order[d.first:]...)
		d.first = 0
	}
}

// remember notes the id until expires. A window that was made shorter meanwhile does not let later ids be
// forgotten before earlier ones: they wait for each other.
func (d *dedup) remember(id string, seq uint64, expires int64) {
	if d.seqs == nil {
		d.seqs = map[string]uint64{}
	}
	d.seqs[id] = seq
	if n := len(d.order); n > d.first {
		expires = max(expires, d.order[n-1].expires)
	}
	d.order = append(d.order, remembered{id, seq, expires})
}
