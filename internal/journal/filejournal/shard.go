package filejournal

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// readAhead is read at a time where records are read one after another, and
// readOnce where they are not.
const (
	readAhead = 256 << 10
	readOnce  = 16 << 10
)

// Shard is one shard's journal in the log. It belongs to the shard's goroutine,
// but for the fields that say otherwise.
//
// After Replay the owner retains what its state refers to before it proposes
// anything or gives a snapshot: only then is a segment known to be dead.
type Shard struct {
	log    *Log
	number uint8

	pos      wal.Pos // everything of this shard before was returned by Committed
	settled  bool
	behind   bool             // a replica's: the state may be older than one that this node had; see Replica.Whole
	missing  map[uint32]int64 // bytes retained in segments that are gone, until settled
	last     *segment         // the one looked up last
	chunk    []byte           // what was read of the disk last, from chunkPos on
	chunkPos wal.Pos
	lends    bool     // chunks are given back when what is in them is not held any more (image.go)
	lent     [][]byte // chunks that are not given back yet
	file     vfs.File // of fileSeg
	fileSeg  *segment
	framer   wal.Framer
	misses   []int

	// mu guards done, which the committer adds to, and the functions.
	mu       sync.Mutex
	done     []*journal.Batch
	wakeFunc func()
	keptFunc func() // in place of wakeFunc, when done has something new; nil: there is none

	touched bool        // the committer's
	owes    atomic.Bool // the keeper has asked for a snapshot that is not there yet
	wish    atomic.Pointer[wish]
	newest  atomic.Pointer[string] // the name of its snapshot file; nil: there is none. The snapshotter's to set
	latest  *snapWriter            // the newest whole snapshot that was handed over; guarded by Log.mu

	// What follows is Open's, then the snapshotter's.
	snapPos  wal.Pos
	snapFile string // "" where there is none
	snapSize int64
}

// Shard is the journal of shard i. It wakes its owner through wake.
func (l *Log) Shard(i int, wake func()) journal.Journal {
	s := l.shards[i]
	s.mu.Lock()
	s.wakeFunc = wake
	s.mu.Unlock()
	return s
}

func (s *Shard) callWake() {
	s.mu.Lock()
	wake := s.wakeFunc
	s.mu.Unlock()
	wake()
}

// callKept says that done has something new.
func (s *Shard) callKept() {
	s.mu.Lock()
	kept := s.keptFunc
	if kept == nil {
		kept = s.wakeFunc
	}
	s.mu.Unlock()
	kept()
}

// settle ends the time in which segments that the state refers to may be gone:
// what a snapshot refers to may have been released and given back later.
func (s *Shard) settle() {
	if s.settled {
		return
	}
	s.settled = true
	if !s.behind {
		s.whole()
	}
	if int(s.log.settled.Add(1)) == len(s.log.shards) {
		s.log.poke(func() { s.log.reclaim = true })
	}
}

// whole ends the time in which segments that the state refers to may be gone.
func (s *Shard) whole() {
	for number, bytes := range s.missing {
		if bytes > 0 {
			s.log.fail(&wal.Damage{File: s.log.wal.Name(number), Why: fmt.Sprintf("the file is missing, though shard %d needs %d bytes of it", s.number, bytes)})
		}
	}
	s.missing = nil
}

// Propose implements journal.Journal.
func (s *Shard) Propose(b *journal.Batch) {
	s.settle()
	s.log.enqueue(item{s, b})
}

// Committed implements journal.Journal.
func (s *Shard) Committed(into []*journal.Batch) []*journal.Batch {
	if g := s.fileSeg; g != nil && g.gone.Load() {
		// Not to hold the space of a file that was given back. Nothing was
		// written through it, so nothing is lost if closing it fails.
		_ = s.closeFile()
	}
	if s.log.Failed() != nil {
		return into
	}
	end := wal.Pos(s.log.committed.Load()) // first: all before it is in done by now
	s.mu.Lock()
	into = append(into, s.done...)
	if n := len(s.done); n > 0 {
		b := s.done[n-1]
		end = max(end, wal.Pos(b.Base)+wal.Pos(len(b.Data)))
	}
	clear(s.done)
	s.done = s.done[:0]
	s.mu.Unlock()
	s.pos = max(s.pos, end)
	return into
}

// Recycle implements journal.Journal: the log has its own copy.
func (s *Shard) Recycle(*journal.Batch) bool { return true }

// Retain implements journal.Journal.
func (s *Shard) Retain(spans []journal.Span) { s.count(spans, 1) }

// Release implements journal.Journal.
func (s *Shard) Release(spans []journal.Span) {
	released := s.count(spans, -1)
	l := s.log
	l.activity.Add(released)
	l.wishIfDue()
}

// count adds to the live bytes of the spans' segments, one by one run.
func (s *Shard) count(spans []journal.Span, sign int64) (sum int64) {
	for i := 0; i < len(spans); {
		number := spans[i].Ref.Segment()
		bytes := int64(0)
		for ; i < len(spans) && spans[i].Ref.Segment() == number; i++ {
			bytes += int64(spans[i].Size)
		}
		sum += bytes
		if s.last == nil || s.last.number != number || s.last.gone.Load() {
			s.last = s.log.segs.find(number)
		}
		switch g := s.last; {
		case g == nil && (!s.settled || s.behind):
			if s.missing == nil {
				s.missing = map[uint32]int64{}
			}
			s.missing[number] += sign * bytes
		case g == nil:
			s.log.fail(fmt.Errorf("filejournal: a record in segment %d is spoken of, which was given back", number))
		case g.live.Add(sign*bytes) == 0 && g.sealed.Load():
			s.log.poke(func() { s.log.reclaim = true })
		}
	}
	return sum
}

// Compact implements journal.Journal.
func (s *Shard) Compact() (journal.Compaction, bool) {
	w := s.wish.Swap(nil)
	if w == nil {
		return journal.Compaction{}, false
	}
	return journal.Compaction{Round: w.round, Sparse: func(ref journal.Ref) bool {
		_, ok := w.sparse[ref.Segment()]
		return ok
	}}, true
}

// Snapshot implements journal.Journal.
func (s *Shard) Snapshot() journal.Snapshot {
	s.settle()
	end := wal.Pos(s.log.committed.Load())
	s.mu.Lock()
	if len(s.done) == 0 {
		s.pos = max(s.pos, end)
	}
	s.mu.Unlock()
	return &snapWriter{shard: s, pos: s.pos}
}

// Failed implements journal.Journal.
func (s *Shard) Failed() error { return s.log.Failed() }

// Used implements journal.Journal.
func (s *Shard) Used() (total, live int64) {
	total, _, live = s.log.segs.sums()
	return total, live
}

// Close implements journal.Journal. The log stays open for the other shards,
// and Committed tells the last outcomes.
func (s *Shard) Close() error { return s.log.waitAnswered() }

func (s *Shard) closeFile() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file, s.fileSeg = nil, nil
	return err
}
