package gmqtest

import (
	"sync"

	"github.com/gmq/gmq/internal/journal"
)

// settleRounds is how many records may follow from each other in what one Advance does,
// such as a lease that ends, and the making of the queue for its dead letter. It is bounded because
// clients may keep the server busy meanwhile.
const settleRounds = 4

// settle returns when the broker has acted on what the clock says now.
func (l *life) settle() {
	l.broker.Wake()
	for range settleRounds {
		// The first pass may fall into turns that began before the clock moved; the second
		// falls into turns after it; when the third has been everywhere, those are over.
		l.pass(3)
		for _, j := range l.journals {
			j.wait()
		}
	}
	l.pass(2) // what was kept last has been applied
}

// pass visits every shard, n times. It asks for queues that cannot be: the visit is what counts.
func (l *life) pass(n int) {
	for range n {
		l.broker.Queues("\x00")
	}
}

// A counted journal knows how many batches it has not given back yet.
type counted struct {
	journal.Journal

	mu      sync.Mutex // guards the following
	changed *sync.Cond
	in, out uint64 // batches proposed, and committed
	broken  bool
}

func newCounted(j journal.Journal) *counted {
	c := &counted{Journal: j}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// Propose implements journal.Journal.
func (c *counted) Propose(b *journal.Batch) {
	c.expect()
	c.Journal.Propose(b)
}

// expect counts a batch whose outcome is to come.
func (c *counted) expect() {
	c.mu.Lock()
	c.in++
	c.mu.Unlock()
}

// Committed implements journal.Journal.
func (c *counted) Committed(into []*journal.Batch) []*journal.Batch {
	before := len(into)
	into = c.Journal.Committed(into)
	if n := len(into) - before; n > 0 {
		c.mu.Lock()
		c.out += uint64(n)
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	return into
}

// wait waits for the outcome of what has been proposed so far.
func (c *counted) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for all := c.in; c.out < all && !c.broken; {
		c.changed.Wait()
	}
}

// giveUp ends all waiting: there will be no outcome.
func (c *counted) giveUp() {
	c.mu.Lock()
	c.broken = true
	c.changed.Broadcast()
	c.mu.Unlock()
}
