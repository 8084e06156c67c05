// Package broker turns requests into records, waits until a journal has kept
// them, lets the core apply them, and answers: replies and deliveries leave only for what is kept.
//
// A queue belongs to one shard, by its name; a shard is one goroutine that owns
// the shard's states, one for each storage. The broker knows neither sockets nor files, and what a
// queue does is not decided here.
package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// Shards is how many shards there are. Records bear their shard's number, so it
// is part of the format of a data directory.
const Shards = 16

// A Storage is one place where queues can be kept.
type Storage struct {
	Name   string // memory, file, mysql
	Stored string // what a confirm of it stands for: memory, written, disk, mysql
	Remote bool   // it can be out of reach: where a message goes to several storages, this one is asked first
	// Replicated: its journals may come to have replicas; then there are no batches of several shards.
	Replicated bool
	// Ephemeral: it has the queues of subscriptions to topics, which are of one node, and nothing else. Without one they are in memory.
	Ephemeral bool
	Shared    bool // all shards' journals are one log: what one says of the space it takes, it says for all
	Syncs     bool // to keep a batch costs an fsync, or as much as one: what nobody waits for is kept with what comes next
	// Open makes the journal of one shard; wake is the journal's to call.
	Open func(shard int, wake func()) journal.Journal
	// Spread proposes a batch of several shards whose journals are one log; any goroutine may call it. A
	// storage without it forgets everything at its end, and never refuses what is Essential.
	Spread func(b *journal.Batch)
	// Room reports whether there is room for a message of so many bytes; nil: there may be, the journal tells.
	Room func(bytes int64) bool
	// Lends reports whether the goroutine that calls wake has nothing else to do and may take the shard's turn; nil: it never may.
	Lends func() bool
}

// Limits are what the configuration allows; they may change while the broker runs.
type Limits struct {
	MaxQueues       int
	MaxMessageBytes int
	MaxInFlight     int
	AutoCreate      bool
	Defaults        queue.Settings
}

// Options are what a broker is made from.
type Options struct {
	Version  string
	Node     string
	Storages []Storage
	Limits   Limits
	Peers    Peers // the other nodes of its cluster; nil: there are none
	// Addresses are where clients reach the nodes of the cluster, this one first; nil, or none: the server is alone.
	Addresses func() []string
	// Clients are the nodes of the cluster, with the addresses at which clients reach them; nil: the server is alone.
	Clients iter.Seq2[uint64, string]
	ID      uint64       // the node's number in its cluster; 0: it is alone for good
	Boot    uint32       // names this life of the process in receipts
	Seed    uint64       // of the jitter
	Fail    func(error)  // called once, when nothing can be promised any more
	Now     func() int64 // unix ns
	// Scheduler runs the shards in a simulation, and whatever waits for them; nil leaves it to Go.
	Scheduler Scheduler
}

// A Scheduler stands in for Go's own: what it begins runs one at a time, and it says whose turn it is. So a
// simulation can run a broker from a seed, with the code that runs without it.
type Scheduler interface {
	Go(f func())
	// Await waits for c, and no longer than d where d is not negative.
	Await(c <-chan struct{}, d time.Duration)
}

// A Broker is the shards and what they share.
type Broker struct {
	opt    Options
	limits atomic.Pointer[Limits]
	shards [Shards]*shard

	seats     [Shards]seat
	roleHooks []func(shard int)
	grouped   atomic.Bool  // shards have groups, or are about to
	spreading atomic.Int64 // batches of several shards that are on their way

	topics    topics
	guestsMu  sync.Mutex // guards the following
	guests    map[uint64]*Guest
	forward   *forwarder    // nil where there are no other nodes
	order     []int         // the storages, those first that can refuse what is proposed
	sessions  atomic.Uint64 // there have been so far
	flushes   atomic.Uint64 // by readers, of what they had
	ephemeral atomic.Int64  // queues made for subscriptions to topics

	counted  atomic.Int64  // queues that count towards the limit, those being made included
	queues   atomic.Int64  // all queues
	inFlight atomic.Int64  // leased messages
	stalled  atomic.Uint32 // bits of the shards that wait for inFlight to fall
	holding  atomic.Uint32 // bits of those that let quiet acks wait
	working  atomic.Int64  // requests taken in and not answered yet
	draining atomic.Bool
	failed   atomic.Bool

	requests [ops]atomic.Uint64 // by op
	errorsMu sync.Mutex         // guards the following
	errors   map[wire.Code]uint64
}

// ops is more than the protocol has operations.
const ops = 64

// Start replays the journals and starts the shards. The error says which
// storage could not be read.
func Start(opt Options) (*Broker, error) {
	if opt.Now == nil {
		opt.Now = func() int64 { return time.Now().UnixNano() }
	}
	b := &Broker{opt: opt, errors: map[wire.Code]uint64{}}
	b.limits.Store(&opt.Limits)
	for i := range b.shards {
		b.shards[i] = newShard(b, i)
	}
	if err := b.replay(); err != nil {
		return nil, err
	}
	for _, rank := range []func(s *Storage) bool{
		func(s *Storage) bool { return s.Remote },
		func(s *Storage) bool { return !s.Remote && s.Spread != nil },
		func(s *Storage) bool { return !s.Remote && s.Spread == nil },
	} {
		for k := range opt.Storages {
			if rank(&opt.Storages[k]) {
				b.order = append(b.order, k)
			}
		}
	}
	for _, sh := range b.shards {
		sh.countQueues()
		sh.indexAll()
		sh.setLeads(sh.allLead())
		sh.takeSeat()
	}
	if opt.Peers != nil {
		b.forward = newForwarder(b)
		b.begin(b.forward.run)
	}
	for _, sh := range b.shards {
		b.begin(sh.run)
	}
	return b, nil
}

// begin runs f beside everything else.
func (b *Broker) begin(f func()) {
	if s := b.opt.Scheduler; s != nil {
		s.Go(f)
	} else {
		go f()
	}
}

// await waits for c.
func (b *Broker) await(c <-chan struct{}) {
	if s := b.opt.Scheduler; s != nil {
		s.Await(c, -1)
		return
	}
	<-c
}

// replay restores all shards, a few at a time: reading and checking the log keeps a core busy.
func (b *Broker) replay() error {
	if b.opt.Scheduler != nil { // one at a time
		for _, sh := range b.shards {
			if err := sh.replay(); err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, Shards)
	slots := make(chan struct{}, 4)
	for i, sh := range b.shards {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = sh.replay()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// SetLimits puts new limits in force.
func (b *Broker) SetLimits(l Limits) {
	b.limits.Store(&l)
	b.Wake() // some shards may wait for what is allowed now
}

// Wake lets every shard look at the clock anew: one that is not the machine's has been moved.
func (b *Broker) Wake() {
	for _, sh := range b.shards {
		sh.signal()
	}
}

// Limits are the limits in force.
func (b *Broker) Limits() Limits { return *b.limits.Load() }

// each runs f in every shard's own goroutine, one after another, and waits. It is false where the
// broker has ended.
func (b *Broker) each(f func(sh *shard)) bool {
	for _, sh := range b.shards {
		if !sh.call(f) {
			return false
		}
	}
	return true
}

// fail ends all promises. Only the first reason is told.
func (b *Broker) fail(err error) {
	if b.failed.CompareAndSwap(false, true) && b.opt.Fail != nil {
		b.opt.Fail(err)
	}
}

// Drain refuses new work and waits until what was taken in has been answered,
// or ctx ends.
func (b *Broker) Drain(ctx context.Context) error {
	b.draining.Store(true)
	if b.forward != nil {
		b.forward.hush()
	}
	b.each(func(sh *shard) { sh.endWaits() })
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for b.working.Load() > 0 {
		if s := b.opt.Scheduler; s != nil {
			s.Await(nil, drainTick)
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d requests were not finished: %w", b.working.Load(), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// drainTick is how often Drain looks whether anything is left.
const drainTick = 5 * time.Millisecond

// Draining reports whether new work is refused.
func (b *Broker) Draining() bool { return b.draining.Load() }

// InFlight is how many messages are leased here; what this node's clients have leased elsewhere counts while it is being shut down, by
// client and node.
func (b *Broker) InFlight() int64 {
	n := b.inFlight.Load()
	if b.forward != nil {
		n += b.forward.holding.Load()
	}
	return n
}

// Close stops the shards and closes their journals. Leases end with it, uncounted.
func (b *Broker) Close() error {
	if b.forward != nil {
		b.forward.stop()
		b.await(b.forward.over)
	}
	for _, sh := range b.shards {
		sh.stop()
	}
	for _, sh := range b.shards {
		b.await(sh.over)
	}
	var errs []error
	for _, sh := range b.shards {
		for _, st := range sh.stores {
			errs = append(errs, st.journal.Close())
		}
	}
	return errors.Join(errs...)
}
