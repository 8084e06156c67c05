package sim

import (
	"time"
)

// What is known of a publish.
const (
	open      = iota // no reply yet
	confirmed        // its confirm has left the process
	refused          // so has an error: it was not stored
	unknown          // the connection was lost before a reply
)

// A message is one body that a client published: there is no other with its number.
type message struct {
	number   int
	body     string // as it must be delivered
	headers  string
	key      string
	encoding string
	priority int
	dedup    string
	topic    string

	status   int
	called   uint64 // the step in which it was sent
	kept     uint64 // the step in which it was confirmed
	life     *life
	due      int64 // not before this, unix ns; 0: at once
	expires  int64 // not after this, once it is confirmed; 0: never
	ttl      time.Duration
	delay    time.Duration
	chains   []*chain
	repeated bool // sent more than once
}

// A group is messages, or copies of one, of which all are stored or none.
type group struct {
	what   string
	chains []*chain
}

// A chain is what has become of a message in one queue, and in the dead-letter queue behind it.
type chain struct {
	m *message
	q *queueBook // that it was published to

	at         string // the queue that it was last seen in
	seq        uint64 // its number there; 0: not known yet
	deliveries int    // from there
	last       *delivery
	fresh      bool // a delivery from there bore no mark of being another
	nacks      int  // confirmed and counted, there

	seen      bool // it was delivered at least once
	moved     bool // it may have been taken back from the dead-letter queue
	asked     int  // acks on their way
	maybe     bool // an ack, or something like it, may have been carried out or not
	acked     uint64
	excused   bool   // it may be gone without anybody having got it
	notBefore int64  // a confirmed nack asked for it
	notSince  uint64 // the step in which it was confirmed
	dueSince  uint64 // the step in which a reschedule was confirmed
	moves     int    // reschedules asked for: in a cluster they may come in another order, and behind a nack that was sent later
	returned  bool   // a nack was asked for: it may have counted where the reply does not say so of each message
}

// done reports whether the message may be gone.
func (c *chain) done(life *life) bool {
	return c.acked > 0 || c.asked > 0 || c.maybe || c.excused || c.q.lossy || c.q.gone || !c.q.kept && c.m.life != life
}

// A delivery is one message that was handed to one client.
type delivery struct {
	chain    *chain
	k        *conn
	queue    string
	seq      uint64
	attempt  int
	receipt  string
	sub      *subscription // nil: it was received
	lo, hi   uint64        // the steps between which it left
	wall     int64         // the clock was not earlier then
	leaseEnd int64         // it may have been over from then on, unix ns
	returned bool          // the client has asked for something that ends it
	auto     bool
	again    bool
}

// A queueBook is what is known of a queue.
type queueBook struct {
	spec
	kept     bool              // what it has outlives a process
	gone     bool              // its messages may be lost, and nobody uses it any more
	seqs     map[uint64]*chain // by number, where messages keep theirs
	highest  uint64            // the highest number confirmed so far
	first    [10]front         // by priority
	keys     map[string][]*chain
	paused   bool // for certain
	pausedAt uint64
	resuming int    // requests on their way
	resumed  uint64 // when the latest of them was sent
	redriven bool   // dead letters have been taken back, or may have been
}

// A front is how far the first deliveries of a priority have come: numbers that rise, and the steps by which they had left.
type front struct{ marks []mark }

type mark struct{ step, seq uint64 }

// A place is a publish's place among those of its connection, and the number it was given.
type place struct {
	nth  int
	seq  uint64
	life int
}

// A spec says how a queue is made, and what is expected of it.
type spec struct {
	name    string
	make    string // settings, as JSON
	file    bool
	lossy   bool // its messages may go without having been delivered
	plain   bool // first deliveries come in order of their numbers
	keyed   bool
	ids     bool
	later   bool
	ranks   bool
	auto    bool
	bound   string
	max     int // deliveries; 0: any number
	lease   time.Duration
	ttl     time.Duration
	retry   time.Duration // the least that a nack waits for
	limit   int           // messages
	weight  int
	scratch bool // is purged, paused, deleted and changed
}

const retries = `"retry":{"min":"200ms","max":"2s","factor":2,"jitter":0.1}`

// specs are the queues of every world.
var specs = []spec{
	{name: "work0", make: `"storage":"file","lease":"2s","max_deliveries":0,` + retries, file: true, plain: true, lease: 2 * time.Second, retry: 180 * time.Millisecond, weight: 6},
	{name: "work1", make: `"storage":"file","lease":"3s","max_deliveries":3,` + retries, file: true, plain: true, max: 3, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 4},
	{name: "memo", make: `"storage":"memory","lease":"2s","max_deliveries":4,` + retries, plain: true, max: 4, lease: 2 * time.Second, retry: 180 * time.Millisecond, weight: 3},
	{name: "ids", make: `"storage":"file","lease":"3s","max_deliveries":0,"dedup_window":"720h",` + retries, file: true, ids: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 4},
	{name: "keyed", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, keyed: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 4},
	{name: "later", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, later: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 4},
	{name: "ranks", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, plain: true, ranks: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 3},
	{name: "mortal", make: `"storage":"file","lease":"2s","max_deliveries":0,"ttl":"4s",` + retries, file: true, lossy: true, ttl: 4 * time.Second, lease: 2 * time.Second, retry: 180 * time.Millisecond, weight: 4},
	{name: "drops", make: `"storage":"file","lease":"2s","max_messages":12,"overflow":"drop_oldest","max_deliveries":0,` + retries, file: true, lossy: true, lease: 2 * time.Second, retry: 180 * time.Millisecond, limit: 12, weight: 2},
	{name: "spills", make: `"storage":"file","lease":"2s","max_messages":12,"overflow":"dead_letter","max_deliveries":0,` + retries, file: true, lease: 2 * time.Second, retry: 180 * time.Millisecond, limit: 12, weight: 3},
	{name: "full", make: `"storage":"file","lease":"2s","max_messages":8,"max_deliveries":0,` + retries, file: true, lease: 2 * time.Second, retry: 180 * time.Millisecond, bound: "full.>", limit: 8, weight: 1},
	{name: "fan0", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, plain: true, bound: ">", lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 2},
	{name: "fan1", make: `"storage":"file","lease":"3s","max_deliveries":4,` + retries, file: true, plain: true, bound: ">", max: 4, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 2},
	{name: "fan2", make: `"storage":"memory","lease":"3s","max_deliveries":0,` + retries, plain: true, bound: ">", lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 2},
	{name: "flap", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, lossy: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 1},
	{name: "auto", make: `"storage":"file","lease":"3s","max_deliveries":0,` + retries, file: true, auto: true, lossy: true, lease: 3 * time.Second, retry: 180 * time.Millisecond, weight: 2},
	{name: "scrap", make: `"storage":"file","lease":"1s","max_deliveries":0,` + retries, file: true, lossy: true, scratch: true, lease: 500 * time.Millisecond, weight: 2},
	{name: "scraps", make: `"storage":"memory","lease":"1s","max_deliveries":0,` + retries, lossy: true, scratch: true, lease: 500 * time.Millisecond, weight: 2},
}

func (w *World) books() map[string]*queueBook {
	m := map[string]*queueBook{}
	for _, s := range specs {
		m[s.name] = &queueBook{spec: s, kept: s.file || w.cfg.Cluster, seqs: map[uint64]*chain{}, keys: map[string][]*chain{}}
	}
	return m
}
