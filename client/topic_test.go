package gmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPublishToTopic(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		topic := c.Topic("files.eu")
		sent := going(func() (Published, error) { return topic.Send(t.Context(), 1, Key("k")) })
		r := s.expect("publish")
		if !strings.HasSuffix(r.raw, `,"op":"publish","topic":"files.eu","key":"k","body":1}`+"\n") {
			t.Errorf("sent %s", r.raw)
		}
		s.ok(r, `"queues":3,"stored":"written","duplicate":true`)
		if got := <-sent; got.err != nil || got.v != (Published{Stored: "written", Duplicate: true, Queues: 3}) {
			t.Fatalf("%+v", got)
		}
		f := topic.SendAsync(t.Context(), 2)
		s.ok(s.expect("publish"), `"queues":0`)
		if p, err := f.Wait(t.Context()); err != nil || p != (Published{}) {
			t.Fatalf("nobody: %+v, %v", p, err)
		}
		batch := going(func() (Published, error) {
			return topic.SendBatch(t.Context(), []Msg{{Body: 1}, {Body: 2, Options: []PublishOption{Key("b")}}}, Key("a"))
		})
		r = s.expect("publish")
		if !strings.HasSuffix(r.raw, `"topic":"files.eu","messages":[{"key":"a","body":1},{"key":"b","body":2}]}`+"\n") {
			t.Errorf("sent %s", r.raw)
		}
		s.ok(r, `"queues":2,"stored":"disk"`)
		if got := <-batch; got.err != nil || got.v != (Published{Stored: "disk", Queues: 2}) {
			t.Fatalf("%+v", got)
		}
		batch = going(func() (Published, error) { return topic.SendBatch(t.Context(), []Msg{{Body: 1}}) })
		s.refuse(s.expect("publish"), "queue_full", true)
		if got := <-batch; !errors.Is(got.err, ErrQueueFull) {
			t.Fatalf("%+v", got)
		}
		// No topic at all is the server's to judge.
		sent = going(func() (Published, error) { return c.Topic("").Send(t.Context(), 1) })
		r = s.expect("publish")
		if !strings.Contains(r.raw, `"topic":""`) {
			t.Errorf("sent %s", r.raw)
		}
		s.refuse(r, "bad_request", false)
		if got := <-sent; got.err == nil {
			t.Error("a topic without a word")
		}
	})
}

func TestBindAndUnbind(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		bound := going(func() (struct{}, error) { return done(q.Bind(t.Context(), "files.*.\"x\"")) })
		r := s.expect("queue.bind")
		carries(t, r, `,"topic":"files.*.\"x\""`)
		_ = s.Close() // to bind twice does no harm
		s = f.accept()
		s.refuse(s.expect("queue.bind"), "not_found", false)
		if got := <-bound; !errors.Is(got.err, ErrNotFound) {
			t.Fatalf("got %v", got.err)
		}
		gone := going(func() (struct{}, error) { return done(q.Unbind(t.Context(), "files.>")) })
		carries(t, s.expect("queue.unbind"), `,"topic":"files.>"`)
		_ = s.Close() // to unbind twice would be refused
		s = f.accept()
		defer s.Close()
		if got := <-gone; !errors.Is(got.err, ErrUnknownOutcome) {
			t.Fatalf("got %v", got.err)
		}
		info := going(func() (QueueInfo, error) { return c.QueueInfo(t.Context(), "q") })
		s.ok(s.expect("queue.info"), `"bindings":["a.*","b"]`)
		if got := <-info; got.err != nil || !slices.Equal(got.v.Bindings, []string{"a.*", "b"}) {
			t.Fatalf("%+v", got)
		}
	})
}

// heard delivers a message of a topic from an ephemeral queue; fields may be empty.
func (s *fakeConn) heard(sub uint64, queue string, seq uint64, topic, fields string) {
	if fields != "" {
		fields += ","
	}
	s.send(`{"op":"message","sub":%d,"queue":%q,"seq":%d,"attempt":1,"receipt":"r%[3]d",`+
		`"published":"2026-01-02T03:04:05.5Z","topic":%q,%s"body":%[3]d}`, sub, queue, seq, topic, fields)
}

// listen begins to take messages of a topic, which come out of the channel; it ends with ctx.
func listen(t *testing.T, ctx context.Context, topic *Topic, opts ...ConsumeOption) <-chan *Message {
	t.Helper()
	got := make(chan *Message)
	go func() {
		defer close(got)
		for m, err := range topic.Messages(ctx, opts...) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			got <- m
		}
	}()
	return got
}

func TestSubscribeToTopic(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		got := listen(t, ctx, c.Topic("news.*"))
		r := s.expect("subscribe")
		if !strings.HasSuffix(r.raw, `"op":"subscribe","topic":"news.*","credit":64,"lease":"24h0m0s"}`+"\n") {
			t.Errorf("subscribed: %s", r.raw)
		}
		s.ok(r, `"sub":3`)
		s.heard(3, ".c7.s3", 1, "news.eu", "")
		m := <-got
		if m.Topic != "news.eu" || m.Dropped != 0 || m.Queue() != ".c7.s3" || m.Text() != "1" {
			t.Errorf("%+v", m)
		}
		m.AckAsync()
		carriesAck(t, s.expect("ack"), ".c7.s3", 1)
		s.heard(3, ".c7.s3", 9, "news.us", `"dropped":7`)
		if m = <-got; m.Dropped != 7 {
			t.Errorf("%d dropped", m.Dropped)
		}
		nacked := going(func() (struct{}, error) { return done(m.Nack(t.Context(), Delay(time.Second))) })
		s.ok(s.expect("nack"), `"settled":1`)
		if o := <-nacked; o.err != nil {
			t.Error(o.err)
		}
		// There is nowhere for a dead letter to go.
		nacked = going(func() (struct{}, error) { return done(m.Nack(t.Context(), Dead())) })
		r = s.expect("ack")
		carriesAck(t, r, ".c7.s3", 9)
		s.ok(r, `"settled":1`)
		if o := <-nacked; o.err != nil {
			t.Error(o.err)
		}
		cancel()
		s.ok(s.expect("unsubscribe"), "")
	})
}

func carriesAck(t *testing.T, r request, queue string, seq uint64) {
	t.Helper()
	if want := fmt.Sprintf(`"queue":%q,"seq":[%d],"receipt":["r%[2]d"]}`, queue, seq); !strings.Contains(r.raw, want) {
		t.Errorf("acked with %s, not %s", r.raw, want)
	}
}

// The queue of a subscription to a topic ends with the connection, so nothing about its messages goes to the next one,
// where a queue of the same name may hold others.
func TestTopicOverReconnect(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		got := listen(t, ctx, c.Topic("news.>"), Credit(5))
		s.ok(s.expect("subscribe"), `"sub":1`)
		for seq := range uint64(5) {
			s.heard(1, ".c1.s1", seq+1, "news", "")
		}
		first, second := <-got, <-got
		asked := first.AckAsync()
		s.expect("ack") // and no reply
		f.down <- struct{}{}
		half := second.AckAsync()
		synctest.Wait() // its line is on its way, and nobody reads it
		gathered := (<-got).AckAsync()
		extended := going(func() (struct{}, error) { return done(second.Extend(t.Context(), time.Minute)) })
		synctest.Wait()
		_ = s.Close()
		for what, a := range map[string]Acking{"asked": asked, "half sent": half, "gathered": gathered} {
			if err := a.Wait(t.Context()); err != nil {
				t.Errorf("an ack that was %s: %v", what, err)
			}
		}
		if o := <-extended; !errors.Is(o.err, ErrLeaseLost) {
			t.Errorf("an extension: %v", o.err)
		}
		for what, err := range map[string]error{"ack": first.Ack(t.Context()), "nack": first.Nack(t.Context()), "rejection": first.Nack(t.Context(), Dead())} {
			if err != nil {
				t.Errorf("an %s without a connection: %v", what, err)
			}
		}
		if err := first.Extend(t.Context(), time.Minute); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("an extension without a connection: %v", err)
		}
		<-f.down
		s = f.accept()
		defer s.Close()
		s.ok(s.expect("subscribe"), `"sub":1`)
		for seq := range uint64(2) { // which will not come again
			if m := <-got; m.Seq != seq+4 {
				t.Errorf("message %d", m.Seq)
			}
		}
		s.heard(1, ".c1.s1", 1, "news", "")
		m := <-got
		if err := second.Ack(t.Context()); err != nil {
			t.Errorf("an ack after the reconnect: %v", err)
		}
		acked := m.AckAsync()
		r := s.expect("ack")
		carriesAck(t, r, ".c1.s1", 1)
		s.refuse(r, "not_found", false)
		if err := acked.Wait(t.Context()); err != nil {
			t.Errorf("an ack of a queue that has just ended: %v", err)
		}
		cancel()
		s.ok(s.expect("unsubscribe"), "")
	})
}

func TestTopicAutoAck(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		got := listen(t, ctx, c.Topic("a"), AutoAck(), Credit(2))
		r := s.expect("subscribe")
		if strings.Contains(r.raw, "auto") {
			t.Errorf("the server would flood a slow reader: %s", r.raw)
		}
		s.ok(r, `"sub":1`)
		s.heard(1, ".c1.s1", 1, "a", "")
		carriesAck(t, s.expect("ack"), ".c1.s1", 1)
		m := <-got
		if err := m.Ack(t.Context()); err != nil { // done already
			t.Error(err)
		}
		cancel()
		s.ok(s.expect("unsubscribe"), "")
	})
}

// What is settled already needs no lease, however long its handler takes.
func TestTopicWorkAutoAck(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := going(func() (struct{}, error) {
			return done(c.Topic("a").Work(ctx, 1, func(context.Context, *Message) error {
				<-time.After(time.Minute)
				cancel()
				return errors.New("too late to say so")
			}, AutoAck(), Lease(time.Second)))
		})
		s.ok(s.expect("subscribe"), `"sub":1`)
		s.heard(1, ".c1.s1", 1, "a", "")
		s.ok(s.expect("ack"), `"settled":1`)
		s.ok(s.expect("unsubscribe"), "")
		if o := <-ended; o.err != nil {
			t.Error(o.err)
		}
	})
}

func TestTopicWork(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := going(func() (struct{}, error) {
			return done(c.Topic("a.*").Work(ctx, 100, func(_ context.Context, m *Message) error {
				switch m.Seq {
				case 2:
					return errors.New("no luck")
				case 3:
					return Reject(errors.New("poison"))
				}
				return nil
			}))
		})
		r := s.expect("subscribe")
		if r.Credit != 100 {
			t.Errorf("subscribed: %s", r.raw)
		}
		s.ok(r, `"sub":1`)
		for seq, op := range []string{"ack", "nack", "ack"} {
			s.heard(1, ".c1.s1", uint64(seq+1), "a.b", "")
			s.ok(s.expect(op), `"settled":1`)
		}
		cancel()
		s.ok(s.expect("unsubscribe"), "")
		if o := <-ended; o.err != nil {
			t.Error(o.err)
		}
	})
}
