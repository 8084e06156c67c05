package sim

import (
	"slices"
	"time"
)

// answered enters the answer to a request.
func (k *Checker) answered(c *conn, r *request, a *reply, lo moment) {
	if r.done != nil {
		r.done(a)
		return
	}
	switch r.op {
	case "publish":
		k.published(c, r, a)
	case "receive":
		k.received(c, r, a.Messages, lo)
	case "subscribe":
		if a.OK {
			r.sub.number = a.Sub
			c.subs[a.Sub] = r.sub
		}
	case "ack":
		k.acked(r, a)
	case "nack":
		k.nacked(c, r, a)
	case "extend":
		if until, err := time.Parse(time.RFC3339Nano, a.Until); err == nil && a.OK {
			r.list[0].leaseEnd = until.UnixNano() - 1000
		}
	case "queue.cancel", "queue.reschedule":
		k.changed(r, a)
	case "queue.info":
		k.counts(r, a)
	case "queue.peek":
		for i := range a.Messages {
			k.verbatim(&a.Messages[i])
		}
	case "queue.pause":
		if a.OK && r.q.name == "work1" && r.q.resuming == 0 && r.step > r.q.resumed {
			r.q.paused, r.q.pausedAt = true, k.w.steps
		}
	case "queue.resume":
		r.q.resuming--
		r.q.resumed = k.w.steps // a pause that was sent before this may have come before it
	}
}

// published enters a confirm, or an error instead.
func (k *Checker) published(c *conn, r *request, a *reply) {
	w := k.w
	if !a.OK {
		unknownYet := a.Error.Code == "unknown_outcome"
		if unknownYet && r.q != nil && r.q.ids {
			c.c.keep = append(c.c.keep, r.messages...)
		}
		for _, m := range r.messages {
			if unknownYet && m.status == open {
				m.status = unknown
			} else if m.status == open && !(m.dedup != "" && m.repeated) {
				m.status = refused
			}
		}
		return
	}
	seqs := a.Seqs
	if a.Seqs == nil {
		seqs = []uint64{a.Seq}
	}
	for i, m := range r.messages {
		w.stats.Confirmed++
		if f := &c.life.n.fault; a.Stored == "disk" && f.relieved {
			f.relieved = false
			w.stats.Resumed++
		}
		again := m.status == confirmed
		m.status = confirmed
		if !again {
			m.kept, m.life = w.steps, c.life
		}
		if m.ttl > 0 {
			m.expires = c.life.n.wall + int64(m.ttl)
		}
		if r.q == nil { // to a topic: each queue has its own number
			w.stats.Topics++
			continue
		}
		k.numbered(c, r, m.chains[0], seqs[i], again, a.Duplicate)
	}
}

// numbered enters the number that a message was given.
func (k *Checker) numbered(c *conn, r *request, ch *chain, seq uint64, again, duplicate bool) {
	w, q := k.w, ch.q
	if k.lenient || q.scratch || q.gone {
		return
	}
	if again && (!duplicate || ch.at == q.name && ch.seq != seq) {
		w.wrong("P2: queue %s: a publish with a known dedup_id was stored once more, as %d after %d", q.name, seq, ch.seq)
	}
	if duplicate {
		w.stats.Duplicates++
	} else {
		if last := c.published[q.name]; last.nth > r.nth || last.seq >= seq && last.life == c.life.number {
			w.wrong("P4: queue %s: request %d got %d, and request %d got %d", q.name, last.nth, last.seq, r.nth, seq)
		}
		c.published[q.name] = place{r.nth, seq, c.life.number}
		if floor := r.floor; seq <= floor && q.kept {
			w.wrong("P5: queue %s: %d was confirmed before the publish of %d was sent", q.name, floor, seq)
		}
	}
	if o := q.seqs[seq]; o != nil && o != ch && o.at == q.name && q.kept && !q.redriven {
		w.wrong("P1: queue %s: the number %d was given to two messages", q.name, seq)
	}
	if ch.at == q.name && ch.seq == 0 {
		ch.seq = seq
	}
	q.seqs[seq] = ch
	q.highest = max(q.highest, seq)
	if q.keyed && ch.m.key != "" && !again {
		q.keys[ch.m.key] = append(slices.DeleteFunc(q.keys[ch.m.key], func(o *chain) bool { return o.acked > 0 && o.asked == 0 }), ch)
	}
	if q.later && !again {
		k.delayed = append(k.delayed, ch)
	}
}

// acked enters an ack's outcome. One that settled fewer than it named may have missed what has moved meanwhile.
func (k *Checker) acked(r *request, a *reply) {
	for _, d := range r.list {
		ch := d.chain
		if ch == nil {
			continue
		}
		ch.asked--
		moves := ch.q.max > 0 || ch.q.limit > 0 || ch.q.lossy
		switch {
		case a.OK && (!moves || *a.Settled == len(r.list)):
			k.w.stats.Acked++
			if d.k.life.n.fault.full && ch.q.file {
				k.w.stats.AckedFull++
			}
			if ch.acked == 0 {
				ch.acked = k.w.steps
			}
		case !a.OK && a.Error.Code == "unknown_outcome":
			ch.maybe = true
		case a.OK, a.Error.Code == "lease_lost" && !slices.Contains(a.Error.Seqs, d.seq):
			ch.maybe = true
		}
	}
}

func (k *Checker) nacked(c *conn, r *request, a *reply) {
	if !a.OK || *a.Settled != len(r.list) {
		return
	}
	for _, d := range r.list {
		ch := d.chain
		if ch == nil || ch.last != d {
			continue
		}
		k.w.stats.Nacked++
		if r.counts {
			ch.nacks++
		}
		ch.notBefore, ch.notSince = r.wall+int64(r.delay), k.w.steps
	}
}

// changed enters what has become of a message that was to be cancelled or moved in time.
func (k *Checker) changed(r *request, a *reply) {
	ch := r.chain
	if r.op == "queue.cancel" {
		ch.asked--
	}
	switch {
	case a.OK && r.op == "queue.cancel":
		k.w.stats.Cancelled++
		if ch.acked == 0 {
			ch.acked = k.w.steps
		}
	case !a.OK && a.Error.Code == "unknown_outcome":
		ch.maybe = ch.maybe || r.op == "queue.cancel"
	case a.OK:
		ch.m.due, ch.dueSince = max(ch.m.due, r.wall+int64(r.delay)), k.w.steps
		if !ch.seen && ch.acked == 0 {
			k.delayed = append(k.delayed, ch)
		}
	case a.Error.Code == "not_found" && !ch.done(ch.m.life) && !k.lenient:
		k.w.wrong("P1: queue %s has no message %d any more, which was confirmed and never acked", r.queue, ch.seq)
	}
}

// counts holds the tallies of a queue against each other.
func (k *Checker) counts(r *request, a *reply) {
	if !a.OK {
		return
	}
	c := a.Counts
	sum := int64(0)
	for name, n := range c {
		if name != "published" {
			sum += n
		}
		if n < 0 {
			k.w.wrong("the counts of queue %s: %v", r.queue, c)
		}
	}
	if sum != c["published"] {
		k.w.wrong("queue %s counts %d published, and %d in all that may have become of them: %v", r.queue, c["published"], sum, c)
	}
}
