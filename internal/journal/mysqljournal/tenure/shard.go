package tenure

import (
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
)

// A Shard is one shard's journal: that of the tables, as long as they are this node's. It belongs to the shard's goroutine, but for the
// fields that say otherwise.
type Shard struct {
	h      *Holder
	number int

	held    *tenure         // of which the owner has the state; nil: its state holds nothing, or nothing that counts
	inner   journal.Journal // held's
	bare    bool            // the owner's state holds nothing
	view    *view           // by which role is what it is; nil: it has to be found out
	role    journal.Role
	refused []*journal.Batch
	blind   atomic.Bool // as role: it leads without the tables. Anybody's

	mu       sync.Mutex // guards the following
	wakeFunc func()
}

var _ journal.InTurn = (*Shard)(nil)

func newShard(h *Holder, i int) *Shard {
	return &Shard{h: h, number: i, bare: true, wakeFunc: func() {}}
}

// begin is called once, before anything else.
func (s *Shard) begin(wake func()) {
	s.mu.Lock()
	s.wakeFunc = wake
	s.mu.Unlock()
	v := s.h.seen.Load()
	s.role = v.role
	if t := v.tenure; t != nil {
		s.role.Leading = true
		s.held, s.inner, s.bare = t, t.tables.Shard(s.number, wake), false
	}
}

func (s *Shard) callWake() {
	s.mu.Lock()
	wake := s.wakeFunc
	s.mu.Unlock()
	wake()
}

// Begin says that there is a cluster from now on, of which this node is the first. Await says so where it has joined.
func (s *Shard) Begin([]uint64) error {
	s.h.Share()
	return nil
}

// Await implements what Begin says.
func (s *Shard) Await() error {
	s.h.Share()
	return nil
}

// Replay implements journal.Journal: of a server alone, as a node of a cluster has nothing before it has the tables.
func (s *Shard) Replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	if s.inner == nil {
		return nil
	}
	return s.inner.Replay(snapshot, record)
}

// Propose implements journal.Journal.
func (s *Shard) Propose(b *journal.Batch) {
	if s.inner != nil && !s.held.isOver() {
		s.inner.Propose(b)
		return
	}
	b.Base, b.Err = 0, journal.ErrNotLeading
	if s.role.Leading && s.held == nil {
		b.Err = journal.ErrUnavailable
	}
	s.refused = append(s.refused, b)
	s.callWake()
}

// Committed implements journal.Journal. What the tables had kept when they were lost is returned under the role of before.
func (s *Shard) Committed(into []*journal.Batch) []*journal.Batch {
	into = append(into, s.refused...)
	clear(s.refused)
	s.refused = s.refused[:0]
	if s.inner != nil {
		over, n := s.held.isOver(), len(into)
		into = s.inner.Committed(into)
		if over && len(into) > n {
			s.callWake()
			return into
		}
		if over {
			s.held, s.inner, s.view = nil, nil, nil
		}
	}
	if v := s.h.seen.Load(); v != s.view {
		s.look(v)
	}
	return into
}

// look goes by what holds now.
func (s *Shard) look(v *view) {
	blind := v.blind
	if v.tenure != nil && v.role.Term == s.role.Term { // what it holds is on its way
		blind = s.blind.Load()
	}
	blind = blind && s.bare && s.held == nil
	s.view, s.role = v, v.role
	s.role.Leading = s.held != nil && s.held == v.tenure || blind
	s.blind.Store(blind)
}

// Role implements journal.Replicated.
func (s *Shard) Role() journal.Role { return s.role }

// Image implements journal.Replicated.
func (s *Shard) Image() journal.Image { return nil }

// Lacking implements journal.InTurn. Anybody may call it.
func (s *Shard) Lacking() error {
	if !s.blind.Load() {
		return nil
	}
	return s.h.reason()
}

// Estate implements journal.InTurn.
func (s *Shard) Estate() journal.Estate {
	switch t := s.h.seen.Load().tenure; {
	case t != nil && t != s.held:
		return &estate{s: s, t: t}
	case t == nil && s.held == nil && !s.bare:
		return &estate{s: s}
	}
	return nil
}

// Recycle implements journal.Journal.
func (s *Shard) Recycle(b *journal.Batch) bool { return s.inner == nil || s.inner.Recycle(b) }

// Read implements journal.Journal.
func (s *Shard) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	if s.inner == nil || s.held.isOver() {
		return into, journal.ErrUnavailable
	}
	return s.inner.Read(refs, into)
}

// Retain implements journal.Journal.
func (s *Shard) Retain(spans []journal.Span) {
	if s.inner != nil {
		s.inner.Retain(spans)
	}
}

// Release implements journal.Journal.
func (s *Shard) Release(spans []journal.Span) {
	if s.inner != nil && !s.held.isOver() {
		s.inner.Release(spans)
	}
}

// Compact implements journal.Journal.
func (s *Shard) Compact() (journal.Compaction, bool) {
	if s.inner == nil || s.held.isOver() {
		return journal.Compaction{}, false
	}
	return s.inner.Compact()
}

// Snapshot implements journal.Journal.
func (s *Shard) Snapshot() journal.Snapshot {
	if s.inner == nil {
		return nowhere{}
	}
	return s.inner.Snapshot()
}

// nowhere is a snapshot that nobody keeps.
type nowhere struct{}

func (nowhere) Write([]byte) {}
func (nowhere) Backlog() int { return 0 }
func (nowhere) Commit()      {}

// Failed implements journal.Journal. That another node has the tables is no failure.
func (s *Shard) Failed() error {
	if err := s.h.seen.Load().failure; err != nil {
		return err
	}
	if s.inner == nil || s.held.isOver() {
		return nil
	}
	err := s.inner.Failed()
	if err != nil && s.h.opt.Lost(err) && s.h.fenced(s.held, err) {
		s.h.wake()
		return nil
	}
	return err
}

// Used implements journal.Journal.
func (s *Shard) Used() (total, live int64) {
	if s.inner == nil {
		return 0, 0
	}
	return s.inner.Used()
}

// Close implements journal.Journal. The tables stay open for the other shards.
func (s *Shard) Close() error {
	if s.inner == nil || s.held.isOver() {
		return nil
	}
	err := s.inner.Close()
	if err != nil && s.h.opt.Lost(err) && s.h.fenced(s.held, err) {
		return nil
	}
	return err
}

// An estate is what the tables hold, or, without a tenure, nothing.
type estate struct {
	s *Shard
	t *tenure
	j journal.Journal
}

// Replay implements journal.Estate. Where it fails it has waited for a while.
func (e *estate) Replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	if e.t == nil {
		return nil
	}
	e.j = e.t.tables.Shard(e.s.number, e.s.callWake)
	err := e.j.Replay(snapshot, record)
	if err == nil || e.t.isOver() {
		return err
	}
	e.s.h.opt.Logf("the tables cannot be read, and are tried again: %v", err)
	pause(e.t.over)
	return err
}

// Taken implements journal.Estate.
func (e *estate) Taken() {
	e.s.held, e.s.inner, e.s.bare, e.s.view = e.t, e.j, e.t == nil, nil
}

// Over implements journal.Estate.
func (e *estate) Over() bool {
	if e.t != nil {
		return e.t.isOver()
	}
	return false
}
