package gmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gmq/gmq/wire"
)

// ReplyTo is the header of a request: the topic to which the reply is to be
// published. [Queue.Request] sets it, and [Message.Reply] goes by it; any other
// client can do the same.
const ReplyTo = "reply_to"

// The errors of requests and replies.
var (
	// ErrNoTakers says that a request went to a topic to which no queue is bound.
	ErrNoTakers = errors.New("gmq: no queue is bound to the topic")
	// ErrNoReplyTo says that a message names no topic to reply to.
	ErrNoReplyTo = errors.New("gmq: the message has no header " + ReplyTo + " that is a topic")
)

// replyTopics is what the topics of replies begin with; the user, where there is one whose name is a word, a word that
// names the client and one for the request follow.
const replyTopics = "gmq-reply."

// Request publishes a message and waits for the reply that whoever consumes
// the queue gives it with [Message.Reply]. Any number of goroutines may do so at
// the same time; the replies come by one subscription of the client.
//
// Request waits until ctx ends, so give it an end. Where that is a
// deadline, the message has it too, unless there is a [TTL]: a request that nobody waits for
// any more expires. The first reply counts. One that is given while the connection
// is lost is missed, and then Request waits in vain.
func (q *Queue) Request(ctx context.Context, body any, opts ...PublishOption) (*Message, error) {
	return q.c.request(ctx, q.target(), body, opts, func(Published) error { return nil })
}

// Request is as [Queue.Request], with a topic: of those who get the message
// the first to reply counts. Where nobody gets it, it is [ErrNoTakers].
func (t *Topic) Request(ctx context.Context, body any, opts ...PublishOption) (*Message, error) {
	return t.c.request(ctx, t.target(), body, opts, func(p Published) error {
		if p.Queues == 0 {
			return ErrNoTakers
		}
		return nil
	})
}

// Reply publishes the answer to a message that is a request. The request itself
// wants to be acked all the same. Published.Queues is 0 where the one who asked
// is gone.
func (m *Message) Reply(ctx context.Context, body any, opts ...PublishOption) (Published, error) {
	to := m.Headers[ReplyTo]
	if !wire.ValidTopic([]byte(to)) {
		return Published{}, fmt.Errorf("%w: message %d of %s", ErrNoReplyTo, m.Seq, m.q.name)
	}
	return m.q.c.send(ctx, target{head: m.q.c.Topic(to).head, apart: true}, body, opts)
}

// request publishes a request and waits for its reply. taken judges the confirm.
func (c *Client) request(ctx context.Context, to target, body any, opts []PublishOption, taken func(Published) error) (*Message, error) {
	in, err := c.openInbox(ctx)
	if err != nil {
		return nil, err
	}
	replyTo, reply := in.expect()
	defer in.forget(replyTo)
	sent := c.sendAsync(ctx, to, body, append(opts[:len(opts):len(opts)], asks(ctx, replyTo)))
	for confirmed := false; ; {
		var confirm <-chan struct{}
		if !confirmed {
			if confirm = sent.call.opened(); confirm == nil {
				if err := sent.call.err; err != nil {
					return nil, err
				}
				if err := taken(sent.call.published); err != nil {
					return nil, err
				}
				confirmed = true
			}
		}
		select {
		case m := <-reply:
			return m, nil
		case <-confirm:
		case <-in.sub.over:
			return nil, in.sub.err
		case <-ctx.Done():
			if !confirmed {
				return nil, unknownOutcome(ctx.Err())
			}
			return nil, fmt.Errorf("gmq: no reply: %w", ctx.Err())
		}
	}
}

// asks makes a request of a message.
func asks(ctx context.Context, replyTo string) PublishOption {
	return publishOption(func(o *publishOptions) {
		o.replyTo = replyTo
		if end, ok := ctx.Deadline(); ok && o.ttl == 0 {
			o.ttl = min(max(time.Until(end), time.Millisecond), wire.MaxTTL)
		}
	})
}

// An inbox takes the replies to a client's requests, which come by one
// subscription and are told apart by their topics.
type inbox struct {
	prefix string
	sub    *subscription

	mu      sync.Mutex // guards the following
	last    uint64
	waiting map[string]chan<- *Message // by topic
}

// openInbox gives the client's inbox, once the server has it.
func (c *Client) openInbox(ctx context.Context) (*inbox, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.closing || c.closed {
			return nil, ErrClosed
		}
		in := c.inbox
		if (in == nil || in.ended()) && c.linkNo > 0 { // the first connection says whose replies they are
			in = newInbox(c)
			c.inbox = in
			c.addSubscription(in.sub)
		}
		var over <-chan struct{}
		if in != nil {
			if in.sub.num != 0 {
				return in, nil
			}
			over = in.sub.over
		}
		ch, last := c.change(), c.lastErr
		c.mu.Unlock()
		var err error
		select {
		case <-ch:
		case <-over:
		case <-ctx.Done():
			err = notSent(ctx, last)
		}
		c.mu.Lock()
		if in != nil && in.ended() { // another one would be refused as well
			err = in.sub.err
		}
		if err != nil {
			return nil, err
		}
	}
}

// mostOwner is how long the name of a user may be to stand in a topic beside the other words.
const mostOwner = 128

// owner is the word by which rights tell a user's replies from those of others: his name, with a dot. It is "" for nobody,
// for a token that is its own, and where the name is no word of a topic. c.mu is held.
func (c *Client) owner() string {
	user, _, _ := strings.Cut(c.hello.User, " (token ")
	if user == "" || len(user) > mostOwner || strings.Contains(user, ".") || !wire.ValidTopic([]byte(user)) {
		return ""
	}
	return user + "."
}

// newInbox makes an inbox. c.mu is held.
func newInbox(c *Client) *inbox {
	in := &inbox{prefix: replyTopics + c.owner() + rand.Text() + ".", waiting: make(map[string]chan<- *Message)}
	// Replies are handed on at once, so the server may settle them as it sends them.
	pattern := c.Topic(in.prefix + "*")
	in.sub = newSubscription(c, pattern.name, pattern.request("subscribe"), consumeConfig{credit: wire.MaxCredit, autoAck: true})
	in.sub.topic, in.sub.sink = true, in.take
	return in
}

func (in *inbox) ended() bool {
	select {
	case <-in.sub.over:
		return true
	default:
		return false
	}
}

// expect gives a topic to reply to, and where the reply will be.
func (in *inbox) expect() (topic string, reply <-chan *Message) {
	ch := make(chan *Message, 1)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.last++
	topic = in.prefix + strconv.FormatUint(in.last, 10)
	in.waiting[topic] = ch
	return topic, ch
}

func (in *inbox) forget(topic string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.waiting, topic)
}

// take hands a reply to the one who waits for it; a second one is nobody's.
func (in *inbox) take(m *Message) {
	if m.Dropped > 0 {
		in.sub.c.cfg.log.Warn("gmq: replies were dropped, as they came too fast", "dropped", m.Dropped)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if ch := in.waiting[m.Topic]; ch != nil {
		delete(in.waiting, m.Topic)
		ch <- m // it has room for the one
	}
}
