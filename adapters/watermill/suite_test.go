package watermill_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/gmq/gmq/adapters/watermill"
	gmq "github.com/gmq/gmq/client"
)

// features are what the universal suite is to expect. The one thing that GMQ has not is
// NewSubscriberReceivesOldMessages: a queue gets what is published from the time it is bound.
func features() tests.Features {
	return tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
		RestartServiceCommand:               broker.restartCommand(),
	}
}

// pair makes a publisher and a subscriber over a client of their own.
func pair(t *testing.T, group string, options func(string, *message.Message) []gmq.PublishOption) (message.Publisher, message.Subscriber) {
	t.Helper()
	client := broker.client(t)
	publisher, err := watermill.NewPublisher(client, watermill.PublisherConfig{Options: options, RequireQueue: true})
	if err != nil {
		t.Fatal(err)
	}
	subscriber, err := watermill.NewSubscriber(client, watermill.SubscriberConfig{Group: group, CloseTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(t.Name(), "TestReconnect") {
		told := &told{is: map[string]chan struct{}{}}
		return toldPublisher{publisher, told}, toldSubscriber{subscriber, told}
	}
	return publisher, subscriber
}

// told is which messages the publisher knows to be published. TestReconnect compares what it has received with its list of those as soon
// as the last message is there, which may be before the publisher has heard of it: so the subscriber gives it a message when that is known.
type told struct {
	mu sync.Mutex // guards the following
	is map[string]chan struct{}
}

func (t *told) of(id string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is[id] == nil {
		t.is[id] = make(chan struct{})
	}
	return t.is[id]
}

type toldPublisher struct {
	message.Publisher
	told *told
}

func (p toldPublisher) Publish(topic string, messages ...*message.Message) error {
	err := p.Publisher.Publish(topic, messages...)
	for _, m := range messages {
		if err == nil {
			close(p.told.of(m.UUID)) // once: the suite publishes each until it has succeeded
		}
	}
	return err
}

type toldSubscriber struct {
	*watermill.Subscriber
	told *told
}

func (s toldSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	known := make(chan *message.Message)
	go func() {
		defer close(known)
		for m := range messages {
			<-s.told.of(m.UUID)
			known <- m
		}
	}()
	return known, nil
}

func alone(t *testing.T) (message.Publisher, message.Subscriber) { return pair(t, "", nil) }

func inGroup(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	return pair(t, group, nil)
}

// Its package is compiled without the race detector (see the Makefile), for TestReconnect has a race of its
// own: it reads the messages that it has published while another goroutine still appends to them.
//
// With -short the suite's loads are a hundredth; the restarts are the same.
func TestSuite(t *testing.T) {
	tests.TestPubSub(t, features(), alone, inGroup)
	broker.mu.Lock()
	defer broker.mu.Unlock()
	if broker.kills != 2 {
		t.Errorf("the broker was killed %d times, not twice", broker.kills)
	}
}

// With a key a topic has its order even if many subscribe: one message of a key is out at a time.
func TestOrderOfManySubscribersByKey(t *testing.T) {
	f := features()
	f.GuaranteedOrderWithSingleSubscriber = false
	tests.TestPublishSubscribeInOrder(t, tests.TestContext{TestID: tests.NewTestID(), Features: f},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return pair(t, "", func(_ string, m *message.Message) []gmq.PublishOption {
				return []gmq.PublishOption{gmq.Key(string(m.Payload))}
			})
		})
}
