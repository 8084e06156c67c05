package filejournal

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/wal"
)

// errReplica is the error of who works on one directory alone where several nodes decide together what counts.
var errReplica = errors.New("the directory is a replica of a cluster: which of its records count, only its node can say")

// A Replica is a shard's part of the log where a consensus decides which of its records count. Its owner is the shard's
// goroutine as before (Read, Retain, Release, Compact, Snapshot…); what is in the list below and has a
// comment that says so is the host's, the one goroutine that runs the consensus.
//
// Records with a mark in front are the consensus' business; the others are this node's own and count as they are.
//
// As long as there is no consensus it is used as any journal, Propose and Committed included. From the first Append of a mark on
// the host alone asks for outcomes.
type Replica struct {
	*Shard
	reader Shard         // the host's: what it reads with
	images Shard         // what is read with for other nodes (image.go)
	holds  atomic.Uint64 // what lies from there on is kept for other nodes; 0: nothing is
	there  []journal.Ref // Records', to be used again
	out    [][]byte
}

// Replica is shard i's part of the log. Wake is called when Kept, Compact or Failed have something new to say. It stands
// for the journal that Shard would give, which must not be used beside it.
func (l *Log) Replica(i int, wake func()) *Replica {
	l.Shard(i, wake)
	r := &Replica{Shard: l.shards[i], reader: Shard{log: l, number: uint8(i)}, images: Shard{log: l, number: uint8(i), lends: true}}
	l.mu.Lock()
	l.replicas = append(l.replicas, r)
	l.mu.Unlock()
	return r
}

// Whole says that the state has all again that it had before the last restart. Until then it may refer to what is gone: it was released by
// entries that are in the log, but that nothing there says are committed.
func (r *Replica) Whole() {
	if r.behind {
		r.behind = false
		r.whole()
	}
}

// ReplayMarked is Replay, and tells marks from records, and what SnapshotAt was given from the state.
func (r *Replica) ReplayMarked(snapshot func(pos journal.Ref, head, data []byte) error, record func(ref journal.Ref, mark bool, payload []byte) error) error {
	return r.replay(func(head, data []byte) error {
		r.behind = len(head) > 0
		return snapshot(journal.Ref(r.snapPos), head, data)
	}, func(ref journal.Ref, mark bool, payload []byte) error {
		r.behind = r.behind || mark
		return record(ref, mark, payload)
	})
}

// Settle says that the owner retains what its state refers to; it is called before the first Append.
func (r *Replica) Settle() { r.settle() }

// Notify has kept called, in place of wake, when Kept has something new to say.
func (r *Replica) Notify(kept func()) {
	r.mu.Lock()
	r.keptFunc = kept
	r.mu.Unlock()
}

// Append proposes a batch of marks and records, by its Parts. It is the host's, or the owner's where there is no host yet.
func (r *Replica) Append(b *journal.Batch) { r.log.enqueue(item{r.Shard, b}) }

// Kept appends the batches whose outcome has become known, in the order in which they were appended, those of other shards with a part
// for this one among them. It is the host's, and stands for Committed.
func (r *Replica) Kept(into []*journal.Batch) []*journal.Batch {
	if r.log.Failed() != nil {
		return into
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	into = append(into, r.done...)
	clear(r.done)
	r.done = r.done[:0]
	return into
}

// SnapshotAt is Snapshot for a state that has all records that count before pos, and may have some of those behind it. The head is
// kept in front of the state. Where told is not nil it is called, by any goroutine, when the snapshot is the newest on the disk; with false
// when it was given up, for want of space or for a newer one.
func (r *Replica) SnapshotAt(pos journal.Ref, head []byte, told func(kept bool)) journal.Snapshot {
	r.settle()
	r.letGo()
	return &snapWriter{shard: r.Shard, pos: wal.Pos(pos), head: head, told: told}
}

// End is a place in the log such that Kept has told all of this shard's batches before it; false where it has not.
func (r *Replica) End() (journal.Ref, bool) {
	end := r.log.committed.Load() // first: all before it is in done by now
	r.mu.Lock()
	defer r.mu.Unlock()
	return journal.Ref(end), len(r.done) == 0
}

// Scarce reports whether there is no room for another segment: only what frees more than it takes should be appended.
func (r *Replica) Scarce() bool { return r.log.scarce.Load() }

// Hold says that what lies from ref on is kept for other nodes, 0 that nothing is: snapshots begin there, so that it is no garbage that
// a compaction could give back.
func (r *Replica) Hold(ref journal.Ref) { r.holds.Store(uint64(ref)) }

// Want asks the owner for a snapshot, if it does not owe one already.
func (r *Replica) Want() {
	if !r.owes.Swap(true) {
		r.log.owing.Add(1)
		r.wish.Store(&wish{})
		r.callWake()
	}
}

// trail is the first segment of which something is kept for other nodes.
func (l *Log) trail() uint32 {
	first := uint32(math.MaxUint32)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.replicas {
		if at := r.holds.Load(); at != 0 {
			first = min(first, journal.Ref(at).Segment())
		}
	}
	return first
}

// Full is the outcome of what is refused then.
func (r *Replica) Full() error { return journal.ErrDiskFull }

// Unsure reports that half of a segment is full and that it is not known yet whether there will be another one: what could be
// refused for want of space had better wait. It is soon known.
func (r *Replica) Unsure() bool {
	l := r.log
	if !l.halfFull.Load() || !l.spareless.Load() || l.scarce.Load() {
		return false
	}
	l.poke(func() { l.spareWant = true })
	return true
}

// Read implements journal.Journal.
func (r *Replica) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	r.letGo()
	return r.Shard.Read(refs, into)
}

// letGo gives up a file that was given back: its space is held as long as it is open. Nothing was written through it, so nothing is
// lost if closing it fails.
func (r *Replica) letGo() {
	if g := r.fileSeg; g != nil && g.gone.Load() {
		_ = r.closeFile()
	}
}

// ReadRun reads records of this shard that lie one after another, n bytes with their headers: as they were appended, but for
// what the journal owns in the headers, which is zero. It is the host's.
func (r *Replica) ReadRun(ref journal.Ref, n int) ([]byte, error) {
	if g := r.reader.fileSeg; g != nil && g.gone.Load() {
		_ = r.reader.closeFile()
	}
	run, err := r.reader.run(wal.Pos(ref), n)
	if err != nil {
		return nil, r.readError(ref, err)
	}
	return run, nil
}

func (s *Shard) run(pos wal.Pos, n int) ([]byte, error) {
	raw := s.cached(pos, n)
	if raw == nil {
		b, err := s.bytes(pos, int64(n), true)
		if err != nil {
			return nil, err
		}
		raw = b[:n]
	}
	run := append([]byte(nil), raw...)
	for at := 0; at < n; {
		_, number, size, err := s.framer.Check(run[at:], pos+wal.Pos(at))
		if err == nil && number != s.number && number != nobody {
			err = fmt.Errorf("a record of shard %d, of shard %d was expected", number, s.number)
		}
		if err != nil {
			return nil, err
		}
		clear(run[at+4 : at+wal.RecordBytes])
		at += size
	}
	return run, nil
}

// cached is the n bytes at pos where they are in memory.
func (s *Shard) cached(pos wal.Pos, n int) []byte {
	c := &s.log.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if data := c.find(pos); len(data) >= n {
		return data[:n]
	}
	return nil
}
