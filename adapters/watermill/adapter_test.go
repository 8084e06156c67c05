package watermill_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	mill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/gmq/gmq/adapters/watermill"
	gmq "github.com/gmq/gmq/client"
)

const patience = 30 * time.Second

// next is the next message of a channel.
func next(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
	}
	return nil
}

func subscribe(t *testing.T, s message.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func TestPayloadsAreKeptByteForByte(t *testing.T) {
	publisher, subscriber := alone(t)
	defer subscriber.Close()
	messages := subscribe(t, subscriber, "bytes")
	for _, payload := range [][]byte{{}, {0, 1, 0xff, '\n'}, []byte("{ \"a\" :\n1}"), bytes.Repeat([]byte("x"), 300<<10)} {
		sent := message.NewMessage(mill.NewUUID(), payload)
		sent.Metadata.Set("tenant", "a \"quoted\" ü")
		if err := publisher.Publish("bytes", sent); err != nil {
			t.Fatal(err)
		}
		got := next(t, messages)
		if !bytes.Equal(got.Payload, payload) || got.UUID != sent.UUID || len(got.Metadata) != 1 || got.Metadata.Get("tenant") != sent.Metadata.Get("tenant") {
			t.Errorf("sent %s %v %.40q, got %s %v %.40q", sent.UUID, sent.Metadata, payload, got.UUID, got.Metadata, got.Payload)
		}
		got.Ack()
	}
}

// A call with more than fits into a request keeps its order.
func TestManyLargeMessagesInOneCall(t *testing.T) {
	publisher, subscriber := alone(t)
	defer subscriber.Close()
	messages := subscribe(t, subscriber, "large")
	var sent []*message.Message
	for range 30 {
		sent = append(sent, message.NewMessage(mill.NewUUID(), bytes.Repeat([]byte("y"), 90<<10)))
	}
	if err := publisher.Publish("large", sent...); err != nil {
		t.Fatal(err)
	}
	for i := range sent {
		got := next(t, messages)
		if got.UUID != sent[i].UUID {
			t.Fatalf("message %d is %s, not %s", i, got.UUID, sent[i].UUID)
		}
		got.Ack()
	}
}

func TestMessagesOfOtherClients(t *testing.T) {
	client := broker.client(t)
	subscriber, err := watermill.NewSubscriber(client, watermill.SubscriberConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	messages := subscribe(t, subscriber, "foreign")
	for body, want := range map[any]string{"plain text": "plain text", 12: "12"} {
		if _, err := client.Topic("foreign").Send(t.Context(), body); err != nil {
			t.Fatal(err)
		}
		got := next(t, messages)
		if string(got.Payload) != want || !strings.HasPrefix(got.UUID, "foreign-") {
			t.Errorf("%v: payload %q, UUID %q", body, got.Payload, got.UUID)
		}
		got.Ack()
	}
}

func TestPublishingToNobody(t *testing.T) {
	client := broker.client(t)
	strict, err := watermill.NewPublisher(client, watermill.PublisherConfig{RequireQueue: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := strict.Publish("nobody", message.NewMessage("1", nil)); !errors.Is(err, watermill.ErrNoQueue) {
		t.Errorf("with RequireQueue: %v", err)
	}
	lax, err := watermill.NewPublisher(client, watermill.PublisherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := lax.Publish("nobody", message.NewMessage("1", nil)); err != nil {
		t.Errorf("without: %v", err)
	}
}

// With MaxDeliveries it is the server that gives up, and the message is a dead letter.
func TestDeadLetters(t *testing.T) {
	client := broker.client(t)
	publisher, _ := alone(t)
	subscriber, err := watermill.NewSubscriber(client, watermill.SubscriberConfig{Group: "g", Queue: gmq.Settings{MaxDeliveries: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	messages := subscribe(t, subscriber, "poison")
	if err := publisher.Publish("poison", message.NewMessage("bad", []byte("x")), message.NewMessage("good", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m := next(t, messages)
		if m.UUID != "bad" {
			t.Fatalf("delivery %d is of %s", i, m.UUID)
		}
		m.Nack()
	}
	m := next(t, messages)
	m.Ack()
	dead, err := client.Queue("poison.g.dlq").Receive(t.Context(), 1, patience)
	if err != nil || m.UUID != "good" || len(dead) != 1 || dead[0].Headers[watermill.HeaderUUID] != "bad" {
		t.Errorf("got %s, then dead letters %v, %v", m.UUID, dead, err)
	}
}

// A queue that is deleted under a subscriber is made again, and the channel goes on.
func TestDeletedQueueIsMadeAgain(t *testing.T) {
	client := broker.client(t)
	publisher, _ := alone(t)
	subscriber, err := watermill.NewSubscriber(client, watermill.SubscriberConfig{ResubscribeDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	messages := subscribe(t, subscriber, "phoenix")
	if err := client.DeleteQueue(t.Context(), "phoenix"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); publisher.Publish("phoenix", message.NewMessage("1", nil)) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the queue was not made again")
		}
	}
	next(t, messages).Ack()
}

func TestClosed(t *testing.T) {
	publisher, subscriber := alone(t)
	for range 2 {
		if err := errors.Join(publisher.Close(), subscriber.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := publisher.Publish("x", message.NewMessage("1", nil)); !errors.Is(err, watermill.ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := subscriber.Subscribe(context.Background(), "x"); !errors.Is(err, watermill.ErrClosed) {
		t.Errorf("Subscribe: %v", err)
	}
}

func TestDeadLetterQueueIsNoGroup(t *testing.T) {
	subscriber, err := watermill.NewSubscriber(broker.client(t), watermill.SubscriberConfig{Group: "dlq"})
	if err != nil {
		t.Fatal(err)
	}
	if err := subscriber.SubscribeInitialize("orders"); err == nil {
		t.Error("a group whose queues would be dead-letter queues was taken")
	}
}
