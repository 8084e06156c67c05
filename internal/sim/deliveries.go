package sim

import (
	"strings"
	"time"
)

// delivered enters a delivery; s is nil where it was received.
func (k *Checker) delivered(c *conn, s *subscription, it *item, auto bool, lo moment) {
	w := k.w
	w.stats.Deliveries++
	m := k.verbatim(it)
	if m == nil {
		return
	}
	ch := k.chain(m, it.Queue)
	d := &delivery{chain: ch, k: c, queue: it.Queue, seq: it.Seq, attempt: it.Attempt, receipt: it.Receipt, sub: s, lo: lo.step, wall: lo.wall(c.life.n), hi: w.steps, auto: auto, again: it.Redelivered}
	if !auto {
		c.c.held = append(c.c.held, d)
	}
	if ch == nil || w.failure != "" || k.lenient {
		return
	}
	k.again(ch, d)
	if ch.at != d.queue || ch.seq != d.seq {
		if ch.last != nil && d.lo <= ch.last.hi {
			return // its client was slow: it is older than what is known already
		}
		k.moved(ch, d)
	}
	k.inTime(ch, d)
	k.attempts(ch, d)
	k.inOrder(ch, d)
	if ch.seen = true; ch.last == nil || d.lo > ch.last.hi || d.attempt >= ch.last.attempt {
		ch.last = d
	}
	ch.deliveries++
	ch.maybe = ch.maybe || auto
	d.leaseEnd = lo.least(c.life.n) + int64(ch.q.lease)
	if d.lo > ch.notSince {
		ch.notBefore = 0
	}
}

// again: what was settled does not come back, nobody gets what somebody else has, and a delivery that is not the
// first says so.
func (k *Checker) again(ch *chain, d *delivery) {
	w, last := k.w, ch.last
	switch {
	case ch.acked > 0 && d.lo > ch.acked:
		w.wrong("P2: queue %s, message %d was acked or cancelled, that was confirmed, and it is back", d.queue, d.seq)
	case ch.q.paused && d.lo > ch.q.pausedAt && d.queue == ch.q.name:
		w.wrong("queue %s, message %d is delivered though the queue is paused", d.queue, d.seq)
	case !d.again && ch.at == d.queue && ch.seq == d.seq && ch.fresh:
		w.wrong("P2: queue %s, message %d is delivered for the second time, and does not say so", d.queue, d.seq)
	case !w.cfg.Cluster && !d.again && ch.m.status == confirmed && ch.m.life != d.k.life && d.queue == ch.q.name && !ch.q.redriven:
		w.wrong("P2: queue %s, message %d is older than the process, and does not say that it may have been delivered", d.queue, d.seq)
	case last != nil && w.sameOwner(last, d) && last.queue == d.queue && last.seq == d.seq && d.lo > last.hi && !last.ended(d):
		w.wrong("P3: queue %s, message %d is given to %s while %s has it", d.queue, d.seq, d.k.c.name, last.k.c.name)
	}
}

// ended reports whether something may have ended the delivery before the next one left.
func (d *delivery) ended(next *delivery) bool {
	n := d.k.life.n
	return n.w.cfg.Cluster && d.k.life.broke >= d.lo || d.returned || d.auto || d.k.closed || d.sub != nil && d.sub.ended || n.wall >= d.leaseEnd || d.chain.q.scratch
}

// moved: a message has one number in its queue, and another one only in the queue of dead letters, or back from there.
func (k *Checker) moved(ch *chain, d *delivery) {
	w := k.w
	first := ch.seq == 0 && ch.at == d.queue
	dies := ch.q.max > 0 || ch.q.limit > 0 || ch.q.scratch || ch.q.ttl > 0
	switch {
	case first || ch.q.scratch:
	case !dies:
		w.wrong("P2: queue %s: one message has two numbers, %s %d and %d: it is there twice", d.queue, ch.at, ch.seq, d.seq)
	case d.queue == ch.q.name && !ch.q.redriven:
		w.wrong("P2: queue %s: message %s %d is there as %d without having been taken back", d.queue, ch.at, ch.seq, d.seq)
	}
	if d.queue == ch.q.name && !ch.q.scratch && !ch.q.redriven {
		if o := ch.q.seqs[d.seq]; o != nil && o != ch && o.seq == d.seq {
			w.wrong("P1: queue %s: two messages have the number %d", d.queue, d.seq)
		}
		ch.q.seqs[d.seq] = ch
	}
	ch.at, ch.seq = d.queue, d.seq
	ch.deliveries, ch.nacks, ch.fresh, ch.last, ch.notBefore = 0, 0, false, nil, 0
}

// inTime: nothing comes before it is due, or after its time is over.
func (k *Checker) inTime(ch *chain, d *delivery) {
	w, n := k.w, d.k.life.n
	switch m := ch.m; {
	case w.cfg.Cluster && ch.moves > 1, w.cfg.Cluster && ch.moves > 0 && ch.returned:
	case ch.q.later && m.due > n.wall && d.lo > ch.dueSince:
		w.wrong("queue %s, message %d is delivered %s before it is due", d.queue, d.seq, time.Duration(m.due-n.wall))
	case ch.notBefore > n.wall && d.lo > ch.notSince:
		w.wrong("queue %s, message %d is tried again %s before its time", d.queue, d.seq, time.Duration(ch.notBefore-n.wall))
	case m.expires != 0 && d.queue == ch.q.name && d.wall > m.expires && !n.fault.struck && !n.fault.missed: // who has no room cannot record the end
		w.wrong("queue %s, message %d is delivered %s after its time was over", d.queue, d.seq, time.Duration(d.wall-m.expires))
	}
}

// attempts: they are counted, not more often than the message was delivered, and never beyond what the queue allows.
func (k *Checker) attempts(ch *chain, d *delivery) {
	w := k.w
	switch {
	case d.attempt < 1+ch.nacks && d.lo > ch.notSince:
		w.wrong("queue %s, message %d comes as attempt %d, after %d that were nacked", d.queue, d.seq, d.attempt, ch.nacks)
	case ch.q.max > 0 && d.queue == ch.q.name && d.attempt > ch.q.max:
		w.wrong("queue %s, message %d comes as attempt %d, of %d", d.queue, d.seq, d.attempt, ch.q.max)
	case !d.again && d.attempt != 1:
		w.wrong("queue %s, message %d comes as attempt %d, and does not say that it was delivered before", d.queue, d.seq, d.attempt)
	}
	ch.fresh = ch.fresh || !d.again
}

// inOrder: first deliveries come in order of their numbers, those of a key one after another.
func (k *Checker) inOrder(ch *chain, d *delivery) {
	w, q := k.w, ch.q
	if d.queue != q.name {
		return
	}
	if q.plain && !d.again {
		f := &q.first[ch.m.priority]
		if before := f.before(d.lo); d.seq < before {
			w.wrong("P4: queue %s, message %d comes after %d, which was published after it", d.queue, d.seq, before)
		}
		f.note(d.hi, d.seq)
	}
	if q.keyed && ch.m.key != "" {
		for _, o := range q.keys[ch.m.key] {
			if o.seq < d.seq && o.seq != 0 && !o.done(d.k.life) && o != ch {
				w.wrong("P4: queue %s, message %d of key %s comes before %d is settled", d.queue, d.seq, ch.m.key, o.seq)
				return
			}
		}
	}
}

// note enters a first delivery, before is the highest number of those that had left before a step.
func (f *front) note(step, seq uint64) {
	if n := len(f.marks); n == 0 || seq > f.marks[n-1].seq {
		f.marks = append(f.marks, mark{step, seq})
	}
}

func (f *front) before(step uint64) uint64 {
	for i := len(f.marks) - 1; i >= 0; i-- {
		if f.marks[i].step < step {
			f.marks = f.marks[max(0, i-64):]
			return f.marks[min(i, 64)].seq
		}
	}
	return 0
}

// received enters what a receive was given: in order of priority, then of number.
func (k *Checker) received(c *conn, r *request, list []item, lo moment) {
	for i := range list {
		it := &list[i]
		if i > 0 && r.q.plain && !strings.HasSuffix(r.queue, ".dlq") {
			a, b := k.verbatim(&list[i-1]), k.verbatim(it)
			if a != nil && b != nil && (a.priority < b.priority || a.priority == b.priority && list[i-1].Seq > it.Seq) {
				k.w.wrong("P4: one receive from %s gave %d (priority %d) before %d (priority %d)", r.queue, list[i-1].Seq, a.priority, it.Seq, b.priority)
			}
		}
		k.delivered(c, nil, it, r.auto, lo)
	}
}
