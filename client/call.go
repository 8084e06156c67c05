package gmq

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/wire"
)

// What a reply must hold for the one who waits for it.
type callKind uint8

const (
	callPlain       callKind = iota // the whole reply
	callPublish                     // seq, stored, duplicate
	callBatch                       // seqs, stored; of a topic what callPublish has
	callReceive                     // messages
	callSubscribe                   // the subscription's number
	callUnsubscribe                 // that it has ended
	callPing                        // nothing
	callDrain                       // that a subscription gets nothing more
	callLeaders                     // who leads
	callHello                       // the nodes that there are
	callSettle                      // the whole reply, to acks
)

// A call is a request and its reply. Until the latch opens it belongs to
// whoever took it out of Client.pending; the reply's fields are written before
// that and only read afterwards.
type call struct {
	kind callKind
	id   uint64
	lane *lane // that it goes over
	// gen is the number of the lane's output buffer that the line stands in. While it
	// equals lane.outGen, nothing of the line has been sent; 0 is never equal.
	gen uint64
	// tail is the line behind the id, kept only where the request may be sent
	// once more after a lost connection.
	tail []byte
	sub  *subscription // of callSubscribe and callDrain
	num  uint64        // of callUnsubscribe and callDrain
	q    *Queue        // that it is about; nil: none, or it goes over the client's own lane
	auto bool          // of callReceive: its messages are settled on delivery
	// topical says that it is a publish to a topic, which keeps its order among those to queues.
	topical bool
	// place is where it keeps its order among others about the same queue, or, of callLeaders and callSettle, what it is about; nil: nowhere.
	place *place
	// from is the connection over which it goes as long as that is there; 0: whichever leads to the queue.
	from uint64
	// link is the only connection to which the request means something; 0 is any.
	link uint64
	// refused is how often it was refused as nobody led its queue. Guarded by Client.mu.
	refused int
	// why is that refusal.
	why atomic.Pointer[Error]
	// once says that it may be asked again only where it was certainly not carried out, and rests that this is so, and it
	// waits to be. Rests is guarded by Client.mu.
	once, rests bool
	// left is set, under Client.mu, where nobody waits for the reply any more; given up that somebody did, so that closing waits for it no longer, either.
	left, givenUp bool

	latch
	err       error
	published Published
	seqs      []uint64
	messages  []*Message
	raw       []byte
}

// again reports whether it is asked again where the connection is lost. Client.mu is held.
func (cl *call) again() bool { return cl.tail != nil && (!cl.once || cl.rests) }

// A latch opens once and lets everybody through. Its channel is made only for
// one who comes too early.
type latch struct {
	mu   sync.Mutex // guards the following
	set  bool
	wait chan struct{}
}

func (l *latch) open() {
	l.mu.Lock()
	l.set = true
	if l.wait != nil {
		close(l.wait)
	}
	l.mu.Unlock()
}

// opened gives a channel that is closed when the latch is open, or nil where
// it is open now.
func (l *latch) opened() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set {
		return nil
	}
	if l.wait == nil {
		l.wait = make(chan struct{})
	}
	return l.wait
}

func (l *latch) await(ctx context.Context) error {
	ch := l.opened()
	if ch == nil {
		return nil
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A ring holds the calls that wait for their reply, by id: ids only grow, and
// the few slots that are still taken when they come round again are passed over.
type ring struct {
	slots []*call // a power of two of them, at most half of them taken
	next  uint64  // the next id; ids begin at 1
	n     int
	held  int // how many of the n the server may hold back: they wait for messages
}

// count counts a call in what it belongs to, or out of it.
func (r *ring) count(c *call, n int) {
	r.n += n
	if c.lane != nil {
		c.lane.n += n
	}
	if c.kind == callReceive {
		r.held += n
		if c.lane != nil {
			c.lane.held += n
		}
	}
	switch {
	case c.place == nil || c.kind == callLeaders:
	case c.kind == callSettle:
		c.place.settles(c.lane, n)
	default:
		c.place.busy += n
	}
}

func (r *ring) add(c *call) {
	if 2*(r.n+1) > len(r.slots) {
		r.grow()
	}
	if r.next == 0 {
		r.next = 1
	}
	mask := uint64(len(r.slots) - 1)
	for r.slots[r.next&mask] != nil {
		r.next++
	}
	c.id = r.next
	r.slots[c.id&mask] = c
	r.next++
	r.count(c, 1)
}

// grow doubles the ring. Ids that differ in their low bits still do when one
// more bit counts.
func (r *ring) grow() {
	old := r.slots
	r.slots = make([]*call, max(64, 2*len(old)))
	mask := uint64(len(r.slots) - 1)
	for _, c := range old {
		if c != nil {
			r.slots[c.id&mask] = c
		}
	}
}

func (r *ring) get(id uint64) *call {
	if len(r.slots) == 0 {
		return nil
	}
	if c := r.slots[id&uint64(len(r.slots)-1)]; c != nil && c.id == id {
		return c
	}
	return nil
}

func (r *ring) remove(c *call) bool {
	if r.get(c.id) != c {
		return false
	}
	r.slots[c.id&uint64(len(r.slots)-1)] = nil
	r.count(c, -1)
	return true
}

// busy is how many calls will be answered soon.
func (r *ring) busy() int { return r.n - r.held }

// ordered gives the calls by id, which is the order in which they were asked.
func (r *ring) ordered() []*call {
	all := make([]*call, 0, r.n)
	for _, c := range r.slots {
		if c != nil {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *call) int { return cmp.Compare(a.id, b.id) })
	return all
}

// appendLine appends the request: the id goes first, for it is known last.
func appendLine(dst []byte, id uint64, tail []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	return append(dst, tail...)
}

// enqueue gives cl an id and writes its line. c.mu is held.
func (c *Client) enqueue(ln *lane, cl *call, tail []byte) {
	cl.lane = ln
	c.pending.add(cl)
	ln.kick()
	ln.out = appendLine(ln.out, cl.id, tail)
	cl.gen = ln.outGen
}

// How a request fares where others have to wait or are refused.
type admission uint8

const (
	admitOpen   admission = iota // new work
	admitSettle                  // what ends work: goes on while client or server close down
)

// submit sends a request as soon as there are a connection and room, and
// fails only if it has not been sent. With keep, it will be sent again after a
// lost connection; tail stays the caller's.
func (c *Client) submit(ctx context.Context, cl *call, tail []byte, keep bool, adm admission) error {
	if err := ctx.Err(); err != nil {
		return notSent(ctx, nil)
	}
	if keep {
		cl.tail = bytes.Clone(tail)
	}
	c.mu.Lock()
	var ln *lane
	for {
		if c.closed || c.closing && adm == admitOpen {
			c.mu.Unlock()
			return ErrClosed
		}
		if cl.link != 0 && c.laneWith(cl.link) == nil {
			c.mu.Unlock()
			return &Error{Code: wire.CodeNotFound, Message: "the ephemeral queue has ended with its connection"}
		}
		if ln = c.laneFor(cl); ln != nil && c.admits(ln, adm) {
			break
		}
		ch, last := c.change(), c.lastErr
		if c.own.link != nil {
			last = nil
		}
		c.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return notSent(ctx, last)
		}
		c.mu.Lock()
	}
	limit := c.hello.MaxMessageBytes + lineOverhead
	if c.hello.MaxMessageBytes > 0 && int64(len(tail)+idBytes) > limit {
		c.mu.Unlock()
		// The server would skip such a line and could not say whose it was.
		return &Error{Code: wire.CodeMessageTooLarge, Message: fmt.Sprintf("a request of %d bytes is more than the server reads in one line, %d", len(tail), limit)}
	}
	c.enqueue(ln, cl, tail)
	c.mu.Unlock()
	return nil
}

// lineOverhead is how much longer than its largest body a line may be for the server, and
// idBytes how much a line's beginning takes at most.
const lineOverhead, idBytes = 64 << 10, 32

// admits reports whether a request may be sent now. c.mu is held.
func (c *Client) admits(ln *lane, adm admission) bool {
	if ln.link == nil || len(ln.out) >= outMax {
		return false
	}
	return adm == admitSettle || !ln.link.draining && c.pending.busy() < c.cfg.maxInFlight
}

// roundTrip sends a request and waits for its reply. What was certainly not carried out, as nobody led its queue at the time, is asked
// again until ctx ends.
func (c *Client) roundTrip(ctx context.Context, cl *call, tail []byte, keep bool, adm admission) error {
	try, last := cl, error(nil)
	for refused := 1; ; refused++ {
		err := c.tripOnce(ctx, try, tail, keep, adm)
		if try != cl {
			cl.why.Store(try.why.Load())
			cl.id, cl.err, cl.published, cl.seqs, cl.messages, cl.raw = try.id, try.err, try.published, try.seqs, try.messages, try.raw
		}
		e, answered := errors.AsType[*Error](err)
		if last != nil && ctx.Err() != nil && !answered {
			return last // why there is nothing better
		}
		if answered && e.Code == wire.CodeUnknownOutcome && e.Last == nil {
			e.Last, _ = errors.AsType[*Error](last)
		}
		if last = err; !errors.Is(err, ErrNoQuorum) || !waitFor(ctx, c.cfg.pause(refused)) {
			return err
		}
		try = &call{kind: cl.kind, q: cl.q, auto: cl.auto, topical: cl.topical, from: cl.from, link: cl.link}
	}
}

func (c *Client) tripOnce(ctx context.Context, cl *call, tail []byte, keep bool, adm admission) error {
	if err := c.submit(ctx, cl, tail, keep, adm); err != nil {
		return err
	}
	if err := cl.await(ctx); err != nil {
		if c.leave(cl) {
			publish := cl.kind == callPublish || cl.kind == callBatch
			switch why := cl.why.Load(); {
			case !publish && why != nil:
				return why // there is nothing better
			case keep && !publish || cl.kind == callReceive:
				return err
			}
			return cl.unanswered(err)
		}
		// The reply is being handed over at this moment.
		if ch := cl.opened(); ch != nil {
			<-ch
		}
	}
	return cl.err
}

// leave says that nobody waits for cl any more; it is false where the reply
// came first. The call keeps its slot, so that what comes for it can be put
// right: messages are given back.
func (c *Client) leave(cl *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending.get(cl.id) != cl {
		return false
	}
	cl.left, cl.givenUp = true, true
	cl.tail = nil
	if c.closing {
		c.pending.remove(cl)
		c.broadcast()
	}
	return true
}

// change gives a channel that is closed at the next change of connection,
// room or closing. c.mu is held.
func (c *Client) change() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// broadcast wakes those who wait for a change. c.mu is held.
func (c *Client) broadcast() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// room wakes those who wait for room, once there is enough of it to be worth
// waking them. c.mu is held.
func (c *Client) room(ln *lane) {
	if c.changed != nil && len(ln.out) < outMax && c.pending.busy() <= c.cfg.maxInFlight*3/4 {
		c.broadcast()
	}
}
