package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Counts are a queue's tallies since it was created. At every moment
// Published = Ready + Delayed + Leased + the others.
type Counts struct {
	Published, Acked, Expired, Dead, Dropped, Cancelled, Purged, Redriven uint64
	Ready, Delayed, Leased                                                int
}

// Live is how many messages are in the queue.
func (c *Counts) Live() int { return c.Ready + c.Delayed + c.Leased }

// A Dead says where a message in a dead-letter queue came from, and why.
type Dead struct {
	Queue    string
	Seq      uint64
	Attempts uint32
	Reason   string
}

// A Queue is one queue. Its exported fields are the state's to change and its owner's to read.
//
// What every message needs comes first, in five lines of memory: where many queues take turns, each line that a message
// touches comes from far away. What Warm reads is one word of each.
type Queue struct {
	ID uint32

	// Deleting and Shielded belong to the owner: a delete, or a shield that is
	// not empty, has been proposed.
	Deleting, Shielded bool

	Paused bool
	dirty  bool // in State.dirty
	gone   bool
	heaps  uint16
	frozen int32 // purges on their way that list what stays: nothing may be leased

	Name     string
	ring     *Consumer // those of subs that could take a message
	last     uint64    // the greatest seq given
	cursor   uint64    // what is ready and not in returned has at least this seq
	restored uint64    // messages up to this seq are older than the process
	chunks

	// Proposed and ProposedBytes are the messages on their way to a queue with an overflow policy or with
	// bindings; Promised are those of them that come from a topic: it has been checked already that there is
	// room for them. The owner's, too.
	Proposed      int
	ProposedBytes int64
	Promised      int
	Bytes         int64 // of the bodies of live messages
	Counts        Counts
	Delivered     uint64 // since the process started
	past          past
	Settings      Settings

	Returned  uint64 // since the process started
	Consumers int    // subscriptions
	subs      []*Consumer

	deadLast uint64   // the greatest that a deleted dead-letter queue of this one gave: its successor has the same id and goes on from there
	Bindings []string // the patterns of topics that it is bound to, sorted
	dead     map[uint64]*Dead
	extras   map[uint64]extra
	late     map[uint64]int64    // when messages were published whose age has no room in msg, unix ns
	lines    map[string]*keyLine // by key
	dedup    dedup

	// returned holds, by priority, the ready messages that the cursor has passed, those of other
	// than the default priority from the beginning, and some that are no more. heaps has a bit for each that is not empty.
	returned [10]seqHeap

	shield []uint64 // sorted: what an overflow must leave alone
}

// A State is the queues of one shard in one storage.
type State struct {
	now    int64  // the latest time seen in a command; never runs back
	nextID uint32 // greater than any id that a create has borne
	ids    map[uint32]*Queue
	near   near
	names  map[string]*Queue
	group  []piece // of an all-or-none publish whose last record is still to come
	docs   documents

	// What follows is the owner's view and is in no snapshot.

	boot      uint32 // names this life of the process, in receipts
	givenID   uint32 // by NewID; a create may yet come of it
	leaseEnds leaseEnds
	delays    timers
	delaysN   uint32 // how many entries it has had
	waits     timers
	ends      timers        // of messages with a ttl
	looked    int64         // the latest time at which Outlived has looked at them
	snap      *Snapshot     // the one being written
	epoch     uint32        // its number, or the latest's
	held      map[place]int // what is kept from consumers for more than one proposal: how many more
	liveN     int
	leasedN   int
	delayedN  int
	waiting   map[uint64]*Consumer
	lastC     uint64
	dirty     []*Queue // may have something to deliver
	turn      int
	removed   []*Consumer
	leases    leasePool
	pool      pool
	discarded *chunk // what a purge has taken out of its queue, whose records are still to be given up
	retained  []Span
	released  []Span
	rows      *Rows // that follow this state; nil: none
}

// New is a state without queues. boot tells this process's receipts from those of others before it.
func New(boot uint32) *State {
	return &State{nextID: 2, ids: map[uint32]*Queue{}, near: make(near, 8), names: map[string]*Queue{}, boot: boot, waiting: map[uint64]*Consumer{}}
}

// Queue returns the queue of that name, or nil.
func (st *State) Queue(name string) *Queue { return st.names[name] }

// Find is Queue for a name that is no string yet.
func (st *State) Find(name []byte) *Queue { return st.names[string(name)] }

// Gone reports whether the queue has been deleted.
func (q *Queue) Gone() bool { return q.gone }

// Queues are all queues, in order of their names.
func (st *State) Queues() []*Queue {
	qs := make([]*Queue, 0, len(st.names))
	for _, n := range slices.Sorted(maps.Keys(st.names)) {
		qs = append(qs, st.names[n])
	}
	return qs
}

// Counted is how many queues count towards the limit, and how many there are. Dead-letter queues do not
// count, but for those that a client made by their name for a queue that does not exist.
func (st *State) Counted() (counted, all int) {
	for name, q := range st.names {
		if Ephemeral(name) {
			all--
			continue
		}
		if src, dead := SourceName(name); !dead || q.ID&1 == 0 && st.names[src] == nil {
			counted++
		}
	}
	return counted, all + len(st.names)
}

// NewID gives the id for the next AppendCreate. The number behind it is kept for the
// dead-letter queue.
func (st *State) NewID() uint32 {
	id := max(st.nextID, st.givenID)
	st.givenID = id + 2
	return id
}

// Leased is how many messages are leased.
func (st *State) Leased() int { return st.leasedN }

// Spans hands over which records the state has taken up and given up since the
// last call; where a purge has given up many, some of them: Owes tells. Both slices are valid until the next call of anything.
func (st *State) Spans() (retained, released []Span) {
	if st.discarded != nil {
		st.giveUp()
	}
	retained, released = st.retained, st.released
	st.retained, st.released = shrink(retained[:0]), shrink(released[:0])
	return retained, released
}

// Owes reports whether Spans has more to say.
func (st *State) Owes() bool { return st.discarded != nil }

// Refusal says why a command changed nothing.
type Refusal uint8

// The refusals.
const (
	Done Refusal = iota
	NoQueue
	Full
	Exists
	TooManyIDs
	TooManyBindings
	TooManyDocuments
)

// An Outcome is what became of a command.
type Outcome struct {
	Refusal Refusal
	Queue   *Queue // nil where there is none
	Seq     uint64 // publish: the first seq
	N       int    // publish: how many messages it had; the others: how many messages they changed
	Pending bool   // part of a batch whose last record is still to come

	// Seqs is of a publish in which messages were known already by their dedup_id, else nil:
	// each message's seq, and Known says of which. Both are valid until the next Apply.
	Seqs  []uint64
	Known []bool
}

// Apply carries out one record. span is the record's own place. An error means that the journal
// holds what this version cannot read: one must not go on.
func (st *State) Apply(span Span, record []byte) (Outcome, error) {
	if len(record) < headBytes {
		return Outcome{}, errShort
	}
	st.pool.ripen()
	kind := record[0]
	if kind > lastKind {
		return Outcome{}, fmt.Errorf("record of unknown kind %d", kind)
	}
	if kind != kindPublish && kind != kindCopy {
		st.group = st.group[:0] // cut short: all or none
	}
	if kind == kindNoop || kind == kindBody {
		return Outcome{}, nil
	}
	if kind != kindRelocate && kind != kindRebase { // which only say where something lies on this node, when it suits it
		if at := int64(binary.LittleEndian.Uint64(record[8:])); at > st.now {
			st.now = at
		}
	}
	if kind == kindDocument {
		r := reader{b: record[headBytes:]}
		out := st.docs.put(&r)
		return out, r.err
	}
	id := binary.LittleEndian.Uint32(record[4:])
	q := st.byID(id)
	if kind == kindPublish {
		return st.publish(q, span, record)
	}
	if kind == kindCopy {
		return st.copyIn(q, span, record)
	}
	if kind == kindCreate {
		return st.create(id, &reader{b: record[headBytes:]})
	}
	if q == nil {
		return Outcome{Refusal: NoQueue}, nil
	}
	return st.change(q, span, record)
}

// change carries out a record about a queue that is there, but for what is published to it.
func (st *State) change(q *Queue, span Span, record []byte) (Outcome, error) {
	r := reader{b: record[headBytes:]}
	out := Outcome{Queue: q}
	switch record[0] {
	case kindUpdate:
		s := r.settings()
		if r.err == nil {
			st.update(q, s)
		}
	case kindDelete:
		st.remove(q)
	case kindPurge:
		out.N = st.purge(q, record[1], &r)
	case kindPause:
		q.Paused = record[1]&flagOn != 0
		st.touch(q)
	case kindSettle:
		out.N = st.settle(q, &r)
	case kindReturn:
		out.N = st.giveBack(q, record[1], &r)
	case kindRelocate:
		st.relocate(q, span, r.uint64(), 0)
	case kindRebase:
		seq, back, size, shares := r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
		if r.err != nil || back == 0 || back > uint64(span.Ref) || size > math.MaxUint32 || shares > maxShares {
			return out, errors.New("record is no new place of a copy")
		}
		st.relocate(q, Span{span.Ref - Ref(back), uint32(size)}, seq, uint8(shares))
	case kindExpire:
		out.N = st.expire(q, &r)
	case kindCancel:
		out.N = st.cancel(q, &r)
	case kindMoveTo:
		out.N = st.moveTo(q, &r)
	case kindRedrive:
		out.N = st.redrive(q, record[1], &r)
	case kindBind:
		out.Refusal = q.bind(r.string())
	case kindUnbind:
		out.N = q.unbind(r.string())
	case kindShield:
		q.shield = r.seqs(q.shield[:0])
		slices.Sort(q.shield)
	}
	return out, r.err
}

func (st *State) update(q *Queue, s Settings) {
	other := s.TTL != q.Settings.TTL
	q.Settings = s
	if s.DedupWindow <= 0 {
		q.dedup = dedup{} // no publish would make it forget
	}
	if other {
		st.ends.keep(func(t timer) bool { return t.queue != q.ID || t.about == endsNow })
		q.view(func(seq uint64, c *chunk, m *msg) bool {
			st.mortal(q, seq, c, m)
			return true
		})
	}
}

func (st *State) create(id uint32, r *reader) (Outcome, error) {
	name, s := r.string(), r.settings()
	if r.err != nil {
		return Outcome{}, r.err
	}
	if id == 0 || id&1 != 0 || id > maxID || st.ids[id] != nil {
		return Outcome{}, fmt.Errorf("create of queue %q with the id %d, which cannot be", name, id)
	}
	st.nextID = max(st.nextID, id+2)
	if q := st.names[name]; q != nil {
		return Outcome{Refusal: Exists, Queue: q}, nil
	}
	return Outcome{Queue: st.add(id, name, s)}, nil
}

const maxID = 1<<32 - 4 // the last even id whose neighbours are ids as well

func (st *State) add(id uint32, name string, s Settings) *Queue {
	q := &Queue{ID: id, Name: name, Settings: s, cursor: 1, chunks: chunks{pool: &st.pool}}
	st.enter(q)
	return q
}

// deadQueue is the dead-letter queue of q, made when it is first needed; nil where q is one itself.
func (st *State) deadQueue(q *Queue) *Queue {
	name := DeadName(q.Name)
	if name == "" {
		return nil
	}
	if d := st.names[name]; d != nil {
		return d
	}
	s := q.Settings
	s.MaxMessages, s.MaxBytes, s.MaxDeliveries, s.Overflow, s.TTL = 0, 0, 0, Reject, 0
	d := st.add(q.ID+1, name, s)
	d.last = q.deadLast
	return d
}

func (st *State) remove(q *Queue) {
	st.purge(q, 0, nil)
	q.gone = true
	if src := st.ids[q.ID-1]; q.ID&1 != 0 && src != nil {
		src.deadLast = q.last
	}
	st.leave(q)
	for len(q.subs) > 0 {
		c := q.subs[0]
		st.unlist(c)
		st.removed = append(st.removed, c)
	}
}

// end takes a message out of its queue and gives its record up.
func (st *State) end(q *Queue, seq uint64, c *chunk, m *msg) {
	st.released = append(st.released, m.stake())
	if st.rows != nil {
		st.rows.deleted(q, seq, m)
	}
	st.take(q, seq, c, m)
}

// take takes a message out of its queue, all but the count of why.
func (st *State) take(q *Queue, seq uint64, c *chunk, m *msg) {
	st.changes(q, c)
	if m.state == leased {
		st.unlease(q, seq, c)
	} else {
		st.leaveState(q, seq, c, m)
	}
	st.stepUp(q, seq, m)
	if m.flags&msgDead != 0 {
		delete(q.dead, seq)
	}
	if m.flags&msgExtra != 0 {
		delete(q.extras, seq)
	}
	if m.age() == tooOld {
		delete(q.late, seq)
	}
	if m.flags&msgEnding != 0 {
		delete(st.held, place{q.ID, seq})
	}
	st.liveN--
	q.Bytes -= m.body()
	*m = msg{}
	if c.live--; c.live == 0 && c != q.tail {
		st.snap.passOver(c)
		q.chunks.remove(c)
	}
}

// makeReady puts a message where nextReady finds it.
func (st *State) makeReady(q *Queue, seq uint64, m *msg) {
	q.Counts.Ready++
	if !st.queueUp(q, seq, m) {
		m.state = behind
		return
	}
	m.state = ready
	p := m.priority()
	if (p != DefaultPriority || seq < q.cursor) && m.flags&msgInHeap == 0 && st.rows == nil { // nobody takes from what rows follow
		m.flags |= msgInHeap
		q.returned[p].push(seq)
		q.heaps |= 1 << p
	}
	st.touch(q)
}

// relocate lets a message refer to its record's new place.
func (st *State) relocate(q *Queue, span Span, seq uint64, shares uint8) {
	c, m := q.find(seq)
	if m == nil {
		return
	}
	st.changes(q, c)
	st.released = append(st.released, m.stake())
	body := m.body()
	m.move(span)
	m.setShares(shares)
	q.Bytes += m.body() - body
	st.retained = append(st.retained, m.stake())
}

// Oldest is when the oldest message of q was published (unix ns), 0 where it has none.
func (q *Queue) Oldest() int64 {
	seq, c, m := q.oldest()
	if m == nil {
		return 0
	}
	return q.publishedAt(seq, c, m)
}
