package load

import (
	"fmt"
	"sync"
)

// A Fate says what consumers do with a message. It follows from its number, so that
// every consumer in every life decides the same.
type Fate int

const (
	Accept Fate = iota // ack it
	Retry              // nack it once, then ack it
	Refuse             // nack it until it dies
	Bury               // nack it with dead
)

// Accepted is the fate of every message of a queue without dead letters.
func Accepted(int) Fate { return Accept }

// Mixed deals out all fates in turn.
func Mixed(n int) Fate { return Fate(n % 4) }

// An entry is what clients know of one message.
type entry struct {
	seq       uint64 // 0: nobody was told
	confirmed int    // the life in which its confirm was seen; 0: never
	delivered int    // the latest life in which it was delivered; 0: never
	attempt   int    // of that delivery
	settling  bool   // its ack has been sent, the reply may be lost
	acked     int    // the life in which the reply to its ack was seen; 0: never
	nacked    int    // the highest attempt whose nack was confirmed
	nackedIn  int    // the life in which it was
	dead      bool   // found in the dead-letter queue
	refused   bool   // its publisher was told that it is not stored
}

// Counts are a ledger's at one moment.
type Counts struct {
	Confirmed, Acked, Refused int
	InLife                    int // of Confirmed, in the life of the latest confirm
	Life                      int // that life
}

// A Kind is what a ledger expects of its queue.
type Kind struct {
	Queue         string
	Publishers    int
	Fate          func(n int) Fate
	Size          func(n int) int // of a body, in bytes
	Room          int             // how many confirmed messages may wait for their ack
	MaxDeliveries int             // after which a message with the fate Refuse is dead
	Refusals      []string        // codes that a publish may be refused with beside shutting_down
}

// A Ledger is what all clients of one queue know together.
type Ledger struct {
	Queue    string
	fate     func(n int) Fate
	size     func(n int) int
	room     int
	refusals []string
	deadly   int

	mu         sync.Mutex // guards the following
	changed    *sync.Cond
	of         [][]entry // by publisher and number
	stopped    bool
	counts     Counts
	open       int // confirmed and not settled
	watches    []watch
	ended      int   // the latest life of which nothing counts any more
	beyond     []int // by publisher, the first message that was published after that life's disk was gone
	redone     int   // deliveries of what had been delivered before
	resurrects int
	damaged    int
	faults     []string
	faultCount int
}

// A watch waits for counts.
type watch struct {
	ok   func(Counts) bool
	seen chan struct{}
}

// NewLedger makes an empty one.
func NewLedger(k Kind) *Ledger {
	l := &Ledger{Queue: k.Queue, fate: k.Fate, size: k.Size, room: k.Room, deadly: k.MaxDeliveries,
		refusals: append(k.Refusals, shuttingDown), of: make([][]entry, k.Publishers)}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// fault notes what must not be. Called with mu held.
func (l *Ledger) fault(format string, args ...any) {
	if l.faultCount++; l.faultCount <= 20 {
		l.faults = append(l.faults, l.Queue+": "+fmt.Sprintf(format, args...))
	}
}

// Fault notes what must not be.
func (l *Ledger) Fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault(format, args...)
}

// faultIn notes what must not be in a life that still counts.
func (l *Ledger) faultIn(life int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life > l.ended {
		l.fault(format, args...)
	}
}

func (l *Ledger) damage(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.damaged++
	l.fault(format, args...)
}

// Faults are the first of what must not be, and how many there were.
func (l *Ledger) Faults() (first []string, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.faults...), l.faultCount
}

// Reached gives a channel that is closed as soon as ok holds of the counts.
func (l *Ledger) Reached(ok func(Counts) bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := watch{ok: ok, seen: make(chan struct{})}
	l.watches = append(l.watches, w)
	l.look()
	return w.seen
}

// look serves the watches. Called with mu held, whenever a count changed.
func (l *Ledger) look() {
	kept := l.watches[:0]
	for _, w := range l.watches {
		if w.ok(l.counts) {
			close(w.seen)
		} else {
			kept = append(kept, w)
		}
	}
	l.watches = kept
}

// Counts are those of now.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Over ends a life for the ledger before it has ended for the server: what clients have read so far holds, and
// what they read from now on promises nothing. So a disk may be taken away from under a running server, which
// can be told that a sync succeeded whose data is on its way to nowhere: the fault of the fault, not its own.
func (l *Ledger) Over(life int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.beyond = life, nil
}

// Gone says that the disk of the life that is over is gone: what is published from now on cannot be stored in it,
// so that to confirm it is a fault nevertheless. To see that, publishers go on until they are answered in a later life.
func (l *Ledger) Gone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beyond = make([]int, len(l.of))
	for p := range l.of {
		l.beyond[p] = len(l.of[p])
	}
	l.changed.Broadcast()
}

func (l *Ledger) over(life int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return life <= l.ended
}

// next gives the number of the publisher's next message; it is false when there are no more.
func (l *Ledger) next(p int) (n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.stopped && l.beyond == nil && l.open > l.room {
		l.changed.Wait()
	}
	if l.stopped {
		return 0, false
	}
	l.of[p] = append(l.of[p], entry{})
	return len(l.of[p]) - 1, true
}

// Stop lets publishers come to their end.
func (l *Ledger) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.changed.Broadcast()
}

// known gives what is known of a message. Called with mu held.
func (l *Ledger) known(p, n int, what string) *entry {
	if p < 0 || n < 0 || p >= len(l.of) || n >= len(l.of[p]) {
		l.fault("message %d/%d %s and was never published", p, n, what)
		return nil
	}
	return &l.of[p][n]
}

func (l *Ledger) confirm(life, p, n int, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life <= l.ended {
		if life == l.ended && l.beyond != nil && n >= l.beyond[p] {
			l.fault("message %d/%d (seq %d) was confirmed in life %d; it was published when the disk of that life was gone", p, n, seq, life)
		}
		return
	}
	l.beyond = nil
	e := l.known(p, n, "was confirmed")
	if e == nil {
		return
	}
	if e.confirmed != 0 {
		l.fault("message %d/%d was confirmed twice", p, n)
	}
	e.confirmed = life
	if e.acked == 0 {
		l.open++
	}
	if l.counts.Confirmed++; life > l.counts.Life {
		l.counts.Life, l.counts.InLife = life, 0
	}
	l.counts.InLife++
	l.know(e, p, n, seq)
	l.look()
}

func (l *Ledger) refuse(life, p, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.known(p, n, "was refused"); e != nil && life > l.ended {
		e.refused = true
		l.counts.Refused++
		l.look()
	}
}

// know compares what is said of a message's seq.
func (l *Ledger) know(e *entry, p, n int, seq uint64) {
	if e.seq != 0 && e.seq != seq {
		l.fault("message %d/%d has seq %d and %d", p, n, e.seq, seq)
	}
	e.seq = seq
}

// A delivery is one as a consumer keeps it until it is settled.
type delivery struct {
	p, n    int
	seq     uint64
	attempt int
	receipt string
}

// deliver notes a delivery. It is false where it counts for nothing.
func (l *Ledger) deliver(life int, d delivery, redelivered bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.known(d.p, d.n, "was delivered")
	if e == nil || life <= l.ended {
		return false
	}
	l.know(e, d.p, d.n, d.seq)
	if e.refused {
		l.fault("message %d/%d (seq %d) was refused, and delivered in life %d", d.p, d.n, d.seq, life)
	}
	switch {
	case e.acked != 0 && life > e.acked:
		l.resurrects++
		l.fault("message %d/%d (seq %d) was delivered in life %d; its ack was confirmed in life %d", d.p, d.n, d.seq, life, e.acked)
	case life == e.delivered && d.attempt == e.attempt:
		l.fault("message %d/%d (seq %d) was delivered twice in life %d as attempt %d", d.p, d.n, d.seq, life, d.attempt)
	case life > e.nackedIn && e.nackedIn != 0 && d.attempt <= e.nacked:
		l.fault("message %d/%d (seq %d) was delivered in life %d as attempt %d; the nack of attempt %d was confirmed in life %d", d.p, d.n, d.seq, life, d.attempt, e.nacked, e.nackedIn)
	}
	again := d.attempt > 1 || e.confirmed != 0 && e.confirmed < life || e.delivered != 0 && e.delivered < life
	if again && !redelivered {
		l.fault("message %d/%d (seq %d), attempt %d, was delivered in life %d without redelivered; confirmed in life %d, delivered in %d", d.p, d.n, d.seq, d.attempt, life, e.confirmed, e.delivered)
	}
	if redelivered && d.attempt == 1 && e.confirmed == life {
		l.fault("message %d/%d (seq %d) was stored in life %d and marked redelivered in its first delivery in that life", d.p, d.n, d.seq, life)
	}
	if e.delivered != 0 {
		l.redone++
	}
	if life >= e.delivered {
		e.delivered, e.attempt = life, d.attempt
	}
	return true
}

func (l *Ledger) ackSent(ds []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		l.of[d.p][d.n].settling = true
	}
}

// settle notes that a message needs no more room. Called with mu held.
func (l *Ledger) settle(e *entry, life int) {
	e.acked = life
	l.counts.Acked++
	if e.confirmed != 0 {
		l.open--
	}
}

// ackSeen notes the reply to an ack, which left out the stale ones.
func (l *Ledger) ackSeen(life int, ds []delivery, stale []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life <= l.ended {
		return
	}
	lost := map[uint64]bool{}
	for _, seq := range stale {
		lost[seq] = true
	}
	for _, d := range ds {
		e := &l.of[d.p][d.n]
		if lost[d.seq] || e.acked != 0 {
			continue
		}
		l.settle(e, life)
		if e.delivered > life {
			l.resurrects++
			l.fault("message %d/%d (seq %d) was delivered in life %d; its ack was confirmed in life %d", d.p, d.n, d.seq, e.delivered, life)
		}
	}
	l.look()
	l.changed.Broadcast()
}

func (l *Ledger) nackSeen(life int, ds []delivery, dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life <= l.ended {
		return
	}
	for _, d := range ds {
		e := &l.of[d.p][d.n]
		if dead || l.fate(d.n) == Refuse && d.attempt >= l.deadly {
			if e.acked == 0 { // dead is settled too
				l.settle(e, life)
			}
		}
		if d.attempt > e.nacked {
			e.nacked, e.nackedIn = d.attempt, life
		}
	}
	l.look()
	l.changed.Broadcast()
}

// buried notes a dead letter.
func (l *Ledger) buried(p, n, attempts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, want := l.known(p, n, "is a dead letter"), 0
	if e == nil {
		return
	}
	switch l.fate(n) {
	case Refuse:
		want = l.deadly
	case Bury:
		want = 1
	}
	if attempts != want {
		l.fault("message %d/%d is a dead letter after %d attempts, not %d", p, n, attempts, want)
	}
	if e.dead {
		l.fault("message %d/%d is a dead letter twice", p, n)
	}
	e.dead = true
}
