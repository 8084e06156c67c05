package gmq

import (
	"context"
	"iter"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Topic is what messages are published to that any number of queues may
// want: words of A-Z a-z 0-9 _ - with dots between them, such as
// "files.eu.added". Which queues get a copy, [Queue.Bind] says.
//
// For [Topic.Messages] and [Topic.Work] it may be a pattern, in which * stands
// for any one word and > at the end for one or more: "files.*.added",
// "files.>". Making one costs nothing and asks nobody.
type Topic struct {
	c    *Client
	name string
	head []byte // how every publish to it begins
}

// Topic gives the topic, or the pattern of topics, of that name.
func (c *Client) Topic(name string) *Topic {
	t := &Topic{c: c, name: name}
	t.head = t.request("publish")
	return t
}

func (t *Topic) target() target { return target{head: t.head} }

// Name gives the topic, or the pattern.
func (t *Topic) Name() string { return t.name }

// request begins a request that names the topic, behind the id.
func (t *Topic) request(op string) []byte {
	b := append([]byte(nil), `,"op":"`...)
	b = append(b, op...)
	// It is said even where it is empty: the server's complaint is about the topic then.
	return wire.AppendString(append(b, `","topic":`...), t.name)
}

// Send publishes a message to the topic and waits until every queue that is
// bound to it has a copy, or none has: a queue that is full refuses for all.
// [Published] tells how many took it. None is no error.
func (t *Topic) Send(ctx context.Context, body any, opts ...PublishOption) (Published, error) {
	return t.c.send(ctx, t.target(), body, opts)
}

// SendAsync publishes to the topic as [Queue.SendAsync] does to a queue. What one goroutine sends to
// topics and queues stands in each queue in the order of its calls.
func (t *Topic) SendAsync(ctx context.Context, body any, opts ...PublishOption) *Future {
	return t.c.sendAsync(ctx, t.target(), body, opts)
}

// SendBatch publishes messages in one request: each queue that is bound to the
// topic has copies of all of them, or no queue has any. The options apply
// to every message; those of a single message come after them.
func (t *Topic) SendBatch(ctx context.Context, msgs []Msg, opts ...PublishOption) (Published, error) {
	cl, err := t.c.sendBatch(ctx, t.target(), msgs, opts)
	return cl.published, err
}

// How a subscription to a topic differs where nothing is said. Nobody else waits for its messages, so
// many may be on their way, and the end of a lease would only bring them twice.
const (
	topicCredit = 64
	topicLease  = 24 * time.Hour
)

func (t *Topic) subscription(opts []ConsumeOption) *subscription {
	cfg := newConsumeConfig(consumeConfig{credit: topicCredit, lease: topicLease, grace: -1}, opts)
	// What the server settles on delivery it sends as fast as it can, and a slow reader would have to hold all of it.
	cfg.autoAck, cfg.ackTaken = false, cfg.autoAck
	s := newSubscription(t.c, t.name, t.request("subscribe"), cfg)
	s.topic = true
	return s
}

// Messages gives what is published to the topic, or to topics that match the
// pattern, from now on; it goes on and ends as [Queue.Messages] does.
//
// The messages wait in a queue of the server's memory that is the
// subscription's own and ends with it. It holds 10,000 messages or some
// megabytes; where the reader is slower than that, the oldest are dropped, and
// [Message.Dropped] tells how many. When the connection is lost, so is the
// queue: the client subscribes anew, and what is published until then is missed.
// Who must not miss anything wants a queue of his own, and [Queue.Bind].
//
// Messages have to be settled here too, or else [Credit] is used up: with
// [Message.Ack], or by [AutoAck]. A message that is given back comes again.
func (t *Topic) Messages(ctx context.Context, opts ...ConsumeOption) iter.Seq2[*Message, error] {
	return messages(ctx, func() *subscription { return t.subscription(opts) })
}

// Work calls handler for what is published to the topic, or to topics that match
// the pattern, from now on, as [Queue.Work] does; about what may be missed see
// [Topic.Messages]. A message whose handler fails comes again, however often; as there
// is no dead-letter queue, [Reject] drops it.
func (t *Topic) Work(ctx context.Context, n int, handler Handler, opts ...ConsumeOption) error {
	n = max(n, 1)
	s := t.subscription(opts)
	s.cfg.credit = max(s.cfg.credit, n)
	return work(ctx, n, handler, s)
}

// Bind lets the queue, which must be there, have a copy of every message that
// is published to a topic that matches the pattern; see [Topic]. A queue may be
// bound to many patterns, and gets each message once however many of them
// match. To bind it again is fine.
func (q *Queue) Bind(ctx context.Context, pattern string) error {
	return q.c.ask(ctx, q.binding("queue.bind", pattern), true, nil)
}

// Unbind undoes Bind; of a pattern that the queue is not bound to it is
// [ErrNotFound]. It is not asked twice: after a lost connection the outcome is
// unknown. The messages that the queue has stay.
func (q *Queue) Unbind(ctx context.Context, pattern string) error {
	return q.c.ask(ctx, q.binding("queue.unbind", pattern), false, nil)
}

func (q *Queue) binding(op, pattern string) []byte {
	return wire.AppendString(append(q.request(op), `,"topic":`...), pattern)
}
