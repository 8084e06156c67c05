package watermill_test

import (
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
	return publisher, subscriber
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
