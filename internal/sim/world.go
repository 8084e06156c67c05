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

	homes   []*home
	current *task // whose turn it is; nil between two turns
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

	narrow bool  // it stirs nobody
	node   *Node // but this one's tasks, if any
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

// afterAt is after for what stirs the tasks of one node at most; nil: none, but what it stirs itself.
func (w *World) afterAt(n *Node, d time.Duration, f func()) {
	w.queued++
	heap.Push(&w.events, event{at: w.now + d, n: w.queued, do: f, narrow: true, node: n})
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
			e := heap.Pop(&w.events).(event)
			if !e.narrow {
				w.stirAll()
			} else if e.node != nil {
				e.node.home.stirred = true
			}
			e.do()
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
	t.home.stirred = true
	w.reap()
	return true
}

// pollAll fills w.ready with the tasks that can go on.
func (w *World) pollAll() {
	w.ready = w.ready[:0]
	for _, h := range w.homes {
		if h.stirred || h.soonest >= 0 && h.soonest <= w.now {
			w.ready = h.poll(w.ready)
		}
	}
}

// next is when something can happen again, negative where nothing will.
func (w *World) next() time.Duration {
	next := time.Duration(-1)
	if len(w.events) > 0 {
		next = w.events[0].at
	}
	for _, h := range w.homes {
		if h.soonest >= 0 && (next < 0 || h.soonest < next) {
			next = h.soonest
		}
	}
	return next
}

// reap ends nodes that have died in this step, and forgets tasks that have ended.
func (w *World) reap() {
	for _, n := range w.nodes {
		if n.dying != nil {
			n.bury()
			w.stirAll()
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
	for _, h := range w.homes {
		h.forget()
	}
}

// run lets things happen until the given time.
func (w *World) run(until time.Duration) {
	w.stirAll()
	for w.step(until) {
	}
}

// settle lets things happen until cond holds, for no longer than d.
func (w *World) settle(d time.Duration, cond func() bool) bool {
	w.stirAll()
	for limit := w.now + d; !cond(); {
		if !w.step(limit) {
			return cond()
		}
	}
	return true
}

// end ends all tasks: nothing of the world is left running.
func (w *World) end() {
	for _, h := range w.homes {
		killAll(h.tasks)
		h.tasks, h.waits = nil, nil
	}
}
