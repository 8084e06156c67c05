package broker

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/queue"
)

// What is about all queues is gathered: each node tells of the shards that it leads.

// A question is on its way to other nodes. Each of them answers once: with nil when the line to it breaks.
type question struct {
	mu    sync.Mutex // guards the following; no other lock is taken while it is held
	left  int
	got   map[uint64][]byte
	whole chan struct{} // closed when nobody is waited for any more
}

func (q *question) answer(node uint64, b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b != nil {
		q.got[node] = slices.Clone(b)
	}
	if q.left--; q.left == 0 {
		close(q.whole)
	}
}

// ask asks all nodes to which there is a line, and waits for their answers, two seconds at most.
func (f *forwarder) ask(m []byte) map[uint64][]byte {
	var callers []*Caller
	for _, node := range f.b.opt.Peers.Nodes() {
		if c := f.caller(node); c != nil {
			callers = append(callers, c)
		}
	}
	if len(callers) == 0 {
		return nil
	}
	q := &question{left: len(callers), got: map[uint64][]byte{}, whole: make(chan struct{})}
	for _, c := range callers {
		if !c.ask(q, m) {
			q.answer(c.node, nil)
		}
	}
	f.b.awaitFor(q.whole, time.Duration(patience))
	q.mu.Lock()
	defer q.mu.Unlock()
	got := q.got
	q.got = map[uint64][]byte{} // who comes later is not heard
	return got
}

// ask sends a question. It is false where the line has broken.
func (c *Caller) ask(q asker, m []byte) bool {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return false
	}
	c.next++
	number := c.next
	c.asked[number] = q
	c.mu.Unlock()
	c.line.Send(appendUvarint([]byte{sayAsk}, number), m)
	return true
}

// awaitFor waits for c, and no longer than d.
func (b *Broker) awaitFor(c <-chan struct{}, d time.Duration) {
	if s := b.opt.Scheduler; s != nil {
		s.Await(c, d)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}

// What can be asked.
const (
	askQueues    = iota + 1 // prefix: the queues of the shards that the node leads
	askSettle               // queue, messages: to be published there (abroad.go)
	askLook                 // the queues that the node leads, with what only it knows of them (gather_look.go)
	askConsumers            // queue, how many: its consumers
)

// An asker is told what another node answers; nil when the line to it has broken.
type asker interface {
	answer(node uint64, b []byte)
}

// answer answers a question, beside everything else: shards are waited for.
func (g *Guest) answer(number uint64, r *reader) {
	subject := r.byte()
	if subject == askSettle {
		g.takeIn(number, r)
		return
	}
	if subject == askLook && r.whole() {
		g.b.begin(func() { g.line.Send(appendUvarint([]byte{sayAnswer}, number), g.tellQueues()) })
		return
	}
	prefix := string(r.textOf())
	if subject == askConsumers {
		most := r.count(1 << 20)
		if r.whole() {
			g.b.begin(func() { g.line.Send(appendUvarint([]byte{sayAnswer}, number), g.tellConsumers(prefix, most)) })
		}
		return
	}
	if r.bad || subject != askQueues {
		return
	}
	g.b.begin(func() {
		m := appendUvarint([]byte{sayAnswer}, number)
		var leads uint32
		var told []byte
		for i, qs := range g.b.queuesByShard(prefix) {
			if _, here := g.b.leader(i); !here {
				continue
			}
			leads |= 1 << i
			for _, q := range qs {
				told = appendTextOf(appendTextOf(told, q.Name), q.Settings.Storage)
				for _, n := range [...]int{q.Counts.Ready, q.Counts.Leased, q.Counts.Delayed} {
					told = appendUvarint(told, uint64(n))
				}
			}
		}
		g.line.Send(appendUvarint(m, uint64(leads)), told)
	})
}

// queuesByShard are the queues that have a name beginning with prefix, as this node knows them.
func (b *Broker) queuesByShard(prefix string) (all [Shards][]QueueStats) {
	b.each(func(sh *shard) {
		for _, st := range sh.stores {
			for _, q := range st.state.Queues() {
				if strings.HasPrefix(q.Name, prefix) && !queue.Ephemeral(q.Name) {
					all[sh.index] = append(all[sh.index], sh.stats(q))
				}
			}
		}
	})
	return all
}

// allQueues are the queues of the whole cluster: of each shard what its leader says, and where that cannot be heard what this node knows.
func (b *Broker) allQueues(prefix string) []QueueStats {
	if b.forward == nil {
		return b.Queues(prefix)
	}
	answers := b.forward.ask(appendTextOf([]byte{askQueues}, prefix))
	own := b.queuesByShard(prefix)
	var all []QueueStats
	var led uint32
	for i := range own {
		if _, here := b.leader(i); here {
			led |= 1 << i
			all = append(all, own[i]...)
			own[i] = nil
		}
	}
	for _, node := range b.opt.Peers.Nodes() {
		r := reader{b: answers[node]}
		if len(r.b) == 0 {
			continue
		}
		mask := uint32(r.uvarint()) &^ led
		var theirs []QueueStats
		for !r.bad && len(r.b) > 0 {
			q := QueueStats{Name: string(r.textOf())}
			q.Settings.Storage = string(r.textOf())
			q.Counts.Ready, q.Counts.Leased, q.Counts.Delayed = r.count(math.MaxInt64), r.count(math.MaxInt64), r.count(math.MaxInt64)
			if mask&(1<<shardOf([]byte(q.Name))) != 0 {
				theirs = append(theirs, q)
			}
		}
		if !r.bad {
			led |= mask
			all = append(all, theirs...)
		}
	}
	for i, qs := range own {
		if led&(1<<i) == 0 {
			all = append(all, qs...)
		}
	}
	slices.SortFunc(all, func(a, b QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
