package broker

import (
	"errors"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/wire"
)

// What a shard of this node has certainly not carried out when it ceases to lead goes back to its session's lane (route.go), as what another node has
// refused does: the next leader is asked for it, before everything that was asked for later. So clients that are connected to a leader notice no more of its
// end than others.
//
// A session's works are in order in the shard's inbox. When one goes back, those behind it must, too, though the shard may lead again by the time it comes to
// them: they have been posted in the same visit, and what is in the lane comes in a later one.

// past reports whether the leadership is over for which a session has posted a work, or whether one that it posted before has gone back.
func (sh *shard) past(w *work) bool {
	return w.counted && (!sh.leads || w.term != 0 && w.term != sh.term || w.visit <= w.s.barred[sh.index])
}

// sendPast gives those works back that are for an earlier leadership, and returns the others. Controls are dealt with where they are admitted.
func (sh *shard) sendPast(works []*work) []*work {
	if !slices.ContainsFunc(works, sh.past) {
		return works
	}
	return slices.DeleteFunc(works, func(w *work) bool { return w.control == nil && sh.past(w) && sh.sendBack(w) })
}

// sendBack gives a work back to its session's lane, if that is where it came from. It is the lane's then: it must neither be answered nor finished.
func (sh *shard) sendBack(w *work) bool {
	if !w.returns() || w.silentHere() {
		return false
	}
	if c := w.control; c != nil {
		c.settled = nil
	}
	w.counted = false
	sh.bar(w)
	w.s.route.settled(sh.index)
	return true
}

// returns reports whether the route takes a work back: one that it has posted, and not for a queue of this node's that a topic has led to.
func (w *work) returns() bool {
	return w.counted && !slices.ContainsFunc(w.pubs, func(p pub) bool { return p.only != 0 })
}

// silentHere reports whether a work makes a subscription again: the route is told of what becomes of it, and does it anew.
func (w *work) silentHere() bool {
	return w.control != nil && len(w.control.id) > 0 && w.control.id[0] == silentID
}

// bar puts a work into its session's lane, and keeps out what the session has posted in the same visit.
func (sh *shard) bar(w *work) { w.s.barred[sh.index] = w.s.route.takeBack(sh.index, w) }

// part begins a work of some of the requests of w, which is about to end.
func (sh *shard) part(w *work, requests, cost int) *work {
	p := sh.newWork()
	p.s, p.turn, p.doubt, p.requests, p.cost = w.s, w.turn, w.doubt, requests, min(cost, w.cost)
	p.text = append(p.text, w.text...)
	w.requests -= p.requests
	w.cost -= p.cost
	return p
}

// pubsBack gives back the publishes of a work that a group has not taken, and reports whether it has.
func (sh *shard) pubsBack(w *work, cause error) bool {
	if !w.returns() || notKept(cause) != errNotLeading {
		return false
	}
	n := 0
	for i := range w.pubs {
		if w.pubs[i].done = w.pubs[i].refused; !w.pubs[i].done {
			n++
		}
	}
	if n == 0 {
		return true
	}
	p := sh.part(w, n, len(w.batch.Data))
	p.pubs, p.batch.Data = append(p.pubs, w.pubs...), append(p.batch.Data, w.batch.Data...)
	p.trim()
	sh.bar(p)
	return true
}

// ackBack notes that an ack is to be asked again, which was not kept, or of which nobody knows whether it was; it may be carried out twice then.
func (t *task) ackBack(cause error) bool {
	w := t.work
	if w == nil || !w.counted || t.ack == 0 {
		return false
	}
	i := t.ack - 1
	if notKept(cause) != errNotLeading {
		if !errors.Is(cause, errLapsed) && !errors.Is(cause, journal.ErrUnknown) || !w.repeatable(tagAck|uint64(i)) {
			return false
		}
		w.doubt = true
	}
	w.again = append(w.again, i)
	return true
}

// acksBack gives back the acks of a work that are to be asked again, when it ends.
func (sh *shard) acksBack(w *work) {
	p := sh.part(w, len(w.again), 64*len(w.again))
	for _, i := range w.again {
		a := w.acks[i]
		seqs, receipts := w.seqs[a.from:a.to], w.receipts[a.from:a.to]
		a.from = int32(len(p.seqs))
		p.seqs, p.receipts = append(p.seqs, seqs...), append(p.receipts, receipts...)
		a.to = int32(len(p.seqs))
		p.acks = append(p.acks, a)
	}
	sh.bar(p)
}

// notLed ends a control that this node does not lead any more: it goes back, or is refused.
func (sh *shard) notLed(w *work, err *wire.Error) {
	if err == errNotLeading && sh.sendBack(w) {
		return
	}
	sh.fail(w.s, w.control.id, err)
	sh.finish(w)
}

// takeBack puts into a lane what a shard of this node gives back, and returns the visit in which that was posted.
func (rt *route) takeBack(shard int, w *work) (visit uint64) {
	now := rt.f.b.opt.Now()
	rt.mu.Lock()
	ln := rt.lane(shard)
	rt.laned.Or(1 << shard)
	if w.since == 0 {
		w.since = now
	}
	w.left = w.undone()
	ln.back = append(ln.back, w)
	sortWorks(ln.back)
	ln.pause = now + int64(restless)
	visit = rt.visit(shard)
	rt.mu.Unlock()
	rt.f.poke(rt, 1<<shard)
	return visit
}

// visit is the number of what a session posts to a shard of this node between two times at which its lane comes home.
func (rt *route) visit(shard int) uint64 { return rt.visits[shard].Load() + 1 }
