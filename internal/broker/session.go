package broker

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/wire"
)

// OutLimit is how many bytes may wait to be sent to one session, one message
// more than that at the most. Beyond it the session gets no deliveries and its requests are not read.
const OutLimit = 256 << 10

// workLimit is how many bytes of one session's requests may be on their way.
const workLimit = 1 << 20

// smallChunk and smaller ones are added to the chunk before them: what waits takes little
// more memory than its bytes, and that is what is counted.
const smallChunk = 2 << 10

// fullChunk and larger ones are followed by another one: to grow is dearer.
const fullChunk = 48 << 10

// A chunk is bytes on their way to one session.
type chunk struct {
	b        []byte
	small    []byte // where b is a large buffer of package spare: the chunk's own
	promised int    // bytes of deliveries that were taken for it and are not in b yet

	// What a shard has for a session in one turn is a row of chunks: before is the one that was full, ahead
	// the bytes of all before this one.
	before *chunk
	ahead  int
	sent   int // bytes of b that have been sent already
}

// chunkBytes is the room that a chunk has from the beginning, littleChunk that of one for a session that got little of its shard for a
// while (muchLasts): many sessions that wait for their writers hold one each.
const chunkBytes, littleChunk, muchLasts = 8 << 10, 1 << 10, 32

var (
	chunkPool  = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, chunkBytes)} }}
	littlePool = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, littleChunk)} }}
)

func (c *chunk) free() {
	if c.small != nil {
		spare.Put(c.b)
		c.b, c.small = c.small, nil
	}
	if cap(c.b) <= 128<<10 {
		c.b, c.promised, c.before, c.ahead, c.sent = c.b[:0], 0, nil, 0, 0
		if cap(c.b) < chunkBytes {
			littlePool.Put(c)
		} else {
			chunkPool.Put(c)
		}
	}
}

// A Session is one connection as the broker sees it: requests go in through its
// Intake, bytes to be sent come out of Outgoing. It ends with Close.
type Session struct {
	b       *Broker
	address string
	number  uint64 // no other session of this process has it
	Intake  Intake

	mu       sync.Mutex // guards the following
	out      []*chunk
	ended    bool
	sending  bool          // somebody sends what is not in out any more
	readable chan struct{} // something to send, or the end; holds one
	writable chan struct{} // there is room again, or the end; holds one

	pending   atomic.Int64  // bytes in out and being written
	working   atomic.Int64  // bytes of requests not answered yet
	binding   atomic.Int64  // requests not answered yet that may change what is bound to topics
	launching atomic.Int64  // fanouts whose copies are not all proposed yet
	blocked   atomic.Uint32 // bits of the shards that hold back deliveries
	gone      atomic.Bool   // no more requests will come
	client    atomic.Pointer[string]
	guard     atomic.Pointer[guarded]        // nil: whoever is there may do everything
	direct    func([]byte) int               // sends what it can at once; nil: nothing can
	lost      func(shard int, subs []uint64) // told of subscriptions that a shard has ended as it leads no more; it must not wait. nil: nobody is
	others    func(*wire.Request)            // carries out what is not about queues; nil: nothing does

	detached atomic.Uint32 // bits of the shards that have let go of the session

	flushed uint64 // the reader's: when it has posted last, counted by Broker.flushes
	limit   int64  // of pending, bytes
	proxy   *proxy // of a client at another node
	route   *route // what the session has at other nodes; nil where there can be none

	fences [Shards]uint64 // [i] is owned by shard i: the latest volley of another node of which something was refused
	barred [Shards]uint64 // likewise: the latest visit of this session of which something has gone back (back.go)
	open   [Shards]*chunk // [i] is owned by shard i, between two flushes
	much   [Shards]uint8  // likewise: for how many chunks more it is to be expected that a little one is too small
}

// NewSession starts a session with the client at that address.
func (b *Broker) NewSession(address string) *Session {
	s := b.newSession(address)
	if b.forward != nil {
		s.route = newRoute(b.forward, s)
		s.lost = s.route.lost
	}
	return s
}

func (b *Broker) newSession(address string) *Session {
	s := &Session{b: b, address: address, number: b.sessions.Add(1), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), limit: OutLimit}
	s.Intake.s = s
	return s
}

// name is what the client calls itself, and where it is.
func (s *Session) name() string {
	if c := s.client.Load(); c != nil {
		return *c + " at " + s.address
	}
	return "the client at " + s.address
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sendRow sends the chunks of a row, the first one first.
func (s *Session) sendRow(last *chunk, now bool) {
	if last.before != nil {
		s.sendRow(last.before, now)
		last.before = nil
	}
	switch {
	case len(last.b) == 0:
		last.free()
	case now:
		s.sendNow(last)
	default:
		s.send(last)
	}
}

// send queues c for the session; c is no longer the caller's.
func (s *Session) send(c *chunk) {
	s.pending.Add(int64(len(c.b)))
	if s.proxy != nil {
		s.proxy.send(c)
		return
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		s.pending.Add(-int64(len(c.b)))
		c.free()
		return
	}
	first := len(s.out) == 0
	if !first && len(c.b) <= smallChunk {
		last, little := s.out[len(s.out)-1], (*chunk)(nil)
		if both := len(last.b) + len(c.b); both > cap(last.b) && both <= chunkBytes && last.sent == 0 {
			little, last = last, chunkPool.Get().(*chunk)
			last.b = append(last.b, little.b...)
			s.out[len(s.out)-1] = last
		}
		if cap(last.b)-len(last.b) >= len(c.b) {
			last.b = append(last.b, c.b...)
			s.mu.Unlock()
			c.free()
			if little != nil {
				little.free()
			}
			return
		}
	}
	s.out = append(s.out, c)
	s.mu.Unlock()
	if first {
		signal(s.readable)
	}
}

// Reply sends a line that f appends.
func (s *Session) Reply(f func(dst []byte) []byte) {
	c := littlePool.Get().(*chunk)
	c.b = f(c.b)
	s.send(c)
}

// Refuse sends an error in reply to the request with that id.
func (s *Session) Refuse(id []byte, err *wire.Error) {
	s.b.countError(err.Code)
	s.Reply(func(dst []byte) []byte { return wire.AppendError(dst, id, err) })
}

// Outgoing is what there is to send, taken out; it waits until there is
// something. It is false when the session has ended and everything is sent. Sent must follow.
func (s *Session) Outgoing(into []*chunk) ([]*chunk, bool) {
	for {
		s.mu.Lock()
		if len(s.out) > 0 && !s.sending {
			s.sending = true
			into = append(into, s.out...)
			clear(s.out)
			s.out = s.out[:0]
			s.mu.Unlock()
			return into, true
		}
		ended := s.ended && !s.sending
		s.mu.Unlock()
		if ended {
			return into, false
		}
		s.b.await(s.readable)
		runtime.Gosched() // whoever runs now may have more for the same write
	}
}

// Bytes appends the buffers of chunks.
func Bytes(into [][]byte, cs []*chunk) [][]byte {
	for _, c := range cs {
		into = append(into, c.b[c.sent:])
	}
	return into
}

// Sent gives back chunks that have been written, or cannot be.
func (s *Session) Sent(cs []*chunk) {
	n := 0
	for _, c := range cs {
		n += len(c.b)
		c.free()
	}
	s.mu.Lock()
	s.sending = false
	s.mu.Unlock()
	s.sent(int64(n))
}

// sent notes that n bytes of output are no longer pending.
func (s *Session) sent(n int64) {
	if s.pending.Add(-n) > s.limit/2 {
		return
	}
	if s.route != nil && s.route.owing.Load() {
		s.route.thank()
	}
	signal(s.writable)
	if mask := s.blocked.Swap(0); mask != 0 {
		for i, sh := range s.b.shards {
			if mask&(1<<i) != 0 {
				sh.unblock(s)
			}
		}
	}
}

// Await waits until the session may be asked for more work: until its replies have
// been taken and its requests have been dealt with.
func (s *Session) Await() {
	for !s.gone.Load() && (s.pending.Load() >= OutLimit || s.working.Load() >= workLimit) {
		s.b.await(s.writable)
	}
}

// awaitBindings waits until what the session has asked for before is bound to topics.
func (s *Session) awaitBindings() { s.awaitNone(&s.binding) }

// awaitLaunched waits until what the session has published to topics before has its place in all queues.
func (s *Session) awaitLaunched() { s.awaitNone(&s.launching) }

// awaitNone waits until n is 0; who brings it there calls signal(writable). Only the session's reader may call it.
func (s *Session) awaitNone(n *atomic.Int64) {
	for n.Load() > 0 && !s.b.failed.Load() {
		s.b.await(s.writable)
	}
}

func (s *Session) launched() {
	if s.launching.Add(-1) == 0 {
		signal(s.writable)
	}
}

func (s *Session) finished(bytes int) {
	left := s.working.Add(-int64(bytes))
	if left < workLimit && left+int64(bytes) >= workLimit {
		signal(s.writable)
	}
	if left == 0 && s.gone.Load() {
		s.end()
	}
}

// Close ends the session: what it had leased returns at once, receives that wait are
// forgotten. Requests that were taken in before are still answered; then Outgoing ends.
func (s *Session) Close() {
	if s.gone.Swap(true) {
		return
	}
	if s.route != nil {
		s.Intake.Flush() // before the client is known to be gone elsewhere
		s.route.close()
	}
	s.Intake.detach()
	if s.working.Load() == 0 {
		s.end()
	}
}

func (s *Session) end() {
	s.mu.Lock()
	again := s.ended
	s.ended = true
	s.mu.Unlock()
	if again {
		return
	}
	if s.proxy != nil {
		s.proxy.over()
	}
	if s.route != nil {
		s.route.over()
	}
	signal(s.readable)
	signal(s.writable)
}
