package loadgen

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram holds: up to an hour, each value to three digits, in 270 KiB.
const (
	longest = time.Hour
	digits  = 3
)

// A tally counts one kind of event: confirms, or deliveries. Some connections share one, and lock it once for
// all events that they have read together.
type tally struct {
	mu       sync.Mutex // guards the following
	latency  *hdrhistogram.Histogram
	events   int64         // while it was measured, whichever message it was of
	measured int64         // of messages that were to be sent while it was measured, whenever it came
	last     time.Duration // of measured
}

func newTally() *tally {
	return &tally{latency: hdrhistogram.New(1, int64(longest), digits)}
}

// A span is the part of a run that is measured.
type span struct{ from, until time.Duration }

func (s span) holds(at time.Duration) bool { return at >= s.from && at < s.until }

// count takes n events of now, of messages that were to be sent at one time. The tally is locked.
func (t *tally) count(s span, at, now time.Duration, n int64) {
	if s.holds(now) {
		t.events += n
	}
	if s.holds(at) {
		t.measured += n
		t.last = max(t.last, now)
		// Nothing takes longer than the longest, or less than nothing, but a machine that was asleep.
		_ = t.latency.RecordValues(min(max(int64(now-at), 1), int64(longest)), n)
	}
}

// A tallies is one kind of event; connections share its parts.
type tallies []*tally

func newTallies(connections int) tallies {
	ts := make(tallies, min(max(connections, 1), 16))
	for i := range ts {
		ts[i] = newTally()
	}
	return ts
}

func (ts tallies) of(connection int) *tally { return ts[connection%len(ts)] }

// sum is all of them together.
func (ts tallies) sum() *tally {
	all := newTally()
	for _, t := range ts {
		t.mu.Lock()
		all.events += t.events
		all.measured += t.measured
		all.last = max(all.last, t.last)
		all.latency.Merge(t.latency)
		t.mu.Unlock()
	}
	return all
}
