package kill_test

import (
	"fmt"
	"sync"
)

// A fate says what consumers do with a message. It follows from its number, so that
// every consumer in every life decides the same.
type fate int

const (
	accept fate = iota // ack it
	retry              // nack it once, then ack it
	refuse             // nack it until it dies
	bury               // nack it with dead
)

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

// A ledger is what all clients of one queue know together.
type ledger struct {
	queue string
	fate  func(n int) fate
	room  int // how many confirmed messages may wait for their ack

	mu         sync.Mutex // guards the following
	changed    *sync.Cond
	of         [][]entry // by publisher and number
	stopped    bool
	confirmed  int
	acked      int
	redone     int // deliveries of what had been delivered before
	resurrects int
	faults     []string
	faultCount int
}

func newLedger(queue string, publishers int, fate func(n int) fate) *ledger {
	l := &ledger{queue: queue, fate: fate, room: 20_000, of: make([][]entry, publishers)}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// fault notes what must not be. Called with mu held.
func (l *ledger) fault(format string, args ...any) {
	if l.faultCount++; l.faultCount <= 20 {
		l.faults = append(l.faults, l.queue+": "+fmt.Sprintf(format, args...))
	}
}

func (l *ledger) Fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault(format, args...)
}

// next gives the number of the publisher's next message; it is false when there are no more.
func (l *ledger) next(p int) (n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.stopped && l.confirmed-l.acked > l.room {
		l.changed.Wait()
	}
	if l.stopped {
		return 0, false
	}
	l.of[p] = append(l.of[p], entry{})
	return len(l.of[p]) - 1, true
}

func (l *ledger) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.changed.Broadcast()
}

func (l *ledger) confirm(life, p, n int, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.of[p][n]
	if e.confirmed != 0 {
		l.fault("message %d/%d was confirmed twice", p, n)
	}
	e.confirmed = life
	l.confirmed++
	l.know(e, p, n, seq)
}

func (l *ledger) refuse(p, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[p][n].refused = true
}

// know compares what is said of a message's seq.
func (l *ledger) know(e *entry, p, n int, seq uint64) {
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

func (l *ledger) deliver(life int, d delivery, redelivered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.p >= len(l.of) || d.n >= len(l.of[d.p]) {
		l.fault("message %d/%d was delivered and never published", d.p, d.n)
		return
	}
	e := &l.of[d.p][d.n]
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
}

func (l *ledger) ackSent(ds []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		l.of[d.p][d.n].settling = true
	}
}

// ackSeen notes the reply to an ack, which left out the stale ones.
func (l *ledger) ackSeen(life int, ds []delivery, stale []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := map[uint64]bool{}
	for _, seq := range stale {
		lost[seq] = true
	}
	for _, d := range ds {
		e := &l.of[d.p][d.n]
		if lost[d.seq] || e.acked != 0 {
			continue
		}
		e.acked = life
		l.acked++
		if e.delivered > life {
			l.resurrects++
			l.fault("message %d/%d (seq %d) was delivered in life %d; its ack was confirmed in life %d", d.p, d.n, d.seq, e.delivered, life)
		}
	}
	l.changed.Broadcast()
}

func (l *ledger) nackSeen(life int, ds []delivery, dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		e := &l.of[d.p][d.n]
		if dead || l.fate(d.n) == refuse && d.attempt >= maxDeliveries {
			if e.acked == 0 { // dead is settled, as far as room goes
				e.acked = life
				l.acked++
			}
		}
		if d.attempt > e.nacked {
			e.nacked, e.nackedIn = d.attempt, life
		}
	}
	l.changed.Broadcast()
}

func (l *ledger) buried(p, n, attempts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p >= len(l.of) || n >= len(l.of[p]) {
		l.fault("message %d/%d is a dead letter and was never published", p, n)
		return
	}
	e, want := &l.of[p][n], 0
	switch l.fate(n) {
	case refuse:
		want = maxDeliveries
	case bury:
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

// A summary is what is said at the end.
type summary struct {
	confirmed, delivered, redone, lost, resurrected, stored, dead int
}

// close judges what only the end shows: losses, order, and how many messages there must have been.
func (l *ledger) close() summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := summary{confirmed: l.confirmed, redone: l.redone, resurrected: l.resurrects}
	for p, entries := range l.of {
		last := uint64(0)
		for n := range entries {
			e := &entries[n]
			mortal := l.fate(n) == refuse || l.fate(n) == bury
			switch {
			case e.confirmed != 0 && e.delivered == 0:
				s.lost++
				l.fault("message %d/%d (seq %d) was confirmed in life %d and never delivered", p, n, e.seq, e.confirmed)
			case e.delivered != 0 && !mortal && !e.settling:
				s.lost++
				l.fault("message %d/%d (seq %d) was delivered in life %d and gone before an ack was sent", p, n, e.seq, e.delivered)
			case e.delivered != 0 && mortal && !e.dead:
				s.lost++
				l.fault("message %d/%d (seq %d) should be a dead letter and is not", p, n, e.seq)
			}
			if e.delivered != 0 {
				s.delivered++
			}
			if e.dead {
				s.dead++
			}
			if e.seq == 0 {
				continue
			}
			s.stored++
			if e.seq <= last {
				l.fault("message %d/%d has seq %d; one published before it has %d", p, n, e.seq, last)
			}
			last = e.seq
		}
	}
	return s
}
