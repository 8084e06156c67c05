// Package tenure lets the nodes of a cluster have the tables of one database in turn: the node that leads the cluster's first group has them, opens them
// when it comes to lead and gives them back when it does not any more. For each shard it makes a journal of that.
//
// It does not know what the tables are, how they are fenced, or how a leader is elected: it is told who leads.
package tenure

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// Tables are this process's, from when they were opened until they are left or closed.
type Tables interface {
	Shard(i int, wake func()) journal.Journal
	// Spread proposes a batch of several shards.
	Spread(b *journal.Batch)
	// Share says that the nodes of a cluster take the tables over from each other from now on.
	Share()
	// Failed is why nothing can be promised any more, nil where it can.
	Failed() error
	// Leave gives the tables back, so soon that what nobody waits for is left undone. Close takes the time for that.
	Leave() error
	Close() error
}

// Options say what a holder is connected to.
type Options struct {
	Shards int
	Node   uint64 // this one's number
	Alone  Tables // what a server has that is no node of a cluster yet; nil where it is one
	// Open waits until the tables are this node's. It is called by one goroutine at a time.
	Open func(ctx context.Context) (Tables, error)
	// Lost reports whether an error of the tables says no more than that another process has them.
	Lost func(error) bool
	// Told is called with the tables when this node has got them, and with nil when it has them no more. Each time has a greater number; the calls may come out of
	// order. It must not wait.
	Told func(now Tables, number uint64)
	Logf func(format string, args ...any)
}

const (
	// again is how long is waited before the tables are opened, or read, once more.
	again = time.Second
	// blindTicks is for how long a node that leads waits for the tables before it leads without them, and strangeTicks how long the tables may be
	// another process's while this node leads: one of the cluster's would lead by then.
	blindTicks, strangeTicks = 100, 100
)

var errNew = errors.New("this node has just come to lead")

// A Holder is a node's turn at the tables. Its methods may be called by any goroutine, but for Tick, which is one's.
type Holder struct {
	opt    Options
	shards []*Shard
	seen   atomic.Pointer[view] // what holds at this moment, for the shards: they look in every turn

	mu      sync.Mutex // guards the following; no other lock is taken under it
	shared  bool       // there is a cluster
	leader  uint64     // of its first group; 0: not known
	term    uint64     // of that leadership
	tenure  *tenure    // of now; nil: the tables are not this node's
	opening *opening   // on the way to one
	given   *opening   // the latest that was given up
	before  *tenure    // the one before, until it has been left
	lost    uint64     // the term in which they were lost to somebody else
	changes uint64     // of tenure, so far
	since   int        // ticks since this node leads without them
	why     error      // it does not have them
	failure error      // nothing can be promised any more
	closed  bool
}

// A view is what of a holder its shards go by. It does not change; another one takes its place.
type view struct {
	tenure  *tenure
	role    journal.Role // but for whether this node leads, which depends on what the shard has
	blind   bool
	failure error
}

// A tenure is the time for which tables are this node's.
type tenure struct {
	tables Tables
	term   uint64 // of the leadership; 0: of a server alone. Guarded by Holder.mu
	ended  atomic.Bool
	over   chan struct{} // closed when ended is set
	left   chan struct{} // closed when the tables have been given back
}

func (t *tenure) isOver() bool { return t.ended.Load() }

// An opening is an attempt to get the tables in one term.
type opening struct {
	cancel context.CancelFunc
	before *opening // which was cancelled
	ended  chan struct{}
}

// New makes a holder.
func New(opt Options) *Holder {
	h := &Holder{opt: opt, why: errNew}
	if opt.Told == nil {
		h.opt.Told = func(Tables, uint64) {}
	}
	if opt.Alone != nil {
		h.tenure, h.changes = newTenure(opt.Alone, 0), 1
		h.opt.Told(opt.Alone, 1)
	}
	h.show()
	for i := range opt.Shards {
		h.shards = append(h.shards, newShard(h, i))
	}
	return h
}

func newTenure(tables Tables, term uint64) *tenure {
	return &tenure{tables: tables, term: term, over: make(chan struct{}), left: make(chan struct{})}
}

// Shard is shard i's journal. It wakes its owner through wake.
func (h *Holder) Shard(i int, wake func()) journal.Journal {
	h.shards[i].begin(wake)
	return h.shards[i]
}

// Spread proposes a batch of several shards of a server that is alone.
func (h *Holder) Spread(b *journal.Batch) { h.opt.Alone.Spread(b) }

// Share says that there is a cluster from now on. Tables that this node has stay its own until it is told that another one leads.
func (h *Holder) Share() {
	h.mu.Lock()
	first := !h.shared
	h.shared = true
	t := h.tenure
	h.show()
	h.mu.Unlock()
	if first && t != nil {
		t.tables.Share()
	}
}

// Tick says who leads the cluster's first group, 0 where that is not known, in which term, and whether the tables are the cluster's at all: nil, or why not. It is
// called some twenty times a second.
func (h *Holder) Tick(leader, term uint64, unfit error) {
	h.mu.Lock()
	if !h.shared || h.closed {
		h.mu.Unlock()
		return
	}
	changed := h.leader != leader || h.term != term
	h.leader, h.term = leader, term
	here := leader == h.opt.Node
	ended, number := false, uint64(0)
	if t := h.tenure; t != nil {
		switch {
		case t.term == 0 && here:
			t.term, changed = term, true // the group of a server that was alone
		case t.term == 0 && leader == 0: // it is being elected
		case !here || t.term != term:
			ended, number = true, h.end(t)
		}
	}
	if o := h.opening; o != nil && (changed || unfit != nil) {
		o.cancel()
		h.opening, h.given = nil, o
	}
	if changed {
		h.since, h.why = 0, errNew
	}
	blind, failure := h.blind(), h.failure
	if here && h.tenure == nil {
		h.since++
		h.seek(unfit)
	}
	if changed = changed || ended || blind != h.blind() || failure != h.failure; changed {
		h.show()
	}
	h.mu.Unlock()
	if ended {
		h.opt.Told(nil, number)
	}
	if changed {
		h.wake()
	}
}

// seek has the tables opened, where they may be. Called with mu held.
func (h *Holder) seek(unfit error) {
	switch {
	case unfit != nil:
		h.why, h.since = unfit, max(h.since, blindTicks)
	case h.lost == h.term:
		if h.since > strangeTicks && h.failure == nil {
			h.failure = h.why
		}
	case h.opening == nil:
		ctx, cancel := context.WithCancel(context.Background())
		h.opening = &opening{cancel, h.given, make(chan struct{})}
		h.given = nil
		go h.open(ctx, h.opening, h.term, h.before)
	}
}

// blind reports whether this node leads though it does not have the tables. Called with mu held.
func (h *Holder) blind() bool {
	return h.shared && h.tenure == nil && h.leader == h.opt.Node && h.lost != h.term && h.since >= blindTicks
}

// open gets the tables for a term.
func (h *Holder) open(ctx context.Context, o *opening, term uint64, before *tenure) {
	defer close(o.ended)
	if o.before != nil {
		<-o.before.ended
	}
	if before != nil {
		select {
		case <-before.left:
		case <-ctx.Done():
			return
		}
	}
	for told := ""; ; {
		tables, err := h.opt.Open(ctx)
		if err == nil {
			h.opened(ctx, tables, term)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != told {
			told = text
			h.opt.Logf("the tables cannot be opened, and are tried again: %v", err)
		}
		h.mu.Lock()
		h.why = err
		h.mu.Unlock()
		if !pause(ctx.Done()) {
			return
		}
	}
}

// pause waits for a while; it is false where the end came first.
func pause(end <-chan struct{}) bool {
	t := time.NewTimer(again)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-end:
		return false
	}
}

// opened begins a tenure, unless this node does not lead any more.
func (h *Holder) opened(ctx context.Context, tables Tables, term uint64) {
	tables.Share()
	h.mu.Lock()
	late := ctx.Err() != nil || h.closed
	if !late {
		h.tenure, h.opening = newTenure(tables, term), nil
		h.changes++
		h.show()
	}
	number := h.changes
	h.mu.Unlock()
	if late {
		if err := tables.Leave(); err != nil {
			h.opt.Logf("the tables could not be given back: %v", err)
		}
		return
	}
	h.opt.Logf("this node has the tables")
	h.opt.Told(tables, number)
	h.wake()
}

// end ends a tenure, and gives the number of that change. Called with mu held.
func (h *Holder) end(t *tenure) uint64 {
	h.tenure, h.before = nil, t
	h.changes++
	t.ended.Store(true)
	close(t.over)
	go func() {
		defer close(t.left)
		if err := t.tables.Leave(); err != nil && !h.opt.Lost(err) {
			h.opt.Logf("the tables could not be given back: %v", err)
			return
		}
		h.opt.Logf("this node does not have the tables any more")
	}()
	return h.changes
}

// fenced ends a tenure that somebody else has ended. It is false where the tables were a server's that is alone: that is its end.
func (h *Holder) fenced(t *tenure, why error) bool {
	h.mu.Lock()
	shared := h.shared
	if shared && h.tenure == t {
		h.opt.Logf("this node has the tables no more: %v", why)
		defer h.opt.Told(nil, h.end(t))
		h.lost, h.why, h.since = h.term, why, 0
		h.show()
	}
	h.mu.Unlock()
	return shared
}

// show has the shards see what holds now. Called with mu held.
func (h *Holder) show() {
	v := &view{tenure: h.tenure, blind: h.blind(), failure: h.failure}
	switch {
	case !h.shared:
		v.role = journal.Role{Leader: h.opt.Node}
	case v.tenure != nil:
		v.role = journal.Role{Leader: h.opt.Node, Term: v.tenure.term}
	default:
		v.role = journal.Role{Leader: h.leader, Term: h.term}
	}
	h.seen.Store(v)
}

// reason is why this node does not have the tables.
func (h *Holder) reason() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

// Wants reports whether this node is to have the tables, and does not.
func (h *Holder) Wants() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shared && h.leader == h.opt.Node && h.tenure == nil
}

// wake has all shards look.
func (h *Holder) wake() {
	for _, s := range h.shards {
		s.callWake()
	}
}

// Close gives the tables back, where this node has them, and waits until that is done.
func (h *Holder) Close() error {
	h.mu.Lock()
	h.closed = true
	t, o, before := h.tenure, h.opening, h.before
	if o == nil {
		o = h.given
	}
	if o != nil {
		o.cancel()
	}
	h.mu.Unlock()
	if o != nil {
		<-o.ended
	}
	if before != nil {
		<-before.left
	}
	if t == nil || t.isOver() {
		return nil
	}
	return t.tables.Close()
}
