package gmq

import (
	"bytes"
	"slices"

	"github.com/gmq/gmq/wire"
)

// A lane is a way to the server: what has been written for it and not been sent, and one connection at a time. The client's own lane outlives
// its connections. One to a single node of a cluster ends with its connection, and leaves what it has to the own one. Guarded by Client.mu.
type lane struct {
	node *node // that it goes to; nil: the client's own lane, which goes to any
	link *link // nil while there is none
	// out gathers lines for the writer; outGen is its number, from 1 on.
	out     []byte
	outGen  uint64
	acks    []*ackBatch // gathered acks that have not been turned into lines
	n, held int         // how many of Client.pending go over it, and how many of them wait for messages
}

// kick wakes the writer, if it may be asleep.
func (ln *lane) kick() {
	if len(ln.out) == 0 && ln.link != nil {
		ln.link.kick()
	}
}

// gathered is how many batches of acks have not been turned into lines. c.mu is held.
func (c *Client) gathered() (n int) {
	for _, ln := range c.lanes {
		n += len(ln.acks)
	}
	return n
}

// laneWith is the lane with that connection; nil where it is gone. c.mu is held.
func (c *Client) laneWith(link uint64) *lane {
	for _, ln := range c.lanes {
		if ln.link != nil && ln.link.no == link {
			return ln
		}
	}
	return nil
}

// of are the calls that go over a lane, in the order in which they were asked. c.mu is held.
func (c *Client) of(ln *lane) []*call {
	return slices.DeleteFunc(c.pending.ordered(), func(cl *call) bool { return cl.lane != ln })
}

// greeted notes what the server says of itself, to which the client's own lane goes now.
func (c *Client) greeted(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hello = l.greeting
	c.cluster.Store(len(c.hello.Nodes) > 1)
	c.leaders.anew()
}

// greetAgain asks the server which nodes there are: some may have come since it was connected to, the first of them among these.
func (c *Client) greetAgain(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own.link == l && !c.closing {
		c.enqueue(c.own, &call{kind: callHello}, []byte(",\"op\":\"hello\"}\n"))
	}
}

// greetedAgain takes the reply. What is known of leaders holds on.
func (c *Client) greetedAgain(l *link, f *wire.Frame) {
	hello, err := parseHello(f.Raw)
	if !f.OK || err != nil || len(hello.Nodes) == 0 { // it is asked again
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own.link == l {
		c.hello.Nodes = hello.Nodes
		c.cluster.Store(len(hello.Nodes) > 1)
	}
}

// attach makes l the connection of a lane. What was asked before and may be asked again
// goes first, then the gathered acks, so that the server hears of them before
// it delivers to the subscriptions, which come last. Lines that the connection
// before never sent stand in the lane's out still and follow.
func (c *Client) attach(ln *lane, l *link) {
	c.mu.Lock()
	c.linkNo++
	l.no, l.lane = c.linkNo, ln
	for _, cl := range c.of(ln) {
		if cl.gen != ln.outGen {
			l.first = appendLine(l.first, cl.id, cl.tail)
			cl.rests = false
		}
	}
	leftover := ln.out
	ln.out = l.first
	ln.outGen++
	c.flushAcks(ln)
	for s := range c.subs {
		if s.lane == ln && !s.asked {
			c.askSubscribe(s)
		}
	}
	l.first = ln.out
	// The numbers swap too: what stands in first counts as sent.
	ln.out = leftover
	ln.outGen++
	for _, cl := range c.of(ln) {
		if cl.gen == ln.outGen-2 {
			cl.gen = ln.outGen
		}
	}
	ln.link = l
	if ln.node != nil {
		ln.node.lane = ln
	} else {
		c.lastErr = nil
		if len(c.leaders.places) > 0 {
			c.lookIn(lookSoon)
		}
	}
	c.steer()
	c.broadcast()
	c.mu.Unlock()
	l.start()
}

// detach takes l away from the client's own lane: what was sent over it and cannot be asked again has an
// unknown outcome.
func (c *Client) detach(l *link, cause error) {
	c.mu.Lock()
	ln := c.own
	ln.link = nil
	c.lastErr = cause
	c.sweep(ln)
	lost := c.dropAcks(l)
	for _, cl := range c.of(ln) {
		if cl.link == 0 && (cl.gen == ln.outGen || cl.again()) {
			continue
		}
		c.pending.remove(cl)
		if cl.kind != callSubscribe {
			lost = append(lost, cl)
		}
	}
	for s := range c.subs {
		if s.lane == ln {
			s.asked = s.call != nil && c.pending.get(s.call.id) == s.call
		}
		s.lostLink(l)
	}
	c.steer()
	c.broadcast()
	c.mu.Unlock()
	for _, cl := range lost {
		cl.fail(unknownOutcome(cause))
	}
}

// fold ends a lane to a node, whose connection is lost. What may be asked again, and what was never sent, goes to the client's own
// lane, in the order in which it was asked; so nothing that is asked later overtakes it.
func (c *Client) fold(ln *lane, cause error) {
	c.mu.Lock()
	l, own := ln.link, c.own
	ln.link, ln.node.lane = nil, nil
	c.lookIn(lookSoon)
	c.lanes = slices.DeleteFunc(c.lanes, func(other *lane) bool { return other == ln })
	c.sweep(ln)
	lost := c.dropAcks(l)
	own.kick()
	for _, cl := range c.of(ln) {
		unsent := cl.gen == ln.outGen
		if cl.link != 0 || !unsent && !cl.again() {
			c.pending.remove(cl)
			if cl.kind != callSubscribe {
				lost = append(lost, cl)
			}
			continue
		}
		c.pending.count(cl, -1)
		cl.lane, cl.gen, cl.rests = own, own.outGen, false
		c.pending.count(cl, 1)
		if !unsent {
			own.out = appendLine(own.out, cl.id, cl.tail)
		}
	}
	own.out = append(own.out, ln.out...)
	for _, b := range ln.acks {
		b.lane = own
	}
	own.acks = append(own.acks, ln.acks...)
	ln.out, ln.acks = nil, nil
	for _, p := range c.leaders.places {
		if p.lane == ln {
			p.lane = own
		}
	}
	for s := range c.subs {
		if s.lane == ln {
			s.lane, s.asked = own, false
		}
		s.lostLink(l)
	}
	c.steer()
	c.broadcast()
	c.mu.Unlock()
	for _, cl := range lost {
		cl.fail(unknownOutcome(cause))
	}
}

// dropAcks takes out the gathered acks that mean nothing to another connection than l. c.mu is held.
func (c *Client) dropAcks(l *link) (dropped []*call) {
	ln := l.lane
	ln.acks = slices.DeleteFunc(ln.acks, func(b *ackBatch) bool {
		if b.call.link == l.no {
			b.q.open = nil
			dropped = append(dropped, &b.call)
		}
		return b.call.link == l.no
	})
	return dropped
}

// sweep takes out of the lines that have not been sent those that mean nothing
// to another connection, and those that nobody waits for. c.mu is held.
func (c *Client) sweep(ln *lane) {
	var keep []byte
	for line := range bytes.Lines(ln.out) {
		digits, _, _ := bytes.Cut(line[len(`{"id":`):], []byte(","))
		id, _ := parseID(digits)
		cl := c.pending.get(id)
		if cl == nil || cl.link != 0 { // whoever detaches fails the latter
			continue
		}
		if cl.kind == callUnsubscribe || cl.kind == callPing || cl.kind == callLeaders || cl.kind == callHello || cl.left || cl.kind == callSubscribe && ln != c.own {
			c.pending.remove(cl)
			continue
		}
		keep = append(keep, line...)
	}
	ln.out = keep
}
