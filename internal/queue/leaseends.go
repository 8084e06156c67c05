package queue

// leaseEnds are the times at which leases end. Nearly all leases are settled before that, and what is left of them here has to be thrown
// away some time. That must not mean to look at the message, which is in no cache any more where many queues take turns:
// each entry has a place in over, which says whether it matters.
type leaseEnds struct {
	timers
	over   []bool   // by timer.about: nobody waits for it any more
	unused []uint32 // places in over, of no entry
	overN  int
}

// add adds an entry, of which the number is returned: never 0.
func (e *leaseEnds) add(at int64, q *Queue, seq uint64) uint32 {
	var i uint32
	if n := len(e.unused); n > 0 {
		i = e.unused[n-1]
		e.unused = e.unused[:n-1]
		e.over[i] = false
	} else {
		i = uint32(len(e.over))
		e.over = append(e.over, false)
	}
	e.timers.add(timer{at: at, seq: seq, queue: q.ID, about: i})
	e.timers.tidy(len(e.heap)-e.overN, func(t timer) bool {
		if e.over[t.about] {
			e.forget(t)
			return false
		}
		return true
	})
	return i + 1
}

// drop says that an entry does not matter any more, by its number; 0 is none.
func (e *leaseEnds) drop(number uint32) {
	if number != 0 {
		e.over[number-1] = true
		e.overN++
	}
}

// forget is told that an entry that is over is in the heap no more.
func (e *leaseEnds) forget(t timer) {
	e.overN--
	e.unused = append(e.unused, t.about)
}

func (st *State) lease(q *Queue, c *Consumer, seq uint64, ck *chunk, now int64) {
	l := st.leases.add(ck, seq)
	*l = lease{c: c, next: c.leases}
	if c.leases != 0 {
		nc, _ := q.find(c.leases)
		nc.lease(c.leases).prev = seq
	}
	c.leases = seq
	if c.leased++; c.Leased() >= c.Limit {
		st.leaveRing(c)
	}
	if !c.Auto {
		st.endAt(l, now+int64(c.Lease), q, seq)
	}
}

// endAt lets a lease end at that time, and at no other.
func (st *State) endAt(l *lease, at int64, q *Queue, seq uint64) {
	st.leaseEnds.drop(l.timer)
	l.at, l.timer = at, st.leaseEnds.add(at, q, seq)
	if e := &st.leaseEnds; len(e.over) > 4*len(e.heap)+4096 {
		st.renumberEnds()
	}
}

// renumberEnds gives back the memory of places that there were far more of once.
func (st *State) renumberEnds() {
	e := &st.leaseEnds
	e.keep(func(t timer) bool { return !e.over[t.about] })
	e.over, e.unused, e.overN = make([]bool, len(e.heap)), nil, 0
	for i := range e.heap {
		t := &e.heap[i]
		t.about = uint32(i)
		c, _ := st.byID(t.queue).find(t.seq)
		c.lease(t.seq).timer = t.about + 1
	}
}

// Expired calls f for each lease that is over. The owner proposes the messages' return.
func (st *State) Expired(now int64, f func(q *Queue, seq uint64)) {
	e := &st.leaseEnds
	for t := e.next(); t != 0 && t <= now; t = e.next() {
		t := e.pop()
		over := e.over[t.about]
		if !over {
			e.drop(t.about + 1)
		}
		e.forget(t)
		if over {
			continue
		}
		q := st.byID(t.queue)
		c, _ := q.find(t.seq)
		l := c.lease(t.seq)
		if l.timer = 0; !l.returning {
			l.returning = true
			f(q, t.seq)
		}
	}
}

// Extend moves the end of a lease to until. It is false where the message is not leased, or on its way back.
func (st *State) Extend(q *Queue, seq uint64, until int64) bool {
	c, m := q.find(seq)
	if m == nil || m.state != leased {
		return false
	}
	l := c.lease(seq)
	if l.returning {
		return false
	}
	if l.at != until {
		st.endAt(l, until, q, seq)
	}
	return true
}

// Rearm lets a lease whose end could not be recorded end again at that time.
func (st *State) Rearm(q *Queue, seq uint64, at int64) {
	if c, m := q.find(seq); m != nil && m.state == leased {
		l := c.lease(seq)
		l.returning = false
		st.endAt(l, at, q, seq)
	}
}

// Unreturn undoes Returning: the lease ends when it would have.
func (st *State) Unreturn(q *Queue, seq uint64) {
	if c, m := q.find(seq); m != nil && m.state == leased {
		l := c.lease(seq)
		if l.returning = false; l.at != 0 {
			st.endAt(l, l.at, q, seq)
		}
	}
}
