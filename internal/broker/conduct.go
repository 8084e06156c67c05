package broker

import (
	"math/bits"
	"sync"

	"github.com/gmq/gmq/wire"
)

// In a cluster a publish to a topic goes to all nodes: each of them knows which bound queues are in the shards that it leads, and which
// ephemeral queues its sessions have. Its way:
//
//  1. The node of the session, its conductor, asks every node to claim room. Each answers which shards it leads and what it refuses.
//  2. Where these are not all shards, as leaders are changing, the room is given back and it is tried again, until patience is over.
//  3. Where they are, nobody's binding is left out. What was refused by one node is published by none; for the rest each is told to go.
//  4. A node says when it has proposed its copies: the session may post again. And when they are kept: it is answered.
//
// There is no commit in two phases. What becomes of a part whose node is lost after step 3 is not known.

// A conduct is what one session publishes to topics in one go.
type conduct struct {
	s       *Session
	watched bool // by the forwarder, whose it is
	units   []conducted
	bodies  []byte // records, one behind the other
	text    []byte // ids and topics
	cost    int
	since   int64

	mu       sync.Mutex // guards the following; no other lock is taken while it is held
	parts    []*part
	waits    int // parts that have not answered
	launches int // parts that have not proposed
	going    bool
	asked    int64 // when this attempt began
	resting  bool  // between two attempts
	over     bool
}

// A conducted publish: one unit.
type conducted struct {
	id, topic span
	n         int
	quiet     bool
	demands   uint8
	ids       int // messages with a dedup_id
	refusal   *wire.Error
}

// A part is what one node has of a conduct.
type part struct {
	c      *conduct
	caller *Caller // nil: this node
	number uint64
	fan    *fanout // of this node

	claimed, going, launched, over, lostIt bool
	leads                                  uint32
	units                                  []partial
}

// A partial is what has become of a unit at one node.
type partial struct {
	goals, took, repeated int
	stored                string
	refusal               *wire.Error
	by                    string // the queue that refuses it
}

// publishAll takes in a publish to a topic in a cluster.
func (in *Intake) publishAll(r *wire.Request) {
	in.s.awaitBindings()
	if in.conduct == nil {
		for i := range in.open {
			in.post(i) // what was sent before goes before
		}
		in.conduct = &conduct{s: in.s}
	}
	c := in.conduct
	u := conducted{n: len(r.Messages), quiet: r.Quiet}
	u.id = span{uint32(len(c.text)), uint32(len(c.text) + len(r.ID))}
	c.text = append(c.text, r.ID...)
	u.topic = span{uint32(len(c.text)), uint32(len(c.text) + len(r.Topic))}
	c.text = append(c.text, r.Topic...)
	for i := range r.Messages {
		c.bodies = appendMessage(c.bodies, &r.Messages[i], r.Topic, false, false)
		u.demands |= demand(r.Messages[i].Stored)
		if len(r.Messages[i].DedupID) > 0 {
			u.ids++
		}
	}
	if c.units = append(c.units, u); len(c.bodies) >= workBytes {
		in.postFan()
	}
}

func (c *conduct) str(s span) []byte { return c.text[s.from:s.to] }

// post begins a conduct.
func (c *conduct) post() {
	s := c.s
	c.cost = len(c.bodies) + len(c.text) + 128*len(c.units)
	s.working.Add(int64(c.cost))
	s.b.working.Add(int64(len(c.units)))
	s.launching.Add(1)
	c.since = s.b.opt.Now()
	if s.b.draining.Load() {
		for i := range c.units {
			c.units[i].refusal = errShuttingDown
		}
		s.launched()
		c.answer()
		return
	}
	c.attempt()
}

// attempt asks all nodes for room.
func (c *conduct) attempt() {
	f := c.s.b.forward
	parts := []*part{{c: c}}
	for _, node := range f.b.opt.Peers.Nodes() {
		if caller := f.caller(node); caller != nil {
			parts = append(parts, &part{c: c, caller: caller})
		}
	}
	c.mu.Lock()
	c.parts, c.waits, c.resting, c.asked = parts, len(parts), false, f.b.opt.Now()
	c.mu.Unlock()
	f.watch(c)
	m := c.appendClaim(nil)
	for _, p := range parts[1:] {
		if !p.caller.claim(p, m) {
			p.lost()
		}
	}
	p := parts[0]
	r := reader{b: m}
	p.fan = f.b.newFan(&r, p)
	p.fan.ask(f.b)
}

// appendClaim appends what a node must know to claim room.
func (c *conduct) appendClaim(m []byte) []byte {
	m = appendUvarint(m, uint64(len(c.units)))
	for i := range c.units {
		u := &c.units[i]
		m = appendUvarint(appendUvarint(appendTextOf(m, c.str(u.topic)), uint64(u.n)), uint64(u.ids))
		m = append(m, u.demands)
	}
	return append(m, c.bodies...)
}

func (c *Caller) claim(p *part, m []byte) bool {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return false
	}
	c.next++
	p.number = c.next
	c.parts[p.number] = p
	c.mu.Unlock()
	c.line.Send(appendUvarint([]byte{sayClaim}, p.number), m)
	return true
}

func (c *Caller) forget(p *part) {
	c.mu.Lock()
	delete(c.parts, p.number)
	c.mu.Unlock()
}

// told takes what another node says of its part.
func (p *part) told(kind byte, r *reader) {
	n := len(p.c.units)
	switch kind {
	case sayClaimed:
		leads, units := uint32(r.uvarint()), make([]partial, n)
		for i := range units {
			u := &units[i]
			u.goals = r.count(maxCopies)
			u.refusal, u.by = readRefusal(r)
		}
		if r.whole() {
			p.hasClaimed(leads, units)
		} else {
			p.lost()
		}
	case sayLaunched:
		p.hasLaunched()
	case sayPublished:
		units := make([]partial, n)
		for i := range units {
			u := &units[i]
			u.took, u.repeated, u.stored = r.count(maxCopies), r.count(maxCopies), string(r.textOf())
			u.refusal, u.by = readRefusal(r)
		}
		if r.whole() {
			p.hasPublished(units)
		} else {
			p.lost()
		}
	}
}

func appendRefusal(m []byte, err *wire.Error, by string) []byte {
	if err == nil {
		return appendTextOf(m, "")
	}
	return appendTextOf(appendTextOf(appendTextOf(m, err.Code), err.Message), by)
}

func readRefusal(r *reader) (*wire.Error, string) {
	code := wire.Code(r.textOf())
	if code == "" {
		return nil, ""
	}
	return &wire.Error{Code: code, Message: string(r.textOf())}, string(r.textOf())
}

// hasClaimed is told what a node leads and refuses.
func (p *part) hasClaimed(leads uint32, units []partial) {
	c := p.c
	c.mu.Lock()
	if p.claimed || p.lostIt || c.going {
		c.mu.Unlock()
		return
	}
	p.claimed, p.leads, p.units = true, leads, units
	c.waits--
	c.decide()
}

// hasLaunched is told that a node has proposed its copies.
func (p *part) hasLaunched() {
	c := p.c
	c.mu.Lock()
	if p.going && !p.launched {
		p.launched = true
		if c.launches--; c.launches == 0 {
			c.s.launched()
		}
	}
	c.mu.Unlock()
}

// hasPublished is told what has become of the copies of a node.
func (p *part) hasPublished(units []partial) {
	p.hasLaunched()
	c := p.c
	c.mu.Lock()
	if p.over || !p.going {
		c.mu.Unlock()
		return
	}
	p.over = true
	for i := range units {
		units[i].goals = p.units[i].goals
	}
	p.units = units
	c.waits--
	c.finish()
}

// lost is told that nothing more will be heard of a node.
func (p *part) lost() {
	c := p.c
	c.mu.Lock()
	if p.lostIt || p.over {
		c.mu.Unlock()
		return
	}
	p.lostIt = true
	if !c.going {
		if !p.claimed {
			c.waits--
		}
		p.claimed, p.leads = true, 0
		c.decide()
		return
	}
	if !p.going {
		c.mu.Unlock()
		return
	}
	p.over = true
	if !p.launched {
		p.launched = true
		if c.launches--; c.launches == 0 {
			c.s.launched()
		}
	}
	c.waits--
	c.finish()
}

// decide goes on when all nodes have been heard. c.mu is held, and given back.
func (c *conduct) decide() {
	if c.waits > 0 || c.resting || c.over {
		c.mu.Unlock()
		return
	}
	if !c.covered() {
		c.resting = true
		parts := c.parts
		c.mu.Unlock()
		for _, p := range parts {
			p.giveBack()
		}
		return // look tries again
	}
	c.going = true
	refused := c.refusals()
	var going, idle []*part
	for _, p := range c.parts {
		goals := 0
		for i := range c.units {
			if c.units[i].refusal == nil && !p.lostIt { // a lost one led nothing: what its own clients have subscribed to misses this
				goals += p.units[i].goals
			}
		}
		if goals > 0 {
			p.going = true
			going = append(going, p)
		} else {
			idle = append(idle, p)
		}
	}
	c.parts, c.waits, c.launches = going, len(going), len(going)
	if len(going) == 0 {
		c.s.launched()
	}
	c.finish()
	for _, p := range idle {
		p.giveBack()
	}
	for _, p := range going {
		p.goOn(refused)
	}
}

// covered reports whether those that have answered lead all shards, each one of them one, and refuse nothing as they lead no more.
func (c *conduct) covered() bool {
	var all uint32
	for _, p := range c.parts {
		if all&p.leads != 0 {
			return false
		}
		all |= p.leads
		for i := range p.units {
			if err := p.units[i].refusal; err != nil && (err.Code == wire.CodeNoQuorum || err.Code == wire.CodeShuttingDown) {
				return false
			}
		}
	}
	return all == 1<<Shards-1
}

// refusals notes for each unit the first refusal, and gives the numbers of those units.
func (c *conduct) refusals() (refused []byte) {
	for i := range c.units {
		u := &c.units[i]
		for _, p := range c.parts {
			if p.lostIt || u.refusal != nil || p.units[i].refusal == nil {
				continue
			}
			u.refusal = p.units[i].refusal
			if by := p.units[i].by; by != "" && !c.s.sees(by) {
				u.refusal = discreet(u.refusal)
			}
		}
		if u.refusal != nil {
			refused = appendUvarint(refused, uint64(i))
		}
	}
	return refused
}

// goOn tells a node to publish all but what was refused.
func (p *part) goOn(refused []byte) {
	if p.caller != nil {
		p.caller.line.Send(appendUvarint([]byte{sayGo}, p.number), refused)
		return
	}
	p.fan.goOn(p.c.s.b, &reader{b: refused})
}

// giveBack tells a node that nothing is to be published there.
func (p *part) giveBack() {
	if p.caller != nil {
		p.caller.forget(p)
		p.caller.line.Send(appendUvarint([]byte{sayForget}, p.number), nil)
	} else if p.fan != nil {
		p.fan.drop(p.c.s.b)
	}
}

// look is called from time to time: it tries again, and gives up. It is false when there is nothing more to look after.
func (c *conduct) look(now int64) bool {
	c.mu.Lock()
	switch {
	case c.over || c.going:
		c.mu.Unlock()
		return false
	case c.resting && now-c.since < patience:
		c.mu.Unlock()
		c.attempt()
	case c.resting:
		for i := range c.units {
			c.units[i].refusal = errNoQuorum
		}
		c.going, c.waits, c.parts = true, 0, nil
		c.s.launched()
		c.finish()
		return false
	case now-c.asked >= patience: // some node does not answer
		parts := c.parts
		c.mu.Unlock()
		for _, p := range parts[1:] {
			c.mu.Lock()
			silent := !p.claimed
			c.mu.Unlock()
			if silent {
				p.lost()
			}
		}
	default:
		c.mu.Unlock()
	}
	return true
}

// finish answers when all nodes have done what they were told. c.mu is held, and given back.
func (c *conduct) finish() {
	if c.waits > 0 || c.over {
		c.mu.Unlock()
		return
	}
	c.over = true
	c.mu.Unlock()
	for _, p := range c.parts {
		if p.caller != nil {
			p.caller.forget(p)
		}
	}
	c.answer()
}

// answer tells what has become of all units.
func (c *conduct) answer() {
	s, out := c.s, chunkPool.Get().(*chunk)
	for i := range c.units {
		u := &c.units[i]
		id := c.str(u.id)
		sum, err := c.sum(i)
		if u.refusal != nil {
			err = u.refusal
		}
		switch {
		case err != nil:
			s.b.countError(err.Code)
			out.b = wire.AppendError(out.b, id, err)
		case !u.quiet:
			out.b = appendNumber(wire.AppendOK(out.b, id), "queues", uint64(sum.took))
			if sum.stored != "" {
				out.b = appendText(out.b, "stored", sum.stored)
			}
			if sum.took > 0 && sum.took == sum.repeated {
				out.b = append(out.b, `,"duplicate":true`...)
			}
			out.b = append(out.b, "}\n"...)
		}
	}
	if len(out.b) > 0 && !s.b.failed.Load() { // as what a turn sends
		s.send(out)
	} else {
		out.free()
	}
	s.b.working.Add(-int64(len(c.units)))
	s.finished(c.cost)
}

// sum is what has become of a unit at all nodes.
func (c *conduct) sum(i int) (sum partial, err *wire.Error) {
	for _, p := range c.parts {
		u := &p.units[i]
		if u.goals == 0 {
			continue
		}
		if p.lostIt {
			return sum, errUnknownOutcome
		}
		if u.refusal != nil && (err == nil || u.refusal.Code == wire.CodeUnknownOutcome) {
			err = u.refusal
		}
		sum.took += u.took
		sum.repeated += u.repeated
		if u.stored != "" && (sum.stored == "" || bits.OnesCount8(given(u.stored)) < bits.OnesCount8(given(sum.stored))) {
			sum.stored = u.stored
		}
	}
	if err != nil && err.Code != wire.CodeUnknownOutcome && sum.took > 0 { // some have it, and some do not
		err = wire.Errorf(wire.CodeUnknownOutcome, "%d queues have it, and others could not take it any more: %s", sum.took, err.Message)
	}
	return sum, err
}

func (p *part) fanClaimed(f *fanout) {
	units := make([]partial, len(f.units))
	for i := range f.units {
		units[i].goals = f.units[i].goals
		units[i].refusal, units[i].by = f.units[i].refused()
	}
	p.fan = f
	p.hasClaimed(f.leads, units)
}

func (p *part) fanLaunched(*fanout) { p.hasLaunched() }

func (p *part) fanPublished(f *fanout, weakest []*store) {
	units := make([]partial, len(f.units))
	for i := range f.units {
		u := &f.units[i]
		units[i].took, units[i].repeated = int(u.took.Load()), int(u.repeated.Load())
		units[i].refusal, units[i].by = u.refused()
		if weakest[i] != nil {
			units[i].stored = weakest[i].Stored
		}
	}
	p.hasPublished(units)
}
