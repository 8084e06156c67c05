package gmq

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepliesOutOfOrder(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		var futures []*Future
		for i := range 200 {
			futures = append(futures, q.SendAsync(t.Context(), i))
		}
		var got []request
		for range futures {
			got = append(got, s.expect("publish"))
		}
		for i := len(got) - 1; i >= 0; i-- {
			s.ok(got[i], `"seq":`+string(got[i].Body)+`,"stored":"disk"`)
		}
		for i, f := range futures {
			p, err := f.Wait(t.Context())
			if err != nil || p.Seq != uint64(i) || p.Stored != "disk" {
				t.Fatalf("message %d: %+v, %v", i, p, err)
			}
		}
	})
}

func TestErrorsMatchByCode(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1) })
		s.refuse(s.expect("publish"), "queue_full", true)
		err := (<-sent).err
		if !errors.Is(err, ErrQueueFull) || errors.Is(err, ErrNotFound) || !IsRetryable(err) {
			t.Fatalf("got %v", err)
		}
		var e *Error
		if !errors.As(err, &e) || e.Message != "no" {
			t.Fatalf("got %#v", err)
		}
	})
}

func TestUnknownOutcomeAndRetry(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		plain := q.SendAsync(t.Context(), "plain")
		again := q.SendAsync(t.Context(), "again", Retry())
		info := going(func() (QueueInfo, error) { return c.QueueInfo(t.Context(), "q") })
		for range 3 {
			if _, err := s.read(); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Close()
		if _, err := plain.Wait(t.Context()); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("a publish without a reply: %v", err)
		}
		s = f.accept()
		defer s.Close()
		r := s.expect("publish")
		if string(r.Body) != `"again"` {
			t.Fatalf("sent again: %s", r.raw)
		}
		s.ok(r, `"seq":7,"stored":"disk"`)
		s.ok(s.expect("queue.info"), `"settings":{"lease":"30s","retry":{"min":"1s"}},"counts":{"ready":3},"oldest_age":"1m0s","consumers":2`)
		if p, err := again.Wait(t.Context()); err != nil || p.Seq != 7 {
			t.Fatalf("%+v, %v", p, err)
		}
		got := <-info
		if got.err != nil || got.v.Counts.Ready != 3 || got.v.Consumers != 2 || got.v.OldestAge != time.Minute ||
			got.v.Settings.Lease != 30*time.Second || got.v.Settings.Retry.Min != time.Second {
			t.Fatalf("%+v", got)
		}
	})
}

func TestRequestsWaitForTheConnection(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		f.down <- struct{}{}
		_ = s.Close()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Queue("q").Send(short, 1)
		if !errors.Is(err, ErrNotConnected) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(err.Error(), "nobody there") {
			t.Fatalf("%v does not say why", err)
		}
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 2) })
		<-f.down
		s = f.accept()
		defer s.Close()
		s.ok(s.expect("publish"), `"seq":1,"stored":"disk"`)
		if got := <-sent; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		sent := going(func() (Published, error) { return c.Queue("q").Send(ctx, 1) })
		r := s.expect("publish")
		cancel()
		err := (<-sent).err
		if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		s.ok(r, `"seq":1,"stored":"disk"`)
		// The connection is none the worse for it.
		ping := going(func() (struct{}, error) { return done(c.Ping(t.Context())) })
		s.ok(s.expect("ping"), "")
		if got := <-ping; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestRoomInFlight(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		q.SendAsync(t.Context(), 1)
		q.SendAsync(t.Context(), 2)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.SendAsync(short, 3).Wait(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("beyond the limit: %v", err)
		}
		third := going(func() (Published, error) { return q.Send(t.Context(), 3) })
		a, b := s.expect("publish"), s.expect("publish")
		s.ok(a, `"seq":1`)
		s.ok(b, `"seq":2`)
		s.ok(s.expect("publish"), `"seq":3`)
		if got := <-third; got.v.Seq != 3 {
			t.Fatalf("%+v", got)
		}
	}, MaxInFlight(2))
}

func TestWhatWasNeverSentIsSentLater(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		loop := going(func() (struct{}, error) {
			for range q.Messages(t.Context()) {
				break
			}
			return struct{}{}, nil
		})
		s.ok(s.expect("subscribe"), `"sub":1`)
		// The server reads no more: this one is half sent, all others wait.
		half := q.SendAsync(t.Context(), "half")
		synctest.Wait()
		s.deliver(1, 1)
		<-loop // its unsubscribe means nothing to the next connection
		ctx, cancel := context.WithCancel(t.Context())
		given := going(func() (Published, error) { return q.Send(ctx, "given up") })
		whole := q.SendAsync(t.Context(), "whole")
		synctest.Wait()
		cancel()
		if err := (<-given).err; !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("got %v", err)
		}
		_ = s.Close()
		if _, err := half.Wait(t.Context()); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("got %v", err)
		}
		s = f.accept()
		defer s.Close()
		r := s.expect("publish")
		if string(r.Body) != `"whole"` {
			t.Errorf("sent: %s", r.raw)
		}
		s.ok(r, `"seq":1`)
		if _, err := whole.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloseWaitsForReplies(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		f := c.Queue("q").SendAsync(t.Context(), 1)
		waiting := going(func() ([]*Message, error) { return c.Queue("q").Receive(t.Context(), 1, time.Hour) })
		r := s.expect("publish")
		s.expect("receive")
		closed := going(func() (struct{}, error) { return done(c.Close()) })
		synctest.Wait()
		if _, err := c.Queue("q").Send(t.Context(), 2); !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
		if got := <-waiting; !errors.Is(got.err, ErrClosed) {
			t.Fatalf("a waiting receive: %v", got.err)
		}
		s.ok(r, `"seq":1,"stored":"disk"`)
		if got := <-closed; got.err != nil {
			t.Fatal(got.err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatalf("a second Close: %v", err)
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		f := c.Queue("q").SendAsync(t.Context(), 1)
		s.expect("publish")
		if err := c.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if _, err := f.Wait(t.Context()); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestHeartbeatFindsADeadServer(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		s.ok(s.expect("ping"), "")
		s.expect("ping") // unanswered
		f.accept().Close()
		if _, err := s.read(); err == nil {
			t.Fatal("the silent connection was kept")
		}
	}, Heartbeat(time.Second))
}

func TestDialSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.down <- struct{}{}
		if _, err := Dial(t.Context(), "fake", DialWith(f.dial)); err == nil || !strings.Contains(err.Error(), "nobody there") {
			t.Fatalf("got %v", err)
		}
		<-f.down
		dialed := going(func() (*Client, error) { return Dial(t.Context(), "fake", DialWith(f.dial), Login("ann", "wrong")) })
		conn := <-f.conns
		s := &fakeConn{t: t, Conn: conn, in: bufio.NewReader(conn)}
		r := s.expect("hello")
		if !strings.Contains(r.raw, `"mechanism":"SCRAM-SHA-256","data":"`) || strings.Contains(r.raw, "wrong") {
			t.Errorf("hello: %s", r.raw)
		}
		s.refuse(r, "unauthenticated", false)
		if got := <-dialed; !errors.Is(got.err, ErrUnauthenticated) {
			t.Fatalf("got %v", got.err)
		}
		_ = s.Close()
		// A server that accepts and says nothing.
		dialed = going(func() (*Client, error) { return Dial(t.Context(), "fake", DialWith(f.dial), DialTimeout(time.Second)) })
		conn = <-f.conns
		_, _ = bufio.NewReader(conn).ReadString('\n')
		if got := <-dialed; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Fatalf("got %v", got.err)
		}
		_ = conn.Close()
	})
}

func TestLazyDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.down <- struct{}{}
		c, err := Dial(t.Context(), "fake", DialWith(f.dial), Lazy())
		if err != nil {
			t.Fatal(err)
		}
		ping := going(func() (struct{}, error) { return done(c.Ping(t.Context())) })
		<-f.down
		s := f.accept()
		s.ok(s.expect("ping"), "")
		if got := <-ping; got.err != nil {
			t.Fatal(got.err)
		}
		_ = c.Close()
		_ = s.Close()
	})
}

func TestShuttingDownServer(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		created := going(func() (struct{}, error) {
			return done(c.CreateQueue(t.Context(), "q", Settings{MaxMessages: None, Lease: time.Minute}))
		})
		r := s.expect("queue.create")
		if !strings.Contains(r.raw, `"max_messages":0,"lease":"1m0s"}`) {
			t.Errorf("settings: %s", r.raw)
		}
		s.send(`{"op":"closing","reason":"bye"}`)
		s.refuse(r, "shutting_down", true)
		synctest.Wait()
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1) })
		synctest.Wait() // it waits for the next server
		_ = s.Close()
		s = f.accept()
		defer s.Close()
		s.ok(s.expect("queue.create"), "")
		s.ok(s.expect("publish"), `"seq":1,"stored":"disk"`)
		if a, b := <-created, <-sent; a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
	})
}

// TestOverTCP is the one that uses a real connection.
func TestOverTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		s := &fakeConn{t: t, Conn: conn, in: bufio.NewReader(conn)}
		s.ok(s.expect("hello"), `"version":"1"`)
		for {
			r, err := s.read()
			if err != nil {
				return
			}
			s.ok(r, `"seq":1,"stored":"memory"`)
		}
	}()
	c, err := Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 1000 {
		if _, err := c.Queue("q").Send(t.Context(), strings.Repeat("x", i*10)); err != nil {
			t.Fatal(err)
		}
	}
}

// A line that the server would skip is not sent: its refusal would bear no id, and nobody would be told.
func TestTooLongForOneLine(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		_, err := c.Queue("q").Send(t.Context(), strings.Repeat("x", 1<<20+70_000))
		if !errors.Is(err, ErrTooLarge) {
			t.Fatalf("got %v", err)
		}
	})
}
