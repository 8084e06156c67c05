package gmq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"time"

	gmq "github.com/gmq/gmq/client"
)

type mail struct{ To, Subject string }

// The examples that talk to a server have no output here: they need one.

func ExampleDial() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567", gmq.ClientName("web"), gmq.Logger(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("connected to version", c.Hello().Version)
}

func ExampleQueue_Send() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	sent, err := c.Queue("emails").Send(ctx, mail{To: "ann@example.org", Subject: "Welcome"},
		gmq.DedupID("welcome-42"), gmq.Retry())
	switch {
	case errors.Is(err, gmq.ErrQueueFull):
		fmt.Println("come back later")
	case errors.Is(err, gmq.ErrUnknownOutcome):
		fmt.Println("sent, but nobody knows whether it arrived")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("stored as number", sent.Seq, "on", sent.Stored)
	}
}

func ExampleQueue_SendAsync() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	q := c.Queue("measurements")
	futures := make([]*gmq.Future, 1000)
	for i := range futures {
		futures[i] = q.SendAsync(ctx, i)
	}
	for i, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			log.Printf("measurement %d: %v", i, err)
		}
	}
}

func ExampleQueue_Work() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.Queue("emails").Work(ctx, 8, func(ctx context.Context, m *gmq.Message) error {
		var mail mail
		if err := m.Decode(&mail); err != nil {
			return gmq.Reject(err) // it will not get better
		}
		fmt.Println("to", mail.To)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleQueue_Messages() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for m, err := range c.Queue("emails").Messages(ctx, gmq.Credit(64)) {
		if err != nil {
			log.Print(err)
			break
		}
		fmt.Println(m.Seq, m.Text())
		m.AckAsync()
	}
}

func ExampleQueue_Receive() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	msgs, err := c.Queue("emails").Receive(ctx, 10, 5*time.Second, gmq.Lease(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range msgs {
		if m.Attempt > 3 {
			err = m.Nack(ctx, gmq.Dead(), gmq.Reason("three times is enough"))
		} else {
			err = m.Ack(ctx)
		}
		if err != nil {
			log.Print(err)
		}
	}
}

func ExampleClient_CreateQueue() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.CreateQueue(ctx, "emails", gmq.Settings{
		Lease:         time.Minute,
		MaxDeliveries: 5,
		MaxMessages:   gmq.None, // no limit, whatever the server's default
	})
	if err != nil && !errors.Is(err, gmq.ErrExists) {
		log.Fatal(err)
	}
}

func ExampleQueue_Peek() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for m, err := range c.Queue("emails.dlq").Peek(ctx, "ready", 0, 20) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Seq, m.Headers["gmq-dead-reason"], m.Text())
	}
}

func ExampleQueue_Explain() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	why, err := c.Queue("emails").Explain(ctx, 42)
	switch {
	case errors.Is(err, gmq.ErrNotFound):
		fmt.Println("there is no such message, or it was settled long ago")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("message 42 is", why.State, "because", why.Because)
	}
}

func ExampleQueue_Reschedule() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	q := c.Queue("reminders")
	sent, err := q.Send(ctx, "the meeting begins", gmq.Delay(time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	// The meeting is put off, and then called off.
	if err := q.Reschedule(ctx, sent.Seq, gmq.Delay(2*time.Hour)); err != nil {
		log.Fatal(err)
	}
	if err := q.Cancel(ctx, sent.Seq); err != nil {
		log.Fatal(err)
	}
}

func ExampleQueue_Redrive() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// The handlers have been mended: what they could not digest may try again.
	moved, err := c.Queue("emails.dlq").Redrive(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(moved, "messages went back")
}

func ExampleQueue_Bind() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Whatever is added, in any region, is to get a thumbnail; every worker takes a part of it.
	if err := c.CreateQueue(ctx, "thumbnails", gmq.Settings{}); err != nil {
		log.Fatal(err)
	}
	if err := c.Queue("thumbnails").Bind(ctx, "files.*.added"); err != nil {
		log.Fatal(err)
	}
}

func ExampleTopic_Send() {
	ctx := context.Background()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	sent, err := c.Topic("files.eu.added").Send(ctx, map[string]string{"name": "cat.png"})
	switch {
	case errors.Is(err, gmq.ErrQueueFull):
		fmt.Println("one of the queues is full, so none has it")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println(sent.Queues, "queues have it")
	}
}

func ExampleTopic_Messages() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for m, err := range c.Topic("files.>").Messages(ctx, gmq.AutoAck()) {
		if err != nil {
			log.Print(err)
			break
		}
		if m.Dropped > 0 {
			fmt.Println("too slow:", m.Dropped, "messages were dropped")
		}
		fmt.Println(m.Topic, m.Text())
	}
}

func ExampleQueue_Request() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	reply, err := c.Queue("resize").Request(ctx, "cat.png")
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("nobody has answered within ten seconds")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("resized to", reply.Text())
	}
}

func ExampleMessage_Reply() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := gmq.Dial(ctx, "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.Queue("resize").Work(ctx, 4, func(ctx context.Context, m *gmq.Message) error {
		_, err := m.Reply(ctx, "small-"+m.Text())
		return err // a reply that was not given is tried again
	})
	if err != nil {
		log.Fatal(err)
	}
}
