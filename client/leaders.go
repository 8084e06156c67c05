package gmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gmq/gmq/wire"
)

// Any node of a cluster does what it is asked, but what another one leads crosses two. So a client finds out who leads what it uses, connects
// there as well, and asks there. That is a matter of speed alone: what it knows may be wrong at any time, and a node that it cannot reach it does without.

const (
	// lookSoon is how soon the leaders are asked for after a queue has been used for the first time, or a connection was lost; so who is gone by then does not ask. lookEvery is
	// how often while queues are used, and lookAgain how soon after a change: others may follow.
	lookSoon, lookAgain, lookEvery = 200 * time.Millisecond, time.Second, 5 * time.Second
	// mostPlaces is how many queues the client goes straight to; what others there are goes over its own lane.
	mostPlaces = 10_000
	// mostSpent is how many earlier connections of a subscription are remembered.
	mostSpent = 8
	// retryLeast and retryMost are how long the client does without a node that it could not reach; it doubles.
	retryLeast, retryMost = 5 * time.Second, 5 * time.Minute
)

// leaders is what a client knows of who leads. Guarded by Client.mu.
type leaders struct {
	places map[string]*place // by queue
	groups []*node           // who leads each group; nil: nobody is known
	nodes  map[string]*node  // by address
	mixed  bool              // there have been publishes to topics, which keep their order among those to queues over one lane only
	mute   bool              // the server does not tell
	asking bool              // a reply is on its way
	used   bool              // some place has been, since the latest reply
	timer  *time.Timer       // of the next look
	at     time.Time         // when that is; zero: none is
}

// A place is where a queue is led, and what goes there.
type place struct {
	name  string
	group int   // -1: not known
	asked bool  // it has been asked for
	lane  *lane // over which everything goes that keeps its order
	busy  int   // how much of that has no answer; until there is none, the lane stays
	// settling is how many requests with acks have no answer, and over is the lane of all of them; nil: they go over several.
	settling int
	over     *lane
}

func (p *place) settles(ln *lane, n int) {
	if p.settling += n; n < 0 {
		return
	}
	if p.settling == 1 {
		p.over = ln
	} else if p.over != ln {
		p.over = nil
	}
}

// A node is one of the cluster's that leads something.
type node struct {
	addr    string
	lane    *lane // nil: there is no connection
	dialing bool
	failed  int // how often in a row it could not be reached
	retry   time.Time
}

// anew is told that the client's own lane goes to another server, or the same again.
func (k *leaders) anew() {
	k.mute, k.asking = false, false
	for _, p := range k.places {
		p.asked = false
	}
}

// stop ends the looking.
func (k *leaders) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// straight reports whether the client goes to leaders at all. c.mu is held.
func (c *Client) straight() bool {
	return c.cluster.Load() && !c.cfg.oneConnection && !c.leaders.mute
}

// placeOf is where a queue is; nil: it goes over the client's own lane. make says that it is to be remembered. c.mu is held.
func (c *Client) placeOf(q *Queue, make bool) *place {
	if q == nil || q.link != 0 {
		return nil
	}
	k, p := &c.leaders, q.place
	if p == nil {
		if p = k.places[q.name]; p == nil {
			if !make || !c.straight() || len(k.places) >= mostPlaces {
				return nil
			}
			p = c.newPlace(q.name)
		}
		q.place = p
	}
	k.used = true
	if make && !k.asking && (k.at.IsZero() || p.group < 0 && !p.asked) {
		c.lookIn(lookSoon)
	}
	return p
}

func (c *Client) newPlace(name string) *place {
	k := &c.leaders
	if k.places == nil {
		k.places, k.nodes = map[string]*place{}, map[string]*node{}
	}
	p := &place{name: name, group: -1, lane: c.own}
	k.places[name] = p
	return p
}

// wanted is the lane that leads to a place, as far as is known and there is one. c.mu is held.
func (c *Client) wanted(p *place) *lane {
	if p == nil || p.group < 0 || p.group >= len(c.leaders.groups) {
		return c.own
	}
	n := c.leaders.groups[p.group]
	if n == nil || n.lane == nil || n.lane.link.draining || n.addr == c.self() || !c.straight() {
		return c.own
	}
	return n.lane
}

// self is the address of the node to which the client's own lane goes.
func (c *Client) self() string {
	if len(c.hello.Nodes) == 0 {
		return ""
	}
	return c.hello.Nodes[0]
}

// leads is the lane that leads to a queue, for what keeps no order. c.mu is held.
func (c *Client) leads(q *Queue) *lane { return c.wanted(c.placeOf(q, false)) }

// laneFor is the lane over which a request goes; nil where it has to wait, as what went another way before it has not been answered: so publishes keep
// their order. c.mu is held.
func (c *Client) laneFor(cl *call) *lane {
	if cl.link != 0 {
		return c.laneWith(cl.link)
	}
	if cl.topical && !c.together() {
		return nil
	}
	if cl.from != 0 {
		if ln := c.laneWith(cl.from); ln != nil {
			return ln
		}
		return c.leads(cl.q)
	}
	if cl.kind == callReceive { // behind all acks before it: where the lead has changed, what is acked could be given out again first
		for _, ln := range c.lanes {
			c.flushAcks(ln)
		}
	}
	cl.place = c.placeOf(cl.q, cl.kind != callPlain)
	p, want := cl.place, c.wanted(cl.place)
	if p == nil {
		return c.own
	}
	if cl.kind == callReceive {
		cl.place = nil
		if p.settling > 0 && p.over != want {
			return nil
		}
		return want
	}
	if c.leaders.mixed {
		want = c.own
	}
	if p.lane != want {
		if p.busy > 0 {
			return nil
		}
		p.lane = want
	}
	return p.lane
}

// together has all publishes go over the client's own lane from now on, and reports whether nothing is without an answer elsewhere. c.mu is held.
func (c *Client) together() bool {
	if c.leaders.mixed = true; len(c.lanes) == 1 {
		return true
	}
	for _, p := range c.leaders.places {
		if p.lane != c.own && p.busy > 0 {
			return false
		}
	}
	return true
}

// lookIn has the leaders asked for after d, or earlier. c.mu is held.
func (c *Client) lookIn(d time.Duration) {
	k := &c.leaders
	at := time.Now().Add(d)
	switch {
	case c.closed || !c.straight() || !k.at.IsZero() && !k.at.After(at):
		return
	case k.timer == nil:
		k.timer = time.AfterFunc(d, c.look)
	default:
		k.timer.Reset(d)
	}
	k.at = at
}

// look asks who leads, and where queues are whose groups are not known. Nobody asks while no queue is used.
func (c *Client) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.leaders
	k.at = time.Time{}
	if c.closing || c.closed || c.own.link == nil || !c.straight() || k.asking || !k.used && len(c.subs) == 0 {
		return
	}
	for _, p := range k.places {
		if p.group < 0 && !p.asked {
			p.asked, k.asking = true, true
			c.enqueue(c.own, &call{kind: callLeaders, place: p}, append(appendText([]byte(`,"op":"cluster.leaders"`), "queue", p.name), "}\n"...))
		}
	}
	if !k.asking {
		k.asking = true
		c.enqueue(c.own, &call{kind: callLeaders}, []byte(",\"op\":\"cluster.leaders\"}\n"))
	}
	k.used = false
}

// told takes the reply to cluster.leaders.
func (c *Client) told(cl *call, f *wire.Frame) {
	var reply struct {
		Leaders []string `json:"leaders"`
		Group   *int     `json:"group"`
	}
	err := json.Unmarshal(f.Raw, &reply)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.leaders
	k.asking = false
	if !f.OK || err != nil {
		if f.Err != nil && (f.Err.Code == wire.CodeUnknownOp || f.Err.Code == wire.CodeBadRequest) {
			k.mute = true // an older server
		}
		c.lookIn(lookEvery)
		return
	}
	if regrouped := len(reply.Leaders) != len(k.groups); regrouped || cl.place == nil {
		for _, p := range k.places {
			if regrouped { // whatever was known is about the old groups
				p.group = -1
			}
			p.asked = p.asked && p.group >= 0 // else it was refused
		}
	}
	if cl.place != nil && reply.Group != nil {
		cl.place.group = *reply.Group
	}
	was := k.groups
	c.learn(reply.Leaders)
	next := lookEvery
	if !slices.Equal(was, k.groups) {
		next = lookAgain
	}
	if slices.Contains(reply.Leaders, "") {
		next = lookSoon
	}
	for _, p := range k.places {
		if p.group < 0 && !p.asked {
			next = lookSoon
		}
	}
	c.lookIn(next)
	c.steer()
	c.broadcast()
}

// learn takes in who leads, has those nodes connected to that lead something used, and leaves those that lead nothing. c.mu is held.
func (c *Client) learn(addrs []string) {
	k := &c.leaders
	k.groups = make([]*node, len(addrs))
	for i, addr := range addrs {
		if addr == "" || c.cfg.onlyGiven && !slices.Contains(c.given, addr) {
			continue
		}
		if k.nodes[addr] == nil {
			k.nodes[addr] = &node{addr: addr}
		}
		k.groups[i] = k.nodes[addr]
	}
	for s := range c.subs {
		c.endSpent(s)
	}
	wanted := map[*node]bool{}
	for _, p := range k.places {
		if p.group >= 0 && p.group < len(k.groups) {
			wanted[k.groups[p.group]] = true
		}
	}
	for addr, n := range k.nodes {
		switch {
		case addr != c.self() && slices.Contains(k.groups, n):
			if wanted[n] {
				c.goTo(n)
			}
		case n.lane != nil:
			c.leaveIdle(n)
		case !n.dialing && !slices.Contains(k.groups, n):
			delete(k.nodes, addr)
		}
	}
}

// goTo connects to a node, unless that has been tried in vain, or there would be more connections than nodes. c.mu is held.
func (c *Client) goTo(n *node) {
	connections := len(c.lanes)
	for _, other := range c.leaders.nodes {
		if other.dialing {
			connections++
		}
	}
	if c.closing || c.closed || n.lane != nil || n.dialing || connections >= len(c.hello.Nodes) || time.Now().Before(n.retry) {
		return
	}
	n.dialing = true
	c.nodes.Go(func() { c.serveNode(n) })
}

// leaveIdle closes the connection to a node that leads nothing any more, when nothing goes over it. c.mu is held.
func (c *Client) leaveIdle(n *node) {
	ln := n.lane
	if ln.n > 0 || len(ln.acks) > 0 || ln.link.out.Load() > 0 { // what is leased would return
		return
	}
	for s := range c.subs {
		if s.lane == ln {
			return
		}
	}
	l := ln.link
	l.draining = true  // so that nothing is sent there any more
	go l.fail(errIdle) // it may take a while to say goodbye
}

var (
	errIdle      = errors.New("the node leads nothing that is used here any more")
	errElsewhere = errors.New("somebody else answers at the address of the node")
)

// serveNode connects to a node and serves that connection until it is lost.
func (c *Client) serveNode(n *node) {
	l, err := c.connect(c.life, n.addr, min(c.cfg.dialTimeout, attemptMax))
	if err == nil && (len(l.greeting.Nodes) == 0 || l.greeting.Nodes[0] != n.addr) {
		_ = l.conn.Close()
		err = fmt.Errorf("gmq: connect to %s: %w", n.addr, errElsewhere)
	}
	c.mu.Lock()
	n.dialing = false
	if err != nil || c.closed {
		n.retry = time.Now().Add(min(retryLeast<<min(n.failed, 16), retryMost))
		n.failed++
		c.mu.Unlock()
		c.cfg.log.Debug("gmq: cannot go straight to a node; its queues are reached through another one", "server", n.addr, "error", err)
		if err == nil {
			_ = l.conn.Close()
		}
		return
	}
	n.failed = 0
	ln := &lane{node: n, outGen: 1}
	c.lanes = append(c.lanes, ln)
	c.mu.Unlock()
	c.attach(ln, l)
	err = l.serve(c.life)
	c.fold(ln, err)
	c.cfg.log.Debug("gmq: connection to a node lost", "server", n.addr, "error", err)
}

// steer has each subscription go where its queue is led. c.mu is held.
func (c *Client) steer() {
	for s := range c.subs {
		c.steerOne(s)
	}
}

func (c *Client) steerOne(s *subscription) {
	want := c.own
	if !s.topic {
		want = c.wanted(c.placeOf(s.q, true))
	}
	switch {
	case !s.asked:
		if s.lane = want; want.link != nil {
			c.askSubscribe(s)
		}
	case s.lane != want && s.num != 0 && !s.moves && !s.stays && s.lane.link != nil:
		// What it has there stays leased and may be acked; where it goes next it is asked for when everything has come that it gets here.
		c.flushAcks(s.lane)
		s.moves = true
		b := appendInt([]byte(`,"op":"unsubscribe"`), "sub", int64(s.num))
		c.enqueue(s.lane, &call{kind: callDrain, sub: s, num: s.num, link: s.of}, append(b, ",\"drain\":true}\n"...))
	}
}

// endSpent ends what is left of a subscription where it was before, as soon as nothing is leased there. c.mu is held.
func (c *Client) endSpent(s *subscription) {
	s.spent = slices.DeleteFunc(s.spent, func(at *stay) bool {
		idle := at.out.Load() <= 0
		if idle {
			c.endStay(at.link.no, at.num)
		}
		return idle
	})
}

// drained takes the reply to the end of a subscription that moves.
func (l *link) drained(cl *call, f *wire.Frame) {
	c, s := l.c, cl.sub
	gone := !f.OK && f.Err != nil && f.Err.Code == wire.CodeNotFound
	if f.OK || gone {
		delete(l.subs, cl.num)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.num != cl.num || s.of != l.no { // it has ended, or its connection was lost
		return
	}
	s.moves = false
	if !f.OK && !gone {
		s.stays = true
		return
	}
	if f.OK {
		s.spent = append(s.spent, s.at)
	}
	if len(s.spent) > mostSpent { // who has something of it still has had it through as many changes of leaders
		c.endStay(s.spent[0].link.no, s.spent[0].num)
		s.spent = slices.Delete(s.spent, 0, 1)
	}
	c.endSpent(s)
	s.num, s.asked = 0, false
	if _, there := c.subs[s]; there {
		c.steerOne(s)
	}
}
