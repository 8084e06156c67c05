package filejournal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"path/filepath"
	"slices"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// lowBacklog is the backlog at which the owner of a snapshot is woken to write more.
const lowBacklog = 1 << 20

// syncStep is how much of a snapshot is synced at a time: the log's own syncs wait behind it in the disk's queue.
const syncStep = 2 << 20

// snapWriter is a snapshot on its way to its file. The shard hands pieces over, the snapshotter writes them.
type snapWriter struct {
	shard *Shard
	pos   wal.Pos
	head  []byte          // a consensus'; nil where there is none
	told  func(kept bool) // nil: nobody asks

	// What follows is guarded by Log.mu.
	pieces  [][]byte
	backlog int
	whole   bool // nothing more will come
	queued  bool // in Log.snapQueue

	// The snapshotter's.
	file  vfs.File
	off   int64
	safe  int64 // synced up to here
	crc   uint32
	given bool // up, for want of space
}

// Write implements journal.Snapshot.
func (w *snapWriter) Write(piece []byte) {
	w.shard.log.toSnapshotter(func() {
		w.pieces = append(w.pieces, piece)
		w.backlog += len(piece)
	}, w)
}

// Commit implements journal.Snapshot.
func (w *snapWriter) Commit() {
	w.shard.log.toSnapshotter(func() { w.whole, w.shard.latest = true, w }, w)
}

// Backlog implements journal.Snapshot.
func (w *snapWriter) Backlog() int {
	l := w.shard.log
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.backlog
}

// toSnapshotter tells the snapshotter what is new of w; f says it under mu.
func (l *Log) toSnapshotter(f func(), w *snapWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	if !w.queued {
		w.queued = true
		l.snapQueue = append(l.snapQueue, w)
	}
	l.snap.Signal()
}

// snapLoop is the snapshotter: it writes what there is of each snapshot in turn.
func (l *Log) snapLoop() {
	open := map[*snapWriter]struct{}{}
	for {
		l.mu.Lock()
		for len(l.snapQueue) == 0 && !l.ended && l.Failed() == nil {
			l.snap.Wait()
		}
		if len(l.snapQueue) == 0 || l.Failed() != nil {
			l.snapEnded = true
			l.wakeAll()
			l.mu.Unlock()
			unfinished := slices.SortedFunc(maps.Keys(open), func(a, b *snapWriter) int {
				return cmp.Or(cmp.Compare(a.shard.number, b.shard.number), cmp.Compare(a.pos, b.pos))
			})
			for _, w := range unfinished { // will never be whole
				_ = w.abandon()
			}
			return
		}
		w := l.snapQueue[0]
		l.snapQueue = l.snapQueue[1:]
		pieces, whole, old := w.pieces, w.whole, w.shard.latest != w
		w.pieces, w.queued = nil, false
		l.mu.Unlock()
		open[w] = struct{}{}
		if whole {
			delete(open, w)
		}
		if whole && old { // a newer one is there: this one is of no use
			w.given = true
			_ = w.abandon() // it is removed at the next start otherwise
		}
		if err := w.write(pieces, whole); err != nil {
			l.fail(err)
		}
	}
}

// write writes pieces, and ends the file where nothing more will come.
func (w *snapWriter) write(pieces [][]byte, whole bool) error {
	l := w.shard.log
	for _, piece := range pieces {
		if err := w.append(piece); err != nil {
			return err
		}
		l.mu.Lock()
		w.backlog -= len(piece)
		low := w.backlog < lowBacklog && w.backlog+len(piece) >= lowBacklog
		l.mu.Unlock()
		if low {
			w.shard.callWake()
		}
	}
	if !whole {
		return nil
	}
	defer w.shard.paid()
	err := w.end()
	if w.told != nil && err == nil {
		w.told(!w.given)
	}
	return err
}

// end ends the file.
func (w *snapWriter) end() error {
	if w.given {
		return nil
	}
	if err := w.append(nil); err != nil || w.given { // a snapshot of nothing has a header as well
		return err
	}
	return w.finish()
}

// paid notes that a shard's snapshot is there, or given up: when all are, the next compaction may be wished for.
func (s *Shard) paid() {
	if s.owes.Swap(false) && s.log.owing.Add(-1) == 0 {
		s.log.poke(func() { s.log.wishWanted = true })
	}
}

func (w *snapWriter) name() string {
	return filepath.Join(w.shard.log.snapDir(), snapName(w.shard.number, w.pos))
}

// append writes a piece behind what is there. Where there is no space for it the snapshot is given up.
func (w *snapWriter) append(piece []byte) error {
	if w.given {
		return nil
	}
	if w.file == nil {
		f, err := w.shard.log.fs.Create(w.name() + tmpSuffix)
		if err != nil {
			return w.noSpace(err)
		}
		w.file = f
		head, _ := (&snapshot{id: w.shard.log.wal.ID, shard: w.shard.number, pos: w.pos, head: w.head}).encode()
		if err := w.put(head); err != nil || w.given {
			return err
		}
	}
	return w.put(piece)
}

func (w *snapWriter) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.file.WriteAt(b, w.off)
	if err != nil && isFull(err) && w.shard.log.dropReserve() {
		_, err = w.file.WriteAt(b, w.off)
	}
	if err != nil {
		return w.noSpace(err)
	}
	w.off += int64(len(b))
	w.crc = crc32.Update(w.crc, castagnoli, b)
	if w.off-w.safe < syncStep {
		return nil
	}
	w.safe = w.off
	return w.noSpace(w.file.Sync())
}

// noSpace gives the snapshot up where the error says that there is no space; the one before stays.
func (w *snapWriter) noSpace(err error) error {
	if err == nil || !isFull(err) {
		return err
	}
	w.given = true
	w.shard.log.opt.Logf("no space for a snapshot; the one before stays: %v", err)
	return w.abandon()
}

func (w *snapWriter) abandon() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.file.Close(), w.shard.log.fs.Remove(w.name()+tmpSuffix))
	w.file = nil
	return err
}

// finish makes the snapshot the shard's newest one, and removes the one before.
func (w *snapWriter) finish() error {
	s := w.shard
	l := s.log
	if err := w.put(binary.LittleEndian.AppendUint32(nil, w.crc)); err != nil || w.given {
		return err
	}
	// A snapshot must not be ahead of the log that a power cut leaves.
	if err := l.syncedUpTo(uint64(w.pos)); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return w.noSpace(err)
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	w.file = nil
	if err := l.fs.Rename(w.name()+tmpSuffix, w.name()); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.snapDir()); err != nil {
		return err
	}
	if old := s.snapFile; old != "" && old != w.name() {
		if err := l.fs.Remove(old); err != nil {
			return err
		}
	}
	name := w.name()
	s.newest.Store(&name)
	s.snapFile, s.snapPos, s.snapSize = name, w.pos, w.off-snapHeader-4
	l.moveNeeded()
	l.keepReserve()
	l.poke(func() { l.reclaim = true })
	return nil
}
