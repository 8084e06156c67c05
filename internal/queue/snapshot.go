package queue

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// snapshotVersion is the first byte of every snapshot. A later version reads
// the earlier ones.
const snapshotVersion = 1

// AppendSnapshot appends the whole journaled state: the same bytes for the same
// state. sparse, where it is not nil, is asked about every message's place; what it
// says yes to is reported through found, in passing.
func (st *State) AppendSnapshot(dst []byte, sparse func(Ref) bool, found func(q *Queue, seq uint64, s Span)) []byte {
	due := st.dues()
	dst = append(dst, snapshotVersion)
	dst = binary.AppendVarint(dst, st.now)
	dst = binary.AppendUvarint(dst, uint64(st.nextID))
	dst = binary.AppendUvarint(dst, uint64(len(st.ids)))
	for _, id := range slices.Sorted(maps.Keys(st.ids)) {
		q := st.ids[id]
		dst = binary.AppendUvarint(dst, uint64(id))
		dst = appendSettings(appendString(dst, q.Name), &q.Settings)
		dst = q.appendCounts(dst)
		dst = binary.AppendUvarint(dst, uint64(len(q.shield)))
		for _, seq := range q.shield {
			dst = binary.AppendUvarint(dst, seq)
		}
		dst = binary.AppendUvarint(dst, uint64(len(q.Bindings)))
		for _, pattern := range q.Bindings {
			dst = appendString(dst, pattern)
		}
		dst = binary.AppendUvarint(dst, uint64(q.Counts.Live()))
		var in *chunk
		q.each(func(seq uint64, c *chunk, m *msg) bool {
			dst = binary.AppendUvarint(dst, seq)
			if c != in { // before the first message of each chunk
				in = c
				dst = binary.AppendVarint(dst, c.base)
			}
			dst = q.appendMessage(dst, seq, m, due)
			if sparse != nil && sparse(m.ref) {
				found(q, seq, m.span())
			}
			return true
		})
	}
	return dst
}

type place struct {
	queue uint32
	seq   uint64
}

func (st *State) dues() map[place]int64 {
	due := make(map[place]int64, st.delayedN)
	for _, t := range st.delays.heap {
		if st.isDelayed(t) {
			due[place{t.queue, t.seq}] = t.at
		}
	}
	return due
}

func (q *Queue) appendCounts(dst []byte) []byte {
	paused := byte(0)
	if q.Paused {
		paused = 1
	}
	dst = append(dst, paused)
	c := &q.Counts
	dst = q.dedup.append(dst)
	for _, v := range [...]uint64{q.last, q.deadLast, c.Published, c.Acked, c.Expired, c.Dead, c.Dropped, c.Cancelled, c.Purged, c.Redriven} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// appendMessage: what is leased is written as ready.
func (q *Queue) appendMessage(dst []byte, seq uint64, m *msg, due map[place]int64) []byte {
	dst = append(dst, m.flags&keptFlags)
	dst = binary.AppendUvarint(dst, uint64(m.ref))
	dst = binary.AppendUvarint(dst, uint64(m.size))
	dst = binary.AppendUvarint(dst, uint64(m.over))
	dst = binary.AppendUvarint(dst, uint64(m.attempts))
	dst = binary.AppendUvarint(dst, uint64(m.uncounted))
	dst = binary.AppendUvarint(dst, uint64(m.ageShares))
	when := int64(0)
	if m.state == delayed {
		when = due[place{q.ID, seq}]
	}
	dst = binary.AppendVarint(dst, when)
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

// LoadSnapshot makes an empty state what AppendSnapshot wrote.
func (st *State) LoadSnapshot(b []byte) error {
	r := &reader{b: b}
	if v := r.byte(); v != snapshotVersion {
		return errors.New("snapshot of an unknown version")
	}
	st.now = r.varint()
	st.nextID = uint32(r.uvarint())
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		st.loadQueue(r)
	}
	if r.err == nil && (len(r.b) > 0 || st.now < 0) {
		return errSnapshot
	}
	return r.err
}

var errSnapshot = errors.New("snapshot holds what no state can")

func (st *State) loadQueue(r *reader) {
	id := uint32(r.uvarint())
	name, s := r.string(), r.settings()
	if id == 0 || st.ids[id] != nil || st.names[name] != nil {
		r.fail(errSnapshot)
	}
	if r.err != nil {
		return
	}
	q := st.add(id, name, s)
	q.Paused = r.byte() != 0
	q.dedup.load(r)
	c := &q.Counts
	for _, v := range [...]*uint64{&q.last, &q.deadLast, &c.Published, &c.Acked, &c.Expired, &c.Dead, &c.Dropped, &c.Cancelled, &c.Purged, &c.Redriven} {
		*v = r.uvarint()
	}
	q.shield = r.seqs(nil)
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		q.Bindings = append(q.Bindings, r.string())
	}
	if !slices.IsSorted(q.Bindings) {
		r.fail(errSnapshot)
	}
	before := uint64(0)
	for live := r.uvarint(); live > 0 && r.err == nil; live-- {
		before = st.loadMessage(q, r, before)
	}
}

// loadMessage reads the message behind the one whose seq was before, and returns its seq.
func (st *State) loadMessage(q *Queue, r *reader, before uint64) uint64 {
	seq, base := r.uvarint(), int64(0)
	if q.tail != nil && q.tail.key == seq>>chunkBits {
		base = q.tail.base
	} else {
		base = r.varint()
	}
	flags := r.byte()
	ref, size, over := Ref(r.uvarint()), uint32(r.uvarint()), uint16(r.uvarint())
	attempts, uncounted := uint16(r.uvarint()), uint16(r.uvarint())
	age, due := uint32(r.uvarint()), r.varint()
	if seq <= before || seq > q.last || flags&^keptFlags != 0 || (&msg{flags: flags}).priority() > 9 {
		r.fail(errSnapshot)
	}
	if r.err != nil {
		return seq
	}
	c, m := q.put(seq, base)
	m.ref, m.size, m.over, m.ageShares, m.attempts, m.uncounted, m.flags = ref, size, over, age, attempts, uncounted, flags
	q.Bytes += m.body()
	st.liveN++
	if m.age() == tooOld {
		q.setLate(seq, r.varint())
	}
	if flags&msgExtra != 0 {
		q.setExtra(seq, m, extra{expires: r.varint(), key: r.string()})
	}
	if flags&msgDead != 0 {
		if q.dead == nil {
			q.dead = map[uint64]*Dead{}
		}
		q.dead[seq] = &Dead{Queue: r.string(), Seq: r.uvarint(), Attempts: uint32(r.uvarint()), Reason: r.string()}
	}
	st.wait(q, seq, m, due)
	st.mortal(q, seq, c, m)
	return seq
}

func (d *dedup) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.order)-d.first))
	for _, e := range d.order[d.first:] {
		dst = binary.AppendUvarint(appendString(dst, e.id), d.seqs[e.id])
		dst = binary.AppendVarint(dst, e.expires)
	}
	return dst
}

func (d *dedup) load(r *reader) {
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		id, seq, expires := r.string(), r.uvarint(), r.varint()
		if _, twice := d.seqs[id]; twice {
			r.fail(errSnapshot)
			return
		}
		d.remember(id, seq, expires)
	}
}

// Resume ends a replay: everything that is there may have been delivered before, and the
// next Spans retains all of it.
func (st *State) Resume() {
	st.retained, st.released, st.removed = st.retained[:0], st.released[:0], nil
	st.ends.keep(func(t timer) bool { return t.about != endsNow })
	for _, q := range st.Queues() {
		q.restored, q.Returned, q.Shielded = q.last, 0, len(q.shield) > 0
		q.each(func(_ uint64, _ *chunk, m *msg) bool {
			st.retained = append(st.retained, m.stake())
			m.flags &^= msgEnding // whatever was on its way never came to be
			return true
		})
	}
}
