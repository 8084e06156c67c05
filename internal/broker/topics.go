package broker

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

const (
	// maxBoundWords is how many words the patterns may have together that are bound in a broker: each takes about 100 bytes.
	maxBoundWords = 3_000_000
	// maxEphemeral is how many ephemeral queues there may be in a broker, and maxOwnEphemeral how many of one session.
	maxEphemeral, maxOwnEphemeral = 100_000, 1_000
	// ephemeralMessages and ephemeralBytes are what an ephemeral queue holds for a subscriber that is slow.
	ephemeralMessages, ephemeralBytes = 10_000, 8 << 20
)

// A bound is a queue that is bound to topics, as all sessions see it. Only its shard may look into the queue: it would not even be cheap to read
// what never changes of it, beside what changes with every message.
type bound struct {
	shard     int
	store     int // index in Options.Storages
	queue     *queue.Queue
	id        uint32
	name      []byte
	ephemeral bool
	missed    atomic.Uint64 // messages for which an ephemeral queue had no room
}

// topics is the index of what is bound in all shards. A shard changes it when a binding has been kept.
type topics struct {
	mu      sync.RWMutex // guards tree
	tree    queue.Topics[*bound]
	version atomic.Uint64 // of tree
	words   atomic.Int64  // of its patterns
	known   knownMatches
}

func (t *topics) bind(pattern string, b *bound, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on {
		t.tree.Bind(pattern, b)
	} else {
		t.tree.Unbind(pattern, b)
	}
	t.words.Store(int64(t.tree.Words()))
	t.version.Add(1)
}

// match is what is bound to a topic: each queue once, those of a shard together.
func (t *topics) match(topic []byte, into []*bound) []*bound {
	t.mu.RLock()
	into = t.tree.Match(topic, into)
	t.mu.RUnlock()
	slices.SortFunc(into, func(a, b *bound) int {
		return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.store, b.store), cmp.Compare(a.id, b.id))
	})
	return slices.Compact(into)
}

// boundOf is what the broker's index has for q; it is made when it is first asked for.
func (sh *shard) boundOf(st *store, q *queue.Queue) *bound {
	b := sh.bounds[q]
	if b == nil {
		b = &bound{shard: sh.index, store: slices.Index(sh.stores, st), queue: q, id: q.ID, name: []byte(q.Name), ephemeral: queue.Ephemeral(q.Name)}
		sh.bounds[q] = b
	}
	return b
}

// indexAll puts the bindings that were restored into the index.
func (sh *shard) indexAll() {
	for _, st := range sh.stores {
		for _, q := range st.state.Queues() {
			for _, pattern := range q.Bindings {
				sh.b.topics.bind(pattern, sh.boundOf(st, q), true)
			}
		}
	}
}

// unindex takes a queue that is no more out of the index.
func (sh *shard) unindex(q *queue.Queue) {
	b := sh.bounds[q]
	if b == nil {
		return
	}
	delete(sh.bounds, q)
	for _, pattern := range q.Bindings {
		sh.b.topics.bind(pattern, b, false)
	}
	if b.ephemeral {
		sh.b.ephemeral.Add(-1)
	}
}

// bind proposes a binding of a queue, or the end of one.
func (sh *shard) bind(w *work, c *control, t target) bool {
	q, pattern, off := t.queue, string(c.topic), c.op == wire.OpQueueUnbind
	if n := sh.b.topics.words.Load(); !off && n >= maxBoundWords {
		sh.fail(w.s, c.id, tooManyWords(n))
		return true
	}
	t.store.record(task{op: c.op, s: w.s, control: c}).write(func(dst []byte) []byte {
		return queue.AppendBind(dst, q.ID, sh.now, pattern, off)
	})
	return false
}

func tooManyWords(n int64) *wire.Error {
	return wire.Errorf(wire.CodeOverloaded, "the patterns that are bound have %d words, as many as there may be", n)
}

// bindingKept brings the index up to date when a binding, or the end of one, has been kept, and answers. It
// is false where there is nothing more to say.
func (sh *shard) bindingKept(st *store, t *task, out queue.Outcome) bool {
	c, q := t.control, out.Queue
	switch {
	case out.Refusal == queue.NoQueue && t.op == wire.OpSubscribe:
		sh.b.ephemeral.Add(-1)
		sh.fail(t.s, c.id, st.full(journal.ErrMemoryFull))
	case out.Refusal == queue.NoQueue:
		sh.fail(t.s, c.id, wire.Errorf(wire.CodeNotFound, "queue %q has been deleted", c.name))
	case t.op == wire.OpQueueUnbind && out.N == 0:
		sh.fail(t.s, c.id, wire.Errorf(wire.CodeNotFound, "queue %q is not bound to %q", q.Name, c.topic))
	case out.Refusal == queue.TooManyBindings:
		sh.fail(t.s, c.id, wire.Errorf(wire.CodeOverloaded, "queue %q is bound to %d patterns, as many as it may", q.Name, queue.MaxBindings))
	default:
		sh.b.topics.bind(string(c.topic), sh.boundOf(st, q), t.op != wire.OpQueueUnbind)
		if t.op != wire.OpSubscribe {
			return true
		}
		if t.s.detached.Load()&(1<<sh.index) != 0 { // it ended meanwhile
			sh.endEphemeral(st, q, task{})
		} else if err := c.work.withdrawn(c); err != nil {
			sh.endEphemeral(st, q, task{})
			sh.fail(t.s, c.id, err)
		} else {
			sh.subscribe(c.work, c, target{st, q.ID, q})
		}
	}
	sh.finish(c.work)
	return false
}

// subscribeTopic makes an ephemeral queue for a subscription to a pattern. It is false where the request ends later.
func (sh *shard) subscribeTopic(w *work, c *control) bool {
	st := sh.passing
	var err *wire.Error
	switch n := sh.b.ephemeral.Add(1); {
	case sh.b.draining.Load():
		err = errShuttingDown
	case st == nil:
		err = wire.Errorf(wire.CodeBadRequest, "a subscription to a topic needs storage memory, which is not enabled on this server")
	case sh.b.topics.words.Load() >= maxBoundWords:
		err = tooManyWords(sh.b.topics.words.Load())
	case n > maxEphemeral:
		err = wire.Errorf(wire.CodeOverloaded, "there are %d subscriptions to topics, as many as there may be", n-1)
	}
	if err != nil {
		sh.b.ephemeral.Add(-1)
		sh.fail(w.s, c.id, err)
		return true
	}
	s := sh.defaults(string(c.name))
	s.Storage, s.Overflow, s.MaxDeliveries, s.TTL, s.DedupWindow = "memory", queue.DropOldest, 0, 0, 0
	s.MaxMessages, s.MaxBytes = ephemeralMessages, max(ephemeralBytes, 4*int64(sh.b.limits.Load().MaxMessageBytes))
	m, err := sh.create(string(c.name), s, task{})
	if err != nil {
		sh.b.ephemeral.Add(-1)
		sh.fail(w.s, c.id, err)
		return true
	}
	st.record(task{op: c.op, s: w.s, control: c}).write(func(dst []byte) []byte {
		return queue.AppendBind(dst, m.id, sh.now, string(c.topic), false)
	})
	return false
}

// endEphemeral proposes the end of a queue whose subscription has ended; t says whom to tell.
func (sh *shard) endEphemeral(st *store, q *queue.Queue, t task) {
	q.Deleting = true
	t.aside = &aside{deleted: q}
	st.record(t).write(func(dst []byte) []byte { return queue.AppendDelete(dst, q.ID, sh.now) })
}

// ephemeralName is the name of the queue for a subscription of s to a topic.
func (s *Session) ephemeralName(sub uint64) []byte {
	return strconv.AppendUint(append(s.ephemeralPrefix(), 's'), sub, 10)
}

func (s *Session) ephemeralPrefix() []byte { return fmt.Appendf(nil, ".c%d.", s.number) }

// foreign reports whether name is that of an ephemeral queue of another session.
func (s *Session) foreign(name []byte) bool {
	return len(name) > 0 && name[0] == '.' && !bytes.HasPrefix(name, s.ephemeralPrefix())
}

// dropped is how many messages an ephemeral queue has lost to its subscriber's slowness since it was told last.
func (sh *shard) dropped(t *tag, q *queue.Queue) uint64 {
	if !queue.Ephemeral(q.Name) {
		return 0
	}
	b := sh.bounds[q]
	n := q.Counts.Dropped + b.missed.Load() - t.told
	t.told += n
	return n
}
