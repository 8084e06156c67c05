package sim

import (
	"iter"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/journal/filejournal"
)

// A task is what elsewhere is a goroutine: it runs until it waits, and then somebody else's turn comes. Its stack
// is a coroutine's, so production code waits in the middle of whatever it does, as it would with Go's own scheduler.
type task struct {
	w      *World
	name   string
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	killed bool
	over   bool

	home  *home
	at    int // of what it waits for, in home.waits
	cond  *cond
	locks *sync.Mutex // what it will lock when it goes on

	parks uint64 // how often it has waited
	woken moment // when what it waited for last had come
}

// A wait is what a task waits for. Many tasks are asked before a step whether they can go on, and nearly none can: so these lie side by side.
type wait struct {
	c       <-chan struct{}
	until   time.Duration // negative: for as long as it takes
	bell    bool          // c is a buffered channel, and nobody ever closes those
	waiting bool          // false: it can go on
}

// endOfTask is thrown where a task waits whose process is no more; nothing of it runs after that.
type endOfTask struct{}

// A home is the tasks of a node, or those of none. What happens at one node wakes nobody at another before the next event, so only
// those homes are looked at where something has happened.
type home struct {
	w       *World
	tasks   []*task
	waits   []wait        // of the tasks, in their order
	stirred bool          // somebody here may be able to go on
	soonest time.Duration // when somebody here can go on anyway; negative: nobody can
}

func (w *World) addHome() *home {
	h := &home{w: w, soonest: -1}
	w.homes = append(w.homes, h)
	return h
}

// stirAll has all tasks be looked at: anything may have happened.
func (w *World) stirAll() {
	for _, h := range w.homes {
		h.stirred = true
	}
}

// poll appends those tasks to ready that can go on.
func (h *home) poll(ready []*task) []*task {
	h.stirred, h.soonest = false, -1
	for i := range h.waits {
		s := &h.waits[i]
		if !s.waiting || !s.bell || len(s.c) > 0 || s.until >= 0 && s.until <= h.w.now {
			if t := h.tasks[i]; t.rung(s) {
				ready = append(ready, t)
				h.stirred = true // they are to be found again
			}
		}
		if until := s.until; until >= 0 && (h.soonest < 0 || until < h.soonest) {
			h.soonest = until
		}
	}
	return ready
}

// forget lets go of tasks that have ended.
func (h *home) forget() {
	n := 0
	for i, t := range h.tasks {
		if !t.over {
			h.tasks[n], h.waits[n], t.at = t, h.waits[i], n
			n++
		}
	}
	clear(h.tasks[n:])
	clear(h.waits[n:])
	h.tasks, h.waits = h.tasks[:n], h.waits[:n]
}

// start makes a task of f, of no node.
func (w *World) start(name string, f func()) *task {
	if len(w.homes) == 0 {
		w.addHome()
	}
	return w.homes[0].start(name, f)
}

// start makes a task of f.
func (h *home) start(name string, f func()) *task {
	w := h.w
	t := &task{w: w, name: name, home: h, at: len(h.tasks)}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer func() {
			t.over = true
			w.ended++
			if r := recover(); r != nil && r != (endOfTask{}) {
				panic(r) // not ours: the code under test has panicked, and the test is to say so
			}
		}()
		f()
	})
	h.tasks, h.waits, h.stirred = append(h.tasks, t), append(h.waits, wait{until: -1}), true
	return t
}

func (t *task) resume() {
	before := t.w.current
	t.w.current, t.cond, t.home.waits[t.at] = t, nil, wait{until: -1}
	t.next()
	t.w.current = before
}

// kill ends the task where it waits. What it defers still runs, and may lock what is free.
func (t *task) kill() {
	if t.over {
		return
	}
	locks := t.locks
	t.killed, t.over = true, true
	t.w.ended++
	t.stop()
	if locks != nil { // a lock that it had is nobody's any more
		locks.TryLock()
		locks.Unlock()
	}
}

// killAll ends tasks, those first that hold no lock when they wake.
func killAll(tasks []*task) {
	for _, locked := range []bool{false, true} {
		for _, t := range tasks {
			if (t.locks != nil) == locked {
				t.kill()
			}
		}
	}
}

// park gives the turn to others.
func (t *task) park() {
	t.home.waits[t.at].waiting = true
	t.parks++
	if t.killed || !t.yield(struct{}{}) {
		panic(endOfTask{}) // the process is dead, and this unwinds what it was doing: start recovers it
	}
}

// rung reports whether the task need wait no more, and takes what it has waited for. It is false where the task is not there any more.
func (t *task) rung(s *wait) bool {
	if t.over {
		return false
	}
	if !s.waiting {
		return true
	}
	if s.c != nil {
		select {
		case <-s.c:
			t.wake()
			return true
		default:
		}
	}
	if s.until >= 0 && s.until <= t.w.now {
		t.wake()
		return true
	}
	return false
}

// wake lets the task go on when its turn comes.
func (t *task) wake() {
	if !t.over {
		t.home.waits[t.at] = wait{until: -1}
		t.home.stirred = true
	}
	t.woken = moment{step: t.w.steps, at: t.w.now}
	if t.cond != nil {
		t.cond.forget(t)
	}
}

// sleep waits for d.
func (w *World) sleep(d time.Duration) {
	t := w.current
	t.home.waits[t.at].until = w.now + d
	t.park()
}

// await waits for c, for d at most unless it is negative.
func (w *World) await(c <-chan struct{}, d time.Duration) {
	select {
	case <-c:
		return
	default:
	}
	t := w.current
	s := &t.home.waits[t.at]
	s.c, s.bell = c, cap(c) > 0
	if d >= 0 {
		s.until = w.now + d
	}
	t.park()
}

// scheduler is what runs a node's process: its tasks die with it.
type scheduler struct {
	n *Node
}

func (s scheduler) Go(f func()) {
	p := s.n.life
	p.tasks = append(p.tasks, s.n.home.start(s.n.name, f))
}

func (s scheduler) Await(c <-chan struct{}, d time.Duration) { s.n.w.await(c, d) }

func (s scheduler) Cond(mu *sync.Mutex) filejournal.Cond { return &cond{w: s.n.w, mu: mu} }

// cond is a sync.Cond for tasks.
type cond struct {
	w     *World
	mu    *sync.Mutex
	tasks []*task
}

func (c *cond) Wait() {
	t := c.w.current
	t.cond, t.locks = c, c.mu
	c.tasks = append(c.tasks, t)
	c.mu.Unlock()
	defer func() {
		if !c.mu.TryLock() { // also for a task that is killed here: its caller may defer the Unlock
			panic("sim: a lock was held by a task that waits") // no room does that: it would stop everything
		}
		t.locks = nil
	}()
	t.park()
}

func (c *cond) Signal() {
	if len(c.tasks) > 0 {
		c.tasks[0].wake()
	}
}

func (c *cond) Broadcast() {
	for len(c.tasks) > 0 {
		c.tasks[0].wake()
	}
}

func (c *cond) forget(t *task) {
	t.cond = nil
	for i, o := range c.tasks {
		if o == t {
			c.tasks = append(c.tasks[:i], c.tasks[i+1:]...)
			return
		}
	}
}
