package queue

func (st *State) settle(q *Queue, r *reader) (n int) {
	count := r.uvarint()
	for ; count > 0 && r.err == nil; count-- {
		seq := r.uvarint()
		if c, m := q.find(seq); m != nil {
			st.happened(q, seq, m, "acked", "")
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
		st.happened(q, seq, m, "returned", reason)
		if st.dying(q, flags, m) {
			st.bury(q, st.deadQueue(q), seq, c, m, deadReason(flags, reason))
			continue
		}
		if m.state == leased {
			st.unlease(q, seq, c)
			st.over(q, seq, c, m)
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
	if m.flags&msgExtra != 0 {
		if x := q.extras[seq]; x.moved != 0 {
			st.moves = max(st.moves+1, firstMove)
			x.moved = st.moves
			q.extras[seq] = x
		}
	}
	if m.delivery() == 1 {
		st.stepUp(q, seq, m)
	} else { // a retry holds its place
		st.queueUp(q, seq, m)
	}
	m.state = delayed
	q.Counts.Delayed++
	st.delayedN++
	st.delays.add(timer{due, seq, q.ID, q.waitNumber(seq, m)})
	st.delays.tidy(st.delayedN, st.isDelayed)
}

func (st *State) isDelayed(t timer) bool {
	q := st.ids[t.queue]
	if q == nil {
		return false
	}
	_, m := q.find(t.seq)
	return m != nil && m.state == delayed && q.waitNumber(t.seq, m) == t.about
}

// firstMove is greater than the number of any delivery.
const firstMove = 1 << 17

// waitNumber tells a message's present wait from earlier ones: the number of the delivery it
// leads to, or, where its time was moved, which move or wait since that was.
func (q *Queue) waitNumber(seq uint64, m *msg) uint32 {
	if m.flags&msgExtra != 0 {
		if n := q.extras[seq].moved; n != 0 {
			return n
		}
	}
	return m.delivery()
}
