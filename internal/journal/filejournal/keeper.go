package filejournal

import (
	"errors"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/wal"
)

const (
	// maxSpares is how many dead segments are kept to be used again.
	maxSpares = 2
	// sparseBytes bounds what one wish asks to be proposed anew.
	sparseBytes = 64 << 20
)

// keepLoop is the keeper: it prepares segments ahead of their use, gives back
// dead ones, and wishes for compactions.
func (l *Log) keepLoop() {
	for {
		l.mu.Lock()
		for !l.spareWant && !l.reclaim && !l.wishWanted && !l.keeperEnds() {
			l.keep.Wait()
		}
		spare, reclaim, wish, ends := l.spareWant && len(l.spares) == 0, l.reclaim, l.wishWanted, l.keeperEnds()
		l.spareWant, l.reclaim, l.wishWanted = spare, false, false
		l.mu.Unlock()
		if ends && !reclaim {
			return
		}
		err := error(nil)
		if reclaim {
			err = l.reclaimDead()
		}
		if spare && !ends && err == nil {
			err = l.prepareSpare()
		}
		if err != nil {
			l.fail(err)
			return
		}
		if wish {
			l.makeWish()
		}
	}
}

// keeperEnds: the others need it no more. Called with mu held.
func (l *Log) keeperEnds() bool { return l.Failed() != nil || l.ended && l.snapEnded }

// prepareSpare makes one, unless a dead segment has become one meanwhile.
func (l *Log) prepareSpare() error {
	l.mu.Lock()
	enough := len(l.spares) > 0
	k := l.nextSpare
	if !enough {
		l.nextSpare++ // nothing else ever bears this name: the committer may be using the one before
	}
	l.mu.Unlock()
	err := error(nil)
	if !enough {
		err = l.wal.Prepare(k, l.opt.SegmentBytes)
	}
	if err != nil && !isFull(err) {
		return err
	}
	l.mu.Lock()
	news := err != nil && !l.fullSaid
	l.spareWant, l.full, l.fullSaid = false, err != nil, err != nil
	if err == nil && !enough {
		l.spares = append(l.spares, k)
	}
	l.noteSpares()
	l.idle.Broadcast()
	l.mu.Unlock()
	if news {
		l.opt.Logf("no space for another log segment: soon only what frees more than it takes will be accepted: %v", err)
	}
	return nil
}

// noteSpares tells those who must not wait how many segments there are ahead. Called with mu held.
func (l *Log) noteSpares() {
	l.spareless.Store(len(l.spares) == 0)
	l.scarce.Store(l.full && len(l.spares) == 0)
}

// scarceNow reports whether no further segment can be had. It waits for the
// keeper where that is not known, and has it try again where it is so.
func (l *Log) scarceNow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.spares) == 0 && !l.full && l.Failed() == nil {
		l.spareWant = true
		l.keep.Signal()
		l.idle.Wait()
	}
	if len(l.spares) > 0 || l.Failed() != nil {
		return false
	}
	l.spareWant = true
	l.keep.Signal()
	return true
}

// spareFor takes a spare of at least size bytes, or says that the disk is full.
func (l *Log) spareFor(size int64, essential bool) (int, error) {
	if size > l.opt.SegmentBytes {
		return l.largeSpare(size)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spares) == 0 && l.full && essential {
		l.full = false // the keeper is to try once more, now
	}
	for len(l.spares) == 0 && !l.full && l.Failed() == nil {
		l.spareWant = true
		l.keep.Signal()
		l.idle.Wait()
	}
	if err := l.Failed(); err != nil {
		return 0, err
	}
	if len(l.spares) == 0 {
		l.spareWant = true
		l.keep.Signal()
		return 0, journal.ErrDiskFull
	}
	k := l.spares[0]
	l.spares = slices.Delete(l.spares, 0, 1)
	l.noteSpares()
	return k, nil
}

// largeSpare makes a segment for a batch that is larger than the usual ones.
func (l *Log) largeSpare(size int64) (int, error) {
	l.mu.Lock()
	// Numbers from here are never the keeper's: it counts up from below.
	k := 1<<30 + l.nextSpare
	l.nextSpare++
	l.mu.Unlock()
	err := l.wal.Prepare(k, (size+4095)&^4095)
	if err != nil && isFull(err) {
		return 0, journal.ErrDiskFull
	}
	return k, err
}

// reclaimDead gives back the segments in which nothing is retained and which
// no shard would replay.
func (l *Log) reclaimDead() error {
	if int(l.settled.Load()) < len(l.shards) {
		return nil // a shard may not have retained yet what it replayed
	}
	held := l.beginGiving()
	defer l.endGiving()
	needed := min(uint32(l.needed.Load()>>32), held)
	dead := l.segs.sorted(func(s *segment) bool {
		return s.sealed.Load() && s.live.Load() == 0 && s.number < needed
	})
	pinned := l.pinned()
	dead = slices.DeleteFunc(l.releasedForGood(dead), func(s *segment) bool { return s.number >= held || s.number < pinned })
	if len(dead) == 0 {
		return nil
	}
	l.segs.remove(dead)
	l.cache.drop(dead)
	for _, s := range dead {
		s.gone.Store(true)
		if err := l.giveBack(s); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.wal.Path)
}

// releasedForGood returns those dead segments whose last record's release is
// on the disk: the snapshot may still refer to it, and a power cut must not
// bring that back when the segment is gone. Without Sync that takes a sync,
// after which the keeper is woken again.
func (l *Log) releasedForGood(dead []*segment) []*segment {
	if len(l.dying) == 0 {
		l.dying, l.dyingAt = dead, wal.Pos(l.durable.Load())
	}
	if len(l.dying) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.synced < l.dyingAt {
		l.syncWanted, l.reclaimAt = true, l.dyingAt
		l.work.Signal()
		return nil
	}
	out := l.dying
	l.dying = nil
	l.reclaim = l.reclaim || len(dead) > len(out)
	return out
}

func (l *Log) giveBack(s *segment) error {
	l.mu.Lock()
	recycle := s.size == l.opt.SegmentBytes && len(l.spares) < maxSpares && !l.closing
	k := l.nextSpare
	if recycle {
		l.nextSpare++
	}
	l.mu.Unlock()
	if !recycle {
		return l.fs.Remove(l.wal.Name(s.number))
	}
	if err := l.wal.Recycle(s.number, k); err != nil {
		return err
	}
	l.mu.Lock()
	l.spares = append(l.spares, k)
	l.full = false
	l.noteSpares()
	l.idle.Broadcast()
	l.mu.Unlock()
	return nil
}

// wishIfDue has the keeper look closer where a compaction seems worth it, but
// not all the time: the look goes through all segments.
func (l *Log) wishIfDue() {
	activity, threshold := l.activity.Load(), l.enough()
	if l.scarce.Load() {
		threshold = l.lookStep()
	}
	if activity >= threshold && activity >= l.looked.Load()+l.lookStep() {
		l.poke(func() { l.wishWanted = true })
	}
}

// enough is the activity that makes up for a compaction.
func (l *Log) enough() int64 { return max(l.opt.CompactEvery, l.snapBytes.Load()) }

func (l *Log) lookStep() int64 { return min(l.opt.CompactEvery/8, l.opt.SegmentBytes/16) }

// A wish is the segments to be given up, by number.
type wish struct {
	round  uint64
	sparse map[uint32]struct{}
}

// makeWish asks every shard for a snapshot, and for what lies in sparse
// segments anew.
//
// It makes none while snapshots that were asked for before are not there. The moving is activity too: wishes could come
// faster than snapshots, which then fall ever further behind, and no segment would be given back. Where space has run out it does not
// wait: of a shard's snapshots only the latest is written then.
func (l *Log) makeWish() {
	l.looked.Store(l.activity.Load())
	if l.owing.Load() > 0 && !l.scarce.Load() {
		return
	}
	used, live := l.segs.before(l.trail())
	budget := int64(sparseBytes)
	if due := l.activity.Load() >= l.enough() && used > 2*live+l.opt.CompactSlack; !due {
		if !l.scarce.Load() {
			return
		}
		// Where space has run out, whatever gives some back is worth it, as
		// long as moving what is live leaves half of what room there is.
		end := wal.Pos(l.durable.Load())
		budget = (l.segs.find(end.Segment()).size - end.Offset()) / 2
	}
	set := l.sparsest(budget)
	if l.scarce.Load() && len(set) == 0 {
		return
	}
	l.activity.Store(0)
	l.looked.Store(0)
	l.round++
	for _, s := range l.shards {
		if !s.owes.Swap(true) {
			l.owing.Add(1)
		}
		s.wish.Store(&wish{l.round, set})
		s.callWake()
	}
}

// sparsest is the segments that are less than half live, the sparsest first,
// with no more than budget bytes that are.
func (l *Log) sparsest(budget int64) map[uint32]struct{} {
	sparse := l.segs.sorted((*segment).sparse)
	slices.SortStableFunc(sparse, func(a, b *segment) int { return int(a.live.Load() - b.live.Load()) })
	set := map[uint32]struct{}{}
	for _, s := range sparse {
		if budget -= s.live.Load(); budget < 0 {
			break
		}
		set[s.number] = struct{}{}
	}
	return set
}

// syncedUpTo waits until everything before pos is on the disk.
func (l *Log) syncedUpTo(pos uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uint64(l.synced) < pos && l.Failed() == nil {
		if l.ended {
			return errors.New("filejournal: the log ended before a snapshot")
		}
		l.syncWanted = true
		l.work.Signal()
		l.idle.Wait()
	}
	return l.Failed()
}
