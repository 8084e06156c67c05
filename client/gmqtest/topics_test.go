package gmqtest_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
)

func publish(t *testing.T, c *gmq.Client, topic string, body any, opts ...gmq.PublishOption) gmq.Published {
	t.Helper()
	p, err := c.Topic(topic).Send(t.Context(), body, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBoundQueues(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		c := srv.Client(t)
		if err := q.Bind(t.Context(), "files.*"); !errors.Is(err, gmq.ErrNotFound) {
			t.Errorf("a queue that is not there: %v", err)
		}
		for _, name := range []string{"q", "all"} {
			if err := c.CreateQueue(t.Context(), name, gmq.Settings{MaxMessages: 3}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := q.Bind(t.Context(), "files.*"); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Queue("all").Bind(t.Context(), ">"); err != nil {
			t.Fatal(err)
		}
		if info, err := c.QueueInfo(t.Context(), "q"); err != nil || fmt.Sprint(info.Bindings) != "[files.*]" {
			t.Errorf("%v, %v", info.Bindings, err)
		}
		if p := publish(t, c, "files.a", "1", gmq.Key("k")); p.Queues != 2 || p.Stored == "" || p.Seq != 0 {
			t.Errorf("%+v", p)
		}
		if p := publish(t, c, "other", "2"); p.Queues != 1 {
			t.Errorf("%+v", p)
		}
		if _, err := c.Topic("files.b").SendBatch(t.Context(), []gmq.Msg{{Body: "3"}, {Body: "4"}}); !errors.Is(err, gmq.ErrQueueFull) {
			t.Errorf("one of the two has no room: %v", err)
		}
		if p, err := c.Topic("files.b").SendBatch(t.Context(), []gmq.Msg{{Body: "3"}}); err != nil || p.Queues != 2 {
			t.Errorf("%+v, %v", p, err)
		}
		for m, err := range q.Peek(t.Context(), "", 0, 1) {
			if err != nil || m.Topic != "files.a" {
				t.Errorf("%+v, %v", m, err)
			}
		}
		msgs := receive(t, q, "1", "3")
		if msgs[0].Topic != "files.a" || msgs[0].Key != "k" || msgs[0].Dropped != 0 {
			t.Errorf("%+v", msgs[0])
		}
		ack(t, msgs[0])
		ack(t, msgs[1])
		receive(t, c.Queue("all"), "1", "2", "3")
		if err := q.Unbind(t.Context(), "files.*"); err != nil {
			t.Fatal(err)
		}
		if err := q.Unbind(t.Context(), "files.*"); !errors.Is(err, gmq.ErrNotFound) {
			t.Errorf("not bound any more: %v", err)
		}
	})
}

// hear subscribes to a pattern, and gives what comes; it returns when the server has the subscription.
func hear(t *testing.T, c *gmq.Client, pattern string, opts ...gmq.ConsumeOption) <-chan *gmq.Message {
	t.Helper()
	got := make(chan *gmq.Message)
	ctx := t.Context()
	go func() {
		for m, err := range c.Topic(pattern).Messages(ctx, opts...) {
			if err != nil {
				return
			}
			select {
			case got <- m:
			case <-ctx.Done():
			}
		}
	}()
	awaitTakers(t, c, strings.NewReplacer("*", "ready", ">", "ready").Replace(pattern))
	for m := range got {
		ack(t, m)
		if string(m.Body) == `"last"` {
			return got
		}
	}
	return nil
}

// awaitTakers publishes until somebody is there who hears it, and then once more.
func awaitTakers(t *testing.T, c *gmq.Client, topic string) {
	t.Helper()
	for publish(t, c, topic, "anybody?").Queues == 0 {
	}
	publish(t, c, topic, "last")
}

func TestEphemeralSubscription(t *testing.T) {
	srv := gmqtest.NewServer(t)
	c, pub := srv.Client(t), srv.Client(t)
	got := hear(t, c, "news.>")
	if p := publish(t, pub, "news.eu.today", "1"); p.Queues != 1 || p.Stored != "" {
		t.Errorf("%+v", p)
	}
	m := <-got
	if m.Text() != "1" || m.Topic != "news.eu.today" || !strings.HasPrefix(m.Queue(), ".") {
		t.Errorf("%+v", m)
	}
	if err := m.Nack(t.Context(), gmq.Delay(time.Hour)); err != nil {
		t.Error(err)
	}
	srv.Advance(time.Hour)
	if m = <-got; m.Text() != "1" || m.Attempt != 2 {
		t.Errorf("%+v", m)
	}
	if err := m.Nack(t.Context(), gmq.Dead()); err != nil {
		t.Error(err)
	}
	for q, err := range c.ListQueues(t.Context(), "") {
		t.Errorf("a queue is listed: %v, %v", q, err)
	}
}

// A subscriber that is too slow loses the oldest, and is told how many.
func TestSlowSubscriber(t *testing.T) {
	srv := gmqtest.NewServer(t)
	c, pub := srv.Client(t), srv.Client(t)
	got := hear(t, c, "news", gmq.Credit(1))
	publish(t, pub, "news", "held")
	held := <-got // and nobody acks it
	const n, holds = 12_000, 10_000
	topic := pub.Topic("news")
	for i := range n / 100 {
		var batch []gmq.Msg
		for k := range 100 {
			batch = append(batch, gmq.Msg{Body: strconv.Itoa(100*i + k)})
		}
		if _, err := topic.SendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	ack(t, held)
	m := <-got
	first, err := strconv.Atoi(m.Text())
	if err != nil || uint64(first) != m.Dropped || first < n-holds {
		t.Fatalf("%s comes after %d that were dropped", m.Text(), m.Dropped)
	}
	for i := first; ; i++ {
		ack(t, m)
		if i == n-1 {
			break
		}
		if m = <-got; m.Text() != strconv.Itoa(i+1) || m.Dropped != 0 {
			t.Fatalf("%s comes after %d, %d dropped", m.Text(), i, m.Dropped)
		}
	}
}

// A subscription to a topic comes back with an empty queue, and what is said about messages of before is
// about nothing.
func TestTopicOverRestart(t *testing.T) {
	srv := gmqtest.NewServer(t, gmqtest.File())
	c := srv.Client(t)
	if err := c.CreateQueue(t.Context(), "kept", gmq.Settings{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Queue("kept").Bind(t.Context(), "news.*"); err != nil {
		t.Fatal(err)
	}
	got := hear(t, c, ">")
	publish(t, c, "news.eu", "1")
	old := <-got
	srv.Restart()
	for publish(t, c, "anybody", "there?").Queues == 0 {
	}
	publish(t, c, "news.eu", "2")
	ack(t, old)
	for {
		m := <-got
		ack(t, m)
		if m.Text() == "2" {
			break
		}
	}
	receive(t, c.Queue("kept"), "1", "2")
}

// serve answers requests with what f makes of them.
func serve(t *testing.T, c *gmq.Client, queue string, f func(m *gmq.Message) any) {
	done := make(chan error, 1)
	ctx := t.Context()
	go func() {
		done <- c.Queue(queue).Work(ctx, 4, func(ctx context.Context, m *gmq.Message) error {
			_, err := m.Reply(ctx, f(m))
			return err
		})
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRequests(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		serve(t, srv.Client(t), "q", func(m *gmq.Message) any { return m.Headers["who"] + m.Text() })
		c := srv.Client(t)
		var asking sync.WaitGroup
		for i := range 100 {
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				who := fmt.Sprint("client ", i, ": ")
				m, err := c.Queue("q").Request(ctx, "x", gmq.Headers(map[string]string{"who": who}))
				if err != nil || m.Text() != who+"x" {
					t.Errorf("request %d: %v, %v", i, m, err)
				}
			})
		}
		asking.Wait()
	})
}

// A request that nobody waits for any more is not answered: it expires.
func TestRequestExpires(t *testing.T) {
	srv := gmqtest.NewServer(t)
	c := srv.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Queue("q").Request(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	receive(t, c.Queue("q"), "x")
	srv.Advance(time.Hour)
	receive(t, c.Queue("q"))
	if info, err := c.QueueInfo(t.Context(), "q"); err != nil || info.Counts.Expired != 1 {
		t.Errorf("%+v, %v", info.Counts, err)
	}
}

// Requests go to a topic as well, and to whoever answers first.
func TestRequestToTopic(t *testing.T) {
	srv := gmqtest.NewServer(t)
	c := srv.Client(t)
	if _, err := c.Topic("time").Request(t.Context(), nil); !errors.Is(err, gmq.ErrNoTakers) {
		t.Errorf("nobody is there: %v", err)
	}
	got := hear(t, srv.Client(t), "time")
	var answering sync.WaitGroup
	answering.Go(func() {
		m := <-got
		if _, err := m.Reply(t.Context(), "noon"); err != nil {
			t.Error(err)
		}
	})
	m, err := c.Topic("time").Request(t.Context(), nil)
	answering.Wait()
	if err != nil || m.Text() != "noon" {
		t.Fatalf("%v, %v", m, err)
	}
	if p, err := m.Reply(t.Context(), "thanks"); !errors.Is(err, gmq.ErrNoReplyTo) {
		t.Errorf("%+v, %v", p, err)
	}
}

// A worker takes its time, and the server restarts meanwhile: the reply finds the one who asked.
func TestRequestOverRestart(t *testing.T) {
	srv := gmqtest.NewServer(t, gmqtest.File())
	c, w := srv.Client(t), srv.Client(t)
	type answer struct {
		m   *gmq.Message
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		m, err := c.Queue("q").Request(t.Context(), "x", gmq.DedupID("once"), gmq.Retry())
		answered <- answer{m, err}
	}()
	m, err := w.Queue("q").Receive(t.Context(), 1, time.Hour)
	if err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	srv.Restart()
	for { // until the one who asked is back
		p, err := m[0].Reply(t.Context(), "late")
		if err != nil && !gmq.IsRetryable(err) {
			t.Fatal(err)
		}
		if p.Queues > 0 {
			break
		}
	}
	if a := <-answered; a.err != nil || a.m.Text() != "late" {
		t.Errorf("%v, %v", a.m, a.err)
	}
}
