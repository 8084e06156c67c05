package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
)

// threeNodes are a cluster that goes on after the loss of any node, and tells clients where all of them are.
func threeNodes(t *testing.T) []*daemon {
	t.Helper()
	nodes := []*daemon{startServer(t)}
	for range 2 {
		nodes = append(nodes, startServer(t, "--join", strings.TrimSpace(nodes[0].must("", "cluster", "token"))))
	}
	for !strings.Contains(nodes[0].must("", "cluster", "status"), "goes on after the loss of any 1 node") { // each look is a process of its own, so this does not spin
	}
	for { // a node that was given no port says later which one it has
		c, err := gmq.Dial(t.Context(), nodes[0].addr, gmq.OneConnection())
		if err != nil {
			t.Fatal(err)
		}
		known := len(c.Hello().Nodes)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if known == 3 {
			return nodes
		}
	}
}

// A dialer knows which connections there are.
type dialer struct {
	mu   sync.Mutex
	open map[string]int // by address
}

type dialed struct {
	net.Conn
	close func()
}

func (c dialed) Close() error { c.close(); return c.Conn.Close() }

func (d *dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d.count(addr, 1)
	return dialed{nc, sync.OnceFunc(func() { d.count(addr, -1) })}, nil
}

func (d *dialer) count(addr string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[addr] += n
}

// to reports whether there is one connection to each of some addresses.
func (d *dialer) to(addrs ...string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range addrs {
		if d.open[a] != 1 {
			return false
		}
	}
	return true
}

// straightWindow is how many messages of a queue may be on their way besides two: one that is waited for, and one that waits.
const straightWindow = 3

// A straightQueue is one queue of TestStraightToLeaders.
type straightQueue struct {
	name string
	mu   sync.Mutex
	seqs []uint64          // by number of the message, as confirmed
	got  map[uint64]string // bodies by seq
	done chan struct{}     // closed when all that is confirmed has come
	all  int
}

// publish sends numbers until enough says so; nothing may be refused.
func (q *straightQueue) publish(ctx context.Context, t *testing.T, c *gmq.Client, enough <-chan struct{}) {
	way := make(chan *gmq.Future, straightWindow)
	go func() {
		defer close(way)
		for n := 0; ; n++ {
			select {
			case <-enough:
				return
			default:
				way <- c.Queue(q.name).SendAsync(ctx, n, gmq.DedupID(fmt.Sprint(n)))
			}
		}
	}()
	for f := range way {
		p, err := f.Wait(ctx)
		if err != nil {
			t.Errorf("%s: message %d: %v", q.name, len(q.seqs), err)
			return
		}
		q.seqs = append(q.seqs, p.Seq)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = len(q.seqs)
	q.full()
}

func (q *straightQueue) full() {
	if q.all > 0 && len(q.got) >= q.all {
		close(q.done)
		q.all = -1
	}
}

func (q *straightQueue) consume(ctx context.Context, t *testing.T, c *gmq.Client) {
	for m, err := range c.Queue(q.name).Messages(ctx, gmq.Credit(64)) {
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("%s: %v", q.name, err)
			}
			return
		}
		q.mu.Lock()
		q.got[m.Seq] = string(m.Body)
		q.full()
		q.mu.Unlock()
		m.AckAsync()
	}
}

// TestStraightToLeaders: a client publishes and consumes at the nodes that lead its queues while one of these is killed. Nothing is lost or stored
// twice, and what was confirmed before another message was sent stands before it.
func TestStraightToLeaders(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	d := &dialer{open: map[string]int{}}
	c, err := gmq.Dial(t.Context(), nodes[0].addr, gmq.DialWith(d.dial))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	consuming, stop := context.WithCancel(ctx)
	enough := make(chan struct{})
	var publishers, consumers sync.WaitGroup
	var queues []*straightQueue
	for i := range 12 {
		q := &straightQueue{name: fmt.Sprint("q", i), got: map[uint64]string{}, done: make(chan struct{})}
		queues = append(queues, q)
		publishers.Go(func() { q.publish(ctx, t, c, enough) })
		consumers.Go(func() { q.consume(consuming, t, c) })
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !d.to(nodes[0].addr, nodes[1].addr, nodes[2].addr) {
		<-look.C
	}
	nodes[2].signal(syscall.SIGKILL)
	nodes[2].wait()
	for !d.to(nodes[0].addr, nodes[1].addr) || d.to(nodes[2].addr) {
		<-look.C
	}
	if _, err := c.Queue("last").Send(ctx, 1, gmq.DedupID("last")); err != nil { // it may have been led by the one that is gone
		t.Error(err)
	}
	close(enough)
	publishers.Wait()
	for _, q := range queues {
		select {
		case <-q.done:
		case <-ctx.Done():
			t.Errorf("%s: %d of %d came", q.name, len(q.got), len(q.seqs))
		}
	}
	stop()
	consumers.Wait()
	for _, q := range queues {
		for n, seq := range q.seqs {
			// What the lost leader may or may not have is sent again, and comes behind what was on its way with it. Nothing comes behind what was sent when it was confirmed.
			if body := q.got[seq]; body != fmt.Sprint(n) || n > straightWindow+2 && seq <= q.seqs[n-straightWindow-2] {
				t.Fatalf("%s: message %d has seq %d, and there is %q; seqs before it: %d", q.name, n, seq, body, q.seqs[max(n-20, 0):n])
			}
		}
		if info, err := c.QueueInfo(ctx, q.name); err != nil || info.Counts.Published != uint64(len(q.seqs)) {
			t.Errorf("%s: %d were confirmed, %d are stored (%v)", q.name, len(q.seqs), info.Counts.Published, err)
		}
	}
}
