package journal

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// MemoryReplica is the part of a node in a shard that several nodes keep in memory, as the log of the file journal is for those that are kept
// on disks: what is appended is kept at once, as long as this process lives. Without replicas it is a Memory.
//
// Propose, Committed, Recycle, Read, Retain, Release, Compact, SnapshotAt, Settle and End are the shard's; the rest may be anybody's.
type MemoryReplica struct {
	budget  *Budget
	wake    func()
	notify  func() // in place of wake, when there is something for Kept
	settled bool   // there are replicas; the shard's

	mu       sync.Mutex   // guards the following, and old once there are replicas
	old      *Memory      // from before there were replicas
	segments []*memorySeg // in order
	next     uint32       // the number of the next one
	kept     []*Batch     // for Kept
	floor    Ref          // the group's own have no need of what lies before
	hold     Ref          // nor have others of what lies before this; 0: of anything
	pins     int
	late     []Span // of old, released while there are pins
	wish     bool
	closed   bool
	held     int64 // bytes of segments
	live     int64
	written  int64 // since the last wish
	freed    int64 // the same: bytes of records that were given up
	newest   *memorySnapshot
}

// memoryRefs is set in the refs of what was kept since there are replicas.
const memoryRefs Ref = 1 << 62

// A memorySeg is a run of bytes that are given back together. What is written stays as it is.
type memorySeg struct {
	number uint32
	data   []byte
	size   int64
	live   int64
}

// segmentBytes is the least size of one.
const segmentBytes = 128 << 10

// NewMemoryReplica makes one whose bytes count against the budget. wake is called when there is something for Kept, Committed or Compact.
func NewMemoryReplica(budget *Budget, wake func()) *MemoryReplica {
	return &MemoryReplica{budget: budget, wake: wake, old: NewMemory(budget, wake), next: uint32(memoryRefs >> 32)}
}

// Replay implements Journal: there is nothing.
func (m *MemoryReplica) Replay(func([]byte) error, func(Ref, []byte) error) error { return nil }

// ReplayMarked is Replay where there are replicas.
func (m *MemoryReplica) ReplayMarked(func(Ref, []byte, []byte) error, func(Ref, bool, []byte) error) error {
	return nil
}

// Propose implements Journal, as long as there are no replicas.
func (m *MemoryReplica) Propose(b *Batch) { m.old.Propose(b) }

// Committed implements Journal, as long as there are no replicas.
func (m *MemoryReplica) Committed(into []*Batch) []*Batch { return m.old.Committed(into) }

// Recycle implements Journal: what was appended was copied.
func (m *MemoryReplica) Recycle(b *Batch) bool {
	return b.Err != nil || b.Base >= memoryRefs || m.old.Recycle(b)
}

// Settle says that from now on there are replicas. What has been proposed before comes back through Kept.
func (m *MemoryReplica) Settle() {
	if m.settled {
		return
	}
	m.settled = true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, m.old.Committed(nil)...)
}

// Append keeps a batch. The outcome comes through Kept.
func (m *MemoryReplica) Append(b *Batch) {
	m.mu.Lock()
	s := m.room(len(b.Data))
	b.Base, b.Err = Ref(s.number)<<32|Ref(len(s.data)), nil
	s.data = append(s.data, b.Data...)
	m.written += int64(len(b.Data))
	m.kept = append(m.kept, b)
	m.mu.Unlock()
	if m.notify != nil {
		m.notify()
	} else {
		m.wake()
	}
}

// Notify has kept called, in place of wake, when Kept has something new. It comes before the first Append.
func (m *MemoryReplica) Notify(kept func()) { m.notify = kept }

// room is a segment with room for n bytes. Called with mu held.
func (m *MemoryReplica) room(n int) *memorySeg {
	if k := len(m.segments); k > 0 {
		if s := m.segments[k-1]; cap(s.data)-len(s.data) >= n {
			return s
		}
	}
	s := &memorySeg{number: m.next, size: int64(max(n, segmentBytes))}
	s.data = make([]byte, 0, s.size)
	m.budget.take(s.size, true) // what raft has taken cannot be refused any more
	m.held += s.size
	m.next++
	m.segments = append(m.segments, s)
	m.giveBack()
	return s
}

// giveBack lets go of segments that nobody needs. Called with mu held.
func (m *MemoryReplica) giveBack() {
	limit := m.floor
	if m.hold != 0 {
		limit = min(limit, m.hold)
	}
	last := len(m.segments) - 1
	m.segments = slices.DeleteFunc(m.segments, func(s *memorySeg) bool {
		if m.pins > 0 || s.live > 0 || s.number >= limit.Segment() || s == m.segments[last] {
			return false
		}
		m.held -= s.size
		m.budget.used.Add(-s.size)
		return true
	})
}

// find is the segment of a ref, or nil. Called with mu held.
func (m *MemoryReplica) find(ref Ref) *memorySeg {
	at, ok := slices.BinarySearchFunc(m.segments, ref.Segment(), func(s *memorySeg, n uint32) int { return int(int64(s.number) - int64(n)) })
	if !ok {
		return nil
	}
	return m.segments[at]
}

// Kept appends the batches that have been kept, in the order of appending.
func (m *MemoryReplica) Kept(into []*Batch) []*Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	into = append(into, m.kept...)
	clear(m.kept)
	m.kept = m.kept[:0]
	return into
}

// End is a place such that Kept has told all batches before it; false where it has not.
func (m *MemoryReplica) End() (Ref, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.end(), len(m.kept) == 0
}

func (m *MemoryReplica) end() Ref {
	if n := len(m.segments); n > 0 {
		s := m.segments[n-1]
		return Ref(s.number)<<32 | Ref(len(s.data))
	}
	return memoryRefs
}

// Read implements Journal.
func (m *MemoryReplica) Read(refs []Ref, into [][]byte) ([][]byte, error) {
	if !m.settled {
		return m.old.Read(refs, into)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		payload, err := m.read(ref)
		if err != nil {
			return into, err
		}
		into = append(into, payload)
	}
	return into, nil
}

func (m *MemoryReplica) read(ref Ref) ([]byte, error) {
	if ref < memoryRefs {
		got, err := m.old.Read([]Ref{ref}, nil)
		if err != nil {
			return nil, err
		}
		return got[0], nil
	}
	s := m.find(ref)
	if s == nil || int64(ref.Offset())+HeaderBytes > int64(len(s.data)) || int64(ref.Offset())+int64(recordBytes(s.data[ref.Offset():])) > int64(len(s.data)) {
		return nil, fmt.Errorf("memory: no record at %d:%d", ref.Segment(), ref.Offset())
	}
	payload, _ := NextRecord(s.data, int(ref.Offset()))
	return payload, nil
}

// ReadRun reads n bytes of records, as they were appended.
func (m *MemoryReplica) ReadRun(ref Ref, n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.find(ref)
	if s == nil || int64(ref.Offset())+int64(n) > int64(len(s.data)) {
		return nil, fmt.Errorf("memory: no %d bytes at %d:%d", n, ref.Segment(), ref.Offset())
	}
	return bytes.Clone(s.data[ref.Offset() : int(ref.Offset())+n]), nil
}

// Records reads records, for another node; nil for those that are gone.
func (m *MemoryReplica) Records(refs []Ref) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([][]byte, len(refs))
	for i, ref := range refs {
		if ref >= memoryRefs && m.find(ref) == nil {
			continue
		}
		payload, err := m.read(ref)
		if err != nil {
			return nil, err
		}
		out[i] = bytes.Clone(payload) // what is old may be used again
	}
	return out, nil
}

// Here reports whether a record's segment is there.
func (m *MemoryReplica) Here(ref Ref) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ref < memoryRefs {
		return m.old.find(ref) != nil
	}
	return m.find(ref) != nil
}

// Pin keeps what there is from being given back, until release.
func (m *MemoryReplica) Pin() (held func() bool, release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pins++
	once := sync.Once{}
	return func() bool { return true }, func() {
		once.Do(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.pins--; m.pins == 0 {
				m.old.Release(m.late)
				m.late = nil
			}
			m.giveBack()
		})
	}
}

// Retain implements Journal.
func (m *MemoryReplica) Retain(spans []Span) { m.count(spans, 1) }

// Release implements Journal.
func (m *MemoryReplica) Release(spans []Span) { m.count(spans, -1) }

func (m *MemoryReplica) count(spans []Span, sign int64) {
	if !m.settled {
		if sign > 0 {
			m.old.Retain(spans)
		} else {
			m.old.Release(spans)
		}
		return
	}
	m.mu.Lock()
	var s *memorySeg
	for i, span := range spans {
		if span.Ref < memoryRefs {
			if sign > 0 {
				m.old.Retain(spans[i : i+1])
			} else if m.pins == 0 {
				m.old.Release(spans[i : i+1])
			} else {
				m.late = append(m.late, span)
			}
			continue
		}
		if s == nil || s.number != span.Ref.Segment() {
			s = m.find(span.Ref)
		}
		if s != nil {
			s.live += sign * int64(span.Size)
			m.live += sign * int64(span.Size)
		}
		if sign < 0 {
			m.freed += int64(span.Size)
		}
	}
	if sign < 0 {
		m.giveBack()
	}
	news := m.wishIfSparse()
	m.mu.Unlock()
	if news {
		m.wake()
	}
}

// wishIfSparse wishes for a compaction where it is worth its cost. Called with mu held.
func (m *MemoryReplica) wishIfSparse() bool {
	held := m.held + m.old.held
	live := m.live + m.old.live
	if m.hold != 0 { // what others need is no garbage
		for _, s := range m.segments {
			if s.number >= m.hold.Segment() {
				held -= s.size - s.live
			}
		}
	}
	switch {
	case m.wish:
		return false
	case m.tight() && m.freed >= max(segmentBytes, held/16): // others than this shard may be waiting for it
	case held <= 2*live+compactSlack, m.written < max(compactSlack, live/4):
		return false
	}
	m.wish, m.written, m.freed = true, 0, 0
	return true
}

// tight reports whether little of the budget is left. What is given up comes back only when a snapshot lies behind it.
func (m *MemoryReplica) tight() bool {
	limit := m.budget.Limit()
	return limit > 0 && !m.budget.Room(limit/4)
}

// Compact implements Journal.
func (m *MemoryReplica) Compact() (Compaction, bool) {
	if !m.settled {
		return m.old.Compact()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wish {
		return Compaction{}, false
	}
	m.wish = false
	end := m.end().Segment()
	return Compaction{Sparse: func(ref Ref) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if ref < memoryRefs {
			w := m.old.find(ref)
			return w != nil && w.retained*2 < w.size
		}
		s := m.find(ref)
		return s != nil && s.number < end && s.live*2 < s.size
	}}, true
}

// Want asks for a snapshot, which comes as a wish for a compaction.
func (m *MemoryReplica) Want() {
	m.mu.Lock()
	m.wish = true
	m.mu.Unlock()
	m.wake()
}

// Hold says that what lies from ref on is kept for other nodes; 0: nothing is.
func (m *MemoryReplica) Hold(ref Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold = ref
}

// Snapshot implements Journal.
func (m *MemoryReplica) Snapshot() Snapshot { return forgotten{} }

// A memorySnapshot is kept only where somebody is told of it.
type memorySnapshot struct {
	m    *MemoryReplica
	pos  Ref
	head []byte
	told func(kept bool)
	data []byte
}

// SnapshotAt begins a snapshot of a state that has all before pos. It is kept where somebody is told of it, to be read once.
func (m *MemoryReplica) SnapshotAt(pos Ref, head []byte, told func(kept bool)) Snapshot {
	if m.settled && head != nil {
		m.mu.Lock()
		m.old.Committed(nil) // the owner is done with what was proposed before there were replicas
		m.mu.Unlock()
	}
	return &memorySnapshot{m: m, pos: pos, head: head, told: told}
}

// Write implements Snapshot.
func (s *memorySnapshot) Write(piece []byte) {
	if s.told != nil {
		s.data = append(s.data, piece...)
	}
}

// Backlog implements Snapshot.
func (s *memorySnapshot) Backlog() int { return 0 }

// Commit implements Snapshot.
func (s *memorySnapshot) Commit() {
	m := s.m
	m.mu.Lock()
	m.floor = max(m.floor, s.pos)
	if s.told != nil {
		m.newest = s
	}
	m.giveBack()
	m.mu.Unlock()
	if s.told != nil {
		s.told(true)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Newest hands over the newest snapshot that somebody was told of.
func (m *MemoryReplica) Newest() (Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.newest
	m.newest = nil
	if s == nil {
		return Stored{}, fmt.Errorf("memory: there is no snapshot")
	}
	return Stored{
		Head: s.head, Size: int64(len(s.data)), Sum: crc32.Checksum(s.data, castagnoli),
		ReadAt: func(b []byte, off int64) error {
			if off < 0 || off+int64(len(b)) > int64(len(s.data)) {
				return fmt.Errorf("memory: %d bytes at %d of a snapshot of %d", len(b), off, len(s.data))
			}
			copy(b, s.data[off:])
			return nil
		},
		Close: func() {},
	}, nil
}

// Since is about how many bytes were kept behind a place.
func (m *MemoryReplica) Since(ref Ref) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := int64(0)
	for i := len(m.segments) - 1; i >= 0 && m.segments[i].number >= ref.Segment(); i-- {
		n += int64(len(m.segments[i].data))
	}
	return n
}

// Scarce reports whether the budget is used up.
func (m *MemoryReplica) Scarce() bool { return !m.budget.Room(1) }

// Full is the outcome of what is refused then.
func (m *MemoryReplica) Full() error { return ErrMemoryFull }

// Unsure is always false: it is known whether there is room.
func (m *MemoryReplica) Unsure() bool { return false }

// Whole and Behind have no meaning here: nothing comes back from before this process.
func (m *MemoryReplica) Whole()  {}
func (m *MemoryReplica) Behind() {}

// Failed implements Journal.
func (m *MemoryReplica) Failed() error { return nil }

// Used implements Journal.
func (m *MemoryReplica) Used() (total, live int64) {
	if !m.settled {
		return m.old.Used()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held + m.old.held, m.live + m.old.live
}

// Close implements Journal.
func (m *MemoryReplica) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.budget.used.Add(-m.held)
		m.segments, m.held, m.live = nil, 0, 0
	}
	return m.old.Close()
}
