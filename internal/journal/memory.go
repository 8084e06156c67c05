package journal

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gmq/gmq/internal/spare"
)

// ErrMemoryFull is a Batch's outcome where the memory's budget is used up.
var ErrMemoryFull = errors.New("no memory left for the storage")

// A Budget is how many bytes several Memory journals may hold together.
type Budget struct {
	limit atomic.Int64
	used  atomic.Int64
}

// NewBudget allows limit bytes; 0 allows any number.
func NewBudget(limit int64) *Budget {
	b := new(Budget)
	b.limit.Store(limit)
	return b
}

// SetLimit changes what the journals may hold; what they hold already stays.
func (b *Budget) SetLimit(limit int64) { b.limit.Store(limit) }

// Used is what the journals hold now, and Limit what they may.
func (b *Budget) Used() int64  { return b.used.Load() }
func (b *Budget) Limit() int64 { return b.limit.Load() }

// Room reports whether n more bytes may be held.
func (b *Budget) Room(n int64) bool { return b.limit.Load() == 0 || b.used.Load()+n <= b.limit.Load() }

// take reserves n bytes; forced it does so beyond the limit.
func (b *Budget) take(n int64, forced bool) bool {
	if used := b.used.Add(n); forced || b.limit.Load() == 0 || used <= b.limit.Load() {
		return true
	}
	b.used.Add(-n)
	return false
}

const (
	// granule is the unit of addresses: a window starts at a multiple of it, so
	// that a ref's window is found by one lookup. It is also the least size of the
	// windows that small batches share; the greatest is maxShared.
	granule, maxShared = 64 << 10, 256 << 10
	// smallBatch and larger ones are kept as they are, smaller ones are copied: into memory that is used
	// again and again, which is cheaper than to allocate and collect theirs.
	smallBatch = 128 << 10
	// spareBytes is how much of windows that were let go is kept for that; what is more, and large, others may have as well (package spare).
	spareBytes = 1 << 20
	// compactSlack is the garbage that is not worth a compaction.
	compactSlack = 4 << 20
)

// Memory is the journal that forgets: what it holds ends with the process.
// A batch is committed as soon as it is proposed.
//
// Its bytes lie in windows: a large batch is one, small ones are copied into
// one that they share. A window is let go when nothing in it is retained and
// its owner is done with every batch in it. The owner is done with the batches
// that Committed returned when it calls Committed the next time: until then it
// must have retained what it wants to keep. Recycle is right from the moment
// at which Committed has returned the batch.
//
// All of it belongs to the shard's goroutine; only the Budget is shared. Wake
// is called from within Propose, Release and Snapshot, on that goroutine.
type Memory struct {
	budget *Budget
	wake   func()

	windows map[uint64]*window // by ref / granule
	shared  *window            // the one that small batches go to
	next    uint64             // the address of the next window
	done    []*Batch           // for Committed
	fresh   []*window          // of the batches that Committed returned last, once for each
	last    *window            // the one looked up last
	spare   [][]byte           // of windows that were let go
	spared  int64              // their sizes

	held, live int64
	written    int64 // since the last wish
	wish       bool  // Compact has not reported it yet
	closed     bool
}

// window is a run of addresses and the bytes there.
type window struct {
	base     uint64
	data     []byte
	size     int64 // what it costs
	retained int64 // bytes of retained records
	undone   int   // batches that the owner is not done with
	open     bool  // batches are still added
	common   bool  // the bytes are the journal's own
	lent     bool  // they go back to package spare
}

// NewMemory makes a journal whose bytes count against the budget.
func NewMemory(budget *Budget, wake func()) *Memory {
	return &Memory{budget: budget, wake: wake, windows: map[uint64]*window{}, next: granule}
}

// Replay implements Journal: there is nothing.
func (m *Memory) Replay(func([]byte) error, func(Ref, []byte) error) error { return nil }

// Propose implements Journal.
func (m *Memory) Propose(b *Batch) {
	b.Base, b.Err = 0, nil
	w, offset := m.place(b)
	if w == nil {
		b.Err = ErrMemoryFull
	} else {
		b.Base = Ref(w.base + uint64(offset))
		w.undone++
		m.written += int64(len(b.Data))
	}
	m.done = append(m.done, b)
	m.wishIfSparse()
	if len(m.done) == 1 {
		m.wake()
	}
}

// place finds room for a batch; nil where the budget has none.
func (m *Memory) place(b *Batch) (*window, int) {
	if small(b) {
		if m.shared == nil || len(m.shared.data)+len(b.Data) >= cap(m.shared.data) {
			size := int64(granule)
			for size < maxShared && size < 4*int64(len(b.Data)) {
				size *= 2
			}
			if !m.budget.take(size, b.Essential) {
				return nil, 0
			}
			m.seal()
			m.shared = m.add(m.buffer(size), size)
			m.shared.open, m.shared.common = true, true
		}
		w := m.shared
		offset := len(w.data)
		w.data = append(w.data, b.Data...)
		return w, offset
	}
	size := int64(len(b.Data))
	exact := copied(b)
	if !exact {
		size = int64(cap(b.Data))
	}
	if b.Sharers > 1 {
		exact, size = false, max(size/int64(b.Sharers), 1)
	}
	if !m.budget.take(size, b.Essential) {
		return nil, 0
	}
	data := b.Data
	if exact {
		data = append(make([]byte, 0, len(b.Data)), b.Data...)
	}
	w := m.add(data, size)
	w.lent = b.Lent && !exact && b.Sharers <= 1
	return w, 0
}

// small batches go into a window with others. One that several journals share is small where its bytes are few.
func small(b *Batch) bool {
	return len(b.Data) < smallBatch && (b.Sharers <= 1 || len(b.Data) < smallBatch/32)
}

// copied reports whether the batch's bytes are copied: small ones into the
// shared window, and those in a buffer much too large for them.
func copied(b *Batch) bool {
	return small(b) || len(b.Data) < cap(b.Data)-cap(b.Data)/4
}

// buffer is an empty one of that size.
func (m *Memory) buffer(size int64) []byte {
	for i, b := range m.spare {
		if int64(cap(b)) == size {
			last := len(m.spare) - 1
			m.spare[i] = m.spare[last]
			m.spare[last] = nil
			m.spare = m.spare[:last]
			m.spared -= size
			return b
		}
	}
	return spare.Get(int(size))
}

func (m *Memory) add(data []byte, size int64) *window {
	w := &window{base: m.next, data: data, size: size}
	for at := int64(0); at < max(int64(cap(data)), 1); at += granule {
		m.windows[m.next/granule] = w
		m.next += granule
	}
	m.held += size
	return w
}

// seal ends the shared window.
func (m *Memory) seal() {
	if w := m.shared; w != nil {
		m.shared, w.open = nil, false
		m.letGo(w)
	}
}

// letGo frees a window that nothing needs.
func (m *Memory) letGo(w *window) {
	if w.open || w.undone > 0 || w.retained > 0 {
		return
	}
	for at := int64(0); at < max(int64(cap(w.data)), 1); at += granule {
		delete(m.windows, (w.base+uint64(at))/granule)
	}
	if m.last == w {
		m.last = nil
	}
	switch {
	case w.common && m.spared+w.size <= spareBytes:
		m.spare = append(m.spare, w.data[:0])
		m.spared += w.size
	case w.common || w.lent:
		spare.Put(w.data)
	}
	w.data = nil
	m.held -= w.size
	m.budget.used.Add(-w.size)
}

// find is the window in which the ref lies, or nil.
func (m *Memory) find(ref Ref) *window {
	if w := m.last; w != nil && uint64(ref) >= w.base && uint64(ref) < w.base+uint64(len(w.data)) {
		return w
	}
	w := m.windows[uint64(ref)/granule]
	if w != nil {
		m.last = w
	}
	return w
}

// Committed implements Journal.
func (m *Memory) Committed(into []*Batch) []*Batch {
	for _, w := range m.fresh {
		w.undone--
		m.letGo(w)
	}
	clear(m.fresh)
	m.fresh = m.fresh[:0]
	for _, b := range m.done {
		if b.Err != nil || m.closed {
			continue
		}
		m.fresh = append(m.fresh, m.find(b.Base))
	}
	into = append(into, m.done...)
	clear(m.done)
	m.done = m.done[:0]
	return into
}

// Recycle implements Journal.
func (m *Memory) Recycle(b *Batch) bool { return b.Err != nil || copied(b) && b.Sharers <= 1 }

// Read implements Journal.
func (m *Memory) Read(refs []Ref, into [][]byte) ([][]byte, error) {
	for _, ref := range refs {
		w := m.find(ref)
		if w == nil || uint64(ref) < w.base {
			return into, fmt.Errorf("memory: no record at %d", ref)
		}
		rest := len(w.data) - int(uint64(ref)-w.base)
		if rest < HeaderBytes || rest < recordBytes(w.data[len(w.data)-rest:]) {
			return into, fmt.Errorf("memory: no record at %d", ref)
		}
		payload, _ := NextRecord(w.data, len(w.data)-rest)
		into = append(into, payload)
	}
	return into, nil
}

// Retain implements Journal.
func (m *Memory) Retain(spans []Span) {
	for _, s := range spans {
		if w := m.find(s.Ref); w != nil {
			w.retained += int64(s.Size)
			m.live += int64(s.Size)
		}
	}
}

// Release implements Journal.
func (m *Memory) Release(spans []Span) {
	for _, s := range spans {
		if w := m.find(s.Ref); w != nil {
			w.retained -= int64(s.Size)
			m.live -= int64(s.Size)
			m.letGo(w)
		}
	}
	m.wishIfSparse()
}

// wishIfSparse wishes for a compaction where it is worth its cost: the garbage
// outweighs what is live, and much was written since the last one.
func (m *Memory) wishIfSparse() {
	if m.wish || m.held <= 2*m.live+compactSlack || m.written < max(compactSlack, m.live/4) {
		return
	}
	m.wish, m.written = true, 0
	m.wake()
}

// Compact implements Journal.
func (m *Memory) Compact() (Compaction, bool) {
	if !m.wish {
		return Compaction{}, false
	}
	m.wish = false
	end := Ref(m.next)
	return Compaction{Sparse: func(ref Ref) bool {
		if ref >= end {
			return false // proposed since
		}
		w := m.find(ref)
		return w != nil && !w.open && w.retained*2 < w.size
	}}, true
}

// Snapshot implements Journal. It is of no use here: that the owner
// proposes anew what lies in sparse windows, and releases it there, is all.
func (m *Memory) Snapshot() Snapshot { return forgotten{} }

// forgotten is a snapshot that nobody will read.
type forgotten struct{}

func (forgotten) Write([]byte) {}
func (forgotten) Backlog() int { return 0 }
func (forgotten) Commit()      {}

// Failed implements Journal.
func (m *Memory) Failed() error { return nil }

// Used implements Journal.
func (m *Memory) Used() (total, live int64) { return m.held, m.live }

// Close implements Journal.
func (m *Memory) Close() error {
	if !m.closed {
		m.closed = true
		m.budget.used.Add(-m.held)
		m.windows, m.shared, m.last, m.fresh, m.spare = map[uint64]*window{}, nil, nil, nil, nil
		m.held, m.live = 0, 0
	}
	return nil
}

// recordBytes is the length, with its header, of the record that starts there.
func recordBytes(header []byte) int {
	return HeaderBytes + int(uint32(header[0])|uint32(header[1])<<8|uint32(header[2])<<16|uint32(header[3])<<24)
}
