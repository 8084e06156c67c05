package watermill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	gmq "github.com/gmq/gmq/client"
)

// A SubscriberConfig is how a subscriber subscribes. Its zero value is fine.
type SubscriberConfig struct {
	// Group names the consumer group. Subscribers of one group share the messages of a topic; each
	// group gets all of them.
	Group string
	// QueueName gives the queue of a group. Without it that is the topic's name, and TOPIC.GROUP
	// where there is a group.
	QueueName func(topic, group string) string
	// Queue are the settings with which a queue is made that is not there. One that is there stays
	// as it is. MaxDeliveries is none where it is 0: see the package comment.
	Queue gmq.Settings
	// Marshaler is [Binary] where there is none.
	Marshaler Marshaler
	// NackDelay is how long a message waits that was nacked. With 0 it comes again at once, and in
	// its place; otherwise later messages overtake it.
	NackDelay time.Duration
	// Lease is how soon others get the messages of a subscriber whose process or network is gone.
	// The default is 30 s. It does not limit how long a message may be worked on.
	Lease time.Duration
	// CloseTimeout is how long Close waits for messages that have been handed out to be acked or
	// nacked. The default is 5 s; what is left then comes again.
	CloseTimeout time.Duration
	// ResubscribeDelay is how long to wait when the server has ended the subscription. The default is 1 s.
	ResubscribeDelay time.Duration
	// Logger is silent where there is none.
	Logger watermill.LoggerAdapter
}

// A Subscriber takes the messages of topics through queues that are bound to them. It is safe for any
// number of goroutines.
type Subscriber struct {
	client *gmq.Client
	cfg    SubscriberConfig

	life context.Context // ends when Close begins
	stop context.CancelFunc

	mu      sync.Mutex // guards closed, and that running grows only before it
	closed  bool
	running sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber makes a subscriber over a client, which stays the caller's.
func NewSubscriber(client *gmq.Client, cfg SubscriberConfig) (*Subscriber, error) {
	if client == nil {
		return nil, errors.New("gmq watermill: a subscriber needs a client")
	}
	if cfg.QueueName == nil {
		cfg.QueueName = queueName
	}
	if cfg.Queue.MaxDeliveries == 0 {
		cfg.Queue.MaxDeliveries = gmq.None
	}
	if cfg.Marshaler == nil {
		cfg.Marshaler = Binary{}
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.CloseTimeout <= 0 {
		cfg.CloseTimeout = 5 * time.Second
	}
	if cfg.ResubscribeDelay <= 0 {
		cfg.ResubscribeDelay = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = watermill.NopLogger{}
	}
	s := &Subscriber{client: client, cfg: cfg}
	s.life, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func queueName(topic, group string) string {
	if group == "" {
		return topic
	}
	return topic + "." + group
}

// SubscribeInitialize makes the queue of the group for the topic, and binds it: from then on nothing
// that is published to the topic is missed.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	return s.initialize(s.life, topic)
}

func (s *Subscriber) initialize(ctx context.Context, topic string) error {
	name := s.cfg.QueueName(topic, s.cfg.Group)
	if strings.HasSuffix(name, ".dlq") {
		return fmt.Errorf("gmq watermill: the queue of topic %q and group %q would be %q, a dead-letter queue; choose another name with QueueName", topic, s.cfg.Group, name)
	}
	err := s.client.CreateQueue(ctx, name, s.cfg.Queue)
	if err != nil && !errors.Is(err, gmq.ErrExists) {
		return fmt.Errorf("gmq watermill: making queue %s: %w", name, err)
	}
	if err := s.client.Queue(name).Bind(ctx, topic); err != nil {
		return fmt.Errorf("gmq watermill: binding queue %s to %s: %w", name, topic, err)
	}
	return nil
}

// Subscribe gives the messages of the topic, one at a time: the next one comes when the one before has
// been acked or nacked. The channel is closed when ctx ends or the subscriber is closed, and outlives lost
// connections and restarts of the server. The context of a message has the values of ctx, and ends when
// the message is settled, lost to somebody else, or the subscription is over.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.life, cancel)
	if err := s.initialize(ctx, topic); err != nil {
		unlink()
		cancel()
		s.running.Done()
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer s.running.Done()
		defer close(out)
		defer cancel()
		defer unlink()
		s.run(ctx, topic, out)
	}()
	return out, nil
}

// run works on the queue until ctx ends. What ends a subscription besides, such as a queue that somebody
// has deleted, is tried again: the channel is the caller's for as long as he wants it.
func (s *Subscriber) run(ctx context.Context, topic string, out chan<- *message.Message) {
	name := s.cfg.QueueName(topic, s.cfg.Group)
	log := s.cfg.Logger.With(watermill.LogFields{"topic": topic, "queue": name})
	h := &handout{s: s, ctx: ctx, out: out, log: log}
	for {
		err := s.client.Queue(name).Work(ctx, 1, h.handle, gmq.Lease(s.cfg.Lease), gmq.NoCreate())
		for err != nil {
			log.Error("the subscription has ended, and is made anew", err, nil)
			if errors.Is(err, gmq.ErrClosed) || !pause(ctx, s.cfg.ResubscribeDelay) {
				return
			}
			err = s.initialize(ctx, topic)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// pause waits; it gives false where ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A handout gives the messages of one subscription to its reader.
type handout struct {
	s   *Subscriber
	ctx context.Context // of the subscription
	out chan<- *message.Message
	log watermill.LoggerAdapter
}

var (
	errNacked = errors.New("nack")
	errOver   = errors.New("the subscriber was closed")
)

// handle is a gmq.Handler: what it returns is what becomes of the message.
func (h *handout) handle(ctx context.Context, m *gmq.Message) error {
	out, err := h.s.cfg.Marshaler.Unmarshal(m)
	if err != nil {
		h.log.Error("a message cannot be understood, and is dead", err, watermill.LogFields{"seq": m.Seq})
		return gmq.Reject(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out.SetContext(ctx)
	select {
	case h.out <- out:
	case <-h.ctx.Done():
		return gmq.RetryAfter(0, errOver)
	case <-ctx.Done():
		return gmq.RetryAfter(0, context.Cause(ctx))
	}

	over := h.ctx.Done()
	var patience <-chan time.Time
	for {
		select {
		case <-out.Acked():
			return nil
		case <-out.Nacked():
			return gmq.RetryAfter(h.s.cfg.NackDelay, errNacked)
		case <-ctx.Done(): // the lease is lost, or the client is closed
			return gmq.RetryAfter(0, context.Cause(ctx))
		case <-over:
			over = nil
			t := time.NewTimer(h.s.cfg.CloseTimeout)
			defer t.Stop()
			patience = t.C
		case <-patience:
			return gmq.RetryAfter(0, errOver)
		}
	}
}

// Close ends all subscriptions, closes their channels, and returns when that is done; it may be called
// again. The client stays open.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
	return nil
}
