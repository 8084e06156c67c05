package gmq

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asked takes a request and gives the topic that it wants its reply on.
func asked(t *testing.T, s *fakeConn) (r request, replyTo string) {
	t.Helper()
	r = s.expect("publish")
	_, rest, _ := strings.Cut(r.raw, `"reply_to":"`)
	replyTo, _, ok := strings.Cut(rest, `"`)
	if !ok || !strings.HasPrefix(replyTo, replyTopics) {
		t.Errorf("no request: %s", r.raw)
	}
	return r, replyTo
}

// opened answers the subscription of the inbox.
func opened(t *testing.T, s *fakeConn, sub string) {
	t.Helper()
	r := s.expect("subscribe")
	if !strings.Contains(r.raw, `"topic":"`+replyTopics) || !strings.Contains(r.raw, `.*"`) {
		t.Errorf("no inbox: %s", r.raw)
	}
	s.ok(r, `"sub":`+sub)
}

func TestRequests(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		ask := func(body int, opts ...PublishOption) <-chan outcome[*Message] {
			return going(func() (*Message, error) { return q.Request(t.Context(), body, opts...) })
		}
		headers := map[string]string{"a": "b"}
		a := ask(1, Headers(headers), Key("k"))
		synctest.Wait()
		b := ask(2) // they share one subscription
		opened(t, s, "1")
		ra, toA := asked(t, s)
		rb, toB := asked(t, s)
		if string(ra.Body) == "2" {
			ra, toA, rb, toB = rb, toB, ra, toA
		}
		if !strings.Contains(ra.raw, `"headers":{"a":"b","reply_to":"`) || !strings.Contains(ra.raw, `"key":"k"`) || strings.Contains(ra.raw, "ttl") || len(headers) != 1 {
			t.Errorf("asked: %s", ra.raw)
		}
		if toA == toB {
			t.Fatal("two requests want their reply on one topic")
		}
		s.ok(rb, `"seq":2`)
		s.heard(1, ".c1.s1", 70, toB, "")
		if o := <-b; o.err != nil || o.v.Text() != "70" || o.v.Topic != toB {
			t.Fatalf("%+v", o)
		} else if err := o.v.Ack(t.Context()); err != nil { // settled already
			t.Error(err)
		}
		s.heard(1, ".c1.s1", 71, toB, "") // a second reply is nobody's
		s.heard(1, ".c1.s1", 72, toA, "") // before the confirm
		if o := <-a; o.err != nil || o.v.Text() != "72" {
			t.Fatalf("%+v", o)
		}
		s.ok(ra, `"seq":1`)
		third := ask(3)
		r, to := asked(t, s)
		if to == toA || to == toB {
			t.Error("a topic is used twice")
		}
		s.refuse(r, "queue_full", true)
		if o := <-third; !errors.Is(o.err, ErrQueueFull) {
			t.Errorf("%+v", o)
		}
	})
}

func TestRequestsEndWithTheirContext(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ask := func(d time.Duration, opts ...PublishOption) <-chan outcome[*Message] {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			return going(func() (*Message, error) { defer cancel(); return c.Queue("q").Request(ctx, 1, opts...) })
		}
		got := ask(time.Second)
		r := s.expect("subscribe")
		if o := <-got; !errors.Is(o.err, context.DeadlineExceeded) || errors.Is(o.err, ErrUnknownOutcome) {
			t.Errorf("not asked: %v", o.err)
		}
		s.ok(r, `"sub":1`)
		got = ask(5 * time.Second)
		r, _ = asked(t, s)
		if !strings.Contains(r.raw, `"ttl":"5s"`) {
			t.Errorf("nobody waits longer than 5s: %s", r.raw)
		}
		if o := <-got; !errors.Is(o.err, ErrUnknownOutcome) || !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("not confirmed: %v", o.err)
		}
		got = ask(5*time.Second, TTL(time.Minute))
		r, to := asked(t, s)
		if !strings.Contains(r.raw, `"ttl":"1m0s"`) {
			t.Errorf("asked: %s", r.raw)
		}
		s.ok(r, `"seq":1`)
		if o := <-got; !errors.Is(o.err, context.DeadlineExceeded) || errors.Is(o.err, ErrUnknownOutcome) {
			t.Errorf("not answered: %v", o.err)
		}
		s.heard(1, ".c1.s1", 1, to, "") // too late
		synctest.Wait()
		if n := len(c.inbox.waiting); n != 0 {
			t.Errorf("%d requests are waited for still", n)
		}
	})
}

func TestRequestsOverReconnect(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		ask := func(opts ...PublishOption) <-chan outcome[*Message] {
			return going(func() (*Message, error) { return c.Queue("q").Request(t.Context(), 1, opts...) })
		}
		got := ask()
		opened(t, s, "1")
		r, to := asked(t, s)
		s.ok(r, `"seq":1`)
		unconfirmed := ask()
		asked(t, s)
		_ = s.Close()
		if o := <-unconfirmed; !errors.Is(o.err, ErrUnknownOutcome) {
			t.Errorf("got %v", o.err)
		}
		waits := ask()
		s = f.accept()
		r = s.expect("subscribe")
		if !strings.Contains(to, strings.TrimSuffix(topicOf(r), "*")) {
			t.Errorf("the inbox is elsewhere now: %s", r.raw)
		}
		synctest.Wait() // the new request is not sent before its reply can come
		s.ok(r, `"sub":4`)
		r, to2 := asked(t, s)
		s.ok(r, `"seq":2`)
		s.heard(4, ".c2.s4", 1, to, "") // the worker has taken its time
		s.heard(4, ".c2.s4", 2, to2, "")
		if o := <-got; o.err != nil || o.v.Text() != "1" {
			t.Errorf("%+v", o)
		}
		if o := <-waits; o.err != nil || o.v.Text() != "2" {
			t.Errorf("%+v", o)
		}
		last := ask()
		asked(t, s)
		defer s.Close()
		closing := going(func() (struct{}, error) { return done(c.Close()) })
		if o := <-last; !errors.Is(o.err, ErrClosed) {
			t.Errorf("got %v", o.err)
		}
		<-closing
		if o := <-ask(); !errors.Is(o.err, ErrClosed) {
			t.Errorf("got %v", o.err)
		}
	})
}

func topicOf(r request) string {
	_, rest, _ := strings.Cut(r.raw, `"topic":"`)
	topic, _, _ := strings.Cut(rest, `"`)
	return topic
}

func TestRequestsWithoutAnInbox(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ask := func() <-chan outcome[*Message] {
			return going(func() (*Message, error) { return c.Topic("a.b").Request(t.Context(), 1) })
		}
		got := ask()
		s.refuse(s.expect("subscribe"), "forbidden", false)
		if o := <-got; !errors.Is(o.err, ErrForbidden) {
			t.Fatalf("got %v", o.err)
		}
		got = ask() // it may be allowed by now
		s.refuse(s.expect("subscribe"), "overloaded", true)
		opened(t, s, "2")
		r, _ := asked(t, s)
		s.ok(r, `"queues":0`)
		if o := <-got; !errors.Is(o.err, ErrNoTakers) {
			t.Fatalf("got %v", o.err)
		}
		got = ask()
		r, to := asked(t, s)
		s.ok(r, `"queues":2`)
		s.heard(2, ".c1.s2", 1, to, "")
		if o := <-got; o.err != nil {
			t.Fatalf("got %v", o.err)
		}
	})
}

func TestReply(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		got := going(func() ([]*Message, error) { return c.Queue("q").Receive(t.Context(), 3, 0) })
		s.ok(s.expect("receive"), `"messages":[{"queue":"q","seq":1,"attempt":1,"receipt":"a","headers":{"reply_to":"re.x"},"body":1},`+
			`{"queue":"q","seq":2,"attempt":1,"receipt":"b","body":2},{"queue":"q","seq":3,"attempt":1,"receipt":"c","headers":{"reply_to":"re.*"},"body":3}]`)
		msgs := (<-got).v
		for _, m := range msgs[1:] {
			if _, err := m.Reply(t.Context(), "no"); !errors.Is(err, ErrNoReplyTo) {
				t.Errorf("message %d: %v", m.Seq, err)
			}
		}
		replied := going(func() (Published, error) {
			return msgs[0].Reply(t.Context(), "yes", Headers(map[string]string{"a": "b"}))
		})
		r := s.expect("publish")
		if !strings.HasSuffix(r.raw, `"topic":"re.x","headers":{"a":"b"},"body":"yes"}`+"\n") {
			t.Errorf("replied %s", r.raw)
		}
		s.ok(r, `"queues":1`)
		if o := <-replied; o.err != nil || o.v.Queues != 1 {
			t.Errorf("%+v", o)
		}
	})
}

// A second reply, or one that nobody waits for, holds up nobody.
func TestInboxTakesOneReplyEach(t *testing.T) {
	in := newInbox(&Client{})
	to, reply := in.expect()
	for seq := range uint64(3) {
		in.take(&Message{Seq: seq + 1, Topic: to})
	}
	if m := <-reply; m.Seq != 1 {
		t.Errorf("reply %d", m.Seq)
	}
}
