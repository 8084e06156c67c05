package journaltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// Owner is a shard's owner that proposes payloads and waits for outcomes.
type Owner struct {
	t     *testing.T
	j     journal.Journal
	woken chan struct{}
	sent  []*journal.Batch // in the order of proposing, not yet returned
	got   []*journal.Batch
}

func newOwner(t *testing.T, h *Harness, i int) *Owner {
	o := &Owner{t: t, woken: make(chan struct{}, 1)}
	o.j = h.Journal(i, func() {
		select {
		case o.woken <- struct{}{}:
		default:
		}
	})
	return o
}

// openOwner is the owner of a shard that is empty.
func openOwner(t *testing.T, h *Harness, i int) *Owner {
	t.Helper()
	o := newOwner(t, h, i)
	unexpected := errors.New("there is something to replay")
	err := o.j.Replay(func([]byte) error { return unexpected }, func(journal.Ref, []byte) error { return unexpected })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// batch lays out payloads as a batch.
func batch(payloads ...[]byte) *journal.Batch {
	b := &journal.Batch{}
	for _, p := range payloads {
		start := len(b.Data)
		b.Data = append(journal.BeginRecord(b.Data), p...)
		journal.EndRecord(b.Data, start)
	}
	return b
}

func (o *Owner) propose(payloads ...[]byte) { o.hand(batch(payloads...)) }

// proposeLocal proposes what only says where something lies.
func (o *Owner) proposeLocal(payloads ...[]byte) {
	b := batch(payloads...)
	b.Local = true
	o.hand(b)
}

func (o *Owner) hand(b *journal.Batch) {
	o.sent = append(o.sent, b)
	o.j.Propose(b)
}

// wait waits for all outcomes and returns the batches.
func (o *Owner) wait() []*journal.Batch {
	o.got = o.got[:0]
	for {
		o.got = o.j.Committed(o.got)
		if len(o.got) >= len(o.sent) {
			break
		}
		if err := o.j.Failed(); err != nil {
			o.t.Errorf("failed: %v", err)
			return nil
		}
		<-o.woken
	}
	if !slices.Equal(o.got, o.sent) {
		o.t.Errorf("the outcomes are not in the order of the proposals")
	}
	o.sent = o.sent[:0]
	return o.got
}

// settle waits and returns the refs of all records, which it retains.
func (o *Owner) settle() []journal.Ref {
	var refs []journal.Ref
	for _, b := range o.wait() {
		if b.Err != nil {
			o.t.Errorf("a batch was refused: %v", b.Err)
			continue
		}
		for at := 0; at < len(b.Data); {
			ref := b.Base + journal.Ref(at)
			_, next := journal.NextRecord(b.Data, at)
			refs = append(refs, ref)
			o.j.Retain([]journal.Span{{Ref: ref, Size: uint32(next - at)}})
			at = next
		}
	}
	return refs
}

func (o *Owner) read(refs []journal.Ref) [][]byte {
	got, err := o.tryRead(refs)
	if err != nil {
		o.t.Errorf("reading: %v", err)
	}
	return got
}

// tryRead reads, and waits where records have to be fetched.
func (o *Owner) tryRead(refs []journal.Ref) ([][]byte, error) {
	for {
		got, err := o.j.Read(refs, nil)
		if !errors.Is(err, journal.ErrNotYet) {
			return got, err
		}
		<-o.woken
	}
}

// entry is one thing that the model's state holds: its record and its content.
type entry struct {
	ref  journal.Ref
	size uint32
	body []byte // as it was added; only the test has it, the state would not
}

// Model is a state machine over one journal: things are added, moved by
// compactions, and dropped.
type Model struct {
	o     *Owner
	state map[uint64]entry
	next  uint64
	// Compactions is how many were asked for.
	Compactions int
}

const (
	opAdd  = 'a'
	opMove = 'm'
	opDrop = 'd'
)

// NewModel replays the journal into a state.
func NewModel(o *Owner) *Model {
	m := &Model{o: o, state: map[uint64]entry{}}
	err := o.j.Replay(m.load, func(ref journal.Ref, payload []byte) error {
		return m.apply(ref, bytes.Clone(payload))
	})
	if err != nil {
		o.t.Errorf("replay: %v", err)
	}
	return m
}

func (m *Model) apply(ref journal.Ref, payload []byte) error {
	if len(payload) < 9 {
		return errors.New("a record is too short")
	}
	id := binary.LittleEndian.Uint64(payload[1:])
	old, had := m.state[id]
	e := entry{ref: ref, size: uint32(len(payload) + journal.HeaderBytes), body: payload[9:]}
	span := []journal.Span{{Ref: e.ref, Size: e.size}}
	oldSpan := []journal.Span{{Ref: old.ref, Size: old.size}}
	switch op := payload[0]; {
	case op == opAdd && !had, op == opMove && had:
		m.state[id] = e
		m.next = max(m.next, id+1)
		m.o.j.Retain(span)
		if had {
			m.o.j.Release(oldSpan)
		}
	case op == opMove: // dropped meanwhile
	case op == opDrop && had:
		delete(m.state, id)
		m.o.j.Release(oldSpan)
	default:
		return fmt.Errorf("a record does not fit the state: %q %d", op, id)
	}
	return nil
}

func command(op byte, id uint64, body []byte) []byte {
	return append(binary.LittleEndian.AppendUint64([]byte{op}, id), body...)
}

// Add proposes things of so many bytes, in one batch.
func (m *Model) Add(rnd *rand.Rand, sizes ...int) {
	var commands [][]byte
	for _, n := range sizes {
		body := make([]byte, n)
		for i := 0; i < n; i += 8 {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], rnd.Uint64())
			copy(body[i:], b[:])
		}
		commands = append(commands, command(opAdd, m.next, body))
		m.next++
	}
	m.o.propose(commands...)
}

// Drop proposes to drop up to n of the things that are there.
func (m *Model) Drop(n int, rnd *rand.Rand) {
	ids := slices.Sorted(maps.Keys(m.state))
	rnd.Shuffle(len(ids), func(a, b int) { ids[a], ids[b] = ids[b], ids[a] })
	for _, id := range ids[:min(n, len(ids))] {
		m.o.propose(command(opDrop, id, nil))
	}
}

// Settle applies what was committed, and does what compactions ask for.
func (m *Model) Settle() {
	for {
		for _, b := range m.o.wait() {
			m.applyBatch(b)
		}
		c, ok := m.o.j.Compact()
		if !ok {
			return
		}
		m.Compactions++
		for _, id := range slices.Sorted(maps.Keys(m.state)) {
			if e := m.state[id]; c.Sparse(e.ref) {
				m.o.proposeLocal(command(opMove, id, m.o.read([]journal.Ref{e.ref})[0][9:]))
			}
		}
		for _, b := range m.o.wait() {
			m.applyBatch(b)
		}
		m.Snapshot()
	}
}

func (m *Model) applyBatch(b *journal.Batch) {
	if b.Err != nil {
		m.o.t.Errorf("a batch was refused: %v", b.Err)
		return
	}
	for at := 0; at < len(b.Data); {
		payload, next := journal.NextRecord(b.Data, at)
		if err := m.apply(b.Base+journal.Ref(at), bytes.Clone(payload)); err != nil {
			m.o.t.Error(err)
		}
		at = next
	}
}

// Snapshot hands the state over.
func (m *Model) Snapshot() {
	data := binary.LittleEndian.AppendUint64(nil, m.next)
	for _, id := range slices.Sorted(maps.Keys(m.state)) {
		e := m.state[id]
		data = binary.LittleEndian.AppendUint64(data, id)
		data = binary.LittleEndian.AppendUint64(data, uint64(e.ref))
		data = binary.LittleEndian.AppendUint32(data, e.size)
	}
	Snapshot(m.o.j, data)
}

func (m *Model) load(data []byte) error {
	if len(data) < 8 {
		return errors.New("the snapshot is too short")
	}
	m.next = binary.LittleEndian.Uint64(data)
	for data = data[8:]; len(data) > 0; data = data[20:] {
		e := entry{ref: journal.Ref(binary.LittleEndian.Uint64(data[8:])), size: binary.LittleEndian.Uint32(data[16:])}
		m.state[binary.LittleEndian.Uint64(data)] = e
		m.o.j.Retain([]journal.Span{{Ref: e.ref, Size: e.size}})
	}
	return nil
}

// Forget lets go of the bodies that a replay has given.
func (m *Model) Forget() {
	for id, e := range m.state {
		e.body = nil
		m.state[id] = e
	}
}

// MustEqual compares the state with what it was, and takes over the bodies
// that a snapshot does not hold.
func (m *Model) MustEqual(t *testing.T, want map[uint64]entry) {
	t.Helper()
	if len(m.state) != len(want) {
		t.Errorf("%d things, want %d", len(m.state), len(want))
	}
	for id, w := range want {
		e, ok := m.state[id]
		if !ok || e.ref != w.ref || e.size != w.size || e.body != nil && !bytes.Equal(e.body, w.body) {
			t.Errorf("thing %d: ref %d size %d, want ref %d size %d", id, e.ref, e.size, w.ref, w.size)
		}
		m.state[id] = w
	}
}

// Verify reads everything back.
func (m *Model) Verify(t *testing.T) {
	t.Helper()
	for id, e := range m.state {
		got := m.o.read([]journal.Ref{e.ref})
		if len(got) != 1 || len(got[0]) < 9 || !bytes.Equal(got[0][9:], e.body) {
			t.Errorf("thing %d at ref %d is not what was added", id, e.ref)
			return
		}
	}
}

// Bytes is what the state retains.
func (m *Model) Bytes() (sum int64) {
	for _, e := range m.state {
		sum += int64(e.size)
	}
	return sum
}
