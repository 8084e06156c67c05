package broker

import (
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/queue"
)

// A Guest is another node that uses this one's shards for its clients: this node's end of a line that the other has made.
type Guest struct {
	b    *Broker
	node uint64
	line Line

	mu      sync.Mutex // guards the following
	proxies map[uint64]*Session
	fans    map[uint64]*fanout // publishes to topics for which room has been asked
	over    bool
}

// proxyLimit is how many bytes may be on their way to a client by way of another node: there they count again.
const proxyLimit = 64 << 10

// A proxy is what makes a session one of a client at another node: its output goes there.
type proxy struct {
	line   Line
	number uint64

	holding atomic.Int32 // shards that may have leased something to the client, when its node is being shut down

	mu   sync.Mutex // guards the following, and the order of what is sent; the line's own lock is taken while it is held
	head []byte
}

// Accept is told that another node has made a line to this one. What it says on it is for the Guest.
func (b *Broker) Accept(node uint64, l Line) *Guest {
	g := &Guest{b: b, node: node, line: l, proxies: map[uint64]*Session{}, fans: map[uint64]*fanout{}}
	b.guestsMu.Lock()
	before := b.guests[node]
	if b.guests == nil {
		b.guests = map[uint64]*Guest{}
	}
	b.guests[node] = g
	b.guestsMu.Unlock()
	if before != nil { // that node has given it up: what still comes there must not come behind what comes here
		before.Close()
	}
	return g
}

// Close is told that the line is broken.
func (g *Guest) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	g.over = true
	for _, number := range slices.Sorted(maps.Keys(g.proxies)) {
		g.end(number, g.proxies[number])
	}
	for _, number := range slices.Sorted(maps.Keys(g.fans)) {
		g.forget(number)
	}
}

// Receive takes a message from the node at the other end. It does not wait, and is called by one goroutine at a time.
func (g *Guest) Receive(message []byte) {
	r := reader{b: message}
	kind, number := r.byte(), r.uvarint()
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.bad || g.over {
		return
	}
	switch kind {
	case sayOpen:
		g.open(number, &r)
		return
	case sayAsk:
		g.answer(number, &r)
		return
	case sayClaim:
		g.claim(number, &r)
		return
	case sayGo:
		g.launch(number, &r)
		return
	case sayForget:
		g.forget(number)
		return
	}
	s := g.proxies[number]
	if s == nil {
		return
	}
	switch kind {
	case sayWork:
		g.work(s, number, &r)
	case sayTaken:
		s.took(r.uvarint())
	case sayName:
		name := string(r.textOf())
		s.client.Store(&name)
	case sayDetach:
		g.end(number, s)
	case sayHush:
		s.hush()
	case sayRevoke:
		if shard, name := r.count(Shards-1), string(r.textOf()); !r.bad {
			s.revoke(shard, name)
		}
	}
}

// end lets go of a proxy session: what was taken in is still answered.
func (g *Guest) end(number uint64, s *Session) {
	delete(g.proxies, number)
	s.Close()
}

// open begins a proxy session.
func (g *Guest) open(number uint64, r *reader) {
	address, name := string(r.textOf()), string(r.textOf())
	if r.bad || g.proxies[number] != nil {
		return
	}
	s := g.b.newSession(address)
	s.proxy = &proxy{line: g.line, number: number}
	s.limit = proxyLimit
	if name != "" {
		s.client.Store(&name)
	}
	g.proxies[number] = s
}

// work hands a work to its shard. One that cannot be read ends the session.
func (g *Guest) work(s *Session, session uint64, r *reader) {
	term, volley, shard, number := r.uvarint(), max(r.uvarint(), 1), r.count(Shards-1), r.uvarint()
	if r.bad {
		g.end(session, s)
		return
	}
	sh := g.b.shards[shard]
	w := sh.newWork()
	if !readWork(r, w, number) {
		sh.reuse(w)
		g.end(session, s)
		return
	}
	w.s, w.term, w.volley = s, term, volley
	s.working.Add(int64(w.cost))
	g.b.working.Add(int64(w.requests))
	s.Intake.touched.Or(1 << shard)
	sh.post(w)
}

// send sends what a shard has for the client.
func (p *proxy) send(c *chunk) {
	p.mu.Lock()
	p.head = appendUvarint(append(p.head[:0], sayOutput), p.number)
	p.line.Send(p.head, c.b)
	p.mu.Unlock()
	c.free()
}

// over says that nothing more will come.
func (p *proxy) over() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = appendUvarint(append(p.head[:0], sayOver), p.number)
	p.line.Send(p.head, nil)
}

// A loss is subscriptions that a shard has ended as it leads no more, or not all of its storages.
type loss struct {
	proxy *proxy
	subs  []uint64
}

// lost says that subscriptions have to be made anew.
func (p *proxy) lost(shard int, subs []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = append(appendUvarint(append(p.head[:0], sayLost), p.number), byte(shard))
	for _, n := range subs {
		p.head = appendUvarint(p.head, n)
	}
	p.line.Send(p.head, nil)
}

// took is told that the client has taken n bytes.
func (s *Session) took(n uint64) {
	if int64(n) <= s.pending.Load() {
		s.sent(int64(n))
	}
}

// hush ends deliveries, as the client's node is being shut down: receives that wait are answered with what they have.
func (s *Session) hush() {
	touched := s.Intake.touched.Load()
	if touched == 0 {
		s.proxy.idle()
	}
	s.proxy.holding.Add(int32(bits.OnesCount32(touched)))
	for i, sh := range s.b.shards {
		if touched&(1<<i) == 0 {
			continue
		}
		w := sh.newWork()
		w.call = func(sh *shard) {
			m := sh.members[s]
			if m == nil || m.hushed {
				s.proxy.idle()
				return
			}
			m.hushed = true
			sh.block(m)
			sh.endWaitsOf(m)
			sh.hushed = append(sh.hushed, s)
		}
		sh.post(w)
	}
}

// tellIdle tells the nodes of hushed sessions which of them have nothing leased any more.
func (sh *shard) tellIdle() {
	kept := sh.hushed[:0]
	for _, s := range sh.hushed {
		if m := sh.members[s]; m != nil && m.leased() > 0 {
			kept = append(kept, s)
		} else {
			s.proxy.idle()
		}
	}
	clear(sh.hushed[len(kept):])
	sh.hushed = kept
}

// leased is how many messages of the shard a session has.
func (m *member) leased() (n int) {
	for _, c := range m.subs {
		n += c.Leased()
	}
	for _, c := range m.holds {
		n += c.Leased()
	}
	return n
}

// idle notes that one shard has nothing for the client any more, and says so when none has.
func (p *proxy) idle() {
	if p.holding.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = appendUvarint(append(p.head[:0], sayIdle), p.number)
	p.line.Send(p.head, nil)
}

// revoke ends what the client consumes from a queue.
func (s *Session) revoke(index int, name string) {
	sh := s.b.shards[index]
	w := sh.newWork()
	w.call = func(sh *shard) {
		if m := sh.members[s]; m != nil {
			sh.recheckMember(s, m, func(q *queue.Queue) bool { return q.Name != name })
		}
	}
	sh.post(w)
}
