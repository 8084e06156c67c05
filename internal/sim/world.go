package sim

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/gmq/gmq/internal/cluster/placement"
)

// A World is everything of one simulation: its clock, its nodes, its clients, and chance. Nothing in it happens
// at the same time as anything else, and what happens next follows from the seed alone.
type World struct {
	Seed uint64
	cfg  Config
	rng  *rand.Rand

	now   time.Duration // since the beginning; only ever moves forward
	steps uint64        // turns given so far

	tasks   []*task
	waits   []wait // of the tasks, in their order
	current *task  // whose turn it is; nil between two turns
	events  events
	queued  uint64 // events so far: those of one time happen in the order in which they were made
	ready   []*task
	ended   int // tasks that are over and not forgotten yet

	graves  []func() // what is to be done with whoever has died in this step
	nodes   []*Node
	net     network
	epoch   int            // of the groups in memory
	plan    placement.Plan // where the shards of a cluster shall be; nil: everywhere
	marks   []timeMark
	made    map[[2]string]bool // in a cluster: the queues and bindings that some leader has made
	clients []*Client
	log     *History
	check   *Checker
	stats   Stats
	failure string // the first thing that was wrong
	peace   bool   // nothing fails any more
	spell   spell  // what the clients of a cluster do now
	dark    bool   // the power of all nodes of a cluster was cut in the end
}

// An event is something that happens at a time.
type event struct {
	at time.Duration
	n  uint64
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// after lets f happen in a while. f must not wait for anything: what waits is a task.
func (w *World) after(d time.Duration, f func()) {
	w.queued++
	heap.Push(&w.events, event{at: w.now + d, n: w.queued, do: f})
}

// chance is true once in n times.
func (w *World) chance(n int) bool { return w.rng.IntN(n) == 0 }

// between is a time from a to b.
func (w *World) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

// step lets one thing happen, and moves the clock on where nothing can happen now. It is false where nothing ever will.
func (w *World) step(limit time.Duration) bool {
	if w.failure != "" {
		return false
	}
	for {
		if len(w.events) > 0 && w.events[0].at <= w.now {
			w.steps++
			heap.Pop(&w.events).(event).do()
			w.reap()
			return true
		}
		if w.pollAll(); len(w.ready) > 0 {
			break
		}
		next := w.next()
		if next < 0 || next > limit {
			w.now = max(w.now, limit)
			return false
		}
		w.now = next
	}
	t := w.ready[w.rng.IntN(len(w.ready))]
	w.steps++
	if n := len(w.marks); w.cfg.Cluster && (n == 0 || w.now >= w.marks[n-1].at+time.Millisecond) {
		w.marks = append(w.marks, timeMark{w.now, w.steps})
	}
	w.now += time.Duration(w.rng.IntN(20_000)) // what the work takes, ns
	t.resume()
	w.reap()
	return true
}

// pollAll fills w.ready with the tasks that can go on.
func (w *World) pollAll() {
	w.ready = w.ready[:0]
	for i := range w.waits {
		s := &w.waits[i]
		if s.waiting && s.bell && len(s.c) == 0 && (s.until < 0 || s.until > w.now) {
			continue
		}
		if t := w.tasks[i]; t.rung(s) {
			w.ready = append(w.ready, t)
		}
	}
}

// next is when something can happen again, negative where nothing will.
func (w *World) next() time.Duration {
	next := time.Duration(-1)
	if len(w.events) > 0 {
		next = w.events[0].at
	}
	for i := range w.waits {
		if until := w.waits[i].until; until >= 0 && (next < 0 || until < next) {
			next = until
		}
	}
	return next
}

// reap ends nodes that have died in this step, and forgets tasks that have ended.
func (w *World) reap() {
	for _, n := range w.nodes {
		if n.dying != nil {
			n.bury()
		}
	}
	for len(w.graves) > 0 {
		bury := w.graves[0]
		w.graves = w.graves[1:]
		bury()
	}
	if w.ended == 0 {
		return
	}
	w.ended = 0
	n := 0
	for i, t := range w.tasks {
		if !t.over {
			w.tasks[n], w.waits[n], t.at = t, w.waits[i], n
			n++
		}
	}
	clear(w.tasks[n:])
	clear(w.waits[n:])
	w.tasks, w.waits = w.tasks[:n], w.waits[:n]
}

// run lets things happen until the given time.
func (w *World) run(until time.Duration) {
	for w.step(until) {
	}
}

// settle lets things happen until cond holds, for no longer than d.
func (w *World) settle(d time.Duration, cond func() bool) bool {
	for limit := w.now + d; !cond(); {
		if !w.step(limit) {
			return cond()
		}
	}
	return true
}

// end ends all tasks: nothing of the world is left running.
func (w *World) end() {
	killAll(w.tasks)
	w.tasks, w.waits = nil, nil
}
