package gmq

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A town is some fake servers at addresses; those that are down cannot be reached.
type town struct {
	mu    sync.Mutex
	at    map[string]*fake
	down  map[string]bool
	tried []string
}

func newTown(t *testing.T, addrs ...string) *town {
	w := &town{at: map[string]*fake{}, down: map[string]bool{}}
	for _, a := range addrs {
		w.at[a] = newFake(t)
	}
	return w
}

func (w *town) dial(ctx context.Context, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.tried = append(w.tried, addr)
	f, down := w.at[addr], w.down[addr]
	w.mu.Unlock()
	if f == nil || down {
		return nil, errors.New("nobody there")
	}
	return f.dial(ctx, addr)
}

func (w *town) set(addr string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[addr] = down
}

// accept takes a connection and tells of the nodes that there are.
func (w *town) accept(addr, nodes string) *fakeConn {
	conn := <-w.at[addr].conns
	s := &fakeConn{t: w.at[addr].t, Conn: conn, in: bufio.NewReader(conn)}
	r := s.expect("hello")
	s.ok(r, `"server":"gmq","version":"test","protocol":1,"max_message_bytes":1048576`+nodes)
	return s
}

// TestLearnsOfNodesThatCome: a client that was connected to a server when that was alone goes on with another node of what it has become the first node of.
func TestLearnsOfNodesThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("a:1", "") }()
		c, err := Dial(t.Context(), "a:1", DialWith(w.dial), Heartbeat(5*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a := <-first
		a.ok(a.expect("hello"), `"server":"gmq","version":"test","protocol":1,"max_message_bytes":1048576`)
		a.ok(a.expect("hello"), `"server":"gmq","version":"test","protocol":1,"max_message_bytes":1048576,"nodes":["a:1","b:1"]`)
		synctest.Wait()
		w.set("a:1", true)
		next := make(chan *fakeConn, 1)
		go func() { next <- w.accept("b:1", `,"nodes":["b:1","a:1"]`) }()
		_ = a.Close()
		b := <-next
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1) })
		b.ok(b.expect("publish"), `"seq":1,"stored":"quorum"`)
		if got := <-sent; got.err != nil {
			t.Error(got.err)
		}
		_ = b.Close()
	})
}

func TestFailsOverToOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1", "c:1")
		w.set("a:1", true)
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("b:1", `,"nodes":["b:1","c:1"]`) }()
		c, err := Dial(t.Context(), "a:1, b:1", DialWith(w.dial), Heartbeat(0))
		if err != nil {
			t.Fatal(err)
		}
		s := <-first
		if got := c.Hello().Nodes; !slices.Equal(got, []string{"b:1", "c:1"}) {
			t.Error(got)
		}
		w.set("b:1", true)
		go func() { first <- w.accept("c:1", `,"nodes":["b:1","c:1"]`) }()
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1, DedupID("x")) })
		before := s.expect("publish")
		_ = s.Close()
		s = <-first // of whom only the cluster has told
		again := s.expect("publish")
		if again.raw != before.raw {
			t.Errorf("%s was asked again as %s", before.raw, again.raw)
		}
		s.ok(again, `"seq":4,"stored":"quorum"`)
		if got := <-sent; got.err != nil || got.v.Seq != 4 {
			t.Error(got)
		}
		if want := []string{"a:1", "b:1", "c:1"}; !slices.Equal(w.tried, want) {
			t.Errorf("tried %v, want %v", w.tried, want)
		}
		_ = c.Close()
		_ = s.Close()
	})
}

func TestOnlyGivenAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		go func() { w.accept("a:1", `,"nodes":["a:1","b:1"]`).Close() }()
		c, err := Dial(t.Context(), "a:1", DialWith(w.dial), Heartbeat(0), OnlyGiven())
		if err != nil {
			t.Fatal(err)
		}
		w.set("a:1", true)
		<-time.After(10 * time.Second) // virtual
		_ = c.Close()
		if slices.Contains(w.tried, "b:1") {
			t.Errorf("tried %v", w.tried)
		}
	})
}

func TestDialTellsOfAllAddresses(t *testing.T) {
	w := newTown(t)
	_, err := Dial(t.Context(), "a:1,b:1", DialWith(w.dial))
	if err == nil || !slices.Equal(w.tried, []string{"a:1", "b:1"}) {
		t.Errorf("tried %v: %v", w.tried, err)
	}
}

// TestNobodyLeads: what was certainly not done is asked again; of what may have been done only what may be done twice.
func TestNobodyLeads(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1) })
		for range 3 {
			s.refuse(s.expect("publish"), "no_quorum", true)
		}
		s.ok(s.expect("publish"), `"seq":7,"stored":"quorum"`)
		if got := <-sent; got.err != nil || got.v.Seq != 7 {
			t.Error(got)
		}

		sent = going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1) })
		s.refuse(s.expect("publish"), "unknown_outcome", true)
		if got := <-sent; !errors.Is(got.err, ErrUnknownOutcome) {
			t.Error(got)
		}

		f := c.Queue("q").SendAsync(t.Context(), 1, DedupID("x"))
		s.refuse(s.expect("publish"), "unknown_outcome", true)
		s.refuse(s.expect("publish"), "no_quorum", true)
		s.ok(s.expect("publish"), `"seq":8,"stored":"quorum","duplicate":true`)
		if got, err := f.Wait(t.Context()); err != nil || got.Seq != 8 || !got.Duplicate {
			t.Error(got, err)
		}

		f = c.Queue("q").SendAsync(t.Context(), 1) // its place among others would be another
		s.refuse(s.expect("publish"), "no_quorum", true)
		if _, err := f.Wait(t.Context()); !errors.Is(err, ErrNoQuorum) || !IsRetryable(err) {
			t.Error(err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent = going(func() (Published, error) { return c.Queue("q").Send(ctx, 1) })
		go func() {
			for {
				r, err := s.read()
				if err != nil {
					return
				}
				s.refuse(r, "no_quorum", true)
			}
		}()
		if got := <-sent; !errors.Is(got.err, ErrNoQuorum) {
			t.Error(got)
		}
	})
}

// TestPausedNode: a node that says nothing while something waits for it is left for another one; an idle connection is let be.
func TestPausedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("a:1", `,"nodes":["a:1","b:1"]`) }()
		c, err := Dial(t.Context(), "a:1", DialWith(w.dial), OneConnection())
		if err != nil {
			t.Fatal(err)
		}
		s := <-first
		<-time.After(15 * time.Second) // virtual
		if len(w.tried) != 1 {
			t.Fatalf("tried %v", w.tried)
		}
		go func() { first <- w.accept("b:1", `,"nodes":["b:1","a:1"]`) }()
		began := time.Now()
		sent := going(func() (Published, error) { return c.Queue("q").Send(t.Context(), 1, DedupID("x")) })
		s.expect("publish")
		s.expect("ping")
		other := <-first
		other.ok(other.expect("publish"), `"seq":1,"stored":"quorum"`)
		if got := <-sent; got.err != nil {
			t.Error(got.err)
		}
		if took := time.Since(began); took > hurry+grace+2*glance { // virtual
			t.Errorf("it took %v", took)
		}
		_ = c.Close()
		_ = s.Close()
		_ = other.Close()
	})
}

// TestMovesOn: a node that finds no leaders is left for another one when all is answered that cannot be asked again; what was certainly not
// done is asked again there, in its order.
func TestMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1", "b:1")
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("a:1", `,"nodes":["a:1","b:1"]`) }()
		c, err := Dial(t.Context(), "a:1", DialWith(w.dial), Heartbeat(5*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		s := <-first
		var sent []*Future
		for i := range 4 {
			sent = append(sent, c.Queue("q").SendAsync(t.Context(), i))
		}
		var asked []request
		for range 4 {
			asked = append(asked, s.expect("publish"))
		}
		go func() { first <- w.accept("b:1", `,"nodes":["b:1","a:1"]`) }()
		for _, i := range []int{2, 0} {
			s.refuse(asked[i], "no_quorum", true)
		}
		<-time.After(time.Second) // virtual
		s.refuse(asked[1], "unknown_outcome", true)
		select {
		case <-first:
			t.Fatal("it has moved on though something is without an answer")
		case <-time.After(glance): // virtual
		}
		s.ok(asked[3], `"seq":1,"stored":"quorum"`)
		other := <-first
		for _, i := range []int{0, 2} {
			again := other.expect("publish")
			if again.raw != asked[i].raw {
				t.Errorf("%s was asked again as %s", asked[i].raw, again.raw)
			}
			other.ok(again, `"seq":2,"stored":"quorum"`)
		}
		for i, f := range sent {
			if _, err := f.Wait(t.Context()); (err != nil) != (i == 1) || i == 1 && !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("publish %d: %v", i, err)
			}
		}

		// Where the next one finds none either, it is asked for a while.
		f := c.Queue("q").SendAsync(t.Context(), 5)
		other.refuse(other.expect("publish"), "no_quorum", true)
		other.ok(other.expect("publish"), `"seq":3,"stored":"quorum"`)
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		_ = c.Close()
		_ = s.Close()
		_ = other.Close()
	})
}

// TestSaysWhyItWaited: a call that was refused for want of a leader, and could be asked nobody again before its time was over, says that.
func TestSaysWhyItWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "a:1")
		first := make(chan *fakeConn, 1)
		go func() { first <- w.accept("a:1", `,"nodes":["a:1","b:1"]`) }()
		c, err := Dial(t.Context(), "a:1", DialWith(w.dial), Heartbeat(0))
		if err != nil {
			t.Fatal(err)
		}
		s := <-first
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		sent := going(func() (Published, error) { return c.Queue("q").Send(ctx, 1) })
		s.refuse(s.expect("publish"), "no_quorum", true)
		w.set("a:1", true)
		_ = s.Close()
		if got := <-sent; !errors.Is(got.err, ErrNoQuorum) {
			t.Errorf("%v, want that there is no quorum", got.err)
		}
		_ = c.Close()
	})
}

// TestSaysWhatCameLast: who stops waiting for what is asked again is told why it is; of a publish that its fate is unknown, besides. Closing then waits for
// neither of them.
func TestSaysWhatCameLast(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		token := going(func() (struct{}, error) {
			_, _, err := c.JoinToken(ctx, 0)
			return struct{}{}, err
		})
		s.refuse(s.expect("cluster.token"), "no_quorum", true)
		s.expect("cluster.token")
		if got := <-token; !errors.Is(got.err, ErrNoQuorum) {
			t.Errorf("a token: %v", got.err)
		}

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := c.Queue("q").SendAsync(t.Context(), 1, DedupID("x"))
		sent := going(func() (Published, error) { return c.Queue("q").Send(ctx, 2, DedupID("y")) })
		for range 2 {
			s.refuse(s.expect("publish"), "no_quorum", true)
		}
		_, async := f.Wait(ctx)
		for _, err := range []error{async, (<-sent).err} {
			e, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrNoQuorum) || e.Last == nil || !errors.Is(e.Last, ErrNoQuorum) {
				t.Errorf("a publish: %v", err)
			}
		}
		go func() {
			for {
				r, err := s.read()
				if err != nil {
					return
				}
				s.refuse(r, "no_quorum", true)
			}
		}()
	})
}

// TestCloseDoesNotWaitForWhatNobodyWaitsFor: before, it waited as long again.
func TestCloseDoesNotWaitForWhatNobodyWaitsFor(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		for late := range 2 { // whoever stops waiting may do so while it closes
			ctx, cancel := context.WithCancel(t.Context())
			sent := going(func() (Published, error) { return c.Queue("q").Send(ctx, 1) })
			s.expect("publish")
			if late == 0 {
				cancel()
				if got := <-sent; !errors.Is(got.err, ErrUnknownOutcome) {
					t.Error(got.err)
				}
				continue
			}
			began := time.Now()
			closed := going(func() (struct{}, error) { return struct{}{}, c.Shutdown(t.Context()) })
			synctest.Wait()
			cancel()
			if got := <-closed; got.err != nil || time.Since(began) > 0 { // virtual
				t.Errorf("%v after %v", got.err, time.Since(began))
			}
		}
	})
}
