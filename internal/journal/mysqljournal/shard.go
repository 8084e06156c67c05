package mysqljournal

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/gmq/gmq/internal/journal"
)

// Shard is one shard's journal. It belongs to the shard's goroutine, but for the fields that say otherwise.
type Shard struct {
	j      *Journal
	number int

	pos     journal.Ref // everything of this shard before was returned by Committed
	settled bool        // the owner has said all that it retains

	// mu guards done, wakeFunc, and what has been fetched.
	mu         sync.Mutex
	done       []*journal.Batch
	wakeFunc   func()
	wanted     []journal.Ref          // not empty: a fetch is under way
	next       []journal.Ref          // asked for meanwhile
	fetched    []fetched              // the oldest first
	records    map[journal.Ref]record // of all of them
	fetchedSum int                    // bytes of them
	fetches    uint64                 // begun and ended so far, together
	vain       bool                   // the one under way takes too long

	// What follows is Replay's, then the composer's.
	follower Follower
	stubs    Stubs // nil: no record in this transaction
	command  []byte
	first    journal.Ref
	last     journal.Ref // end of the latest record
	latest   journal.Ref // the latest run in gmq_command; before Replay what gmq_epoch says of it

	logMu    sync.Mutex // guards the following
	commands []commandRow
	bytes    int64 // of commands
	snapshot snapInfo
	wished   bool // a snapshot was asked for and is not there yet
	wish     bool // Compact has not reported that
}

// A commandRow is a row of gmq_command.
type commandRow struct {
	place journal.Ref
	bytes int
}

func newShard(j *Journal, i int) *Shard {
	return &Shard{j: j, number: i, wakeFunc: func() {}, records: map[journal.Ref]record{}}
}

func (s *Shard) callWake() {
	s.mu.Lock()
	wake := s.wakeFunc
	s.mu.Unlock()
	wake()
}

// Propose implements journal.Journal.
func (s *Shard) Propose(b *journal.Batch) { s.j.enqueue(item{s, b}) }

// Committed implements journal.Journal.
func (s *Shard) Committed(into []*journal.Batch) []*journal.Batch {
	if !s.settled {
		s.settled = true
		s.j.settle()
	}
	if s.j.Failed() != nil {
		return into
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.done {
		if b.Err == nil {
			s.pos = max(s.pos, b.Base+journal.Ref(len(b.Data)))
		}
	}
	into = append(into, s.done...)
	clear(s.done)
	s.done = s.done[:0]
	return into
}

// Recycle implements journal.Journal: the cache has its own copy.
func (s *Shard) Recycle(*journal.Batch) bool { return true }

// Retain implements journal.Journal.
func (s *Shard) Retain(spans []journal.Span) {
	s.j.live.Add(sizes(spans))
	if !s.settled {
		s.j.retained(spans)
	}
}

// Release implements journal.Journal.
func (s *Shard) Release(spans []journal.Span) {
	s.j.live.Add(-sizes(spans))
	s.j.release(spans)
}

func sizes(spans []journal.Span) (sum int64) {
	for _, s := range spans {
		sum += int64(s.Size)
	}
	return sum
}

// Compact implements journal.Journal. Messages have rows of their own: none has to be moved.
func (s *Shard) Compact() (journal.Compaction, bool) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if !s.wish {
		return journal.Compaction{}, false
	}
	s.wish = false
	return journal.Compaction{Sparse: func(journal.Ref) bool { return false }}, true
}

// noteCommand counts a row of gmq_command, and wishes for a snapshot where there are many.
func (s *Shard) noteCommand(place journal.Ref, bytes int) {
	s.logMu.Lock()
	s.commands = append(s.commands, commandRow{place, bytes})
	s.bytes += int64(bytes)
	s.j.kept.Add(int64(bytes))
	wake := s.wishIfDue()
	s.logMu.Unlock()
	if wake {
		s.callWake()
	}
}

// wishIfDue is called with logMu held. A snapshot is worth its cost when it is smaller than what it replaces.
func (s *Shard) wishIfDue() bool {
	if s.wished || s.bytes < max(s.j.opt.CompactBytes, s.snapshot.bytes) {
		return false
	}
	s.wished, s.wish = true, true
	return true
}

// Failed implements journal.Journal.
func (s *Shard) Failed() error { return s.j.Failed() }

// Used implements journal.Journal.
func (s *Shard) Used() (total, live int64) {
	live = s.j.live.Load()
	return live + s.j.kept.Load(), live
}

// Close implements journal.Journal. The tables stay open for the other shards.
func (s *Shard) Close() error { return s.j.waitAnswered() }

// Replay implements journal.Journal. The bytes of messages are zeros.
func (s *Shard) Replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	if err := s.replay(snapshot, record); err != nil {
		return fmt.Errorf("mysql: shard %d: %w", s.number, err)
	}
	return nil
}

func appendUvarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }
