package chaos_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	gmq "github.com/gmq/gmq/client"
)

// The load: each client publishes to every queue and consumes two of them.
const (
	clientCount = 6
	queueCount  = 6
	window      = 4                     // of a lane, how many publishes wait for their confirm
	pace        = 16 * time.Millisecond // of a lane: 6 × 6 lanes make 2,250 a second
	leastRate   = 1000                  // confirms a second over the run, without which the load was not real
)

// A crew is the clients. They never give up: what is not answered they ask again, with the id that the message has.
type crew struct {
	ledger  *ledger
	clients []*gmq.Client

	stop, end             context.CancelFunc // of the publishers; of everything
	publishing, consuming sync.WaitGroup
}

func queueName(i int) string { return fmt.Sprintf("chaos.%d", i) }

// A record is a client's log, for when something goes wrong.
type record struct {
	n  *node
	no int
}

// Write implements io.Writer.
func (r record) Write(b []byte) (int, error) {
	r.n.note("client %d: %s", r.no, strings.TrimSpace(string(b)))
	return len(b), nil
}

// newCrew connects the clients, each to another node first.
func newCrew(ctx context.Context, nodes []*node) (*crew, error) {
	ctx, end := context.WithCancel(ctx)
	w := &crew{ledger: newLedger(), end: end}
	publishing, stop := context.WithCancel(ctx)
	w.stop = stop
	for i := range clientCount {
		var addrs []string
		for k := range nodes {
			addrs = append(addrs, nodes[(i+k)%len(nodes)].addr())
		}
		log := slog.New(slog.NewTextHandler(record{nodes[i%len(nodes)], i}, nil))
		c, err := gmq.Dial(ctx, strings.Join(addrs, ","), gmq.ClientName(fmt.Sprint("chaos ", i)), gmq.Logger(log))
		if err != nil {
			return w, err
		}
		w.clients = append(w.clients, c)
	}
	for i, c := range w.clients {
		for q := range queueCount {
			p := w.ledger.lane(queueName(q))
			w.publishing.Go(func() { w.publish(ctx, publishing, c, p, queueName(q)) })
		}
		for _, q := range []int{i, i + 1} {
			w.consuming.Go(func() { w.consume(ctx, c, queueName(q%queueCount)) })
		}
	}
	return w, nil
}

// publish is a lane. A publish is asked again until ctx ends; no new one is begun once publishing has.
func (w *crew) publish(ctx, publishing context.Context, c *gmq.Client, p int, queue string) {
	type sent struct {
		n      int
		at     time.Time
		future *gmq.Future
	}
	way := make(chan sent, window)
	var done sync.WaitGroup
	done.Go(func() {
		for s := range way {
			out, err := s.future.Wait(ctx)
			if err != nil {
				w.ledger.unanswered(p, s.n, err)
				continue
			}
			w.ledger.confirm(p, s.n, out.Seq, s.at)
		}
	})
	tick := time.NewTicker(pace)
	defer tick.Stop()
	q, padding := c.Queue(queue), strings.Repeat("x", 80)
	for publishing.Err() == nil {
		select {
		case <-tick.C:
			n := w.ledger.publish(p)
			at := time.Now()
			way <- sent{n, at, q.SendAsync(ctx, []any{p, n, padding}, gmq.DedupID(fmt.Sprintf("%d-%d", p, n)))}
		case <-publishing.Done():
		}
	}
	close(way)
	done.Wait()
}

// consume acks all that comes, and notes what becomes of each ack.
func (w *crew) consume(ctx context.Context, c *gmq.Client, queue string) {
	type sent struct {
		p, n   int
		acking gmq.Acking
	}
	way := make(chan sent, 1024)
	w.consuming.Go(func() {
		for s := range way {
			w.ledger.ack(s.p, s.n, s.acking.Wait(ctx))
		}
	})
	defer close(way)
	for ctx.Err() == nil {
		for m, err := range c.Queue(queue).Messages(ctx, gmq.Credit(64)) {
			if err != nil {
				break // it was ended by the server, as R143 allows: begin another one
			}
			var p, n int
			if err := m.Decode(&[]any{&p, &n, new(string)}); err != nil {
				w.ledger.mu.Lock()
				w.ledger.fault("%s: seq %d has another body: %v", queue, m.Seq, err)
				w.ledger.mu.Unlock()
				continue
			}
			w.ledger.deliver(queue, p, n, m.Seq, m.Redelivered, m.Attempt)
			way <- sent{p, n, m.AckAsync()}
		}
	}
}

// finish lets the publishers end, and the consumers empty the queues; for so long at most.
func (w *crew) finish(within time.Duration) error {
	w.stop()
	deadline := time.After(within)
	over := make(chan struct{})
	go func() {
		w.publishing.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-deadline:
		return fmt.Errorf("publishes are without an answer %v after the last one", within)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, some := w.ledger.left()
		if n == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("%d confirmed messages are not acked %v after the last publish:%s", n, within, some)
		}
	}
}

// close ends the clients.
func (w *crew) close() {
	w.end()
	for _, c := range w.clients {
		c.Close()
	}
	w.publishing.Wait()
	w.consuming.Wait()
}
