package cluster

import (
	"fmt"
	"slices"
	"sync"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A storage is what raft sees of a group's log: of each entry its place, of the latest also their bytes. Raft has written
// an entry when it is in here; that it is on the disk is what append's caller has waited for.
//
// All fields are guarded by mu, but for log, which the host alone reads through. The host writes, the shard's goroutine looks when it
// makes a snapshot. Nobody holds another lock of this package with it.
type storage struct {
	log Log

	mu         sync.Mutex
	base       uint64 // the index of the entry before the first, and its term
	baseTerm   uint64
	slots      []slot
	hard       raftpb.HardState // as it was written last
	confs      []confAt         // the members, as of entries that were applied; oldest first
	needed     uint64           // the first index that another member lacks
	held       uint64           // the first index that an image on its way will need; 0: none is
	images     bool             // members can have images; does not change
	appended   int64            // bytes of entries, ever
	cached     int64            // bytes of entries' data in slots
	cacheLimit int64
	evicted    uint64 // entries up to here have no data in slots, but for conf changes

	// The latest entries that are kept for whoever comes late, and their bytes, which are to be no more than trailLimit.
	trailFrom           uint64
	trailed, trailLimit int64

	indexLimit int // how many entries are worth a snapshot

	// The host's alone (pace.go): entries up to old are old, members get them at a pace, and what raft reads now is to be sent.
	pace    *pace
	old     uint64
	paced   bool
	sending bool
}

// A slot is one entry.
type slot struct {
	term uint64
	ref  journal.Ref // of its first record
	mark journal.Ref // of its mark
	size uint32      // of the records with their headers
	e    *raftpb.Entry
}

func (s *storage) last() uint64 { return s.base + uint64(len(s.slots)) }

// at is the slot of an index. Called with mu held.
func (s *storage) at(index uint64) *slot {
	if index <= s.base || index > s.last() {
		return nil
	}
	return &s.slots[index-s.base-1]
}

// append puts an entry behind those before it; what was there at its index and behind counts no more. Called with mu held.
func (s *storage) append(e *raftpb.Entry, at slot) {
	keep := e.GetIndex() - s.base - 1
	for i, old := range s.slots[keep:] {
		if old.e != nil {
			s.cached -= int64(len(old.e.GetData()))
		}
		if e.GetIndex()+uint64(i) >= s.trailFrom {
			s.trailed -= int64(old.size) + slotBytes
		}
	}
	clear(s.slots[keep:])
	at.term, at.e = e.GetTerm(), e
	s.slots = append(s.slots[:keep], at)
	s.evicted = min(s.evicted, e.GetIndex()-1)
	s.cached += int64(len(e.GetData()))
	s.appended += int64(at.size) + slotBytes
	s.trailFrom = min(max(s.trailFrom, s.base+1), e.GetIndex())
	for s.trailed += int64(at.size) + slotBytes; s.trailed > s.trailLimit && s.trailFrom < s.last(); s.trailFrom++ {
		s.trailed -= int64(s.at(s.trailFrom).size) + slotBytes
	}
}

// reset makes it as it was before there was a group. Called with mu held.
func (s *storage) reset() {
	s.base, s.baseTerm, s.slots, s.confs, s.needed, s.held = 0, 0, nil, nil, 0, 0
	s.hard.Term, s.hard.Vote, s.hard.Commit = nil, nil, nil
	s.cached, s.evicted, s.trailFrom, s.trailed = 0, 0, 0, 0
}

// slotBytes is what an entry costs besides its records.
const slotBytes = 64

// evict forgets bytes of entries up to an index, the oldest first, as long as there are too many of them. Called with mu held.
func (s *storage) evict(upTo uint64) {
	s.evicted = max(s.evicted, s.base)
	for s.cached > s.cacheLimit && s.evicted < min(upTo, s.last()) {
		s.evicted++
		if at := s.at(s.evicted); at.e != nil && at.e.GetType() == raftpb.EntryNormal {
			s.cached -= int64(len(at.e.GetData()))
			at.e = nil
		}
	}
}

// compact forgets the entries up to an index. Called with mu held.
func (s *storage) compact(index uint64) {
	if index <= s.base {
		return
	}
	for i, old := range s.slots[:index-s.base] {
		if old.e != nil {
			s.cached -= int64(len(old.e.GetData()))
		}
		if s.base+1+uint64(i) >= s.trailFrom {
			s.trailed -= int64(old.size) + slotBytes
		}
	}
	s.trailFrom = max(s.trailFrom, index+1)
	s.baseTerm = s.at(index).term
	s.slots = append([]slot(nil), s.slots[index-s.base:]...)
	s.base = index
	for len(s.confs) > 1 && s.confs[1].index <= index {
		s.confs = s.confs[1:]
	}
}

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.Clone(&s.hard).(*raftpb.HardState), s.members(), nil
}

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	s.mu.Lock()
	if lo <= s.base {
		s.mu.Unlock()
		return nil, raft.ErrCompacted
	}
	if hi > s.last()+1 {
		s.mu.Unlock()
		return nil, raft.ErrUnavailable
	}
	if maxSize = s.portion(lo, maxSize); maxSize == 0 {
		s.mu.Unlock()
		return nil, nil
	}
	size, end := uint64(0), lo
	for ; end < hi; end++ { // raft asks for all that a member lacks, which may be millions, and takes a message full
		if size += uint64(s.at(end).size) + 16; size > maxSize && end > lo {
			break
		}
	}
	s.took(lo, int64(size))
	slots := slices.Clone(s.slots[lo-s.base-1 : end-s.base-1])
	s.mu.Unlock()
	out := make([]*raftpb.Entry, len(slots))
	for i := range slots {
		e, err := s.load(lo+uint64(i), &slots[i])
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

// load is an entry with its bytes.
func (s *storage) load(index uint64, at *slot) (*raftpb.Entry, error) {
	if at.e != nil {
		return at.e, nil
	}
	e := &raftpb.Entry{Term: new(at.term), Index: new(index), Type: raftpb.EntryNormal.Enum()}
	if at.size == 0 {
		return e, nil
	}
	data, err := s.log.ReadRun(at.ref, int(at.size))
	if err != nil {
		return nil, fatal{fmt.Errorf("cluster: entry %d of term %d: %w", index, at.term, err)}
	}
	e.Data = data
	return e, nil
}

// Term implements raft.Storage.
func (s *storage) Term(i uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case i < s.base:
		return 0, raft.ErrCompacted
	case i == s.base:
		return s.baseTerm, nil
	case i > s.last():
		return 0, raft.ErrUnavailable
	}
	return s.at(i).term, nil
}

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last(), nil
}

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base + 1, nil
}

// Snapshot implements raft.Storage. What raft sends of it is an offer; a member that lacks what the log no longer has asks for an image, which is of a later index.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.images || s.base == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(s.base), Term: new(s.baseTerm), ConfState: s.members()}}, nil
}
