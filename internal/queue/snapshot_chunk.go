package queue

import "encoding/binary"

// encode appends the messages of a chunk: packed, then what each of them has elsewhere. What is leased is written as ready.
func (s *Snapshot) encode(dst []byte, q *Queue, c *chunk) []byte {
	c.epoch = s.st.epoch
	if c.live == 0 {
		return dst
	}
	ms := &s.tmp
	if all := c.look(ms); all != ms {
		*ms = *all
	}
	for i := range ms {
		m := &ms[i]
		m.flags &= keptFlags
		if m.state != gone && s.sparse != nil && s.sparse(m.ref) {
			s.found(q, c.key<<chunkBits|uint64(i), m.span())
		}
	}
	dst = binary.AppendUvarint(dst, c.key)
	dst = binary.AppendVarint(dst, c.base)
	dst = appendPacked(dst, ms)
	for i := range ms {
		if ms[i].state != gone {
			dst = q.appendOptions(dst, c.key<<chunkBits|uint64(i), c, &ms[i])
		}
	}
	return dst
}

// appendOptions appends what a message has beyond its msg.
func (q *Queue) appendOptions(dst []byte, seq uint64, c *chunk, m *msg) []byte {
	if m.state == delayed {
		dst = binary.AppendVarint(dst, c.due(seq).at)
	}
	if m.age() == tooOld {
		dst = binary.AppendVarint(dst, q.late[seq])
	}
	if m.flags&msgExtra != 0 {
		x := q.extras[seq]
		dst = appendString(binary.AppendVarint(dst, x.expires), x.key)
	}
	if m.flags&msgDead != 0 {
		d := q.dead[seq]
		dst = appendString(dst, d.Queue)
		dst = binary.AppendUvarint(dst, d.Seq)
		dst = binary.AppendUvarint(dst, uint64(d.Attempts))
		dst = appendString(dst, d.Reason)
	}
	return dst
}

// loadChunk reads what encode wrote, at most live messages, and returns how many are left to be read.
func (st *State) loadChunk(q *Queue, r *reader, live uint64, mark Ref) uint64 {
	key, base := r.uvarint(), r.varint()
	if q.tail != nil && key <= q.tail.key {
		r.fail(errSnapshot)
	}
	var ms [chunkLen]msg
	readPacked(r, &ms)
	before := live
	for i := range ms {
		m := &ms[i]
		if m.state == gone || r.err != nil {
			continue
		}
		seq, due := key<<chunkBits|uint64(i), int64(0)
		if m.state == delayed {
			due = r.varint()
		}
		if live == 0 || seq>>chunkBits != key {
			r.fail(errSnapshot)
			break
		}
		live--
		if m.ref&mark != 0 {
			r.fail(errSnapshot)
		}
		m.ref |= mark
		st.loadMessage(q, r, seq, base, m, due)
	}
	if live == before {
		r.fail(errSnapshot)
	}
	return live
}

// loadMessage puts the next message of q in its place; r holds its options, but for when it is due (0: it is not delayed).
func (st *State) loadMessage(q *Queue, r *reader, seq uint64, base int64, from *msg, due int64) {
	if seq == 0 || seq > q.last || from.flags&^keptFlags != 0 || from.priority() > 9 {
		r.fail(errSnapshot)
	}
	if r.err != nil {
		return
	}
	q.packSome()
	c, m := q.put(seq, base)
	*m = *from
	m.state = gone
	q.Bytes += m.body()
	st.liveN++
	if m.age() == tooOld {
		q.setLate(seq, r.varint())
	}
	if m.flags&msgExtra != 0 {
		q.setExtra(seq, m, extra{expires: r.varint(), key: r.string()})
	}
	if m.flags&msgDead != 0 {
		if q.dead == nil {
			q.dead = map[uint64]*Dead{}
		}
		q.dead[seq] = &Dead{Queue: r.string(), Seq: r.uvarint(), Attempts: uint32(r.uvarint()), Reason: r.string()}
	}
	st.wait(q, seq, c, m, due)
	st.mortal(q, seq, c, m)
}

// loadSingly reads the messages of a queue as version 1 wrote them.
func (st *State) loadSingly(q *Queue, r *reader, live uint64, mark Ref) {
	for before := uint64(0); live > 0 && r.err == nil; live-- {
		seq, base := r.uvarint(), int64(0)
		if q.tail != nil && q.tail.key == seq>>chunkBits {
			base = q.tail.base
		} else {
			base = r.varint()
		}
		if seq <= before {
			r.fail(errSnapshot)
		}
		before = seq
		m := msg{flags: r.byte(), ref: Ref(r.uvarint()) | mark, size: uint32(r.uvarint()), over: uint16(r.uvarint())}
		m.attempts, m.uncounted = uint16(r.uvarint()), uint16(r.uvarint())
		m.ageShares = uint32(r.uvarint())
		st.loadMessage(q, r, seq, base, &m, r.varint())
	}
}
