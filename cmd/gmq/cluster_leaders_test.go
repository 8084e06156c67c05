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
	way := make(chan *gmq.Future, 32)
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

// TestStraightToLeaders: a client publishes and consumes at the nodes that lead its queues while one of these is killed. Nothing is lost or stored twice,
// and what was published to a queue has its order there.
func TestStraightToLeaders(t *testing.T) {
	t.Parallel()
	nodes := []*daemon{startServer(t)}
	for range 2 {
		nodes = append(nodes, startServer(t, "--join", strings.TrimSpace(nodes[0].must("", "cluster", "token"))))
	}
	for !strings.Contains(nodes[0].must("", "cluster", "status"), "goes on after the loss of any 1 node") { // each look is a process of its own, so this does not spin
	}
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
	confirmed := c.Queue("last") // it may have been led by the one that is gone
	if _, err := confirmed.Send(ctx, 1); err != nil {
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
			if body := q.got[seq]; body != fmt.Sprint(n) || n > 0 && seq <= q.seqs[n-1] {
				t.Fatalf("%s: message %d has seq %d, and there is %q; the one before has %d", q.name, n, seq, body, q.seqs[max(n-1, 0)])
			}
		}
		if info, err := c.QueueInfo(ctx, q.name); err != nil || info.Counts.Published != uint64(len(q.seqs)) {
			t.Errorf("%s: %d were confirmed, %d are stored (%v)", q.name, len(q.seqs), info.Counts.Published, err)
		}
	}
}
