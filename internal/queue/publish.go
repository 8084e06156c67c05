package queue

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// piece is one message of an all-or-none publish.
type piece struct {
	span     Span
	body     int64
	priority uint8
	due      int64
	expires  int64
	id       string // for dedup; "": none
	key      string // "": none
	shares   uint8  // how many queues have the record, log2
	own      Ref    // of the record that publishes it: another than span's, where queues share that; 0: it is not new
	at       int64  // when it was published, unix ns
}

func (st *State) publish(q *Queue, span Span, record []byte) (Outcome, error) {
	e, err := ParseEnvelope(record)
	if err != nil {
		return Outcome{}, err
	}
	p := piece{span: span, own: span.Ref, at: e.Published, body: int64(len(e.Body)), priority: DefaultPriority}
	if len(e.options) > 0 {
		o, err := parseOptions(e.options, st.now)
		if err != nil {
			return Outcome{}, err
		}
		p = newPiece(span, p.body, &o)
		p.own, p.at = span.Ref, e.Published
	}
	if p.id == "" && record[1]&flagMore == 0 && len(st.group) == 0 && q != nil { // as publishGroup would, with less ado
		if !st.makeRoom(q, 1, p.body) {
			return Outcome{Refusal: Full, Queue: q}, nil
		}
		st.store(q, &p, 0)
		return Outcome{Queue: q, Seq: q.last, N: 1}, nil
	}
	st.group = append(st.group, p)
	if record[1]&flagMore != 0 {
		return Outcome{Pending: true}, nil
	}
	return st.publishGroup(q, false), nil
}

func newPiece(span Span, body int64, o *options) piece {
	return piece{span: span, body: body, priority: o.priority, due: o.due, expires: o.expires, id: string(o.dedup), key: string(o.key)}
}

// copyIn is publish for a message to a topic, of which the record is a copy. That there was room in all queues has been
// checked when it was written: now it cannot be refused in one of them.
func (st *State) copyIn(q *Queue, span Span, record []byte) (Outcome, error) {
	r := reader{b: record[headBytes:]}
	o, err := parseOptions(r.bytes(int(binary.LittleEndian.Uint16(record[2:]))), st.now)
	if err != nil {
		return Outcome{}, err
	}
	back, size, body, shares := r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	if r.err != nil || back == 0 || back > uint64(span.Ref) || size > math.MaxUint32 || body > size || shares > maxShares {
		return Outcome{}, errors.New("record is no copy of a message")
	}
	p := newPiece(Span{span.Ref - Ref(back), uint32(size)}, int64(body), &o)
	p.shares, p.own, p.at = uint8(shares), span.Ref, int64(binary.LittleEndian.Uint64(record[8:]))
	st.group = append(st.group, p)
	if record[1]&flagMore != 0 {
		return Outcome{Pending: true}, nil
	}
	return st.publishGroup(q, true), nil
}

// publishGroup stores the messages of a group, all or none; where they are promised, all.
func (st *State) publishGroup(q *Queue, promised bool) Outcome {
	group := st.group
	st.group = st.group[:0]
	if q == nil {
		return Outcome{Refusal: NoQueue}
	}
	known, fresh, bytes := st.recognize(q, group)
	switch {
	case !promised && known != nil && len(q.dedup.seqs)+fresh > MaxDedupIDs:
		return Outcome{Refusal: TooManyIDs, Queue: q}
	case fresh > 0 && !st.makeRoom(q, fresh, bytes) && !promised:
		return Outcome{Refusal: Full, Queue: q}
	}
	out := Outcome{Queue: q, Seq: q.last + 1, N: len(group)}
	if known != nil {
		out.Seqs, out.Known = st.storeUnknown(q, group, known), known
		out.Seq = out.Seqs[0]
		if fresh == len(group) {
			out.Seqs, out.Known = nil, nil
		}
		return out
	}
	for i := range group {
		st.store(q, &group[i], 0)
	}
	return out
}

// recognize says which messages of a group the queue knows by their ids, how many it does not
// know, and the size of their bodies. known is nil where none has an id.
func (st *State) recognize(q *Queue, group []piece) (known []bool, fresh int, bytes int64) {
	for i := 0; i < len(group) && known == nil && q.Settings.DedupWindow > 0; i++ {
		if group[i].id != "" {
			q.dedup.forget(st.now)
			known = make([]bool, len(group))
		}
	}
	var before map[string]bool // the ids of the group so far
	if known != nil && len(group) > 1 {
		before = make(map[string]bool, len(group))
	}
	for i := range group {
		p := &group[i]
		if known != nil && p.id != "" {
			_, known[i] = q.dedup.seqs[p.id]
			if known[i] = known[i] || before[p.id]; known[i] {
				continue
			}
			if before != nil {
				before[p.id] = true
			}
		}
		fresh++
		bytes += p.body
	}
	return known, fresh, bytes
}

// Fresh is how many messages of a publish to a topic q does not know by their ids yet, the size of their bodies, and how many of
// them have an id to be remembered.
func (q *Queue) Fresh(sources []Source, now int64) (n int, bytes int64, ids int) {
	seen := map[string]bool{}
	for i := range sources {
		s := &sources[i]
		o, _ := parseOptions(s.options, now) // read before
		if id := string(o.dedup); id != "" && q.Settings.DedupWindow > 0 {
			if seen[id] || q.dedup.knows(id, now) {
				continue
			}
			seen[id] = true
			ids++
		}
		n++
		bytes += int64(s.body)
	}
	return n, bytes, ids
}

// storeUnknown stores the messages of a group that are not known, and returns the seqs of all.
func (st *State) storeUnknown(q *Queue, group []piece, known []bool) []uint64 {
	seqs := make([]uint64, len(group))
	for i := range group {
		p := &group[i]
		if known[i] {
			seqs[i] = q.dedup.seqs[p.id]
			continue
		}
		st.store(q, p, 0)
		seqs[i] = q.last
		if p.id != "" {
			q.dedup.remember(p.id, q.last, later(st.now, uint64(q.Settings.DedupWindow)))
		}
	}
	return seqs
}

// store makes p the newest message of q.
func (st *State) store(q *Queue, p *piece, flags uint8) *msg {
	q.last++
	q.packSome()
	tail := q.tail
	if tail != nil && tail.key == q.last>>chunkBits {
		st.changes(q, tail)
	}
	c, m := q.put(q.last, st.now)
	c.epoch = st.epoch // what is new is in no snapshot that has begun
	if tail != c && tail != nil && tail.live == 0 {
		st.snap.passOver(tail)
	}
	m.refer(p.span, p.body)
	m.setShares(p.shares)
	m.flags, m.attempts, m.uncounted = flags|priorityFlags(p.priority), 0, 0
	if m.age() == tooOld {
		q.setLate(q.last, st.now)
	}
	if p.expires != 0 || p.key != "" {
		q.setExtra(q.last, m, extra{expires: p.expires, key: p.key})
	}
	q.Bytes += m.body()
	q.Counts.Published++
	st.liveN++
	st.retained = append(st.retained, m.stake())
	st.wait(q, q.last, c, m, p.due)
	st.mortal(q, q.last, c, m)
	if st.rows != nil && p.own != 0 {
		st.rows.inserted(q, q.last, c, m, p)
	}
	return m
}

func (q *Queue) fits(n int, bytes int64) bool {
	s := &q.Settings
	return (s.MaxMessages == 0 || int64(q.Counts.Live()+n) <= s.MaxMessages) &&
		(s.MaxBytes == 0 || q.Bytes+bytes <= s.MaxBytes)
}

// makeRoom lets n messages fit, by the queue's overflow policy. Where they
// cannot, it changes nothing.
func (st *State) makeRoom(q *Queue, n int, bytes int64) bool {
	if q.fits(n, bytes) {
		return true
	}
	s := &q.Settings
	if s.Overflow == Reject || (s.MaxMessages > 0 && int64(n) > s.MaxMessages) || (s.MaxBytes > 0 && bytes > s.MaxBytes) {
		return false
	}
	victims := q.victims(n, bytes, q.shielded)
	if victims == nil {
		return false
	}
	for _, seq := range victims {
		c, m := q.find(seq)
		if s.Overflow == DeadLetterIt && DeadName(q.Name) != "" {
			st.bury(q, st.deadQueue(q), seq, c, m, "overflow: the queue was full")
			continue
		}
		q.Counts.Dropped++
		st.happened(q, seq, m, wasDropped, "the queue was full")
		st.end(q, seq, c, m)
	}
	return true
}

func (q *Queue) shielded(seq uint64, _ *msg) bool {
	_, found := slices.BinarySearch(q.shield, seq)
	return found
}

// Condemn keeps from consumers what an overflow of n more messages will take, until Spare: what a consumer gets
// while they are on their way would be taken from it. It returns the messages' seqs.
func (st *State) Condemn(q *Queue, n int, bytes int64) []uint64 {
	seqs := q.victims(n, bytes, func(_ uint64, m *msg) bool { return m.state == leased })
	for _, seq := range seqs {
		st.Hold(q, seq)
	}
	return seqs
}

// Fits reports whether n more messages fit without pushing anything out.
func (q *Queue) Fits(n int, bytes int64) bool { return q.fits(n, bytes) }

// Yields reports whether n more messages fit when everything has gone that an overflow may take.
func (q *Queue) Yields(n int, bytes int64) bool {
	return q.fits(n, bytes) || q.victims(n, bytes, func(_ uint64, m *msg) bool { return m.state == leased }) != nil
}

// victims are the oldest messages without which n more fit, but for those that are spared; nil where too few are left.
func (q *Queue) victims(n int, bytes int64, spared func(uint64, *msg) bool) (seqs []uint64) {
	s := &q.Settings
	over := int64(q.Counts.Live()+n) - s.MaxMessages
	overBytes := q.Bytes + bytes - s.MaxBytes
	if s.MaxMessages == 0 {
		over = 0
	}
	if s.MaxBytes == 0 {
		overBytes = 0
	}
	q.view(func(seq uint64, _ *chunk, m *msg) bool {
		if spared(seq, m) {
			return true
		}
		seqs = append(seqs, seq)
		over--
		overBytes -= m.body()
		return over > 0 || overBytes > 0
	})
	if over > 0 || overBytes > 0 {
		return nil
	}
	return seqs
}

// Shield lists the leased messages that lie among the oldest n others: what a
// publish of n messages must not push out. Where bytes are limited it lists all that are leased,
// as a big message can push out any number of small ones.
func (q *Queue) Shield(n int) (seqs []uint64) {
	if q.Counts.Leased == 0 {
		return nil
	}
	if q.Settings.MaxBytes > 0 {
		n = q.Counts.Live()
	}
	q.view(func(seq uint64, _ *chunk, m *msg) bool {
		if m.state == leased {
			seqs = append(seqs, seq)
		} else {
			n--
		}
		return n > 0 && len(seqs) < q.Counts.Leased
	})
	return seqs
}

// bury moves a message to the dead-letter queue. Its record stays where it is.
func (st *State) bury(q, dq *Queue, seq uint64, c *chunk, m *msg, reason string) {
	p := piece{span: m.span(), body: m.body(), shares: m.shares(), priority: uint8(m.priority()), key: q.extras[seq].key}
	st.happened(q, seq, m, hasDied, reason)
	d := &Dead{Queue: q.Name, Seq: seq, Attempts: uint32(m.attempts), Reason: reason}
	st.take(q, seq, c, m)
	q.Counts.Dead++
	if !dq.fits(1, p.body) && dq.Settings.Overflow == DropOldest {
		for _, v := range dq.victims(1, p.body, dq.shielded) {
			vc, vm := dq.find(v)
			dq.Counts.Dropped++
			st.end(dq, v, vc, vm)
		}
	}
	st.store(dq, &p, msgDead)
	if dq.dead == nil {
		dq.dead = map[uint64]*Dead{}
	}
	dq.dead[dq.last] = d
	st.rows.updated(q, seq, dq, dq.last)
	st.retained = st.retained[:len(st.retained)-1] // it never ceased to be
}
