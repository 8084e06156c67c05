// Package relay carries messages between the brokers of a cluster: one line for each direction of a pair of nodes, many small messages in
// one write, a line that is silent for too long given up.
//
// It owns lines, their buffers and what makes them anew. It does not know what a message says, nor how nodes reach each other and prove who
// they are: it is given connections on which that is settled.
package relay

import (
	"context"
	"net"
	"sync"
	"time"
)

// Options say how other nodes are reached and who is told what.
type Options struct {
	// Nodes are the other nodes. There is to be a line to each of them.
	Nodes func() []uint64
	// Dial makes a connection to a node, at both ends of which it is known who is at the other.
	Dial func(ctx context.Context, node uint64) (net.Conn, error)
	// Up is told of a new line to a node. What comes on it is given to receive, message by message, each valid during the call; over is called
	// when nothing more will come. Neither must wait. Accept is the same of lines that other nodes have made.
	Up, Accept func(node uint64, l *Line) (receive func(message []byte), over func())
	// Beat is how often something is said on a line at least, 500 ms; Silence is after how long a line on which nothing comes, or to which
	// nothing can be written, is given up, 3 s; Retry is how long after a failure a line is tried again, 100 ms.
	Beat, Silence, Retry time.Duration
	// MaxMessage is the longest message that is taken, 64 MiB; QueueBytes is how much may wait to be written before a line
	// is given up, 256 MiB: whoever sends bounds himself far below that.
	MaxMessage, QueueBytes int
	// Logf is told what an operator should know; nil tells nobody.
	Logf func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		is *time.Duration
		to time.Duration
	}{{&o.Beat, 500 * time.Millisecond}, {&o.Silence, 3 * time.Second}, {&o.Retry, 100 * time.Millisecond}} {
		if *d.is == 0 {
			*d.is = d.to
		}
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = 64 << 20
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 256 << 20
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}

// A Relay is a node's lines.
type Relay struct {
	opt  Options
	life context.Context
	end  context.CancelFunc
	over sync.WaitGroup
	wake chan struct{} // holds one

	mu     sync.Mutex // guards the following
	calls  map[uint64]context.CancelFunc
	closed bool
}

// New makes lines to all other nodes, and makes them anew when they break, until Close.
func New(opt Options) *Relay {
	r := &Relay{opt: opt.withDefaults(), wake: make(chan struct{}, 1), calls: map[uint64]context.CancelFunc{}}
	r.life, r.end = context.WithCancel(context.Background())
	r.over.Go(r.run)
	return r
}

// Look says that there may be other nodes than before.
func (r *Relay) Look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close ends all lines and waits for them.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.over.Wait()
}

// run sees to it that there is somebody who keeps up the line to each node.
func (r *Relay) run() {
	for {
		wanted := map[uint64]bool{}
		for _, node := range r.opt.Nodes() {
			wanted[node] = true
		}
		r.mu.Lock()
		for node, cancel := range r.calls {
			if !wanted[node] {
				cancel()
				delete(r.calls, node)
			}
		}
		for node := range wanted {
			if r.calls[node] == nil && !r.closed {
				ctx, cancel := context.WithCancel(r.life)
				r.calls[node] = cancel
				r.over.Go(func() { r.call(ctx, node) })
			}
		}
		r.mu.Unlock()
		select {
		case <-r.wake:
		case <-r.life.Done():
			return
		}
	}
}

// call keeps up the line to a node.
func (r *Relay) call(ctx context.Context, node uint64) {
	told := ""
	for ctx.Err() == nil {
		c, err := r.dial(ctx, node)
		if err == nil {
			told = ""
			err = r.serve(ctx, c, node, r.opt.Up)
		}
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != told { // once, however often it is tried
			told = text
			r.opt.Logf("the line to node %d: %v", node, err)
		}
		t := time.NewTimer(r.opt.Retry)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

func (r *Relay) dial(ctx context.Context, node uint64) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Silence)
	defer cancel()
	return r.opt.Dial(ctx, node)
}

// Serve serves a line that another node has made. It returns when the line is over; the connection is closed then.
func (r *Relay) Serve(c net.Conn, node uint64) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		_ = c.Close() // nothing was said on it
		return
	}
	r.over.Add(1)
	r.mu.Unlock()
	defer r.over.Done()
	if err := r.serve(r.life, c, node, r.opt.Accept); err != nil && r.life.Err() == nil {
		r.opt.Logf("the line from node %d: %v", node, err)
	}
}

// serve carries messages until the line breaks.
func (r *Relay) serve(ctx context.Context, c net.Conn, node uint64, meet func(uint64, *Line) (func([]byte), func())) error {
	l := newLine(c, &r.opt)
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	defer stop()
	receive, over := meet(node, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.fail(l.write())
	}()
	l.fail(l.read(receive))
	<-done
	over()
	return l.err
}
