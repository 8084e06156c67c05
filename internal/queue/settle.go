package queue

func (st *State) settle(q *Queue, r *reader) (n int) {
	count := r.uvarint()
	for ; count > 0 && r.err == nil; count-- {
		seq := r.uvarint()
		if c, m := q.find(seq); m != nil {
			st.end(q, seq, c, m)
			n++
		}
	}
	q.Counts.Acked += uint64(n)
	return n
}

// giveBack is the one path by which a message returns to its queue, or leaves it for the dead-letter queue.
func (st *State) giveBack(q *Queue, flags byte, r *reader) (n int) {
	reason := r.string()
	count := r.uvarint()
	for ; count > 0 && r.err == nil; count-- {
		seq, due, number := r.uvarint(), r.varint(), uint32(r.uvarint())
		c, m := q.find(seq)
		if m == nil || r.err != nil || number != 0 && number != m.delivery() {
			continue
		}
		n++
		q.Returned++
		if flags&flagUncounted != 0 {
			saturate(&m.uncounted)
		} else {
			saturate(&m.attempts)
		}
		if st.dying(q, flags, m) {
			st.bury(q, st.deadQueue(q), seq, c, m, deadReason(flags, reason))
			continue
		}
		if m.state == leased {
			st.unlease(q, seq, c)
			st.mortal(q, seq, c, m) // it was passed over while it was leased
		} else {
			st.leaveState(q, m)
		}
		st.wait(q, seq, m, due)
	}
	return n
}

func (st *State) dying(q *Queue, flags byte, m *msg) bool {
	limit := q.Settings.MaxDeliveries
	return DeadName(q.Name) != "" && (flags&flagDead != 0 || limit > 0 && int64(m.attempts) >= limit)
}

func deadReason(flags byte, reason string) string {
	if flags&flagDead != 0 {
		return reason
	}
	return "max_deliveries: " + reason
}

// wait makes a message ready at due.
func (st *State) wait(q *Queue, seq uint64, m *msg, due int64) {
	if due <= st.now {
		st.makeReady(q, seq, m)
		return
	}
	if m.flags&msgExtra != 0 && q.extras[seq].due != 0 {
		x := q.extras[seq]
		x.due = due
		q.extras[seq] = x
	}
	if m.delivery() == 1 {
		st.stepUp(q, seq, m)
	} else { // a retry holds its place
		st.queueUp(q, seq, m)
	}
	m.state = delayed
	q.Counts.Delayed++
	st.delayedN++
	st.delays.add(timer{due, seq, q.ID, m.delivery()})
	st.delays.tidy(st.delayedN, st.isDelayed)
}

func (st *State) isDelayed(t timer) bool {
	q := st.ids[t.queue]
	if q == nil {
		return false
	}
	_, m := q.find(t.seq)
	if m == nil || m.state != delayed || m.delivery() != t.about {
		return false
	}
	if m.flags&msgExtra != 0 {
		if due := q.extras[t.seq].due; due != 0 && due != t.at {
			return false
		}
	}
	return true
}
