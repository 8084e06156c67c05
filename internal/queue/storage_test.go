package queue

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A storage keeps a history's records in a journal: in journal.Memory, which forgets, or in a
// filejournal on a disk that can be killed and lose power. It lives in a bubble of synctest.
type storage struct {
	testing.TB
	rnd  *rand.Rand
	j    journal.Journal
	last Ref // of the records known to be kept

	// Of a file journal.
	log   *filejournal.Log
	disk  *vfs.Mem
	frame int          // the size of the write with which the power fails
	tear  int          // so much of it gets through, negative: all of it, and its sync fails
	power atomic.Int32 // guards both, which are set before
}

// What the power does.
const (
	powerOn     = iota
	powerFails  // with the next write of that size
	powerFailed // with the next sync
	powerOff
)

var errPower = errors.New("the power is off")

func newStorage(t testing.TB, rnd *rand.Rand, kind string) *storage {
	s := &storage{TB: t, rnd: rnd}
	if kind == "file" {
		s.disk = vfs.NewMem()
	}
	s.open()
	if err := s.j.Replay(nil, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// open begins a life on what there is.
func (s *storage) open() {
	if s.disk == nil {
		s.j = journal.NewMemory(journal.NewBudget(0), func() {})
		return
	}
	s.disk.Fault = s.fault
	s.power.Store(powerOn)
	log, err := filejournal.Open(s.disk, "data", filejournal.Options{
		Sync: true, Shards: 1, SegmentBytes: 16 << 10, CacheBytes: 8 << 10, CompactSlack: 32 << 10, CompactEvery: 16 << 10,
	})
	if err != nil {
		s.Fatal(err)
	}
	s.log, s.j = log, log.Shard(0, func() {})
}

func (s *storage) fault(op vfs.Op) error {
	switch power := s.power.Load(); {
	case power == powerOff:
		return errPower
	case power == powerFails && op.Kind == vfs.OpWrite && op.Size == s.frame:
		if s.tear < 0 {
			s.power.Store(powerFailed)
			return nil
		}
		s.power.Store(powerOff)
		return &vfs.Short{N: s.tear, Err: errPower}
	case power == powerFailed && op.Kind == vfs.OpSync && strings.HasSuffix(op.Path, ".seg"):
		s.power.Store(powerOff)
		return errPower
	}
	return nil
}

func batchOf(records [][]byte) *journal.Batch {
	b := &journal.Batch{}
	for _, record := range records {
		start := len(b.Data)
		b.Data = append(journal.BeginRecord(b.Data), record...)
		journal.EndRecord(b.Data, start)
	}
	return b
}

// propose hands over a batch, and reports whether the journal says that it is kept.
func (s *storage) propose(b *journal.Batch) bool {
	s.j.Propose(b)
	synctest.Wait()
	done := s.j.Committed(nil)
	return len(done) == 1 && done[0] == b && b.Err == nil
}

func (s *storage) keep(records [][]byte) (spans []Span) {
	b := batchOf(records)
	if !s.propose(b) {
		s.Fatalf("a batch of %d records is not kept: %v", len(records), s.j.Failed())
	}
	for at := 0; at < len(b.Data); {
		_, next := journal.NextRecord(b.Data, at)
		spans = append(spans, Span{Ref(b.Base) + Ref(at), uint32(next - at)})
		at = next
	}
	s.last = spans[len(spans)-1].Ref
	return spans
}

// breakOff lets the power fail while records are on their way. Those who wait for them do not know whether they are
// kept; they are if they were written whole.
func (s *storage) breakOff(records [][]byte) {
	b := batchOf(records)
	s.frame = int(wal.FrameSize(len(b.Data)))
	if s.tear = s.rnd.IntN(s.frame); s.rnd.IntN(2) == 0 {
		s.tear = -1
	}
	s.power.Store(powerFails)
	if s.propose(b) || s.j.Failed() == nil {
		s.Fatal("the power failed, and the journal says that the batch is kept")
	}
}

func (s *storage) read(ref Ref) []byte {
	payloads, err := s.j.Read([]journal.Ref{journal.Ref(ref)}, nil)
	if err != nil {
		s.Fatal(err)
	}
	return payloads[0]
}

func (s *storage) refer(retained, released []Span) {
	s.j.Retain(spansOf(retained))
	s.j.Release(spansOf(released))
}

func spansOf(spans []Span) (out []journal.Span) {
	for _, s := range spans {
		out = append(out, journal.Span{Ref: journal.Ref(s.Ref), Size: s.Size})
	}
	return out
}

// end ends this life: in good order, with a power cut, or where a sync failed by killing the process, and what
// was written is there.
func (s *storage) end() {
	failed := s.j.Failed() != nil
	if s.log == nil {
		if err := s.j.Close(); err != nil {
			s.Error(err)
		}
		return
	}
	after := s.disk
	switch chance := s.rnd.Uint64(); {
	case failed && s.tear < 0:
		after = s.disk.Kill()
	case failed || chance&1 == 0:
		after = s.disk.Crash(rand.New(rand.NewPCG(chance, 1))) // how much chance it takes is not the same each time
	}
	if err := s.log.Close(); (err != nil) != failed {
		s.Errorf("closing the log: %v", err)
	}
	s.disk = after
}

// A late record was on its way when the power failed, and is there again.
type late struct {
	span   Span
	record []byte
	out    Outcome
}

// begin begins a new life of st, which refers to what it retains, and returns what has come of the records that were
// on their way.
func (s *storage) begin(st *State, retain func([]Span)) (found []late) {
	s.open()
	err := s.j.Replay(st.LoadSnapshot, func(ref journal.Ref, record []byte) error {
		span := Span{Ref(ref), uint32(len(record) + journal.HeaderBytes)}
		out, err := st.Apply(span, record)
		if span.Ref > s.last {
			found = append(found, late{span, bytes.Clone(record), out})
		}
		return err
	})
	if err != nil {
		s.Fatalf("replay: %v", err)
	}
	st.Resume(func(spans []Span) {
		s.refer(spans, nil)
		retain(spans)
	})
	return found
}
