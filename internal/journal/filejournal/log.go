// Package filejournal is the journal in files: one log for all shards, so that
// one fsync commits what all of them have proposed meanwhile; and a snapshot
// file per shard. docs/journal.md draws the bytes.
//
// Who owns what: the committer goroutine (commit.go) the segment being written,
// the keeper goroutine (keeper.go) the preparing and giving back of segment
// files, the snapshotter goroutine (snapshot.go) the snapshot files, and each
// Shard (shard.go) belongs to its shard's goroutine. What they share is guarded
// by one of four mutexes - Log.mu, Shard.mu, cache.mu, segments.mu - of which
// nobody ever holds two.
//
// The package does not know what a record means.
package filejournal

import (
	"errors"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// Options say how a log is kept. The zero value of each field but Sync means
// its default.
type Options struct {
	// Sync makes every commit wait for the disk. Without it a power cut may
	// take the latest commits, though never a part of a batch, nor an earlier
	// one than it leaves a later one of.
	Sync bool
	// Shards is how many shards the log serves, at most 127; it is fixed when
	// the directory is made. 0 takes what the directory says, or 1.
	Shards int
	// SegmentBytes is a segment file's size, 16 MiB.
	SegmentBytes int64
	// CacheBytes is how much of the log's end is kept in memory for Read, 64 MiB.
	CacheBytes int64
	// CompactSlack is the garbage that is not worth a compaction, 16 MiB, and
	// CompactEvery what must have been written or released since the last, 8 MiB.
	CompactSlack int64
	CompactEvery int64
	// Logf is told what an operator should know; nil tells nobody.
	Logf func(format string, args ...any)
	// Scheduler runs the log's loops in a simulation; nil leaves it to Go.
	Scheduler Scheduler
	// Random is what a new log's id is taken from; nil is crypto/rand.
	Random io.Reader

	// indexBytes bounds the memory of all runs (replay.go), 64 MiB. Segments
	// that are scanned after it is used up are skimmed by every shard instead.
	indexBytes int64
}

func (o Options) withDefaults() Options {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.SegmentBytes, 16<<20)
	set(&o.CacheBytes, 64<<20)
	set(&o.CompactSlack, 16<<20)
	set(&o.CompactEvery, 8<<20)
	set(&o.indexBytes, 64<<20)
	o.SegmentBytes = min(max(wal.Align(o.SegmentBytes), 2*wal.PageBytes), wal.MaxSegmentBytes)
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}

// Log is an open log. Its shards' journals are got from Shard.
type Log struct {
	fs      vfs.FS
	dir     string
	opt     Options
	wal     wal.Dir
	lock    io.Closer
	shards  []*Shard
	found   wal.Recovered // what Open found
	indexed int64         // bytes of runs; Open's

	segs  segments
	cache cache

	// durable is the end of what is written (and synced, where Sync says so);
	// committed the same, a little later: when every shard has been handed it.
	durable   atomic.Uint64
	committed atomic.Uint64
	needed    atomic.Uint64 // the oldest position a shard's snapshot leaves to replay
	snapBytes atomic.Int64  // of the newest snapshots together
	activity  atomic.Int64  // bytes written or released since the last wish
	looked    atomic.Int64  // activity when the keeper last saw that none is due
	settled   atomic.Int32  // shards that have retained what they replayed
	owing     atomic.Int32  // shards that owe a snapshot
	scarce    atomic.Bool   // no spare segment, and no room to make one
	spareless atomic.Bool   // no spare segment
	halfFull  atomic.Bool   // the committer's segment is
	lends     atomic.Bool   // the committer tells few that something is kept
	failure   atomic.Pointer[error]

	committer committer // the committer's alone

	// The keeper's alone: segments to be given back, once the log is synced up to there.
	dying   []*segment
	dyingAt wal.Pos
	round   uint64 // of the latest wish

	mu sync.Mutex
	// All on mu: work wakes the committer, keep the keeper, snap the
	// snapshotter; idle those who wait for one of them.
	work, keep, snap, idle Cond
	// What follows is guarded by mu.
	pending    []item
	proposed   uint64 // batches
	answered   uint64
	synced     wal.Pos // everything before is on the disk
	syncWanted bool    // the snapshotter waits for synced to move up
	spares     []int
	nextSpare  int
	spareWant  bool          // the keeper is to prepare one
	full       bool          // the last try failed for want of space
	fullSaid   bool          // and Logf was told
	reclaim    bool          // a segment may have died
	reclaimAt  wal.Pos       // look again when synced gets there; 0 for not
	wishWanted bool          // a compaction may be due
	snapQueue  []*snapWriter // of which there is something to write
	ended      bool          // the committer has
	snapEnded  bool          // the snapshotter has
	closing    bool
	holding    bool   // a backup is being made (backup.go)
	held       uint32 // segments from here on are not given back meanwhile
	replicas   []*Replica
	giving     bool              // the keeper gives back what it may
	pins       map[*pin]struct{} // for images (image.go)

	loops []chan struct{} // closed when the committer, the keeper and the snapshotter have ended
}

// item is a batch on its way to the disk.
type item struct {
	shard *Shard // nil: the batch says itself whose it is
	batch *journal.Batch
}

// nobody is the number in the headers of records that no shard replays. With markBit set it is a mark of the other bits'
// shard: what a consensus notes about the records behind it (replica.go). An older program takes it for a shard that is not there.
const (
	nobody    = 255
	markBit   = 0x80
	maxShards = nobody - markBit // a greater number, as a mark, would be nobody's
)

// owner is the shard of a record whose header says so, and whether it is a mark.
func owner(number uint8) (shard uint8, mark bool) {
	if number == nobody || number&markBit == 0 {
		return number, false
	}
	return number &^ markBit, true
}

// Spread proposes a batch of several shards, each of which returns it from Committed. It may be called from any
// goroutine, for shards that have all been replayed.
func (l *Log) Spread(b *journal.Batch) { l.enqueue(item{batch: b}) }

func (l *Log) enqueue(it item) {
	l.mu.Lock()
	if l.Failed() == nil && !l.ended { // else there is nobody to answer
		l.pending = append(l.pending, it)
		l.proposed++
		l.work.Signal()
	}
	l.mu.Unlock()
}

// ID names the directory, and every copy of it.
func (l *Log) ID() uint64 { return l.wal.ID }

// Shards is how many shards the log serves.
func (l *Log) Shards() int { return len(l.shards) }

// Recovered is what Open found at the log's end.
func (l *Log) Recovered() wal.Recovered { return l.found }

// Failed is why nothing can be promised any more, or nil.
func (l *Log) Failed() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends all promises.
func (l *Log) fail(err error) {
	if !l.failure.CompareAndSwap(nil, &err) {
		return
	}
	l.opt.Logf("the journal in %s has failed: %v", l.dir, err)
	l.mu.Lock()
	l.wakeAll()
	l.mu.Unlock()
	for _, s := range l.shards {
		s.callWake()
	}
}

// wakeAll wakes every goroutine of the log. Called with mu held.
func (l *Log) wakeAll() {
	l.work.Broadcast()
	l.keep.Broadcast()
	l.snap.Broadcast()
	l.idle.Broadcast()
}

// Close commits what was proposed, writes the snapshots that were handed over,
// and gives everything back. It may be called again.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closing
	l.closing = true
	l.wakeAll()
	l.mu.Unlock()
	l.awaitLoops()
	if again {
		return l.Failed()
	}
	errs := []error{l.Failed()}
	for _, s := range l.shards {
		errs = append(errs, s.closeFile())
	}
	for _, r := range l.replicas {
		errs = append(errs, r.reader.closeFile(), r.images.closeFile())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// waitAnswered waits until everything proposed so far has its outcome.
func (l *Log) waitAnswered() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.proposed; l.answered < want && l.Failed() == nil && !l.ended; {
		l.idle.Wait()
	}
	return l.Failed()
}

// poke asks the keeper for what the flag stands for; f sets it under mu.
func (l *Log) poke(f func()) {
	l.mu.Lock()
	f()
	l.keep.Signal()
	l.mu.Unlock()
}

func (l *Log) snapDir() string { return filepath.Join(l.dir, "snap") }
