package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	gmq "github.com/gmq/gmq/client"
)

// The errors of this package. Those of the client come wrapped.
var (
	// ErrClosed says that the publisher, or the subscriber, has been closed.
	ErrClosed = errors.New("gmq watermill: closed")
	// ErrNoQueue says that no queue is bound to the topic; see [PublisherConfig.RequireQueue].
	ErrNoQueue = errors.New("gmq watermill: no queue is bound to the topic")
)

// batchBytes and batchMessages bound one request: far below what any server takes.
const (
	batchBytes    = 256 << 10
	batchMessages = 1000
)

// A PublisherConfig is how a publisher publishes. Its zero value is fine.
type PublisherConfig struct {
	// Marshaler is [Binary] where there is none.
	Marshaler Marshaler
	// Options says what a message wants besides: its key, delay, priority, dedup id. It may be nil.
	Options func(topic string, m *message.Message) []gmq.PublishOption
	// RequireQueue lets Publish fail with [ErrNoQueue] where nobody took the message. Without it
	// publishing to nobody succeeds.
	RequireQueue bool
	// Timeout bounds one request, and how long Publish waits for a connection. The default is 30 s.
	Timeout time.Duration
}

// A Publisher publishes to topics of GMQ. It is safe for any number of goroutines.
type Publisher struct {
	client *gmq.Client
	cfg    PublisherConfig

	mu      sync.Mutex // guards closed, and that pending grows only before it
	closed  bool
	pending sync.WaitGroup
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a publisher over a client, which stays the caller's.
func NewPublisher(client *gmq.Client, cfg PublisherConfig) (*Publisher, error) {
	if client == nil {
		return nil, errors.New("gmq watermill: a publisher needs a client")
	}
	if cfg.Marshaler == nil {
		cfg.Marshaler = Binary{}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	return &Publisher{client: client, cfg: cfg}, nil
}

// Publish publishes messages in their order and returns when the server has confirmed them. Up to 1000 of
// them, or some 256 KiB, go in one request: all of those are stored or none. Where it fails, earlier ones
// may have been stored; of gmq.ErrUnknownOutcome the request itself, too.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.pending.Add(1)
	p.mu.Unlock()
	defer p.pending.Done()

	for len(messages) > 0 {
		batch, rest, err := p.batch(topic, messages)
		if err != nil {
			return err
		}
		if err := p.send(messages[0].Context(), topic, batch); err != nil {
			return fmt.Errorf("gmq watermill: publishing to %s: %w", topic, err)
		}
		messages = rest
	}
	return nil
}

// batch makes the next request's messages, one at least, and gives those that are left.
func (p *Publisher) batch(topic string, messages []*message.Message) (batch []gmq.Msg, rest []*message.Message, err error) {
	size := 0
	for i, m := range messages {
		size += len(m.Payload)
		for name, value := range m.Metadata {
			size += len(name) + len(value)
		}
		if len(batch) == batchMessages || len(batch) > 0 && size > batchBytes {
			return batch, messages[i:], nil
		}
		body, headers, err := p.cfg.Marshaler.Marshal(topic, m)
		if err != nil {
			return nil, nil, fmt.Errorf("gmq watermill: message %s: %w", m.UUID, err)
		}
		options := []gmq.PublishOption{gmq.Headers(headers)}
		if p.cfg.Options != nil {
			options = append(options, p.cfg.Options(topic, m)...)
		}
		batch = append(batch, gmq.Msg{Body: body, Options: options})
	}
	return batch, nil, nil
}

func (p *Publisher) send(ctx context.Context, topic string, batch []gmq.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	published, err := p.client.Topic(topic).SendBatch(ctx, batch)
	if err == nil && published.Queues == 0 && p.cfg.RequireQueue {
		return ErrNoQueue
	}
	return err
}

// Close lets no more publishes begin, waits for those that have, and may be called again. The client
// stays open.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.pending.Wait()
	return nil
}
