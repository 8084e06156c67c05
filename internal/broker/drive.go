package broker

import (
	"sync/atomic"
	"time"
)

// A baton is held by who takes a shard's turn: its goroutine, or a session's reader that has just posted something (drive).
// Everything of the shard belongs to the holder.
type baton struct {
	held  atomic.Bool
	woken atomic.Bool   // something has come up since the last turn began
	kept  atomic.Bool   // a journal has something since the holder asked last
	armed atomic.Int64  // when the goroutine wakes by itself, unix ns; 0: it does not. Only it sets this
	wake  chan struct{} // the goroutine is to take a turn; holds one
}

// take is false where somebody else has it, who looks for what has come up when giving it away.
func (t *baton) take() bool { return t.held.CompareAndSwap(false, true) }

// give gives it away, and reports whether something came up meanwhile.
func (t *baton) give() bool {
	t.held.Store(false)
	return t.woken.Load() || t.kept.Load()
}

// signal has somebody take a turn.
func (t *baton) signal() {
	t.woken.Store(true)
	if !t.held.Load() {
		signal(t.wake)
	}
}

// journal is how a journal says that it has something. What comes up in the middle of a turn is seen in passing.
func (t *baton) journal() {
	t.kept.Store(true)
	if !t.held.Load() {
		signal(t.wake)
	}
}

// fewSessions is up to how many sessions that take turns with their requests count as few.
const fewSessions = 16

// few notes that the session's requests are about to be posted, and reports whether few sessions were busy lately: then
// nothing is gained by collecting what others have as well.
func (s *Session) few() bool {
	n := s.b.flushes.Add(1)
	last := s.flushed
	s.flushed = n
	return n-last <= fewSessions
}

// drive posts the open works of one shard and takes the shard's turn at once, in the reader's goroutine, where it can: nobody has
// to be woken then, neither the shard's goroutine nor, for what fits into the sockets, the writers. See docs/decisions/0029.
func (in *Intake) drive(i int) {
	sh := in.s.b.shards[i]
	in.s.awaitLaunched() // it takes turns of shards, so it goes before the baton is taken
	if !sh.baton.take() {
		in.post(i)
		return
	}
	in.post(i)
	sh.takeTurns(driveTurns)
}

// driveTurns is how many turns a reader takes one after another for what comes up meanwhile: who brings that has found the baton
// held, and the shard's goroutine would have to be woken for it. More than that would keep the reader from its own connection.
const driveTurns = 4

// takeTurns takes a turn in the place of the shard's goroutine, or up to so many while something comes up, and sends at once what comes of
// them. The caller has the baton, which it gives away.
func (sh *shard) takeTurns(most int) {
	for ; ; most-- {
		sh.direct = true
		sh.turn()
		sh.direct = false
		next, armed, stopped := sh.next(), sh.baton.armed.Load(), sh.stopped
		more := sh.baton.give()
		if stopped || next != 0 && (armed == 0 || next < armed) || more && most <= 1 {
			signal(sh.baton.wake)
			return
		}
		if !more || !sh.baton.take() { // whoever has it now sees what has come up
			return
		}
	}
}

// wakeOf is what the shard's journal of a storage calls when it has something. Where the caller has nothing else to do, it answers itself those whom it
// has let wait: after an fsync for a single request nobody else need be woken.
func (sh *shard) wakeOf(s *Storage) func() {
	lends := s.Lends
	if lends == nil {
		return sh.baton.journal
	}
	return func() {
		if sh.b.grouped.Load() || !lends() || !sh.baton.take() {
			sh.baton.journal()
			return
		}
		sh.takeTurns(1) // it has to go back to its disk
	}
}

// run is the shard's goroutine: one turn after another, each dealing with all that has come up.
func (sh *shard) run() {
	defer close(sh.over)
	timer := time.NewTimer(time.Hour)
	for {
		if sh.baton.take() {
			sh.turn()
			if sh.stopped {
				sh.mu.Lock()
				left := sh.inbox
				sh.mu.Unlock()
				for _, w := range left { // nothing is added any more that somebody waits for
					if w.call != nil {
						w.call(sh)
					}
				}
				return
			}
			sh.baton.armed.Store(sh.next())
			if sh.baton.give() {
				signal(sh.baton.wake) // others may run in between
			}
		}
		sh.rest(timer)
	}
}

// rest waits until there is something to do.
func (sh *shard) rest(timer *time.Timer) {
	wait := time.Duration(-1)
	if at := sh.baton.armed.Load(); at != 0 {
		wait = max(time.Duration(at-sh.b.opt.Now()), 0)
	}
	if s := sh.b.opt.Scheduler; s != nil {
		s.Await(sh.baton.wake, wait)
	} else {
		if wait < 0 {
			timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-sh.baton.wake:
		case <-timer.C:
		}
	}
	sh.baton.armed.Store(0)
	sh.baton.woken.Store(true) // behind armed: who holds the baton sees both
}

// next is when something is due in the shard; unix ns, 0: nothing is.
func (sh *shard) next() (next int64) {
	next = sh.alone
	for _, st := range sh.stores {
		if st.follows() {
			if t := st.taking; t != nil && t.retry > sh.now && (next == 0 || t.retry < next) {
				next = t.retry
			}
			continue
		}
		t := st.state.Next()
		if len(st.owed) > 0 && (t == 0 || st.owed[0].at < t) {
			t = st.owed[0].at
		}
		if ts := st.tasks; ts != nil && ts.until != 0 && (t == 0 || ts.until < t) {
			t = ts.until
		}
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	return next
}

// Direct has what few bytes there are sent by who has them: write sends what it can of b without waiting, and says how much that was.
// It is never called by two at a time, nor while what Outgoing gave is being sent. It is to be set before the first request.
func (s *Session) Direct(write func(b []byte) int) { s.direct = write }

// directBytes bounds what is sent in the middle of a turn: of more, the writer's copying is better done beside it.
const directBytes = 64 << 10

// sendNow sends c, as far as that can be done at once. The rest, and what cannot be sent now, is left to Outgoing.
func (s *Session) sendNow(c *chunk) {
	s.mu.Lock()
	if len(c.b) > directBytes || s.direct == nil || s.proxy != nil || s.ended || s.sending || len(s.out) > 0 {
		s.mu.Unlock()
		s.send(c)
		return
	}
	s.sending = true
	s.mu.Unlock()
	s.pending.Add(int64(len(c.b)))
	c.sent = s.direct(c.b)
	whole := c.sent == len(c.b)

	s.mu.Lock()
	s.sending = false
	if !whole {
		s.out = append(s.out, nil)
		copy(s.out[1:], s.out)
		s.out[0] = c
	}
	more := len(s.out) > 0 || s.ended
	s.mu.Unlock()
	if whole {
		n := len(c.b)
		c.free()
		s.sent(int64(n))
	}
	if more {
		signal(s.readable)
	}
}
