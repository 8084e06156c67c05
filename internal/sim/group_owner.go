package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
)

// A groupOwner is a shard of one process: it applies what its group decides, proposes where it leads, and compacts. It holds things that were
// added and not dropped, by reference, as a shard holds messages.
type groupOwner struct {
	l     *memberLife
	group int
	j     *cluster.Journal
	wake  chan struct{}
	state groupState
	next  time.Duration // it proposes next
	sent  map[*journal.Batch]uint64

	led     uint64 // the latest term of which it was told who leads
	era     int    // the epoch that the state is of, in memory
	moving  int    // batches that move things, on their way
	moves   map[*journal.Batch]bool
	taking  *groupTaking // an image on its way; nil: none is
	partial *groupTaking // one that came to nothing
	fetches map[*journal.Batch]*groupTaking
}

type groupState struct {
	count  int    // batches that the group has decided
	sum    uint64 // over them
	things map[uint64]journal.Span
}

// The records of a batch: first its number; then what it adds, drops, or (on this node alone) moves.
const (
	opBatch = 'b'
	opAdd   = 'a'
	opDrop  = 'd'
	opMove  = 'm'
	opTurn  = 't' // gives a thing its next number, as a message gets another seq when it dies, and when it is redriven
)

// A thing's numbers differ in what is from here on: none comes again.
const turnBits, lastTurn = 56, 1 << 6

// number is what a thing has now of its numbers; the first one where it is not there.
func (s *groupState) number(id uint64) uint64 {
	first := id & (1<<turnBits - 1)
	for n := range uint64(lastTurn) {
		if _, there := s.things[first|n<<turnBits]; there {
			return first | n<<turnBits
		}
	}
	return first
}

func (o *groupOwner) open(voters []uint64) error {
	o.state.things, o.sent = map[uint64]journal.Span{}, map[*journal.Batch]uint64{}
	o.moves, o.fetches = map[*journal.Batch]bool{}, map[*journal.Batch]*groupTaking{}
	o.j = o.l.host.Journal(o.group, func() {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}, o.log)
	err := o.j.Replay(o.load, func(ref journal.Ref, payload []byte) error {
		o.l.m.c.stats.Replayed++
		return o.apply(ref, payload, false)
	})
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(o.state.things)) {
		o.j.Retain([]journal.Span{o.state.things[id]})
	}
	o.l.m.c.w.note(o.l.m.name, "group %d replayed: %d batches, %d things", o.group, o.state.count, len(o.state.things))
	if o.state.count == 0 {
		begin := func() error { return o.j.Begin(voters) }
		if memory := o.l.m.c.cfg.Memory; !slices.Contains(voters, o.l.m.id) || memory && (o.l.m.id > 1 || o.l.m.lives > 1) { // it comes to what others have
			begin = o.j.Await
		} else if memory {
			o.era = 1
		}
		if err := begin(); err != nil {
			return err
		}
	}
	return nil
}

// apply applies a record. Accounts for the journal are kept only where it says so.
func (o *groupOwner) apply(ref journal.Ref, payload []byte, account bool) error {
	if len(payload) < 9 {
		return errors.New("a record is too short")
	}
	id := binary.LittleEndian.Uint64(payload[1:])
	old, had := o.state.things[id]
	if payload[0] == opDrop && !had {
		id = o.state.number(id)
		old, had = o.state.things[id]
	}
	span := journal.Span{Ref: ref, Size: uint32(len(payload) + journal.HeaderBytes)}
	retain, release := func(s journal.Span) {}, func(s journal.Span) {}
	if account {
		retain = func(s journal.Span) { o.j.Retain([]journal.Span{s}) }
		release = func(s journal.Span) { o.j.Release([]journal.Span{s}) }
	}
	if payload[0] == opMove {
		o.found(id, ref, account)
	}
	switch op := payload[0]; {
	case op == opBatch:
		o.l.m.c.ledger.decided(o, id)
	case op == opAdd && !had:
		o.state.things[id] = span
		retain(span)
	case op == opMove && had:
		o.state.things[id] = span
		retain(span)
		release(old)
	case op == opTurn && had:
		delete(o.state.things, id)
		o.state.things[id+1<<turnBits] = old
	case op == opMove, op == opTurn: // it is not there, or has another number
	case op == opDrop && had:
		delete(o.state.things, id)
		release(old)
	default:
		return fmt.Errorf("a record does not fit the state: %q %d, there: %v", op, id, had)
	}
	return nil
}

// found: what a move has found when it was kept it finds after a restart: else that looks for the thing where it was, and that may be gone.
func (o *groupOwner) found(id uint64, ref journal.Ref, now bool) {
	m, at := o.l.m, movedAt{o.group, ref}
	_, there := o.state.things[id]
	if now {
		m.moved[at] = there
		return
	}
	if other, elsewhere := o.state.things[o.state.number(id)]; !there && elsewhere && other.Ref < ref && m.moved[at] {
		m.c.w.wrong("%s, group %d: the record at %d:%d found thing %#x when it was kept, and does not after a restart: that has another number, and lies at %d:%d",
			m.name, o.group, ref.Segment(), ref.Offset(), id, other.Ref.Segment(), other.Ref.Offset())
	}
}

// run is the shard's loop.
func (o *groupOwner) run() {
	w := o.l.m.c.w
	for {
		if err := o.j.Failed(); err != nil {
			w.wrong("%s, group %d has failed: %v", o.l.m.name, o.group, err)
		}
		for again := true; again; {
			again = o.collect()
			again = o.takeImage() || again
			again = o.compact() || again
			o.stray()
		}
		if o.j.Role().Leading && w.now >= max(o.next, o.l.m.c.hush) && !o.l.m.c.ledger.closed {
			o.next = w.now + w.between(0, 40*time.Millisecond)
			o.propose()
		}
		w.await(o.wake, w.between(time.Millisecond, 20*time.Millisecond))
	}
}

// collect applies what was decided.
func (o *groupOwner) collect() bool {
	before := o.j.Role()
	batches := o.j.Committed(nil)
	if role := o.j.Role(); role != before {
		o.l.m.c.w.note(o.l.m.name, "group %d: %+v", o.group, role)
		if e := epochOf(role.Term); o.l.m.c.cfg.Memory && e > max(epochOf(before.Term), 1) {
			o.renewed(e)
		}
		if role.Leader != 0 && role.Term < o.led {
			o.l.m.c.w.wrong("%s, group %d: somebody leads in term %d, and then somebody in term %d", o.l.m.name, o.group, o.led, role.Term)
		}
		if role.Leader != 0 {
			o.led = role.Term
		}
		if role.Leading {
			o.l.m.c.ledger.leads(o, role.Term)
		}
	}
	for _, b := range batches {
		if t := o.fetches[b]; t != nil {
			delete(o.fetches, b)
			o.keep(t, b)
			continue // it names things as they are in the image: the old state may have them under other numbers yet
		}
		if o.moves[b] {
			delete(o.moves, b)
			o.moving--
		}
		if id, mine := o.sent[b]; mine {
			delete(o.sent, b)
			o.l.m.c.ledger.told(o, id, b.Err)
		}
		for at := 0; b.Err == nil && at < len(b.Data); {
			payload, next := journal.NextRecord(b.Data, at)
			o.alsoMoved(payload, journal.Span{Ref: b.Base + journal.Ref(at), Size: uint32(next - at)})
			if err := o.apply(b.Base+journal.Ref(at), payload, true); err != nil {
				o.l.m.c.w.wrong("%s, group %d: %v", o.l.m.name, o.group, err)
				return false
			}
			at = next
		}
	}
	return len(batches) > 0 || o.j.Role() != before
}

func record(data []byte, op byte, id uint64, body []byte) []byte {
	start := len(data)
	data = append(binary.LittleEndian.AppendUint64(append(journal.BeginRecord(data), op), id), body...)
	journal.EndRecord(data, start)
	return data
}

// thing is what the thing of that number holds.
func thing(id uint64) []byte {
	id &= 1<<turnBits - 1
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, id*0x9e3779b97f4a7c15), 1+int(id%23))
}

func (o *groupOwner) propose() {
	w, c := o.l.m.c.w, o.l.m.c
	for range 1 + w.rng.IntN(4) {
		c.ledger.last++
		id := c.ledger.last
		data := record(nil, opBatch, id, nil)
		for k := range w.rng.IntN(4) {
			data = record(data, opAdd, id<<4|uint64(k), thing(id<<4|uint64(k)))
		}
		if w.chance(2) {
			data = o.turn(data)
		}
		b := &journal.Batch{Data: data}
		c.ledger.terms[id] = o.j.Role().Term
		o.sent[b] = id
		c.stats.Batches++
		o.j.Propose(b)
	}
	// Drops name what is there for everybody: it must not have been dropped by a batch that is under way.
	if len(o.state.things) > 60 {
		c.ledger.last++
		drop := c.ledger.last
		data, n := record(nil, opBatch, drop, nil), 0
		for _, id := range slices.Sorted(maps.Keys(o.state.things)) {
			if id &= 1<<turnBits - 1; !c.ledger.dropped[id] && w.chance(2) && n < 40 {
				c.ledger.dropped[id] = true
				c.ledger.drops[drop] = append(c.ledger.drops[drop], id)
				data = record(data, opDrop, id, nil)
				n++
			}
		}
		b := &journal.Batch{Data: data, Essential: true}
		c.ledger.terms[drop] = o.j.Role().Term
		o.sent[b] = drop
		o.j.Propose(b)
		if w.chance(4) { // so that nothing says for a while how far the group has decided
			o.next = w.now + w.between(200*time.Millisecond, 2*time.Second)
		}
	}
}

// turn gives some things their next numbers.
func (o *groupOwner) turn(data []byte) []byte {
	for _, id := range slices.Sorted(maps.Keys(o.state.things)) {
		if o.l.m.c.w.chance(10) && id>>turnBits < lastTurn-1 {
			data = record(data, opTurn, id, nil)
			o.l.m.c.stats.Turned++
		}
	}
	return data
}

// compact does what the journal wishes for.
func (o *groupOwner) compact() bool {
	if o.taking != nil {
		return false
	}
	wish, ok := o.j.Compact()
	if !ok {
		return false
	}
	c := o.l.m.c
	s := o.j.Snapshot()
	s.Write(o.state.encode())
	s.Commit()
	c.stats.Snapshots++
	b := &journal.Batch{Local: true, Essential: true}
	for _, id := range slices.Sorted(maps.Keys(o.state.things)) {
		span := o.state.things[id]
		if !wish.Sparse(span.Ref) && (!o.j.Role().Leading || !c.w.chance(20)) {
			continue
		}
		got, err := o.j.Read([]journal.Ref{span.Ref}, nil)
		c.stats.Reads++
		if err != nil || len(got) != 1 || !bytes.Equal(got[0][9:], thing(id)) {
			c.w.wrong("P6: %s, group %d: thing %d at %d:%d is not what was added: %v", o.l.m.name, o.group, id, span.Ref.Segment(), span.Ref.Offset(), err)
			return false
		}
		if wish.Sparse(span.Ref) {
			b.Data = record(b.Data, opMove, id, got[0][9:])
			c.stats.Moves++
		}
	}
	if len(b.Data) > 0 {
		o.moving++
		o.moves[b] = true
		o.j.Propose(b)
	}
	return true
}

func (s *groupState) encode() []byte {
	data := binary.LittleEndian.AppendUint64(nil, uint64(s.count))
	data = binary.LittleEndian.AppendUint64(data, s.sum)
	for _, id := range slices.Sorted(maps.Keys(s.things)) {
		data = binary.LittleEndian.AppendUint64(data, id)
		data = binary.LittleEndian.AppendUint64(data, uint64(s.things[id].Ref))
		data = binary.LittleEndian.AppendUint32(data, s.things[id].Size)
	}
	return data
}

func (o *groupOwner) load(data []byte) error { return o.state.decode(data) }

func (s *groupState) decode(data []byte) error {
	if len(data) < 16 || (len(data)-16)%20 != 0 {
		return errors.New("a state is cut short")
	}
	s.count = int(binary.LittleEndian.Uint64(data))
	s.sum = binary.LittleEndian.Uint64(data[8:])
	for data = data[16:]; len(data) > 0; data = data[20:] {
		s.things[binary.LittleEndian.Uint64(data)] = journal.Span{Ref: journal.Ref(binary.LittleEndian.Uint64(data[8:])), Size: binary.LittleEndian.Uint32(data[16:])}
	}
	return nil
}

// thingOf is the thing that a record is about.
func thingOf(payload []byte) uint64 { return binary.LittleEndian.Uint64(payload[1:]) }
