package gmq

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// straight runs a test with a client whose own connection goes to the first of three nodes; it is closed afterwards.
func straight(t *testing.T, test func(t *testing.T, w *town, c *Client, a *fakeConn), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1", "c:1")
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("a:1", nodesOf("a:1")) }()
		all := append([]Option{DialWith(w.dial), Heartbeat(0), CloseTimeout(time.Second)}, opts...)
		c, err := Dial(t.Context(), "a:1", all...)
		if err != nil {
			t.Fatal(err)
		}
		a := <-first
		test(t, w, c, a)
		_ = c.Close()
		_ = a.Close()
	})
}

// nodesOf is what a node's greeting says of the nodes.
func nodesOf(self string) string {
	all := []string{self}
	for _, addr := range []string{"a:1", "b:1", "c:1"} {
		if addr != self {
			all = append(all, addr)
		}
	}
	return `,"nodes":["` + strings.Join(all, `","`) + `"]`
}

// tell answers the next request, which must be for the leaders: each group's is at the address of its place, and the queue is of that group.
func (s *fakeConn) tell(group int, addrs ...string) {
	s.t.Helper()
	s.told = fmt.Sprintf(`"leaders":["%s"],"group":%d`, strings.Join(addrs, `","`), group)
	s.ok(s.expect("cluster.leaders"), s.told)
	synctest.Wait() // until the client knows it
}

// settle publishes once over a, tells who leads, and gives the connection to that node.
func settle(t *testing.T, w *town, c *Client, a *fakeConn, queue, leader string) *fakeConn {
	t.Helper()
	sent := going(func() (Published, error) { return c.Queue(queue).Send(t.Context(), 0) })
	a.ok(a.expect("publish"), `"seq":1,"stored":"quorum"`)
	if got := <-sent; got.err != nil {
		t.Fatal(got.err)
	}
	next := make(chan *fakeConn, 1)
	go func() { next <- w.accept(leader, nodesOf(leader)) }()
	a.tell(1, "a:1", leader)
	b := <-next
	synctest.Wait()
	return b
}

// TestGoesStraight: a queue's publishes go to the node that leads it from when nothing of the queue is on its way elsewhere; when that
// connection is lost they go on over the client's own, in their order, and what may not be asked twice is unknown.
func TestGoesStraight(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		q := c.Queue("q")
		sent := []*Future{q.SendAsync(t.Context(), 1)}
		first := a.expect("publish")
		next := make(chan *fakeConn, 1)
		go func() { next <- w.accept("b:1", nodesOf("b:1")) }()
		a.tell(1, "", "b:1", "a:1")
		b := <-next
		synctest.Wait()
		second := going(func() (*Future, error) { return q.SendAsync(t.Context(), 2), nil })
		other := c.Queue("other").SendAsync(t.Context(), 3) // of which nothing is known yet
		if r := a.expect("publish"); r.Queue != "other" {
			t.Errorf("%s does not wait for what is on its way", r.raw)
		} else {
			a.ok(r, `"seq":1,"stored":"quorum"`)
		}
		synctest.Wait()
		a.ok(first, `"seq":1,"stored":"quorum"`)
		sent = append(sent, other, (<-second).v)
		b.ok(b.expect("publish"), `"seq":2,"stored":"quorum"`)
		for i, f := range sent {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Error(i, err)
			}
		}

		// What another object of the same queue asks goes there, too.
		info := going(func() (struct{}, error) { return done(c.Pause(t.Context(), "q")) })
		b.ok(b.expect("queue.pause"), "")
		if got := <-info; got.err != nil {
			t.Error(got.err)
		}

		sent = nil
		for i := range 4 {
			opts := []PublishOption{DedupID(fmt.Sprint(i))}
			if i == 1 {
				opts = nil
			}
			sent = append(sent, q.SendAsync(t.Context(), i, opts...))
		}
		for range 3 {
			b.expect("publish")
		}
		_ = b.Close() // the fourth may have been written, and nobody has read it
		var got []string
		for range 4 {
			r := a.next()
			if r.Op != "publish" {
				continue
			}
			got = append(got, string(r.Body))
			a.ok(r, `"seq":7,"stored":"quorum"`)
			if len(got) == 3 {
				break
			}
		}
		if !slices.Equal(got, []string{"0", "2", "3"}) {
			t.Errorf("they go on as %v", got)
		}
		for i, f := range sent {
			if _, err := f.Wait(t.Context()); (err != nil) != (i == 1) || i == 1 && !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("publish %d: %v", i, err)
			}
		}
		again := q.SendAsync(t.Context(), 4)
		a.ok(a.expect("publish"), `"seq":8,"stored":"quorum"`)
		if _, err := again.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// next reads the next request, and answers those for the leaders that come before it: nobody leads.
func (s *fakeConn) next() request {
	s.t.Helper()
	for {
		r, err := s.read()
		if err != nil {
			s.t.Errorf("the client has gone: %v", err)
		}
		if r.Op != "cluster.leaders" || err != nil {
			return r
		}
		s.ok(r, `"leaders":["",""],"group":1`)
	}
}

// TestMovesSubscription: a subscription goes to the node that comes to lead its queue. What it has stays leased and is acked where it
// came from, and nothing comes out of order.
func TestMovesSubscription(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		ctx := t.Context()
		got := make(chan *Message)
		over := make(chan struct{})
		go func() {
			defer close(over)
			for m, err := range c.Queue("q").Messages(ctx, Credit(8)) {
				if err != nil || m.Seq == 5 {
					return
				}
				got <- m
			}
		}()
		a.ok(a.expect("subscribe"), `"sub":3`)
		a.deliver(3, 1)
		one := <-got
		next := make(chan *fakeConn, 1)
		go func() { next <- w.accept("b:1", nodesOf("b:1")) }()
		a.tell(0, "b:1")
		b := <-next
		move := a.expect("unsubscribe")
		if move.Sub != 3 || !strings.Contains(move.raw, `"drain":true`) {
			t.Fatalf("it moves by %s", move.raw)
		}
		a.deliver(3, 2)
		a.ok(move, "")
		sub := b.expect("subscribe")
		b.ok(sub, `"sub":1`)
		b.deliver(1, 3)
		for seq := range uint64(2) {
			m := <-got
			if m.Seq != seq+2 {
				t.Fatalf("%d comes before %d", m.Seq, seq+2)
			}
			m.AckAsync()
			from := []*fakeConn{a, b}[seq]
			if ack := from.expect("ack"); fmt.Sprint(ack.Seq) != fmt.Sprintf("[%d]", m.Seq) {
				t.Errorf("%s", ack.raw)
			} else {
				from.ok(ack, `"settled":1`)
			}
		}
		acked := going(func() (struct{}, error) { return done(one.Ack(ctx)) })
		a.ok(a.expect("ack"), `"settled":1`)
		if r := <-acked; r.err != nil {
			t.Error(r.err)
		}

		// It is led by a again, where nothing is left of what was there before; then it ends.
		<-time.After(lookEvery) // virtual
		a.tell(0, "a:1")
		if r := a.expect("unsubscribe"); r.Sub != 3 {
			t.Errorf("%s", r.raw)
		} else {
			a.ok(r, "")
		}
		move = b.expect("unsubscribe")
		b.deliver(1, 4)
		b.ok(move, "")
		a.ok(a.expect("subscribe"), `"sub":4`)
		four := <-got
		a.deliver(4, 5)
		ended := []request{a.expect("unsubscribe"), b.expect("unsubscribe")}
		for i, at := range []*fakeConn{a, b} {
			if ended[i].Sub != []uint64{4, 1}[i] || strings.Contains(ended[i].raw, "drain") {
				t.Errorf("it ends by %s", ended[i].raw)
			}
			at.ok(ended[i], "")
		}
		four.AckAsync()
		b.ok(b.expect("ack"), `"settled":0`)
		<-over
		_ = b.Close()
	})
}

// TestSubscriptionOfALostNode: what was not taken of a lost node's deliveries is forgotten, what was can be acked, and it goes on.
func TestSubscriptionOfALostNode(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		b := settle(t, w, c, a, "q", "b:1")
		got := make(chan *Message)
		go func() {
			for m, err := range c.Queue("q").Messages(t.Context(), Credit(8)) {
				if err != nil {
					close(got)
					return
				}
				got <- m
			}
		}()
		b.ok(b.expect("subscribe"), `"sub":1`)
		for seq := range uint64(3) {
			b.deliver(1, seq+1)
		}
		one := <-got
		synctest.Wait()
		_ = b.Close()
		sub := a.expect("subscribe")
		<-got // it was on its way into the test's hand
		acked := going(func() (struct{}, error) { return done(one.Ack(t.Context())) })
		a.ok(a.expect("ack"), `"settled":1`)
		if r := <-acked; r.err != nil {
			t.Error(r.err)
		}
		a.ok(sub, `"sub":1`)
		a.deliver(1, 3)
		if m := <-got; m.Seq != 3 {
			t.Errorf("%d", m.Seq)
		}
		go func() {
			for {
				if _, err := a.read(); err != nil {
					return
				}
			}
		}()
		_ = c.Close()
		<-got
	})
}

// TestReceiveBehindAcks: a receive over another connection waits for the acks before it: where the lead has changed, too, the messages
// could be given out once more.
func TestReceiveBehindAcks(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		q := c.Queue("q")
		batch := `"messages":[{"queue":"q","seq":%d,"attempt":1,"receipt":"r","published":"2026-01-02T03:04:05.5Z","body":1}]`
		receive := func() <-chan outcome[[]*Message] {
			return going(func() ([]*Message, error) { return q.Receive(t.Context(), 1, 0) })
		}
		got := receive()
		a.ok(a.expect("receive"), fmt.Sprintf(batch, 1))
		ms := (<-got).v
		next := make(chan *fakeConn, 1)
		go func() { next <- w.accept("b:1", nodesOf("b:1")) }()
		a.tell(1, "a:1", "b:1")
		b := <-next
		synctest.Wait()
		acking := ms[0].AckAsync()
		got = receive()
		ack := a.expect("ack")
		asked := make(chan request, 1)
		go func() { asked <- b.expect("receive") }()
		synctest.Wait()
		if len(asked) > 0 {
			t.Error("the receive overtakes the ack")
		}
		a.ok(ack, `"settled":1`)
		b.ok(<-asked, fmt.Sprintf(batch, 2))
		if err := acking.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if r := <-got; r.err != nil || r.v[0].Seq != 2 {
			t.Error(r)
		}
		_ = b.Close()
	})
}

// TestNodeOutOfReach: a node that cannot be reached at the address that the cluster tells, or at which another one answers, is done
// without. It is tried again, ever more rarely.
func TestNodeOutOfReach(t *testing.T) {
	for name, answer := range map[string]func(w *town){
		"nobody":  func(w *town) { w.set("b:1", true) },
		"another": func(w *town) { go func() { w.accept("b:1", nodesOf("c:1")) }() },
	} {
		t.Run(name, func(t *testing.T) {
			straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
				answer(w)
				stop := make(chan struct{})
				go func() {
					for {
						r, err := a.read()
						switch {
						case err != nil:
							close(stop)
							return
						case r.Op == "cluster.leaders":
							a.ok(r, `"leaders":["b:1"],"group":0`)
						default:
							a.ok(r, `"seq":1,"stored":"quorum"`)
						}
					}
				}()
				for i := range 60 {
					if _, err := c.Queue("q").Send(t.Context(), i); err != nil {
						t.Fatal(err)
					}
					if name == "another" && i > 2 {
						w.set("b:1", true)
					}
					<-time.After(time.Second) // virtual
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if n := len(w.tried); n < 3 || n > 6 || slices.Contains(w.tried, "c:1") {
					t.Errorf("tried %v", w.tried)
				}
			})
		})
	}
}

// TestOneLane: who wants one connection has one, and so has who talks to a server that does not tell who leads; and publishes to topics
// keep those to queues in one with them.
func TestOneLane(t *testing.T) {
	publish := func(t *testing.T, c *Client, s *fakeConn, queue string) {
		t.Helper()
		sent := going(func() (Published, error) { return c.Queue(queue).Send(t.Context(), 1) })
		s.ok(s.expect("publish"), `"seq":1,"stored":"quorum"`)
		if got := <-sent; got.err != nil {
			t.Error(got.err)
		}
	}
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		for range 3 {
			publish(t, c, a, "q")
			<-time.After(time.Minute) // virtual
		}
	}, OneConnection())
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		publish(t, c, a, "q")
		a.tell(0, "b:1")
		for range 3 {
			<-time.After(time.Second) // virtual
			publish(t, c, a, "q")
		}
		if len(w.tried) != 1 {
			t.Errorf("tried %v", w.tried)
		}
	}, OnlyGiven())
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		publish(t, c, a, "q")
		a.refuse(a.expect("cluster.leaders"), "unknown_op", false)
		for i := range 3 {
			publish(t, c, a, fmt.Sprint("q", i))
			<-time.After(time.Minute) // virtual
		}
	})
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		b := settle(t, w, c, a, "q", "b:1")
		queued := c.Queue("q").SendAsync(t.Context(), 1)
		r := b.expect("publish")
		said := going(func() (*Future, error) { return c.Topic("t").SendAsync(t.Context(), 2), nil })
		synctest.Wait()
		b.ok(r, `"seq":2,"stored":"quorum"`)
		topic := a.expect("publish")
		later := c.Queue("q").SendAsync(t.Context(), 3)
		if r := a.expect("publish"); r.Queue != "q" {
			t.Errorf("%s", r.raw)
		} else {
			a.ok(topic, `"queues":1,"stored":"quorum"`)
			a.ok(r, `"seq":3,"stored":"quorum"`)
		}
		for _, f := range []*Future{queued, (<-said).v, later} {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		_ = b.Close()
	})
}

// TestCutOffLeader: a node that finds no leader once may be about to get one; that finds none again is left, and what it refused goes on elsewhere.
func TestCutOffLeader(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		b := settle(t, w, c, a, "q", "b:1")
		sent := c.Queue("q").SendAsync(t.Context(), 1)
		b.refuse(b.expect("publish"), "no_quorum", true)
		b.refuse(b.expect("publish"), "no_quorum", true)
		a.ok(a.expect("publish"), `"seq":1,"stored":"quorum"`)
		if _, err := sent.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := b.read(); err == nil {
			t.Error("it stays at a node that finds nobody")
		}
	})
}

// TestLeavesNodes: a node that closes down, or leads nothing any more, is left; there are never more connections than nodes.
func TestLeavesNodes(t *testing.T) {
	straight(t, func(t *testing.T, w *town, c *Client, a *fakeConn) {
		b := settle(t, w, c, a, "q", "b:1")
		b.send(`{"op":"closing","reason":"the server is shutting down"}`)
		if _, err := b.read(); err == nil {
			t.Error("it stays at a node that closes down")
		}
		sent := c.Queue("q").SendAsync(t.Context(), 1)
		r := a.expect("publish")
		a.ok(r, `"seq":1,"stored":"quorum"`)
		if _, err := sent.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		next := make(chan *fakeConn, 1)
		go func() { next <- w.accept("b:1", nodesOf("b:1")) }()
		a.tell(1, "a:1", "b:1")
		b = <-next
		<-time.After(lookEvery) // virtual
		sent = c.Queue("q").SendAsync(t.Context(), 1)
		a.tell(1, "c:1", "a:1")
		b.ok(b.expect("publish"), `"seq":1,"stored":"quorum"`)
		if _, err := sent.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		c.Queue("q").SendAsync(t.Context(), 1)
		a.ok(a.expect("publish"), `"seq":1,"stored":"quorum"`)
		<-time.After(lookEvery) // virtual
		a.tell(1, "c:1", "a:1")
		if _, err := b.read(); err == nil {
			t.Error("it stays at a node that leads nothing")
		}
	})
}
