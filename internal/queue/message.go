package queue

// A Ref names the place where the journal keeps a record. The core only carries it.
type Ref uint64

// A Span is a record that the state refers to, and its length in the journal.
type Span struct {
	Ref  Ref
	Size uint32
}

// The states of a message. What is leased is ready to the journal: a lease
// ends with the process that gave it.
const (
	gone    = iota // not there: the zero message
	ready          // waits for a consumer
	leased         // a consumer has it
	delayed        // it is due later
	behind         // as ready, but another message of its key goes first
)

// msg is one message that is not settled. 24 bytes.
type msg struct {
	ref       Ref
	size      uint32 // of the record in the journal, bytes
	ageShares uint32 // published this many ms after its chunk's base, at most tooOld; above ageBits, shares
	over      uint16 // size less the body; at most maxOver when it is published
	attempts  uint16 // counted returns; saturates
	uncounted uint16 // other returns; saturates
	state     uint8
	flags     uint8
}

const (
	msgInHeap = 1 << 0 // in Queue.returned, once: the cursor has passed it
	msgDead   = 1 << 1 // came from a source queue: Queue.dead says from where
	msgExtra  = 1 << 2 // Queue.extras has more
	msgEnding = 1 << 3 // the owner has proposed what ends or moves it: nobody gets it meanwhile

	// The upper four bits are the priority, so that nothing asked is nothing set.
	priorityShift = 4

	keptFlags = msgDead | msgExtra | 0xf<<priorityShift // in snapshots
)

func (m *msg) priority() int { return int(m.flags>>priorityShift) ^ DefaultPriority }

func priorityFlags(p uint8) uint8 { return (p ^ DefaultPriority) << priorityShift }

func (m *msg) span() Span { return Span{m.ref, m.size} }

// stake is the span with this message's part of the size: as many as 1<<shares queues share the record. It is
// never nothing, so that a record is needed as long as one of them has it.
func (m *msg) stake() Span { return Span{m.ref, max(m.size>>m.shares(), 1)} }

func (m *msg) age() uint32     { return m.ageShares & tooOld }
func (m *msg) shares() uint8   { return uint8(m.ageShares >> ageBits) }
func (m *msg) setAge(ms int64) { m.ageShares = m.ageShares&^tooOld | uint32(max(0, min(ms, tooOld))) }

func (m *msg) setShares(n uint8) { m.ageShares = m.ageShares&tooOld | uint32(n)<<ageBits }

func (m *msg) body() int64 { return int64(m.size) - int64(m.over) }

// maxOver leaves room in msg.over for what a record grows by when it is relocated: else the body would seem to grow, on
// the one replica that relocates it, and max_bytes with it.
const maxOver = 1<<16 - 1 - 8

// refer lets m refer to its record, of which body bytes are the body.
func (m *msg) refer(span Span, body int64) {
	m.ref, m.size = span.Ref, span.Size
	m.over = uint16(max(0, min(int64(span.Size)-body, maxOver)))
}

// move lets m refer to another record with the same body.
func (m *msg) move(span Span) {
	body := m.body()
	m.ref, m.size = span.Ref, span.Size
	m.over = uint16(max(0, min(int64(span.Size)-body, 1<<16-1)))
}

// delivery is the number of the next delivery, from 1.
func (m *msg) delivery() uint32 { return uint32(m.attempts) + uint32(m.uncounted) + 1 }

func saturate(v *uint16) {
	if *v < 1<<16-1 {
		*v++
	}
}

const chunkBits, chunkLen = 6, 64

// littleLen is how many messages a chunk has room for at first, where its queue was empty. Where many queues take turns most of them hold one or
// two messages at a time, and a place for each of a chunk's is far more memory than there is in any cache.
const littleLen = 8

// A chunk holds the messages whose seqs differ in the last chunkBits only.
// Chunks of a queue form a list in order of seq; an empty one is taken out unless it is the last.
//
// What every message needs is in its first 64 bytes.
type chunk struct {
	key    uint64     // seq >> chunkBits
	base   int64      // time of the first publish since it was empty, unix ns
	m      []msg      // littleLen messages from low on, all others are gone; or all chunkLen; nil while they are packed
	few    *fewLeases // there while leased > 0 and all is not
	all    *allLeases
	epoch  uint32 // of the latest snapshot that has the chunk, or needs it not; see Snapshot
	live   uint8  // messages not gone
	leased uint8
	low    uint8 // the place in the chunk of m[0]

	next, prev *chunk
	packed     []byte
	dues       []due // of those that are delayed, in no order
}

// seq is that of the message m[i].
func (c *chunk) seq(i int) uint64 { return c.key<<chunkBits + uint64(c.low) + uint64(i) }

// A due is when the message at an index of a chunk is due, unix ns.
type due struct {
	at    int64
	timer uint32 // the one entry of State.delays that is about it; those of earlier waits have other numbers
	i     uint8
}

// due is when a delayed message is due; the zero due where it is not delayed.
func (c *chunk) due(seq uint64) due {
	for _, d := range c.dues {
		if d.i == uint8(seq&(chunkLen-1)) {
			return d
		}
	}
	return due{}
}

// dropDue forgets when a message is due.
func (c *chunk) dropDue(seq uint64) {
	for k, d := range c.dues {
		if d.i == uint8(seq&(chunkLen-1)) {
			last := len(c.dues) - 1
			c.dues[k] = c.dues[last]
			if c.dues = c.dues[:last]; last == 0 {
				c.dues = nil
			}
			return
		}
	}
}

const (
	ageBits = 28
	// tooOld is the age of a message whose age has no room, after three days: Queue.late has it.
	tooOld = 1<<ageBits - 1
	// maxShares is the greatest number of shares that there is room for: 32,768 queues.
	maxShares = 1<<(32-ageBits) - 1
)

func (q *Queue) publishedAt(seq uint64, c *chunk, m *msg) int64 {
	if m.age() == tooOld {
		return q.late[seq]
	}
	return c.base + int64(m.age())*1e6
}

func (q *Queue) setLate(seq uint64, at int64) {
	if q.late == nil {
		q.late = map[uint64]int64{}
	}
	q.late[seq] = at
}

// poolMost is how many of each a pool keeps.
const poolMost = 64

// A pool keeps what chunks are made of, to be used again by any queue of a state.
type pool struct {
	chunks  []*chunk // without messages
	late    []*chunk // with messages that are gone: the command that is being applied may still look at them
	msgs    [][]msg  // chunkLen each, that are gone
	littles [][]msg  // littleLen each, likewise
}

// ripen is called between two commands.
func (p *pool) ripen() {
	if len(p.late) == 0 {
		return
	}
	for _, c := range p.late {
		p.put(c.m)
		c.m = nil
	}
	p.chunks, p.late = append(p.chunks, p.late...), p.late[:0]
}

// put keeps messages that are gone.
func (p *pool) put(m []msg) {
	switch {
	case len(m) == chunkLen && len(p.msgs) < poolMost:
		p.msgs = append(p.msgs, m)
	case len(m) == littleLen && len(p.littles) < poolMost:
		p.littles = append(p.littles, m)
	}
}

func (p *pool) chunk() *chunk {
	n := len(p.chunks)
	if n == 0 {
		return new(chunk)
	}
	c := p.chunks[n-1]
	p.chunks = p.chunks[:n-1]
	return c
}

// array is chunkLen messages that are gone, little is littleLen of them.
func (p *pool) array() []msg {
	n := len(p.msgs)
	if n == 0 {
		return make([]msg, chunkLen)
	}
	m := p.msgs[n-1]
	p.msgs = p.msgs[:n-1]
	return m
}

func (p *pool) little() []msg {
	n := len(p.littles)
	if n == 0 {
		return make([]msg, littleLen)
	}
	m := p.littles[n-1]
	p.littles = p.littles[:n-1]
	return m
}

// chunks is the messages of one queue.
type chunks struct {
	pool       *pool
	byKey      map[uint64]*chunk
	head, tail *chunk
	hit        *chunk // the one last found
	from       *chunk // where Queue.cursor points to, or the first chunk behind it
	sweep      *chunk // where packSome goes on
	stored     uint32 // how often it was called
}

// find returns the message, or nil where it is gone.
func (cs *chunks) find(seq uint64) (*chunk, *msg) {
	key := seq >> chunkBits
	c := cs.hit
	if c == nil || c.key != key {
		if c = cs.byKey[key]; c == nil {
			return nil, nil
		}
		cs.hit = c
	}
	if c.m == nil {
		cs.unpack(c)
	}
	i := seq&(chunkLen-1) - uint64(c.low)
	if i >= uint64(len(c.m)) || c.m[i].state == gone {
		return nil, nil
	}
	return c, &c.m[i]
}

// put makes room for seq, which must be the greatest so far.
func (cs *chunks) put(seq uint64, at int64) (*chunk, *msg) {
	key := seq >> chunkBits
	c := cs.tail
	if c == nil || c.key != key {
		old := cs.tail
		c = cs.pool.chunk()
		*c = chunk{key: key, base: at, prev: old}
		if old == nil || old.live == 0 {
			c.m = cs.pool.little()
		} else {
			c.m = cs.pool.array()
		}
		if old != nil {
			old.next = c
		} else {
			cs.head = c
		}
		cs.tail = c
		if cs.byKey == nil {
			cs.byKey = make(map[uint64]*chunk)
		}
		cs.byKey[key] = c
		if cs.from == nil {
			cs.from = c
		}
		if old != nil && old.live == 0 {
			cs.remove(old)
		}
	}
	i := seq & (chunkLen - 1)
	if c.live == 0 { // as if the chunk were new: what is gone leaves no trace
		c.base = at
		if len(c.m) == littleLen {
			c.low = uint8(i)
		}
	}
	if i -= uint64(c.low); i >= uint64(len(c.m)) {
		i += uint64(c.low)
		cs.enlarge(c)
	}
	c.live++
	m := &c.m[i]
	m.setAge((at - c.base) / 1e6)
	return c, m
}

// enlarge gives a chunk room for all its messages: they move.
func (cs *chunks) enlarge(c *chunk) {
	m := cs.pool.array()
	copy(m[c.low:], c.m)
	clear(c.m)
	cs.pool.put(c.m)
	c.m, c.low = m, 0
}

// remove takes an empty chunk out of the list; never the last one.
func (cs *chunks) remove(c *chunk) {
	delete(cs.byKey, c.key)
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		cs.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		cs.tail = c.prev
	}
	if cs.hit == c {
		cs.hit = nil
	}
	if cs.from == c {
		cs.from = c.next
	}
	if cs.sweep == c {
		cs.sweep = c.next
	}
	if p := cs.pool; len(p.chunks)+len(p.late) < poolMost && c.m != nil {
		p.late = append(p.late, c)
	}
}

// oldest is the lowest seq that is not gone, 0 where there is none.
func (cs *chunks) oldest() (seq uint64, c *chunk, m *msg) {
	cs.view(func(s uint64, in *chunk, x *msg) bool {
		seq, c, m = s, in, x
		return false
	})
	return seq, c, m
}

// each calls f for every message in order of seq, until it returns false. f
// may end the message it is called with.
func (cs *chunks) each(f func(seq uint64, c *chunk, m *msg) bool) {
	for c := cs.head; c != nil; {
		next := c.next
		if c.m == nil {
			cs.unpack(c)
		}
		for i := range c.m {
			if c.m[i].state != gone && !f(c.seq(i), c, &c.m[i]) {
				return
			}
		}
		c = next
	}
}

// view is each for one who only reads: what is packed stays so, and the message is only good during the call.
func (cs *chunks) view(f func(seq uint64, c *chunk, m *msg) bool) {
	var tmp [chunkLen]msg
	for c := cs.head; c != nil; c = c.next {
		ms, first := c.m, c.seq(0)
		if ms == nil {
			ms, first = c.look(&tmp)[:], c.key<<chunkBits
		}
		for i := range ms {
			if ms[i].state != gone && !f(first+uint64(i), c, &ms[i]) {
				return
			}
		}
	}
}
