package gmqtest_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
	"github.com/gmq/gmq/wire"
)

func TestTheExample(t *testing.T) { testReminder(t) }

// inStorages runs f with each kind of server.
func inStorages(t *testing.T, f func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue)) {
	for name, opts := range map[string][]gmqtest.Option{"memory": nil, "file": {gmqtest.File()}} {
		t.Run(name, func(t *testing.T) {
			srv := gmqtest.NewServer(t, opts...)
			f(t, srv, srv.Client(t).Queue("q"))
		})
	}
}

func send(t *testing.T, q *gmq.Queue, body string, opts ...gmq.PublishOption) gmq.Published {
	t.Helper()
	p, err := q.Send(t.Context(), body, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// receive takes what is there; want are the bodies.
func receive(t *testing.T, q *gmq.Queue, want ...string) []*gmq.Message {
	t.Helper()
	msgs, err := q.Receive(t.Context(), 10, 0)
	if err != nil || len(msgs) != len(want) {
		t.Fatalf("%d messages, %v, not %d", len(msgs), err, len(want))
	}
	for i, m := range msgs {
		if m.Text() != want[i] {
			t.Errorf("%s, not %s", m.Body, want[i])
		}
	}
	return msgs
}

func ack(t *testing.T, m *gmq.Message) {
	t.Helper()
	if err := m.Ack(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDelay(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		before := srv.Clock().Now()
		send(t, q, "later", gmq.Delay(time.Hour))
		send(t, q, "at", gmq.At(before.Add(2*time.Hour)))
		srv.Advance(time.Hour - 1)
		receive(t, q)
		srv.Advance(1)
		ack(t, receive(t, q, "later")[0])
		srv.Clock().Advance(time.Hour)
		m := receive(t, q, "at")[0]
		if !m.Published.Equal(before.Truncate(time.Microsecond)) {
			t.Errorf("published %v, not %v", m.Published, before)
		}
		if now := srv.Clock().Now(); !now.Equal(before.Add(2 * time.Hour)) {
			t.Errorf("it is %v, not two hours after %v", now, before)
		}
	})
}

func TestLeaseEnds(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		send(t, q, "a")
		first := receive(t, q, "a")[0]
		srv.Advance(29 * time.Second)
		if err := first.Extend(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		srv.Advance(59 * time.Minute)
		receive(t, q)
		srv.Advance(time.Hour) // the lease is over, and the backoff begins
		receive(t, q)
		srv.Advance(time.Second)
		again := receive(t, q, "a")[0]
		if again.Attempt != 2 || !again.Redelivered {
			t.Errorf("attempt %d, redelivered %v", again.Attempt, again.Redelivered)
		}
		if err := first.Ack(t.Context()); !errors.Is(err, gmq.ErrLeaseLost) {
			t.Errorf("the lease that is over: %v", err)
		}
		ack(t, again)
	})
}

// The way into the dead-letter queue takes several records one after another.
func TestDeadLetters(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		send(t, q, "a")
		for range 10 {
			receive(t, q, "a")
			srv.Advance(30 * time.Second)
			srv.Advance(5 * time.Minute)
		}
		receive(t, q)
		receive(t, srv.Client(t).Queue("q.dlq"), "a")
	})
}

func TestDedupWindow(t *testing.T) {
	inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
		send(t, q, "a", gmq.DedupID("x"))
		srv.Advance(5*time.Minute - 1)
		if p := send(t, q, "b", gmq.DedupID("x")); !p.Duplicate {
			t.Errorf("within the window: %+v", p)
		}
		srv.Advance(1)
		if p := send(t, q, "c", gmq.DedupID("x")); p.Duplicate {
			t.Errorf("after the window: %+v", p)
		}
		receive(t, q, "a", "c")
	})
}

func TestWaitsGoByTheClock(t *testing.T) {
	srv := gmqtest.NewServer(t)
	q := srv.Client(t).Queue("q")
	send(t, q, "later", gmq.Delay(time.Hour))
	type result struct {
		msgs []*gmq.Message
		err  error
	}
	done := make(chan result)
	wait := func() {
		msgs, err := q.Receive(t.Context(), 1, 2*time.Hour)
		done <- result{msgs, err}
	}
	go wait()
	srv.Advance(time.Hour)
	if r := <-done; r.err != nil || len(r.msgs) != 1 {
		t.Errorf("the message: %d, %v", len(r.msgs), r.err)
	} else {
		ack(t, r.msgs[0])
	}

	// Nobody tells when a receive has begun to wait, so time passes until it has.
	go wait()
	for {
		select {
		case r := <-done:
			if r.err != nil || len(r.msgs) != 0 {
				t.Errorf("the end of the wait: %d, %v", len(r.msgs), r.err)
			}
			return
		default:
			srv.Advance(time.Hour)
		}
	}
}

func TestWork(t *testing.T) {
	srv := gmqtest.NewServer(t)
	q := srv.Client(t).Queue("q")
	got := make(chan string)
	ctx := t.Context()
	done := make(chan error, 1)
	go func() {
		done <- q.Work(ctx, 1, func(_ context.Context, m *gmq.Message) error { got <- m.Text(); return nil })
	}()
	send(t, q, "later", gmq.Delay(time.Hour))
	srv.Advance(time.Hour)
	if text := <-got; text != "later" {
		t.Error(text)
	}
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRestart(t *testing.T) {
	srv := gmqtest.NewServer(t, gmqtest.File())
	addr := srv.Addr()
	c := srv.Client(t)
	q := c.Queue("q")
	if p := send(t, q, "kept"); p.Stored != "disk" {
		t.Errorf("stored %s", p.Stored)
	}
	send(t, q, "later", gmq.Delay(time.Hour))
	old := receive(t, q, "kept")[0]
	if err := c.CreateQueue(t.Context(), "m", gmq.Settings{Storage: "memory"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		srv.Restart()
		receive(t, q, "kept")
	}
	if srv.Addr() != addr {
		t.Errorf("%s is %s now", addr, srv.Addr())
	}
	if _, err := c.QueueInfo(t.Context(), "m"); !errors.Is(err, gmq.ErrNotFound) {
		t.Errorf("a queue in memory: %v", err)
	}
	if err := old.Ack(t.Context()); !errors.Is(err, gmq.ErrLeaseLost) {
		t.Errorf("what was delivered again: %v", err)
	}
	srv.Advance(time.Hour) // ends the lease too
	ack(t, receive(t, q, "later")[0])
	srv.Advance(time.Second)
	ack(t, receive(t, q, "kept")[0])
}

func TestLimits(t *testing.T) {
	srv := gmqtest.NewServer(t, gmqtest.Limits{MaxQueues: 1, MaxMessageBytes: 10})
	c := srv.Client(t)
	send(t, c.Queue("a"), "12345678")
	if _, err := c.Queue("a").Send(t.Context(), "123456789"); !errors.Is(err, gmq.ErrTooLarge) {
		t.Errorf("a large message: %v", err)
	}
	if _, err := c.Queue("b").Send(t.Context(), ""); !errors.Is(err, &gmq.Error{Code: wire.CodeTooManyQueues}) {
		t.Errorf("a second queue: %v", err)
	}
}

// A faulty test's mistakes are told to it.
func TestMistakes(t *testing.T) {
	r := &recorder{TB: t}
	srv := gmqtest.NewServer(r)
	srv.Restart()
	srv.Advance(-1)
	if r.errors != 2 {
		t.Errorf("%d errors, not 2", r.errors)
	}
}

type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Error(...any)          { r.errors++ }
func (r *recorder) Errorf(string, ...any) { r.errors++ }

func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	var addr string
	t.Run("", func(t *testing.T) {
		inStorages(t, func(t *testing.T, srv *gmqtest.Server, q *gmq.Queue) {
			send(t, q, "a")
			receive(t, q, "a") // and nobody acks it
			go q.Receive(t.Context(), 1, time.Hour)
			addr = srv.Addr()
		})
	})
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the server listens still")
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
