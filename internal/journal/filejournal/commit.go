package filejournal

import (
	"errors"
	"syscall"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

const (
	// frameBytes is where a frame is full, unless its first batch is larger.
	frameBytes = 4 << 20
	// windowBytes is how much memory the cache takes at a time.
	windowBytes = 1 << 20
	// tailBytes is the room that every segment keeps for its last frames: the
	// seal, and one that says that the journal was closed.
	tailBytes = 2 * wal.FrameBytes
)

// committer is the state of the goroutine that writes the log.
type committer struct {
	file   vfs.File
	seg    *segment
	off    int64 // where the next frame goes
	size   int64
	closed bool // the last frame says that the journal was closed
	synced wal.Pos
	framer wal.Framer
	window *window
	wpos   int // where in window the next frame goes

	queue   []item // taken from pending
	head    int    // those before were answered
	frame   []item // those that the next frame answers
	bytes   int    // bytes of records in frame
	touched []*Shard
}

func (c *committer) pos() wal.Pos { return wal.MakePos(c.seg.number, c.off) }

// commitLoop is the committer: whatever was proposed during one sync is
// written and synced together.
func (l *Log) commitLoop() {
	c := &l.committer
	for l.take() {
		for c.head < len(c.queue) {
			if err := l.commitFrame(); err != nil {
				l.fail(err)
				l.endCommitter()
				return
			}
		}
	}
	if l.Failed() == nil {
		if err := l.writeClose(); err != nil {
			l.fail(err)
		}
	}
	l.endCommitter()
}

func (l *Log) endCommitter() {
	if err := l.committer.file.Close(); err != nil {
		l.fail(err)
	}
	l.mu.Lock()
	l.ended = true
	l.wakeAll()
	l.mu.Unlock()
}

// take waits for work and takes all of it; false when there will be no more.
func (l *Log) take() bool {
	c := &l.committer
	clear(c.queue)
	for {
		l.mu.Lock()
		for len(l.pending) == 0 && !l.syncWanted && !l.closing && l.Failed() == nil {
			l.work.Wait()
		}
		c.queue, l.pending, c.head = l.pending, c.queue[:0], 0
		sync := l.syncWanted
		l.syncWanted = false
		l.mu.Unlock()
		if l.Failed() != nil {
			return false
		}
		if sync {
			if err := l.syncNow(); err != nil {
				l.fail(err)
				return false
			}
		}
		if len(c.queue) > 0 {
			return true
		}
		if !sync {
			return false
		}
	}
}

// syncNow makes everything written so far safe.
func (l *Log) syncNow() error {
	c := &l.committer
	if c.synced < c.pos() {
		if err := c.file.Sync(); err != nil {
			return err
		}
	}
	l.setSynced(c.pos())
	return nil
}

func (l *Log) setSynced(pos wal.Pos) {
	l.committer.synced = pos
	l.mu.Lock()
	l.noteSynced()
	l.mu.Unlock()
}

// noteSynced tells the others how far the log is synced. Called with mu held.
func (l *Log) noteSynced() {
	l.synced = l.committer.synced
	if l.reclaimAt != 0 && l.synced >= l.reclaimAt {
		l.reclaim, l.reclaimAt = true, 0
		l.keep.Signal()
	}
	l.idle.Broadcast()
}

// commitFrame writes one frame with as many batches of the queue as go into
// it, or refuses batches for which there is no space.
func (l *Log) commitFrame() error {
	c := &l.committer
	c.frame, c.bytes = c.frame[:0], 0
	for c.head < len(c.queue) {
		it := c.queue[c.head]
		n := len(it.batch.Data)
		if c.bytes > 0 && c.bytes+n > frameBytes {
			break
		}
		if !l.fits(c.bytes+n, it.batch.Essential) {
			if c.bytes > 0 {
				break
			}
			err := l.nextSegment(n, it.batch.Essential)
			if errors.Is(err, journal.ErrDiskFull) {
				it.batch.Base, it.batch.Err = 0, journal.ErrDiskFull
				l.activity.Add(int64(n)) // so that a compaction is tried in the end
				c.frame = append(c.frame, it)
				c.head++
				continue
			}
			if err != nil {
				return err
			}
			continue
		}
		it.batch.Err = nil
		c.frame = append(c.frame, it)
		c.bytes += n
		c.head++
	}
	if c.bytes > 0 {
		if err := l.writeFrame(); err != nil {
			return err
		}
	}
	l.deliver()
	return nil
}

// fits reports whether records of so many bytes may go into this segment.
// While no further one can be made, half of it is left to essential batches.
func (l *Log) fits(records int, essential bool) bool {
	c := &l.committer
	room := c.size - tailBytes
	if !essential && c.off+wal.FrameSize(records) > c.size/2 && l.scarceNow() {
		room = c.size / 2
	}
	return c.off+wal.FrameSize(records) <= room
}

// writeFrame writes the chosen batches and, where Sync says so, waits for the disk.
func (l *Log) writeFrame() error {
	c := &l.committer
	total := int(wal.FrameSize(c.bytes))
	buf := l.room(total)
	at := wal.FrameBytes
	for _, it := range c.frame {
		b := it.batch
		if b.Err != nil {
			continue
		}
		pos := c.pos() + wal.Pos(at)
		n := copy(buf[at:], b.Data)
		if err := c.stamp(it, buf[at:at+n], pos); err != nil {
			return err
		}
		b.Base = journal.Ref(pos)
		at += n
	}
	c.framer.Finish(buf, wal.Records, c.bytes, c.pos(), c.synced)
	if err := l.write(buf); err != nil {
		return err
	}
	c.wpos += total
	l.cache.extend(c.window, total)
	l.activity.Add(int64(total))
	if c.off > c.size/4 && c.off-int64(total) <= c.size/4 {
		l.poke(func() { l.spareWant = true })
	}
	return nil
}

// stamp fills in the headers of a batch's records.
func (c *committer) stamp(it item, records []byte, pos wal.Pos) error {
	if it.shard != nil && it.batch.Parts == nil {
		return c.framer.Stamp(records, pos, it.shard.number)
	}
	from := 0
	for _, p := range it.batch.Parts {
		number := uint8(nobody)
		if p.Shard != journal.Nobody {
			number = uint8(p.Shard)
		}
		if p.Mark {
			number |= markBit
		}
		if err := c.framer.Stamp(records[from:p.End], pos+wal.Pos(from), number); err != nil {
			return err
		}
		from = p.End
	}
	if from != len(records) {
		return errors.New("filejournal: the parts of a batch are not all of it")
	}
	return nil
}

// write writes a frame where it belongs.
func (l *Log) write(frame []byte) error {
	c := &l.committer
	if _, err := c.file.WriteAt(frame, c.off); err != nil {
		return err
	}
	if l.opt.Sync {
		if err := c.file.Sync(); err != nil {
			return err
		}
	}
	c.closed = false
	c.off += int64(len(frame))
	c.seg.used.Store(c.off)
	l.halfFull.Store(c.off > c.size/2)
	if l.opt.Sync {
		c.synced = c.pos()
	}
	l.durable.Store(uint64(c.pos()))
	return nil
}

// room is n bytes of memory for the next frame, at the end of the cache.
func (l *Log) room(n int) []byte {
	c := &l.committer
	if w := c.window; w == nil || w.start+wal.Pos(c.wpos) != c.pos() || len(w.data)-c.wpos < n {
		c.window, c.wpos = &window{start: c.pos(), data: make([]byte, max(n, min(windowBytes, int(l.opt.SegmentBytes))))}, 0
		l.cache.add(c.window)
	}
	return c.window.data[c.wpos : c.wpos+n]
}

// deliver hands the batches of the frame back to their shards.
func (l *Log) deliver() {
	c := &l.committer
	for _, it := range c.frame {
		if it.batch.Err == nil && len(it.batch.Data) == 0 {
			it.batch.Base = journal.Ref(c.pos())
		}
		if it.shard != nil {
			c.handBack(it.shard, it.batch)
			continue
		}
		for _, p := range it.batch.Parts {
			if p.Shard != journal.Nobody {
				c.handBack(l.shards[p.Shard], it.batch)
			}
		}
	}
	// Only now: a shard that sees this position has been handed all before it.
	l.committed.Store(uint64(c.pos()))
	l.mu.Lock()
	l.answered += uint64(len(c.frame))
	l.noteSynced()
	l.mu.Unlock()
	l.lends.Store(len(c.frame) <= fewBatches && c.head == len(c.queue))
	clear(c.frame)
	for _, s := range c.touched {
		s.touched = false
		s.callKept()
	}
	c.touched = c.touched[:0]
	l.lends.Store(false)
	l.wishIfDue()
}

// fewBatches is up to how many batches in a frame the committer has time for those who wait for it.
const fewBatches = 4

// Lends reports whether the committer, when it says that something is kept, has nothing to write meanwhile: what is called then may take its time.
func (l *Log) Lends() bool {
	if !l.lends.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending) == 0 && !l.syncWanted && !l.closing
}

func (c *committer) handBack(s *Shard, b *journal.Batch) {
	s.mu.Lock()
	s.done = append(s.done, b)
	s.mu.Unlock()
	if !s.touched {
		s.touched = true
		c.touched = append(c.touched, s)
	}
}

// nextSegment seals the segment and begins the next one, in which a batch of n
// bytes has room. ErrDiskFull leaves everything as it is.
func (l *Log) nextSegment(n int, essential bool) error {
	c := &l.committer
	size := wal.PageBytes + wal.FrameSize(n) + tailBytes
	if size > wal.MaxSegmentBytes {
		return errors.New("filejournal: a batch is larger than a segment can be")
	}
	k, err := l.spareFor(size, essential)
	if err != nil {
		return err
	}
	// Made first, sealed then: so that a seal promises that there is more.
	number := c.seg.number + 1
	file, fileSize, err := l.wal.Adopt(k, number)
	if err != nil {
		return err
	}
	if err := l.writeTail(wal.Seal); err != nil {
		return errors.Join(err, file.Close())
	}
	c.seg.sealed.Store(true)
	if err := c.file.Close(); err != nil {
		return errors.Join(err, file.Close())
	}
	c.file, c.size, c.off = file, fileSize, wal.PageBytes
	c.seg = &segment{number: number, size: fileSize}
	c.seg.used.Store(c.off)
	l.halfFull.Store(false)
	l.segs.add(c.seg)
	l.setSynced(c.pos())
	l.poke(func() { l.spareWant = true })
	return nil
}

// writeClose says that the log ends here by intent: from now on a bit that
// changes anywhere before is damage, not a frame that was being written.
func (l *Log) writeClose() error {
	c := &l.committer
	if c.closed || c.size-c.off < tailBytes {
		return l.syncNow()
	}
	return l.writeTail(wal.Close)
}

// writeTail writes a frame that says how the segment ends. Everything before it
// is on the disk when it is written, and it itself when this returns, whether
// or not commits wait for that.
func (l *Log) writeTail(kind wal.Kind) error {
	c := &l.committer
	if err := l.syncNow(); err != nil {
		return err
	}
	frame := make([]byte, wal.FrameBytes)
	c.framer.Finish(frame, kind, 0, c.pos(), c.synced)
	if _, err := c.file.WriteAt(frame, c.off); err != nil {
		return err
	}
	if err := c.file.Sync(); err != nil {
		return err
	}
	c.off += wal.FrameBytes
	c.seg.used.Store(c.off)
	l.setSynced(c.pos())
	return nil
}

// isFull reports whether an error says that the space, or the quota, is used up.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
