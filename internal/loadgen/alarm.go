package loadgen

import (
	"context"
	"time"
)

// An alarm lets one goroutine wait. It may come back early.
type alarm interface {
	wait(ctx context.Context, d time.Duration)
	close()
}

// longestNap bounds how long an alarm does not see that the run has ended.
const longestNap = 100 * time.Millisecond

// A coarseAlarm is a timer of Go.
type coarseAlarm struct{ timer *time.Timer }

func newCoarseAlarm() alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return coarseAlarm{t}
}

func (a coarseAlarm) wait(ctx context.Context, d time.Duration) {
	a.timer.Reset(d)
	select {
	case <-a.timer.C:
	case <-ctx.Done():
		a.timer.Stop()
	}
}

func (a coarseAlarm) close() { a.timer.Stop() }
