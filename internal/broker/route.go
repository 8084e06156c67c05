package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// A route is what a session has at other nodes: for each shard a lane of works that are on their way or wait, and the
// subscriptions that are to be made again where another node comes to lead.
//
// All that is under way in a lane is at one node, in one term of its leadership. What the leader certainly did not take comes back, and goes
// before everything that was asked for later; so publishes keep their order over any change of leaders. For that a leader
// refuses what was sent in another term than its own, and all that was sent in one volley with what it has refused, as it may have
// come to lead in between.
type route struct {
	f *forwarder
	s *Session

	laned  atomic.Uint32         // bits of the shards in whose lanes something is
	local  [Shards]atomic.Int32  // works that this node's own shards have
	visits [Shards]atomic.Uint64 // how often a lane came home; changed with mu held
	turns  uint64                // of works; the session's reader's
	owing  atomic.Bool           // a link has output that its node has not been told of

	mu      sync.Mutex // guards the following. A line's lock, or one of forwarder's or Caller's, may be taken while it is held, and no other
	lanes   [Shards]*lane
	links   []*link          // one at most for each node
	flying  map[uint64]*work // sent and not answered
	last    *work            // the one of flying that was answered last
	subs    map[uint64]*subscribed
	number  uint64
	scratch []byte
	gone    bool // the client is
	closed  bool // the session has ended
}

// A lane is the works of one shard, in order: out have been sent, back have been refused, wait have not been sent.
type lane struct {
	shard           int
	node, term      uint64 // of out
	home, homeTerm  uint64 // of the subscriptions, but for those that are astray
	stray           bool   // there may be such
	since           int64  // when it was found that somebody else leads; 0: not yet
	volley          uint64 // of out: a leader who has refused something of it takes nothing more of it
	pause           int64  // until when nothing is sent to that leader again, which has refused something, or has ended a subscription
	out, back, wait []*work
}

// A link is a proxy session at another node.
type link struct {
	rt       *route
	caller   *Caller
	number   uint64
	owed     int  // bytes of output of which the node has not been told that the client has taken them
	detached bool // the node knows that nothing more will come
	hushed   bool // the node has been told that this one is being shut down, and may have leased something to the client
}

// subscribed is a subscription to a queue, wherever it is.
type subscribed struct {
	shard      int
	live       bool // it has been made
	node, term uint64
	ready      bool    // what that node says of it is of this subscription, and not of an earlier one there
	control    control // that makes it
}

func newRoute(f *forwarder, s *Session) *route {
	return &route{f: f, s: s, flying: map[uint64]*work{}, subs: map[uint64]*subscribed{}}
}

// post takes a work to where its shard is led. It is called by the session's reader.
func (rt *route) post(shard int, w *work) {
	b := rt.f.b
	rt.turns++
	w.turn, w.visit = rt.turns, rt.visit(shard) // before it is known that nothing is in the lane: what comes from there goes before
	if c := w.control; c != nil && c.op == wire.OpReceive && c.wait > 0 {
		w.until = b.opt.Now() + int64(c.wait)
	}
	if _, term, here := b.leadership(shard); here && rt.laned.Load()&(1<<shard) == 0 {
		w.term = term
		rt.local[shard].Add(1)
		w.counted = true
		b.shards[shard].post(w)
		return
	}
	now := b.opt.Now()
	w.since, w.left = now, w.undone()
	say := newAnswers()
	rt.mu.Lock()
	ln := rt.lane(shard)
	rt.laned.Or(1 << shard)
	ln.wait = append(ln.wait, w)
	again := rt.advance(ln, now, say)
	rt.mu.Unlock()
	say.to(rt.s)
	if again {
		rt.f.poke(rt, 1<<shard)
	}
}

func (rt *route) lane(shard int) *lane {
	ln := rt.lanes[shard]
	if ln == nil {
		ln = &lane{shard: shard}
		rt.lanes[shard] = ln
		rt.f.register(rt)
	}
	return ln
}

// look looks after lanes, and returns those that have to be looked after again.
func (rt *route) look(shards uint32) (left uint32) {
	now, say := rt.f.b.opt.Now(), newAnswers()
	rt.mu.Lock()
	for i := range rt.lanes {
		if shards&(1<<i) == 0 || rt.closed {
			continue
		}
		if rt.lanes[i] == nil && !rt.subscribedIn(i) {
			continue
		}
		if rt.advance(rt.lane(i), now, say) {
			left |= 1 << i
		}
	}
	rt.mu.Unlock()
	say.to(rt.s)
	return left
}

func (rt *route) subscribedIn(shard int) bool {
	for _, sub := range rt.subs {
		if sub.shard == shard {
			return true
		}
	}
	return false
}

// advance sends what can be sent, and ends what has waited for too long. It is true where that has to be tried again. rt.mu is held.
func (rt *route) advance(ln *lane, now int64, say *answers) (again bool) {
	b := rt.f.b
	rt.expire(ln, now, say)
	node, term, here := b.leadership(ln.shard)
	moved := node != ln.node || term != ln.term
	if len(ln.out) > 0 && moved {
		if ln.since == 0 {
			ln.since = now
		}
		if now-ln.since < otherLeader {
			return true // it answers what it has
		}
		rt.lose(ln, nil, say) // what it says from here on is not heard
	}
	if len(ln.out) > 0 && len(ln.back) > 0 {
		return len(ln.back)+len(ln.wait) > 0 // what is out comes back, too, and goes first
	}
	if !moved && (len(ln.back) > 0 || ln.stray) && now < ln.pause {
		return true
	}
	defer rt.settle(ln)
	var homeless []uint64
	if ln.stray || node != ln.home || term != ln.homeTerm {
		homeless = rt.homeless(ln.shard, node, term)
	}
	if len(ln.back)+len(ln.wait)+len(homeless) == 0 || node == 0 {
		return node == 0 && len(ln.back)+len(ln.wait)+len(homeless) > 0
	}
	if here {
		rt.cameHome(ln, homeless, term, now, say)
		return false
	}
	if rt.local[ln.shard].Load() > 0 {
		return true // this node's own shard answers what it has
	}
	lk := rt.linkTo(node)
	if lk == nil {
		return true
	}
	rt.arrive(ln, node, term)
	if len(ln.out) == 0 {
		ln.volley++
	}
	for _, n := range homeless {
		rt.resubscribe(ln, lk, n, say)
	}
	for _, works := range [...]*[]*work{&ln.back, &ln.wait} {
		for i, w := range *works {
			(*works)[i] = nil
			rt.send(ln, lk, w, now, say)
		}
		*works = (*works)[:0]
	}
	if rt.gone {
		rt.detachAt(lk)
	}
	return false
}

// arrive notes where a lane's works go from here on.
func (rt *route) arrive(ln *lane, node, term uint64) {
	ln.node, ln.term, ln.since = node, term, 0
	ln.home, ln.homeTerm, ln.stray = node, term, false
}

// settle notes whether anything is in a lane.
func (rt *route) settle(ln *lane) {
	if len(ln.out)+len(ln.back)+len(ln.wait) == 0 {
		rt.laned.And(^uint32(1 << ln.shard))
	}
}

// linkTo is the proxy session at a node; nil while there is no line to it.
func (rt *route) linkTo(node uint64) *link {
	c := rt.f.caller(node)
	if c == nil {
		return nil
	}
	lk := rt.linkAt(node)
	if lk == nil || lk.caller != c || lk.detached {
		rt.drop(lk)
		if lk = c.open(rt); lk != nil {
			rt.links = append(rt.links, lk)
		}
	}
	return lk
}

func (rt *route) linkAt(node uint64) *link {
	for _, lk := range rt.links {
		if lk.caller.node == node {
			return lk
		}
	}
	return nil
}

// hush tells a node that nothing more is to be delivered. rt.mu is held.
func (rt *route) hush(lk *link) {
	if !lk.hushed {
		lk.hushed = true
		rt.f.holding.Add(1)
	}
	lk.caller.line.Send(nil, appendUvarint(append(rt.scratch[:0], sayHush), lk.number))
}

// idleAt is told that a node has nothing leased to the client any more.
func (rt *route) idleAt(lk *link) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.unhush(lk)
}

func (rt *route) unhush(lk *link) {
	if lk.hushed {
		lk.hushed = false
		rt.f.holding.Add(-1)
	}
}

func (rt *route) drop(lk *link) {
	if lk == nil {
		return
	}
	rt.unhush(lk)
	rt.links = slices.DeleteFunc(rt.links, func(o *link) bool { return o == lk })
}

// send sends a work. One that its client waits for no longer ends here.
func (rt *route) send(ln *lane, lk *link, w *work, now int64, say *answers) {
	if rt.gone && w.begins() {
		say.end(w)
		return
	}
	if w.begins() && !w.control.silent {
		if err := w.withdrawn(w.control); err != nil {
			say.fail(rt.s, w.control.id, err)
			delete(rt.subs, w.control.sub)
			say.end(w)
			return
		}
	}
	if w.answered > 0 {
		w.trim()
	}
	draining := rt.f.b.draining.Load()
	if w.until != 0 && draining { // what is there, and no more
		w.until = now
	}
	if w.until != 0 {
		w.control.wait = time.Duration(max(w.until-now, 0))
	}
	if w.control == nil && draining && len(w.pubs) > 0 {
		for i := range w.pubs {
			say.fail(rt.s, w.str(w.pubs[i].id), errShuttingDown)
			w.pubs[i].done = true
		}
		w.answered += len(w.pubs)
		if w.left -= len(w.pubs); w.left == 0 {
			say.end(w)
			return
		}
		w.trim()
	}
	rt.number++
	w.number, w.lk, w.back = rt.number, lk, false
	rt.flying[w.number] = w
	m := appendUvarint(append(rt.scratch[:0], sayWork), lk.number)
	m = append(appendUvarint(appendUvarint(m, ln.term), ln.volley), byte(ln.shard))
	m = appendWork(appendUvarint(m, w.number), w)
	lk.caller.line.Send(nil, m)
	if draining && w.begins() {
		rt.hush(lk)
	}
	if rt.scratch = m; cap(m) > spareBytes {
		rt.scratch = nil
	}
	ln.out = append(ln.out, w)
}

// begins reports whether a work is for a client that is there: a receive, or a subscription.
func (w *work) begins() bool {
	return w.control != nil && (w.control.op == wire.OpReceive || w.control.op == wire.OpSubscribe)
}

// cameHome posts to this node's own shard what it leads now.
func (rt *route) cameHome(ln *lane, homeless []uint64, term uint64, now int64, say *answers) {
	sh := rt.f.b.shards[ln.shard]
	rt.arrive(ln, rt.f.b.opt.ID, term)
	rt.visits[ln.shard].Add(1)
	for _, n := range homeless {
		sub := rt.subs[n]
		sub.node, sub.term = ln.node, term
		c := sub.control
		c.id = appendUint([]byte{silentID}, n)
		w := sh.newWork()
		w.s, w.control, w.term = rt.s, &c, term
		w.requests, w.cost = 1, controlCost
		rt.count(ln.shard, w)
		rt.s.working.Add(int64(w.cost))
		rt.f.b.working.Add(1)
		sh.post(w)
	}
	for _, works := range [...][]*work{ln.back, ln.wait} {
		for i, w := range works {
			works[i] = nil
			if rt.gone && w.begins() {
				say.end(w)
				continue
			}
			if w.answered > 0 {
				w.trim()
			}
			if w.until != 0 {
				w.control.wait = time.Duration(max(w.until-now, 0))
			}
			w.term, w.lk, w.number, w.back = term, nil, 0, false
			rt.count(ln.shard, w)
			sh.post(w)
		}
	}
	ln.back, ln.wait = ln.back[:0], ln.wait[:0]
}

func (rt *route) count(shard int, w *work) {
	rt.local[shard].Add(1)
	w.counted, w.visit = true, rt.visit(shard)
	rt.s.Intake.touched.Or(1 << shard)
}

// settled is told by a shard that a work which was posted to it has ended.
func (rt *route) settled(shard int) {
	if rt.local[shard].Add(-1) == 0 && rt.laned.Load()&(1<<shard) != 0 {
		rt.f.poke(rt, 1<<shard)
	}
}

// homeless are the subscriptions of a shard that are to be made there, in order.
func (rt *route) homeless(shard int, node, term uint64) []uint64 {
	var which []uint64
	for n, sub := range rt.subs {
		if sub.shard == shard && sub.live && (sub.node != node || sub.term != term) {
			which = append(which, n)
		}
	}
	slices.Sort(which)
	return which
}

// resubscribe makes a subscription again where the shard is led now. The client is told nothing.
func (rt *route) resubscribe(ln *lane, lk *link, n uint64, say *answers) {
	sub := rt.subs[n]
	sub.node, sub.term, sub.ready = ln.node, ln.term, false
	c := sub.control
	w := &work{s: rt.s, control: &c, requests: 1, cost: controlCost, left: 1, since: rt.f.b.opt.Now()}
	rt.s.working.Add(int64(w.cost))
	rt.f.b.working.Add(1)
	rt.send(ln, lk, w, w.since, say)
}

// expire tells what has waited for a leader for too long that there is none.
func (rt *route) expire(ln *lane, now int64, say *answers) {
	for _, works := range [...]*[]*work{&ln.back, &ln.wait} {
		kept := (*works)[:0]
		for _, w := range *works {
			if now-w.since < rt.f.horizon.patience(now, w.since) && !(rt.gone && w.begins()) {
				kept = append(kept, w)
				continue
			}
			if !w.silent() && !(rt.gone && w.begins()) {
				w.tooLate(rt.s, say)
			}
			rt.unlive(w)
			say.end(w)
		}
		clear((*works)[len(kept):])
		*works = kept
	}
}

// unlive lets a subscription be made again later whose making has come to nothing.
func (rt *route) unlive(w *work) {
	if !w.silent() {
		return
	}
	if sub := rt.subs[w.control.sub]; sub != nil {
		rt.strand(sub)
		rt.f.poke(rt, 1<<sub.shard)
	}
}

// strand notes that a subscription has to be made anew, in a while: it may be refused again and again.
func (rt *route) strand(sub *subscribed) {
	ln := rt.lane(sub.shard)
	sub.node, sub.term, sub.ready = 0, 0, false
	ln.stray, ln.pause = true, rt.f.b.opt.Now()+int64(restless)
}

// lose ends what is out in a lane, at that link where one is given: what may be asked again without harm is, and of
// the rest nobody knows what has become.
func (rt *route) lose(ln *lane, lk *link, say *answers) {
	var kept, back []*work
	for _, w := range ln.out {
		if lk != nil && w.lk != lk {
			kept = append(kept, w)
			continue
		}
		delete(rt.flying, w.number)
		if rt.last == w {
			rt.last = nil
		}
		if w.silent() {
			rt.unlive(w)
			say.end(w)
			continue
		}
		if rt.gone && w.begins() {
			say.end(w)
			continue
		}
		w.giveUp(rt.s, say)
		if w.left == 0 {
			say.end(w)
		} else {
			back = append(back, w)
		}
	}
	ln.out = kept
	ln.back = append(ln.back, back...)
	sortWorks(ln.back)
	rt.settle(ln)
}

// broken is told that the line under a link is gone.
func (rt *route) broken(lk *link) {
	say, shards := newAnswers(), uint32(0)
	rt.mu.Lock()
	rt.drop(lk)
	for i, ln := range rt.lanes {
		if ln != nil {
			rt.lose(ln, lk, say)
			shards |= 1 << i
		}
	}
	for _, sub := range rt.subs {
		if sub.node == lk.caller.node {
			rt.strand(sub)
			shards |= 1 << sub.shard
		}
	}
	rt.mu.Unlock()
	say.to(rt.s)
	rt.f.poke(rt, shards)
}

// overAt is told that a proxy session has ended.
func (rt *route) overAt(lk *link) { rt.broken(lk) }

// lost is told by a shard of this node, which leads no more, which subscriptions it has ended.
func (rt *route) lost(shard int, subs []uint64) {
	rt.mu.Lock()
	for _, n := range subs {
		if sub := rt.subs[n]; sub != nil {
			rt.strand(sub)
		}
	}
	rt.mu.Unlock()
	rt.f.poke(rt, 1<<shard)
}

// asked is told that the client wants a subscription, made that it has been made at this node, and ended that it is no more.
func (rt *route) asked(shard int, c *control) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	sub := &subscribed{shard: shard, control: *c}
	sub.control.id, sub.control.silent = nil, true
	rt.subs[c.sub] = sub
	rt.f.register(rt)
}

func (rt *route) made(n, term uint64) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if sub := rt.subs[n]; sub != nil {
		sub.live, sub.node, sub.term = true, rt.f.b.opt.ID, term
	}
}

func (rt *route) ended(n uint64) (was bool) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	was = rt.subs[n] != nil
	delete(rt.subs, n)
	return was
}

// close is told that the client is gone: what it has leased returns, receives that wait are forgotten.
func (rt *route) close() {
	rt.mu.Lock()
	rt.gone = true
	clear(rt.subs)
	shards := uint32(0)
	for _, lk := range rt.links {
		rt.detachAt(lk)
	}
	for i, ln := range rt.lanes {
		if ln != nil && len(ln.back)+len(ln.wait) > 0 {
			shards |= 1 << i
		}
	}
	rt.mu.Unlock()
	if shards != 0 {
		rt.f.poke(rt, shards)
	}
}

func (rt *route) detachAt(lk *link) {
	if !lk.detached {
		lk.detached = true
		lk.caller.line.Send(nil, appendUvarint(append(rt.scratch[:0], sayDetach), lk.number))
	}
}

// over is told that the session has ended.
func (rt *route) over() {
	rt.mu.Lock()
	rt.closed = true
	links := rt.links
	rt.links = nil
	for _, lk := range links {
		rt.unhush(lk)
	}
	rt.mu.Unlock()
	for _, lk := range links {
		lk.caller.drop(lk)
	}
	rt.f.forget(rt)
}

// sortWorks brings works into the order in which they were asked for.
func sortWorks(works []*work) {
	slices.SortFunc(works, func(a, b *work) int { return cmp.Compare(a.turn, b.turn) })
}

// rename tells other nodes what the client calls itself now.
func (rt *route) rename(name string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, lk := range rt.links {
		lk.caller.line.Send(nil, appendTextOf(appendUvarint([]byte{sayName}, lk.number), name))
	}
}
