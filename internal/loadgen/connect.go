package loadgen

import (
	"context"
	"time"
)

// connect makes all connections: first those that take, so that nothing is published before somebody listens.
func (r *run) connect(ctx context.Context) error {
	for i := range r.set.Consumers {
		feeds := r.feedsOf(i)
		var requests [][]byte
		for n, f := range feeds {
			requests = append(requests, r.subscribeLine(n, "queue", f.name))
		}
		if err := r.addConsumer(ctx, i, feeds, requests); err != nil {
			return err
		}
	}
	pattern := ""
	if r.set.Topics > 0 {
		pattern = r.topics[0]
	}
	if r.set.Topics > 1 {
		pattern = pattern[:len(pattern)-len("0")] + "*"
	}
	for i := range r.set.Subscribers {
		feeds := []feed{{stream: r.set.queueCopies() + i}}
		if err := r.addConsumer(ctx, r.set.Consumers+i, feeds, [][]byte{r.subscribeLine(0, "topic", pattern)}); err != nil {
			return err
		}
	}
	for range r.set.Idle {
		if err := r.addIdle(ctx); err != nil {
			return err
		}
	}
	for i := range r.set.Publishers {
		nc, err := r.dial(ctx)
		if err != nil {
			return err
		}
		r.publishers = append(r.publishers, newPublisher(r, i, nc))
	}
	return nil
}

// feedsOf are the queues of one consumer: consumers share a queue where there are more of them than of queues.
func (r *run) feedsOf(consumer int) (feeds []feed) {
	consumers, queues := r.set.Consumers, r.set.Queues
	for q := consumer % queues; q < queues; q += max(consumers, 1) {
		feeds = append(feeds, feed{name: r.queues[q], stream: r.set.queueStream(q)})
		if consumers > queues {
			break
		}
	}
	return feeds
}

// addConsumer connects one consumer of feeds, each of which it gets by one of the requests.
func (r *run) addConsumer(ctx context.Context, n int, feeds []feed, requests [][]byte) error {
	nc, err := r.dial(ctx)
	if err != nil {
		return err
	}
	c := &consumer{run: r, n: n, nc: nc, tally: r.deliveries.of(n)}
	in := &lines{r: nc}
	nc.SetReadDeadline(time.Now().Add(r.patience))
	if err := c.subscribe(requests, feeds, in); err != nil {
		return err
	}
	nc.SetReadDeadline(time.Time{})
	r.consumers = append(r.consumers, c)
	r.reading(func() error { return c.read(in) })
	return nil
}

// addIdle connects a subscriber that never gets anything. What the server says to it nobody reads.
func (r *run) addIdle(ctx context.Context) error {
	nc, err := r.dial(ctx)
	if err != nil {
		return err
	}
	c := &consumer{run: r, nc: nc}
	nc.SetReadDeadline(time.Now().Add(r.patience))
	idle := r.queues[len(r.queues)-1]
	return c.subscribe([][]byte{r.subscribeLine(0, "queue", idle)}, []feed{{name: idle}}, &lines{r: nc})
}
