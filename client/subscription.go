package gmq

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// A subscription is an open hand for the messages of a queue, or of topics. It
// outlives connections: the client asks for it anew over each.
type subscription struct {
	c    *Client
	name string // of the queue, or the pattern of topics
	head []byte // how the request for it begins
	cfg  consumeConfig
	sink func(*Message) // takes the messages in place of buf, unless it is nil
	// topic says that messages come out of an ephemeral queue, and each
	// connection has another one.
	topic bool
	q     *Queue // where messages come from; of a topic it is the reader's

	// The following are guarded by Client.mu.
	call  *call  // the last request for it
	lane  *lane  // that it goes over
	asked bool   // it has been asked for over the lane's connection
	num   uint64 // its number there; 0 until the reply
	of    uint64 // the connection whose number that is
	shut  bool   // nobody wants it any more
	wait  time.Duration
	moves bool    // it is being ended there, to go on over another lane
	stays bool    // the server does not know how
	at    *stay   // what it is there; nil until the reply
	spent []*stay // where it has been before and still has something leased

	mu  sync.Mutex // guards the following
	buf []*Message // delivered and not taken; at most credit of them of one connection
	err error      // why it ended

	ready chan struct{} // holds a token while there may be something in buf or err
	over  chan struct{} // closed when err is there
}

func newSubscription(c *Client, name string, head []byte, cfg consumeConfig) *subscription {
	return &subscription{c: c, name: name, head: head, cfg: cfg, ready: make(chan struct{}, 1), over: make(chan struct{})}
}

func (q *Queue) subscription(cfg consumeConfig) *subscription {
	s := newSubscription(q.c, q.name, q.request("subscribe"), cfg)
	s.q = q
	return s
}

// begin asks for messages. A refusal comes out of next.
func (s *subscription) begin() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.closing || s.c.closed {
		return ErrClosed
	}
	s.c.addSubscription(s)
	return nil
}

// addSubscription takes one in. c.mu is held.
func (c *Client) addSubscription(s *subscription) {
	c.subs[s] = struct{}{}
	c.steerOne(s)
}

// askSubscribe writes the request. c.mu is held.
func (c *Client) askSubscribe(s *subscription) {
	b := appendInt(slices.Clip(s.head), "credit", int64(s.cfg.credit))
	b = append(s.cfg.appendTo(b), "}\n"...)
	s.call = &call{kind: callSubscribe, sub: s}
	s.asked = true
	c.enqueue(s.lane, s.call, b)
}

// appendTo appends the fields that receive and subscribe share.
func (o *consumeConfig) appendTo(b []byte) []byte {
	if o.lease > 0 {
		b = appendDuration(b, "lease", o.lease)
	}
	if o.autoAck {
		b = append(b, `,"ack":"auto"`...)
	}
	if o.noCreate {
		b = append(b, `,"create":false`...)
	}
	return b
}

// subscribed takes the reply to a subscribe; the deliveries follow it.
func (l *link) subscribed(s *subscription, f *wire.Frame) {
	c := l.c
	if !f.OK {
		err := fromWire(f)
		if !IsRetryable(err) {
			c.dropSubscription(s, err)
			return
		}
		c.cfg.log.Warn("gmq: cannot subscribe", "from", s.name, "error", err)
		c.mu.Lock()
		s.wait = min(max(2*s.wait, c.cfg.backoffMin), c.cfg.backoffMax)
		time.AfterFunc(s.wait, func() { c.resubscribe(s, l) })
		c.mu.Unlock()
		return
	}
	at := &stay{s: s, link: l, num: f.Sub}
	l.subs[f.Sub] = at
	c.mu.Lock()
	defer c.mu.Unlock()
	s.num, s.of, s.at, s.wait = f.Sub, l.no, at, 0
	if s.shut {
		c.askUnsubscribe(s)
	} else {
		c.steerOne(s)
	}
	if s.sink != nil {
		c.broadcast() // requests wait for it
	}
}

// source is the queue that a message came from which l has read.
func (s *subscription) source(l *link, name []byte) *Queue {
	if s.topic && (s.q == nil || s.q.link != l.no) {
		s.q = &Queue{c: s.c, name: string(name), link: l.no}
	}
	return s.q
}

// resubscribe asks once more after a refusal, unless there has been a new
// connection since, which asked anyway.
func (c *Client) resubscribe(s *subscription, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, wanted := c.subs[s]; wanted && s.lane.link == l {
		s.asked = false
		c.steerOne(s)
	}
}

// dropSubscription forgets one that the server has ended.
func (c *Client) dropSubscription(s *subscription, err error) {
	c.mu.Lock()
	delete(c.subs, s)
	s.num = 0
	c.mu.Unlock()
	s.finish(err)
}

// unsubscribe ends a subscription from our side. The server takes back at once
// what is not acked; acks that have been gathered go first.
func (c *Client) unsubscribe(s *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.subs[s]; !there {
		return
	}
	delete(c.subs, s)
	s.shut = true
	if s.num != 0 && s.lane.link != nil {
		c.askUnsubscribe(s)
	}
	for _, at := range s.spent {
		c.endStay(at.link.no, at.num)
	}
	s.spent = nil
}

// askUnsubscribe writes the request. c.mu is held.
func (c *Client) askUnsubscribe(s *subscription) {
	c.endStay(s.lane.link.no, s.num)
	s.num = 0
}

// A stay is a subscription as one connection knows it.
type stay struct {
	s    *subscription // nil: receives
	link *link
	num  uint64
	out  atomic.Int64 // messages that have come by it and have not been settled
}

// endStay writes the request that ends one. c.mu is held.
func (c *Client) endStay(link, num uint64) {
	if ln := c.laneWith(link); ln != nil {
		c.flushAcks(ln)
		b := appendInt([]byte(`,"op":"unsubscribe"`), "sub", int64(num))
		c.enqueue(ln, &call{kind: callUnsubscribe, num: num}, append(b, "}\n"...))
	}
}

// lostLink forgets what came over the lost connection and was not taken: the
// server delivers it again. Client.mu is held.
func (s *subscription) lostLink(l *link) {
	s.spent = slices.DeleteFunc(s.spent, func(at *stay) bool { return at.link == l })
	if s.num != 0 && s.of == l.no {
		s.num, s.moves = 0, false
	}
	if s.cfg.autoAck || s.topic {
		return // settled on delivery, or of a queue that is gone: it comes once
	}
	s.mu.Lock()
	s.buf = slices.DeleteFunc(s.buf, func(m *Message) bool { return m.link == l.no })
	s.mu.Unlock()
}

// deliver puts m into the buffer; the credit bounds it.
func (s *subscription) deliver(m *Message) {
	if s.sink != nil {
		s.sink(m)
		return
	}
	s.mu.Lock()
	s.buf = append(s.buf, m)
	s.mu.Unlock()
	s.signal()
}

// drop takes m out of the buffer, if it is still there.
func (s *subscription) drop(m *Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.buf, m); i >= 0 {
		s.buf = slices.Delete(s.buf, i, i+1)
	}
}

// finish ends it with the reason; the first one counts. What has been
// delivered and not taken stays untaken.
func (s *subscription) finish(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		close(s.over)
	}
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// next gives the next message, or the reason why there will be none.
func (s *subscription) next(ctx context.Context) (*Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err, more := s.pop()
		if more {
			s.signal() // for others who wait
		}
		if m != nil && s.cfg.ackTaken {
			m.AckAsync()
			m.auto = true
		}
		if m != nil || err != nil {
			return m, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
		}
	}
}

func (s *subscription) pop() (m *Message, err error, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What was settled on delivery is given out even after the end.
	if s.err != nil && (!s.cfg.autoAck || len(s.buf) == 0) {
		return nil, s.err, true
	}
	if len(s.buf) == 0 {
		return nil, nil, false
	}
	m = s.buf[0]
	s.buf[0] = nil
	if s.buf = s.buf[1:]; len(s.buf) == 0 {
		s.buf = nil
	}
	return m, nil, len(s.buf) > 0
}

// Messages gives messages as they come, until ctx ends, the loop is left, or
// the server or Close ends the subscription: then the reason comes last, with a
// nil message. [Credit] says how many may be on their way or unsettled.
// Leaving the loop gives back at once what has been delivered and not settled.
//
//	for m, err := range q.Messages(ctx, gmq.Credit(64)) {
//		if err != nil {
//			return err
//		}
//		…
//		m.AckAsync()
//	}
func (q *Queue) Messages(ctx context.Context, opts ...ConsumeOption) iter.Seq2[*Message, error] {
	cfg := newConsumeConfig(consumeConfig{credit: 1}, opts)
	return messages(ctx, func() *subscription { return q.subscription(cfg) })
}

// messages subscribes, anew for each use of the iterator, and gives what comes.
func messages(ctx context.Context, subscription func() *subscription) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		s := subscription()
		if err := s.begin(); err != nil {
			yield(nil, err)
			return
		}
		defer s.c.unsubscribe(s)
		for {
			m, err := s.next(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Receive takes up to n messages, waiting for the first one for at most wait.
// None is no error. Where ctx ends first, what the server still sends is given
// back to it.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration, opts ...ConsumeOption) ([]*Message, error) {
	cfg := newConsumeConfig(consumeConfig{}, opts)
	b := appendInt(q.request("receive"), "max", int64(max(n, 1)))
	if wait > 0 {
		b = appendDuration(b, "wait", wait)
	}
	b = append(cfg.appendTo(b), "}\n"...)
	cl := &call{kind: callReceive, q: q, auto: cfg.autoAck}
	// A lost connection gives back what it delivered, so asking again is safe;
	// not so where delivery settles.
	if err := q.c.roundTrip(ctx, cl, b, !cfg.autoAck, admitOpen); err != nil {
		return nil, err
	}
	return cl.messages, nil
}

// errDone ends what a Work has begun.
var errDone = errors.New("gmq: the work is done")
