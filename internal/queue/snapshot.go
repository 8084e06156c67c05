package queue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
)

// snapshotVersion is the first byte of every snapshot. A later version reads
// the earlier ones. Version 1 wrote each message on its own; since 2 chunks are packed, and documents come first.
const snapshotVersion = 2

// A Snapshot writes the whole journaled state as it is when it begins, a piece at a time, while commands go on
// being applied: what they change is written down first (changes).
type Snapshot struct {
	st     *State
	sparse func(Ref) bool
	found  func(q *Queue, seq uint64, s Span)
	heads  [][]byte // of queues, as they were
	dedups [][]remembered
	queues []*Queue
	cur    *chunk             // of queues[0], the next to be looked at
	early  map[*Queue]earlies // what had to be written down before its turn
	tmp    [chunkLen]msg
}

// earlies are encoded chunks of one queue, a heap by key.
type earlies []early

type early struct {
	key  uint64
	data []byte
}

// BeginSnapshot begins a snapshot; there must be no other. sparse, where it is not nil, is asked about every
// message's place; what it says yes to is reported through found, in passing, by Next or any command.
func (st *State) BeginSnapshot(sparse func(Ref) bool, found func(q *Queue, seq uint64, s Span)) *Snapshot {
	st.epoch++
	s := &Snapshot{st: st, sparse: sparse, found: found, early: map[*Queue]earlies{}}
	head := st.docs.appendAll([]byte{snapshotVersion})
	head = binary.AppendVarint(head, st.now)
	head = binary.AppendUvarint(head, uint64(st.nextID))
	head = binary.AppendUvarint(head, uint64(len(st.ids)))
	for _, id := range slices.Sorted(maps.Keys(st.ids)) {
		q := st.ids[id]
		head = q.appendHead(head)
		s.queues = append(s.queues, q)
		s.heads = append(s.heads, head)
		s.dedups = append(s.dedups, q.dedup.order[q.dedup.first:])
		head = nil
	}
	if len(s.queues) > 0 {
		s.cur = s.queues[0].head
	} else {
		s.heads = append(s.heads, head)
	}
	st.snap = s
	return s
}

// Next appends more of the snapshot, about budget bytes. It is true when nothing is left.
func (s *Snapshot) Next(dst []byte, budget int) ([]byte, bool) {
	for end := len(dst) + budget; len(dst) < end; {
		if len(s.heads) > 0 && s.heads[0] != nil {
			dst = append(dst, s.heads[0]...)
			s.heads[0] = nil
		}
		if len(s.queues) == 0 {
			s.st.snap = nil
			return dst, true
		}
		if d := s.dedups[0]; len(d) > 0 {
			n := min(len(d), 1024)
			dst = appendRemembered(dst, d[:n])
			s.dedups[0] = d[n:]
			continue
		}
		if !s.chunk(&dst) {
			s.heads, s.dedups, s.queues = s.heads[1:], s.dedups[1:], s.queues[1:]
			if len(s.queues) > 0 {
				s.cur = s.queues[0].head
			}
		}
	}
	return dst, false
}

// chunk appends the next chunk of the first queue; false where there is none.
func (s *Snapshot) chunk(dst *[]byte) bool {
	q := s.queues[0]
	for s.cur != nil && s.cur.epoch == s.st.epoch {
		s.cur = s.cur.next
	}
	e := s.early[q]
	if len(e) > 0 && (s.cur == nil || e[0].key < s.cur.key) {
		*dst = append(*dst, e[0].data...)
		s.early[q] = e[1:]
		return true
	}
	if s.cur == nil {
		delete(s.early, q)
		return false
	}
	*dst = s.encode(*dst, q, s.cur)
	s.cur = s.cur.next
	return true
}

// changes is told that a chunk is about to change.
func (st *State) changes(q *Queue, c *chunk) {
	if st.snap == nil || c.epoch == st.epoch || c.live == 0 {
		return
	}
	s := st.snap
	e := s.early[q]
	i, _ := slices.BinarySearchFunc(e, c.key, func(e early, key uint64) int { return cmp.Compare(e.key, key) })
	s.early[q] = slices.Insert(e, i, early{c.key, s.encode(nil, q, c)})
}

// passOver is told that a chunk is taken out of its queue; what it held is written down.
func (s *Snapshot) passOver(c *chunk) {
	if s != nil && s.cur == c {
		s.cur = c.next
	}
}

// AppendSnapshot appends the whole journaled state in one go: the same bytes for the same state.
func (st *State) AppendSnapshot(dst []byte) []byte {
	s := st.BeginSnapshot(nil, nil)
	for done := false; !done; {
		dst, done = s.Next(dst, math.MaxInt/2)
	}
	return dst
}

// appendHead appends everything of a queue but its messages and the ids it remembers, and how many there are of both.
func (q *Queue) appendHead(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(q.ID))
	dst = appendSettings(appendString(dst, q.Name), &q.Settings)
	paused := byte(0)
	if q.Paused {
		paused = 1
	}
	dst = append(dst, paused)
	c := &q.Counts
	for _, v := range [...]uint64{q.last, q.deadLast, c.Published, c.Acked, c.Expired, c.Dead, c.Dropped, c.Cancelled, c.Purged, c.Redriven} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = binary.AppendUvarint(dst, uint64(len(q.shield)))
	for _, seq := range q.shield {
		dst = binary.AppendUvarint(dst, seq)
	}
	dst = binary.AppendUvarint(dst, uint64(len(q.Bindings)))
	for _, pattern := range q.Bindings {
		dst = appendString(dst, pattern)
	}
	dst = binary.AppendUvarint(dst, uint64(q.Counts.Live()))
	return binary.AppendUvarint(dst, uint64(len(q.dedup.order)-q.dedup.first))
}

// LoadSnapshot makes an empty state what AppendSnapshot wrote.
func (st *State) LoadSnapshot(b []byte) error { return st.load(b, 0) }

// load sets mark in all refs.
func (st *State) load(b []byte, mark Ref) error {
	r := &reader{b: b}
	version := r.byte()
	if version < 1 || version > snapshotVersion {
		return errors.New("snapshot of an unknown version")
	}
	if version > 1 {
		st.docs.load(r)
	}
	st.now = r.varint()
	st.nextID = uint32(r.uvarint())
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		st.loadQueue(r, version, mark)
	}
	if r.err == nil && (len(r.b) > 0 || st.now < 0) {
		return errSnapshot
	}
	return r.err
}

var errSnapshot = errors.New("snapshot holds what no state can")

func (st *State) loadQueue(r *reader, version byte, mark Ref) {
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
	live, ids := r.uvarint(), r.uvarint()
	q.dedup.load(r, ids)
	if version == 1 {
		st.loadSingly(q, r, live, mark)
		return
	}
	for live > 0 && r.err == nil {
		live = st.loadChunk(q, r, live, mark)
	}
}

func appendRemembered(dst []byte, es []remembered) []byte {
	for _, e := range es {
		dst = binary.AppendUvarint(appendString(dst, e.id), e.seq)
		dst = binary.AppendVarint(dst, e.expires)
	}
	return dst
}

func (d *dedup) load(r *reader, n uint64) {
	for ; n > 0 && r.err == nil; n-- {
		id, seq, expires := r.string(), r.uvarint(), r.varint()
		if _, twice := d.seqs[id]; twice {
			r.fail(errSnapshot)
			return
		}
		d.remember(id, seq, expires)
	}
}

// resumeSpans is how much Resume says at a time.
const resumeSpans = 4096

// Resume ends a replay: everything that is there may have been delivered before. retain is called with all that
// the state refers to, some of it at a time; the slice is its own during the call only.
func (st *State) Resume(retain func([]Span)) {
	st.retained, st.released, st.removed, st.discarded = st.retained[:0], st.released[:0], nil, nil
	st.ends.keep(func(t timer) bool { return t.about != endsNow })
	for _, q := range st.Queues() {
		q.restored, q.Returned, q.Shielded = q.last, 0, len(q.shield) > 0
		q.view(func(_ uint64, _ *chunk, m *msg) bool {
			if st.retained = append(st.retained, m.stake()); len(st.retained) == resumeSpans {
				retain(st.retained)
				st.retained = st.retained[:0]
			}
			m.flags &^= msgEnding // whatever was on its way never came to be; what is packed is on no way
			return true
		})
	}
	retain(st.retained)
	st.retained = st.retained[:0]
}
