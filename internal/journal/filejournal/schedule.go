package filejournal

import (
	"sync"
	"time"
)

// A Scheduler stands in for Go's own: what it begins runs one at a time, and it says whose turn it is. So a
// simulation can run a log from a seed, with the code that runs without it.
type Scheduler interface {
	Go(f func())
	// Await waits for c, and no longer than d where d is not negative.
	Await(c <-chan struct{}, d time.Duration)
	Cond(mu *sync.Mutex) Cond
}

// A Cond does what a sync.Cond does.
type Cond interface {
	Wait()
	Signal()
	Broadcast()
}

func (l *Log) cond() Cond {
	if s := l.opt.Scheduler; s != nil {
		return s.Cond(&l.mu)
	}
	return sync.NewCond(&l.mu)
}

// begin runs one of the log's loops until it ends by itself.
func (l *Log) begin(loop func()) {
	over := make(chan struct{})
	l.loops = append(l.loops, over)
	run := func() {
		defer close(over)
		loop()
	}
	if s := l.opt.Scheduler; s != nil {
		s.Go(run)
		return
	}
	go run()
}

// awaitLoops waits until all loops have ended.
func (l *Log) awaitLoops() {
	for _, over := range l.loops {
		if s := l.opt.Scheduler; s != nil {
			s.Await(over, -1)
			continue
		}
		<-over
	}
}
