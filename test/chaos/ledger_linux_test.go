package chaos_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	gmq "github.com/gmq/gmq/client"
)

// An entry is what is known of a message.
type entry struct {
	seq       uint64 // 0: nobody has said
	confirmed bool
	delivered int
	fresh     bool   // one of them said that it was the first
	acked     bool   // and the ack was confirmed
	said      string // what came of its latest ack
}

// A ledger is what all clients know together.
type ledger struct {
	mu         sync.Mutex // guards the following
	of         [][]entry  // by lane and number
	lanes      []lane
	took       *hdrhistogram.Histogram // from asking to the confirm, microseconds
	confirmed  int
	delivered  int // again ones too
	redone     int
	acked      int
	stale      int // acks that were refused, as the message had come again
	resurrects int
	faults     []string
	faultCount int
	from       time.Time     // of the fault that is waited for
	waiting    int           // lanes that have had no confirm since
	over       chan struct{} // closed when none is left
}

// A lane is what one publisher sends to one queue.
type lane struct {
	queue string
	since time.Time // the last confirm was of a message that was sent then
}

func newLedger() *ledger {
	return &ledger{took: hdrhistogram.New(1, 600_000_000, 3)}
}

func (l *ledger) lane(queue string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes = append(l.lanes, lane{queue: queue})
	l.of = append(l.of, nil)
	return len(l.lanes) - 1
}

// fault notes what must not be. Called with mu held.
func (l *ledger) fault(format string, args ...any) {
	if l.faultCount++; l.faultCount <= 20 {
		l.faults = append(l.faults, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (l *ledger) publish(p int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[p] = append(l.of[p], entry{})
	return len(l.of[p]) - 1
}

func (l *ledger) confirm(p, n int, seq uint64, sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.took.RecordValue(max(1, time.Since(sent).Microseconds())) // ten minutes, which is more than a run waits, would not count
	e := &l.of[p][n]
	e.confirmed = true
	l.confirmed++
	l.know(p, n, seq)
	if !l.from.IsZero() && l.lanes[p].since.Before(l.from) && !sent.Before(l.from) {
		if l.waiting--; l.waiting == 0 {
			close(l.over)
		}
	}
	l.lanes[p].since = sent
}

// unanswered notes a publish that nobody has answered.
func (l *ledger) unanswered(p, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault("%s, message %d/%d: no confirm came, however often it was asked for: %v", l.lanes[p].queue, p, n, err)
}

// know compares what is said of a message's number in the queue. Two mean that it is there twice.
func (l *ledger) know(p, n int, seq uint64) {
	e := &l.of[p][n]
	if e.seq != 0 && e.seq != seq {
		l.fault("%s: message %d/%d is there twice, as seq %d and %d", l.lanes[p].queue, p, n, e.seq, seq)
	}
	e.seq = seq
}

func (l *ledger) deliver(queue string, p, n int, seq uint64, redelivered bool, attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p < 0 || p >= len(l.of) || n < 0 || n >= len(l.of[p]) || l.lanes[p].queue != queue {
		l.fault("%s: message %d/%d (seq %d) was delivered, and never published there", queue, p, n, seq)
		return
	}
	l.know(p, n, seq)
	e := &l.of[p][n]
	if e.acked {
		l.resurrects++
		l.fault("%s: message %d/%d (seq %d, attempt %d) came back after its ack was confirmed", queue, p, n, seq, attempt)
	}
	if e.delivered++; e.delivered > 1 {
		l.redone++
	}
	if e.fresh && !redelivered { // the first one may be read after others, by a consumer at another node
		l.fault("%s: message %d/%d (seq %d, attempt %d) came again, and does not say so", queue, p, n, seq, attempt)
	}
	e.fresh = e.fresh || !redelivered
	l.delivered++
}

func (l *ledger) ack(p, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.of[p][n]
	e.said = fmt.Sprint(time.Now().Format("15:04:05.000 "), err)
	switch {
	case errors.Is(err, gmq.ErrLeaseLost):
		l.stale++
	case err == nil && !e.acked:
		e.acked = true
		l.acked++
	}
}

// recovery begins to wait until each lane has had a confirm of something that was sent after now.
func (l *ledger) recovery() (over <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.waiting, l.over = time.Now(), len(l.lanes), make(chan struct{})
	return l.over
}

// without are the lanes that still wait.
func (l *ledger) without() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for p, lane := range l.lanes {
		if lane.since.Before(l.from) {
			all = append(all, fmt.Sprintf("%d to %s", p, lane.queue))
		}
	}
	return fmt.Sprint(all)
}

// left is how many messages are confirmed and not acked, and some of them.
func (l *ledger) left() (n int, some string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, of := range l.of {
		for i, e := range of {
			if !e.confirmed || e.acked {
				continue
			}
			if n++; n <= 10 {
				some += fmt.Sprintf("\n%s: %d/%d, seq %d, delivered %d times, its latest ack: %s", l.lanes[p].queue, p, i, e.seq, e.delivered, e.said)
			}
		}
	}
	return n, some
}

func (l *ledger) confirms() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed
}

// A verdict is what a ledger says in the end.
type verdict struct {
	published, confirmed, delivered, redone, acked, stale, lost, resurrected int
	stored                                                                   map[string]int // by queue, that clients know of
}

func (v verdict) String() string {
	return fmt.Sprintf("published %d, confirmed %d, delivered %d (%d again), acked %d (%d too late); lost %d, come back after a confirmed ack %d",
		v.published, v.confirmed, v.delivered, v.redone, v.acked, v.stale, v.lost, v.resurrected)
}

// judge ends a ledger: the queues are empty.
func (l *ledger) judge() verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{confirmed: l.confirmed, delivered: l.delivered, redone: l.redone, acked: l.acked, stale: l.stale, resurrected: l.resurrects, stored: map[string]int{}}
	for p, of := range l.of {
		v.published += len(of)
		for n := range of {
			e := &of[n]
			if e.seq != 0 {
				v.stored[l.lanes[p].queue]++
			}
			if e.confirmed && e.delivered == 0 {
				v.lost++
				l.fault("%s: message %d/%d (seq %d) was confirmed and never delivered", l.lanes[p].queue, p, n, e.seq)
			}
		}
	}
	return v
}

// wrong are the first things that must not be.
func (l *ledger) wrong() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.faults)
	if l.faultCount > len(all) {
		all = append(all, fmt.Sprintf("and %d faults more", l.faultCount-len(all)))
	}
	return all
}
