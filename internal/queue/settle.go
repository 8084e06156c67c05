package queue

func (st *State) settle(q *Queue, r *reader) (n int) {
	count := r.uvarint()
	for ; count > 0 && r.err == nil; count-- {
		seq := r.uvarint()
		if c, m := q.find(seq); m != nil {
			st.happened(q, seq, m, wasAcked, "")
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
		st.changes(q, c)
		q.Returned++
		if flags&flagUncounted != 0 {
			saturate(&m.uncounted)
		} else {
			saturate(&m.attempts)
		}
		st.happened(q, seq, m, wasReturned, reason)
		if st.dying(q, flags, m) {
			st.bury(q, st.deadQueue(q), seq, c, m, deadReason(flags, reason))
			continue
		}
		if m.state == leased {
			st.unlease(q, seq, c)
			st.over(q, seq, c, m)
			st.stepBack(q, seq, m)
		} else {
			st.leaveState(q, seq, c, m)
		}
		st.wait(q, seq, c, m, due)
		st.rows.updated(q, seq, q, seq)
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
func (st *State) wait(q *Queue, seq uint64, c *chunk, m *msg, at int64) {
	if at <= st.now {
		st.makeReady(q, seq, m)
		return
	}
	if m.delivery() == 1 {
		st.stepUp(q, seq, m)
	} else { // a retry holds its place
		st.queueUp(q, seq, m)
	}
	m.state = delayed
	st.delaysN++
	c.dues = append(c.dues, due{at, st.delaysN, uint8(seq & (chunkLen - 1))})
	q.Counts.Delayed++
	st.delayedN++
	st.delays.add(timer{at, seq, q.ID, st.delaysN})
	st.delays.tidy(st.delayedN, st.isDelayed)
}

// isDelayed reports whether a message waits for the time of t: it may have been moved, or have come back, since.
func (st *State) isDelayed(t timer) bool {
	q := st.byID(t.queue)
	if q == nil {
		return false
	}
	c := q.byKey[t.seq>>chunkBits]
	return c != nil && c.due(t.seq).timer == t.about
}
