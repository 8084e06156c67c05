package queue

import "encoding/binary"

// flagOut of kindRedrive: the messages have gone to a queue of another state.
const flagOut = 1 << 0

// AppendRedrive appends messages' way out of the dead-letter queue id: into the queue to, or where to is 0 each
// to where it came from.
//
//	head | to | count | seq … (all varints)
func AppendRedrive(dst []byte, id uint32, at int64, to uint32, seqs []uint64) []byte {
	dst = binary.AppendUvarint(appendHead(dst, kindRedrive, 0, id, at), uint64(to))
	dst = binary.AppendUvarint(dst, uint64(len(seqs)))
	for _, s := range seqs {
		dst = binary.AppendUvarint(dst, s)
	}
	return dst
}

// AppendRedriven is AppendRedrive for messages that have been published to a queue of another state.
func AppendRedriven(dst []byte, id uint32, at int64, seqs []uint64) []byte {
	n := len(dst)
	dst = AppendRedrive(dst, id, at, 0, seqs)
	dst[n+1] = flagOut
	return dst
}

// AppendAgain appends a dead letter's record as one to be published, as AppendPublish does, with the time of its first
// publishing forgotten, and with it what it asked for then: a delay, a time to live, an id.
func AppendAgain(dst, record []byte) ([]byte, error) {
	e, err := ParseEnvelope(record)
	if err != nil {
		return dst, err
	}
	o, err := parseOptions(e.options, 0)
	if err != nil {
		return dst, err
	}
	return AppendPublish(dst, &Publish{Headers: e.Headers, Body: e.Body, Base64: e.Base64, Priority: o.priority, Key: o.key, Topic: o.topic, Whole: true}), nil
}

// redrive moves messages out of a dead-letter queue: to the queue that is named, or each to where it
// came from. One that does not fit stays: nothing is pushed out for it.
func (st *State) redrive(dq *Queue, flags byte, r *reader) (n int) {
	to := uint32(r.uvarint())
	for count := r.uvarint(); count > 0 && r.err == nil; count-- {
		seq := r.uvarint()
		c, m := dq.find(seq)
		if m == nil {
			continue
		}
		if flags&flagOut != 0 {
			st.happened(dq, seq, m, wasRedriven, "")
			st.end(dq, seq, c, m)
			dq.Counts.Redriven++
			n++
			continue
		}
		q := st.ids[to]
		if d := dq.dead[seq]; to == 0 && d != nil {
			q = st.names[d.Queue]
		}
		p := piece{span: m.span(), body: m.body(), shares: m.shares(), priority: uint8(m.priority()), key: dq.extras[seq].key}
		if q == nil || q == dq || !q.fits(1, p.body) {
			st.Spare(dq, seq, st.now)
			continue
		}
		st.happened(dq, seq, m, wasRedriven, "to "+q.Name)
		st.take(dq, seq, c, m)
		dq.Counts.Redriven++
		st.store(q, &p, 0)
		st.rows.updated(dq, seq, q, q.last)
		st.retained = st.retained[:len(st.retained)-1]
		n++
	}
	return n
}

// Redrivable lists up to limit messages of a dead-letter queue that nobody has, the oldest first, and
// keeps them from consumers until what the owner proposes is decided. With home it passes over those that came from no queue.
func (st *State) Redrivable(dq *Queue, limit int, home bool) (seqs []uint64) {
	dq.each(func(seq uint64, _ *chunk, m *msg) bool {
		if home && m.flags&msgDead == 0 {
			return true
		}
		if m.state != leased && m.flags&msgEnding == 0 {
			m.flags |= msgEnding
			seqs = append(seqs, seq)
		}
		return len(seqs) < limit
	})
	return seqs
}

// Place is where the record of a message is, and whether it may share it with messages of other queues; ok is false where
// it is no more.
func (q *Queue) Place(seq uint64) (span Span, shared, ok bool) {
	_, m := q.find(seq)
	if m == nil {
		return Span{}, false, false
	}
	return m.span(), m.shares() > 0, true
}
