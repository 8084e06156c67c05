package broker

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// Any node of a cluster serves any queue. What a session wants of a shard that another node leads goes there as works, through
// a proxy session that the leader keeps for it (guest.go), and what the proxy has to say comes back as lines (route.go).
// A line between two nodes carries messages of the kinds below; who makes lines, and proves to each other who they are, is
// no business of the broker's.

// Peers are the other nodes of a cluster.
type Peers interface {
	// Nodes are the other nodes, whether there is a line to them or not.
	Nodes() []uint64
}

// A Line carries messages to another node, each whole and in order, until it breaks.
type Line interface {
	// Send sends head and body as one message. It copies them and does not wait; on a broken line they are lost.
	Send(head, body []byte)
}

// The kinds of messages, a message's first byte. Those of the node that has made the line:
const (
	sayOpen      = iota + 1 // session, address, name: a proxy session begins
	sayName                 // session, name: what the client calls itself now
	sayWork                 // session, term, shard, number, a work
	sayTaken                // session, bytes: so much of the output has been taken by the client
	sayDetach               // session: its client is gone
	sayHush                 // session: the node is being shut down: no more deliveries
	sayRevoke               // session, shard, queue: its user may no longer consume
	sayAsk                  // number, subject, and what belongs to it
	sayClaim                // number, session, term, publishes to topics: claim room for them
	sayGo                   // number, refused: publish those for which there is room everywhere
	sayForget               // number: give the room back
	sayOutput               // session, lines. From here on, those of the other node.
	sayOver                 // session: all has been said
	sayIdle                 // session: it has nothing leased, after sayHush
	sayAnswer               // number, and what was asked for
	sayClaimed              // number, leads, goals, refusals
	sayLaunched             // number
	sayPublished            // number, outcomes
	sayLost                 // session, shard, subscriptions: the shard has ended them, as it leads no more, or not all
)

// patience is how long a request waits for a leader before it is told no_quorum, and otherLeader how long one that was sent to a
// node that leads no more, as far as is known here, waits for its answer, ns.
const patience, otherLeader = int64(2e9), int64(5e8)

// restless is how often is looked after what waits.
const restless = 20 * time.Millisecond

// A forwarder is what a broker has of other nodes.
type forwarder struct {
	b       *Broker
	wake    chan struct{} // holds one
	holding atomic.Int64  // links at whose other ends something may be leased, when this node is being shut down
	over    chan struct{} // closed when run has ended

	mu      sync.Mutex // guards the following; no other lock is taken while it is held
	callers map[uint64]*Caller
	routes  map[*route]struct{} // those that have something elsewhere, or may have to
	pokes   map[*route]uint32   // bits of the shards to look after
	changed uint32              // bits of the shards that have another leader
	topical []*conduct          // publishes to topics that are being made
	horizon horizon
	stopped bool
}

// A Caller is this node's end of a line that it has made.
type Caller struct {
	f    *forwarder
	node uint64
	line Line

	mu     sync.Mutex // guards the following; no other lock is taken while it is held
	links  map[uint64]*link
	asked  map[uint64]asker
	parts  map[uint64]*part
	next   uint64
	broken bool
}

func newForwarder(b *Broker) *forwarder {
	f := &forwarder{b: b, wake: make(chan struct{}, 1), over: make(chan struct{}), callers: map[uint64]*Caller{}, routes: map[*route]struct{}{}, pokes: map[*route]uint32{}}
	b.onRole(f.roleChanged)
	return f
}

// roleChanged is called in a shard's goroutine when somebody else leads it.
func (f *forwarder) roleChanged(shard int) {
	f.mu.Lock()
	f.changed |= 1 << shard
	f.horizon.look(f.b)
	f.mu.Unlock()
	signal(f.wake)
}

// LineUp is told that there is a line to a node. What the node says on it is for the Caller.
func (b *Broker) LineUp(node uint64, l Line) *Caller {
	f := b.forward
	c := &Caller{f: f, node: node, line: l, links: map[uint64]*link{}, asked: map[uint64]asker{}, parts: map[uint64]*part{}}
	f.mu.Lock()
	f.callers[node] = c
	for rt := range f.routes {
		f.pokes[rt] = 1<<Shards - 1
	}
	f.mu.Unlock()
	signal(f.wake)
	return c
}

// Close is told that the line is broken. Receive is not called any more.
func (c *Caller) Close() {
	f := c.f
	f.mu.Lock()
	if f.callers[c.node] == c {
		delete(f.callers, c.node)
	}
	f.mu.Unlock()
	c.mu.Lock()
	c.broken = true
	links, asked, parts := c.links, c.asked, c.parts
	c.links, c.asked, c.parts = nil, nil, nil
	c.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(links)) {
		links[n].rt.broken(links[n])
	}
	for _, n := range slices.Sorted(maps.Keys(asked)) {
		asked[n].answer(c.node, nil)
	}
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		parts[n].lost()
	}
}

// Receive takes a message from the node at the other end. It does not wait, and is called by one goroutine at a time.
func (c *Caller) Receive(message []byte) {
	r := reader{b: message}
	kind, number := r.byte(), r.uvarint()
	if r.bad || c.f.b.failed.Load() { // who makes no promises any more passes none on
		return
	}
	switch kind {
	case sayOutput:
		if lk := c.link(number); lk != nil {
			lk.rt.output(lk, r.b)
		}
	case sayIdle:
		if lk := c.link(number); lk != nil {
			lk.rt.idleAt(lk)
		}
	case sayLost:
		if lk, shard := c.link(number), r.count(Shards-1); lk != nil && !r.bad {
			lk.rt.lostAt(lk, shard, &r)
		}
	case sayOver:
		if lk := c.link(number); lk != nil {
			c.drop(lk)
			lk.rt.overAt(lk)
		}
	case sayAnswer:
		c.mu.Lock()
		q := c.asked[number]
		delete(c.asked, number)
		c.mu.Unlock()
		if q != nil {
			q.answer(c.node, r.b)
		}
	case sayClaimed, sayLaunched, sayPublished:
		c.mu.Lock()
		p := c.parts[number]
		c.mu.Unlock()
		if p != nil {
			p.told(kind, &r)
		}
	}
}

func (c *Caller) link(number uint64) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[number]
}

func (c *Caller) drop(lk *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, lk.number)
}

// open begins a proxy session; nil where the line has broken.
func (c *Caller) open(rt *route) *link {
	lk := &link{rt: rt, caller: c}
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return nil
	}
	c.next++
	lk.number = c.next
	c.links[lk.number] = lk
	c.mu.Unlock()
	s := rt.s
	m := appendTextOf(appendUvarint(append([]byte(nil), sayOpen), lk.number), s.address)
	if name := s.client.Load(); name != nil {
		m = appendTextOf(m, *name)
	} else {
		m = appendTextOf(m, "")
	}
	c.line.Send(nil, m)
	return lk
}

// caller is the line to a node; nil where there is none.
func (f *forwarder) caller(node uint64) *Caller {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.callers[node]
}

// register notes that a route may have to be looked after, and poke that it has to be, soon.
func (f *forwarder) register(rt *route) {
	f.mu.Lock()
	f.routes[rt] = struct{}{}
	f.mu.Unlock()
}

func (f *forwarder) poke(rt *route, shards uint32) {
	f.mu.Lock()
	first := f.pokes[rt] == 0
	f.pokes[rt] |= shards
	f.mu.Unlock()
	if first {
		signal(f.wake)
	}
}

func (f *forwarder) forget(rt *route) {
	f.mu.Lock()
	delete(f.routes, rt)
	delete(f.pokes, rt)
	f.mu.Unlock()
}

// run looks after what waits for a leader, or for a line.
func (f *forwarder) run() {
	defer close(f.over)
	timer := time.NewTimer(time.Hour)
	wait := time.Duration(-1)
	for {
		f.rest(timer, wait)
		f.mu.Lock()
		pokes, changed, stopped := f.pokes, f.changed, f.stopped
		topical := f.topical
		f.pokes, f.changed, f.topical = map[*route]uint32{}, 0, nil
		if changed != 0 {
			for rt := range f.routes {
				pokes[rt] |= changed
			}
		}
		f.mu.Unlock()
		if stopped {
			return
		}
		wait = f.lookAt(topical)
		for _, rt := range inOrder(maps.Keys(pokes)) {
			if left := rt.look(pokes[rt]); left != 0 {
				wait = restless
				f.mu.Lock()
				f.pokes[rt] |= left
				f.mu.Unlock()
			}
		}
	}
}

// rest waits until it is woken, or, where wait is not negative, for that long.
func (f *forwarder) rest(timer *time.Timer, wait time.Duration) {
	if s := f.b.opt.Scheduler; s != nil {
		s.Await(f.wake, wait)
		return
	}
	if wait < 0 {
		timer.Stop()
	} else {
		timer.Reset(wait)
	}
	select {
	case <-f.wake:
	case <-timer.C:
	}
}

func (f *forwarder) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	signal(f.wake)
}

// leadership says who leads a shard, in which term, and whether it is this node. Without a leader that is known, node is 0.
func (b *Broker) leadership(shard int) (node, term uint64, here bool) {
	for {
		term = b.term(shard)
		node, here = b.leader(shard)
		if b.term(shard) == term {
			return node, term, here
		}
	}
}

// inOrder are routes in the order of their sessions.
func inOrder(routes iter.Seq[*route]) []*route {
	return slices.SortedFunc(routes, func(a, b *route) int { return cmp.Compare(a.s.number, b.s.number) })
}

// watch looks after a publish to a topic until it has been made, or refused.
func (f *forwarder) watch(c *conduct) {
	f.mu.Lock()
	first := len(f.topical) == 0 && !c.watched // else it is being looked after, and tried again in a while
	if !c.watched {
		c.watched = true
		f.topical = append(f.topical, c)
	}
	f.mu.Unlock()
	if first {
		signal(f.wake)
	}
}

// lookAt looks after publishes to topics, and returns how long to wait before that is done again.
func (f *forwarder) lookAt(cs []*conduct) time.Duration {
	now := f.b.opt.Now()
	cs = slices.DeleteFunc(cs, func(c *conduct) bool { return !c.look(now) })
	if len(cs) == 0 {
		return -1
	}
	f.mu.Lock()
	f.topical = append(cs, f.topical...)
	f.mu.Unlock()
	return restless
}

// hush tells other nodes that nothing more is to be delivered to this node's clients.
func (f *forwarder) hush() {
	for _, rt := range f.all() {
		rt.mu.Lock()
		for _, lk := range rt.links {
			rt.hush(lk)
		}
		rt.mu.Unlock()
	}
}

// all are the routes, in the order of their sessions.
func (f *forwarder) all() []*route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return inOrder(maps.Keys(f.routes))
}

// recheck ends what users consume at other nodes and may no longer consume.
func (f *forwarder) recheck() {
	for _, rt := range f.all() {
		if g := rt.s.guard.Load(); g != nil {
			rt.recheck(g)
		}
	}
}

func (rt *route) recheck(g *guarded) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	revoke := func(node uint64, shard int, name []byte) {
		lk := rt.linkAt(node)
		if lk == nil || g.Known() && g.May(wire.VerbConsume, name) {
			return
		}
		m := append(appendUvarint(append([]byte(nil), sayRevoke), lk.number), byte(shard))
		lk.caller.line.Send(nil, appendTextOf(m, name))
	}
	for _, n := range slices.Sorted(maps.Keys(rt.subs)) {
		sub := rt.subs[n]
		revoke(sub.node, sub.shard, sub.control.name)
	}
	for _, ln := range rt.lanes {
		if ln == nil {
			continue
		}
		for _, w := range ln.out {
			if w.begins() {
				revoke(ln.node, ln.shard, w.control.name)
			}
		}
	}
}
