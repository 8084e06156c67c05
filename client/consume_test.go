package gmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// working starts a Work and answers its subscribe with number 1.
func working(t *testing.T, ctx context.Context, c *Client, s *fakeConn, n int, h Handler, opts ...ConsumeOption) <-chan outcome[struct{}] {
	t.Helper()
	ended := going(func() (struct{}, error) { return done(c.Queue("q").Work(ctx, n, h, opts...)) })
	s.ok(s.expect("subscribe"), `"sub":1`)
	return ended
}

func TestWorkAcksAndNacks(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := working(t, ctx, c, s, 1, func(_ context.Context, m *Message) error {
			switch m.Seq {
			case 2:
				return errors.New("no luck")
			case 3:
				panic("oh")
			case 4:
				return fmt.Errorf("wrapped: %w", Reject(errors.New("poison")))
			case 5:
				return RetryAfter(time.Minute, errors.New("later"))
			}
			return nil
		})
		for seq := uint64(1); seq <= 5; seq++ {
			s.deliver(1, seq)
			op := "nack"
			if seq == 1 {
				op = "ack"
			}
			r := s.expect(op)
			s.ok(r, `"settled":1`)
			want := map[uint64]string{
				1: `"seq":[1],"receipt":["r1"]}`,
				2: `"seq":2,"receipt":"r2","reason":"no luck"}`,
				3: `"seq":3,"receipt":"r3","reason":"panic: oh"}`,
				4: `"seq":4,"receipt":"r4","reason":"wrapped: poison","dead":true}`,
				5: `"seq":5,"receipt":"r5","delay":"1m0s","reason":"later"}`,
			}[seq]
			if !strings.Contains(r.raw, want) {
				t.Errorf("message %d: %s does not have %s", seq, r.raw, want)
			}
		}
		cancel()
		s.ok(s.expect("unsubscribe"), "")
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestWorkFinishesItsHandlers(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		ended := working(t, ctx, c, s, 1, func(ctx context.Context, m *Message) error {
			<-release
			return ctx.Err()
		}, Credit(2))
		s.deliver(1, 1)
		s.deliver(1, 2)
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("Work did not wait for its handler")
		default:
		}
		close(release)
		r := s.expect("ack")
		if !strings.Contains(r.raw, `"seq":[1]`) {
			t.Errorf("acked: %s", r.raw)
		}
		s.ok(r, `"settled":1`)
		s.ok(s.expect("unsubscribe"), "") // gives back message 2, which was never begun
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestWorkGrace(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := working(t, ctx, c, s, 1, func(ctx context.Context, m *Message) error {
			<-ctx.Done()
			return ctx.Err()
		}, Grace(time.Second), Lease(time.Hour))
		s.deliver(1, 1)
		synctest.Wait()
		begin := time.Now()
		cancel()
		s.ok(s.expect("unsubscribe"), "")
		if got := <-ended; got.err != nil || time.Since(begin) != time.Second {
			t.Fatalf("%v after %v", got.err, time.Since(begin))
		}
	})
}

func TestWorkExtendsLeases(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		cause := make(chan error, 1)
		ended := working(t, ctx, c, s, 1, func(ctx context.Context, m *Message) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return errors.New("in vain")
		}, Lease(8*time.Second))
		s.deliver(1, 1)
		begin := time.Now()
		for i := range 3 {
			r := s.expect("extend")
			if r.Lease != "8s" || r.Receipt != "r1" {
				t.Errorf("extension: %s", r.raw)
			}
			if at := time.Since(begin); at > time.Duration(i+1)*6*time.Second {
				t.Errorf("extension %d after %v", i, at)
			}
			s.ok(r, `"until":"2026-01-02T03:04:05Z"`)
		}
		s.refuse(s.expect("extend"), "lease_lost", false)
		if err := <-cause; !errors.Is(err, ErrLeaseLost) {
			t.Fatalf("the handler ended with %v", err)
		}
		synctest.Wait()
		cancel()
		s.ok(s.expect("unsubscribe"), "") // and no nack before it
		<-ended
	})
}

func TestReconnectSubscribesAgain(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		var handled atomic.Int32
		release := make(chan struct{})
		ended := working(t, ctx, c, s, 1, func(ctx context.Context, m *Message) error {
			handled.Add(1)
			<-release
			return nil
		}, Credit(3), Lease(time.Hour))
		for seq := range uint64(3) {
			s.deliver(1, seq+1)
		}
		synctest.Wait() // one runs, two wait
		_ = s.Close()
		next := make(chan *fakeConn)
		go func() { next <- f.accept() }()
		s = <-next
		defer s.Close()
		if r := s.expect("subscribe"); r.Credit != 3 {
			t.Errorf("subscribed again: %s", r.raw)
		} else {
			s.ok(r, `"sub":9`)
		}
		synctest.Wait()
		close(release)
		s.ok(s.expect("ack"), `"settled":1`) // the running one counts still
		synctest.Wait()
		if n := handled.Load(); n != 1 {
			t.Fatalf("%d messages of the lost connection were handled", n)
		}
		s.deliver(9, 2)
		s.ok(s.expect("ack"), `"settled":1`)
		cancel()
		s.ok(s.expect("unsubscribe"), "")
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestAcksAreGatheredAndSurvive(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		got := going(func() ([]*Message, error) { return c.Queue("q").Receive(t.Context(), 3, 0) })
		s.ok(s.expect("receive"), `"messages":[{"queue":"q","seq":1,"attempt":1,"receipt":"a","body":1},`+
			`{"queue":"q","seq":2,"attempt":1,"receipt":"b","body":2},{"queue":"q","seq":3,"attempt":2,"redelivered":true,"receipt":"c","body":3}]`)
		msgs := (<-got).v
		if len(msgs) != 3 || !msgs[2].Redelivered || msgs[2].Attempt != 2 {
			t.Fatalf("%+v", msgs)
		}
		f.down <- struct{}{}
		_ = s.Close()
		synctest.Wait()
		var acks []Acking
		for _, m := range msgs {
			acks = append(acks, m.AckAsync())
		}
		<-f.down
		s = f.accept()
		r := s.expect("ack")
		if !strings.Contains(r.raw, `"seq":[1,2,3],"receipt":["a","b","c"]`) {
			t.Fatalf("acks: %s", r.raw)
		}
		_ = s.Close() // before the reply: the ack is asked again
		s = f.accept()
		defer s.Close()
		again := s.expect("ack")
		if again.raw != r.raw {
			t.Fatalf("acks again: %s", again.raw)
		}
		s.send(`{"id":%s,"ok":false,"error":{"code":"lease_lost","message":"stale","retryable":false,"seqs":[2]}}`, again.ID)
		for i, a := range acks {
			if err := a.Wait(t.Context()); errors.Is(err, ErrLeaseLost) != (i == 1) {
				t.Errorf("ack %d: %v", i+1, err)
			}
		}
	})
}

func TestMessagesEnd(t *testing.T) {
	tests := map[string]struct {
		end  func(s *fakeConn, c *Client, cancel func())
		want error
	}{
		"context": {func(_ *fakeConn, _ *Client, cancel func()) { cancel() }, context.Canceled},
		"server": {func(s *fakeConn, _ *Client, _ func()) {
			s.send(`{"op":"unsubscribed","sub":1,"reason":"deleted"}`)
		}, ErrUnsubscribed},
		"close": {func(_ *fakeConn, c *Client, _ func()) { _ = c.Close() }, ErrClosed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					s.ok(s.expect("subscribe"), `"sub":1`)
					s.deliver(1, 1)
					for {
						r, err := s.read()
						if err != nil {
							return
						}
						s.ok(r, `"settled":1`)
					}
				}()
				var last error
				n := 0
				for m, err := range c.Queue("q").Messages(ctx) {
					if last = err; err != nil {
						continue
					}
					n++
					if err := m.Ack(ctx); err != nil {
						t.Error(err)
					}
					test.end(s, c, cancel)
				}
				if n != 1 || !errors.Is(last, test.want) {
					t.Errorf("%d messages, then %v", n, last)
				}
			})
		})
	}
}

func TestLeavingTheLoopUnsubscribes(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		left := going(func() (struct{}, error) {
			for m := range c.Queue("q").Messages(t.Context(), Credit(2), Lease(time.Minute)) {
				m.AckAsync()
				break
			}
			return struct{}{}, nil
		})
		r := s.expect("subscribe")
		if r.Credit != 2 || r.Lease != "1m0s" {
			t.Errorf("subscribe: %s", r.raw)
		}
		s.ok(r, `"sub":5`)
		s.deliver(5, 1)
		s.ok(s.expect("ack"), `"settled":1`)
		if r := s.expect("unsubscribe"); r.Sub != 5 {
			t.Errorf("unsubscribe: %s", r.raw)
		} else {
			s.ok(r, "")
		}
		<-left
	})
}

func TestRefusedSubscription(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ended := going(func() (struct{}, error) {
			return done(c.Queue("q").Work(t.Context(), 2, func(context.Context, *Message) error { return nil }))
		})
		s.refuse(s.expect("subscribe"), "overloaded", true)
		s.refuse(s.expect("subscribe"), "not_found", false)
		if got := <-ended; !errors.Is(got.err, ErrNotFound) {
			t.Fatalf("got %v", got.err)
		}
	})
}

func TestNoCreateIsSaidEachTime(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ended := going(func() (struct{}, error) {
			return done(c.Queue("q").Work(t.Context(), 1, func(context.Context, *Message) error { return nil }, NoCreate()))
		})
		r := s.expect("subscribe")
		if !strings.Contains(r.raw, `"create":false`) {
			t.Errorf("the request is %s", r.raw)
		}
		s.refuse(r, "not_found", false)
		if got := <-ended; !errors.Is(got.err, ErrNotFound) {
			t.Errorf("Work ended with %v", got.err)
		}
	})
}

func TestAbandonedReceiveGivesBack(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		got := going(func() ([]*Message, error) { return c.Queue("q").Receive(ctx, 2, time.Minute) })
		r := s.expect("receive")
		cancel()
		if err := (<-got).err; !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		s.ok(r, `"messages":[{"queue":"q","seq":1,"attempt":1,"receipt":"a","body":1}]`)
		back := s.expect("nack")
		if !strings.Contains(back.raw, `"seq":[1],"receipt":["a"],"delay":"0s","count":false`) {
			t.Fatalf("given back: %s", back.raw)
		}
		s.ok(back, `"settled":1`)
	})
}

func TestAutoAck(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		var sum atomic.Uint64
		ended := working(t, ctx, c, s, 2, func(_ context.Context, m *Message) error {
			sum.Add(m.Seq)
			return errors.New("nobody listens")
		}, AutoAck())
		s.deliver(1, 1)
		s.deliver(1, 2)
		synctest.Wait()
		cancel()
		s.ok(s.expect("unsubscribe"), "") // neither acks nor nacks
		if <-ended; sum.Load() != 3 {
			t.Fatalf("handled %d", sum.Load())
		}
	})
}

func TestListQueuesPages(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		count := going(func() (int, error) {
			n := 0
			for _, err := range c.ListQueues(t.Context(), "a") {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		})
		page := strings.Repeat(`{"queue":"a","ready":1},`, listPage-1) + `{"queue":"az"}`
		s.ok(s.expect("queue.list"), `"queues":[`+page+`]`)
		r := s.expect("queue.list")
		if r.After != "az" {
			t.Errorf("the second page: %s", r.raw)
		}
		s.ok(r, `"queues":[{"queue":"b"}]`)
		if got := <-count; got.err != nil || got.v != listPage+1 {
			t.Fatalf("%+v", got)
		}
	})
}
