package filejournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// What another node needs of this one's log to have the same state: the newest snapshot, and the records that it refers to. They stay
// where they are while a pin holds. All of it but Behind is called by one goroutine for each replica, which need not be the owner's or the host's.

// A pin keeps segments from being given back.
type pin struct {
	before uint32 // those with a lower number
}

// Pin keeps the segments that are there now from being given back, until release is called; or until there is no space for what this
// node has to write, which held tells. Who has read something asks held afterwards.
func (r *Replica) Pin() (held func() bool, release func()) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.giving { // by what was right before
		l.idle.Wait()
	}
	p := &pin{before: wal.Pos(l.durable.Load()).Segment() + 1}
	if l.pins == nil {
		l.pins = map[*pin]struct{}{}
	}
	l.pins[p] = struct{}{}
	held = func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, ok := l.pins[p]
		return ok
	}
	return held, func() {
		r.images.giveBack()
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.pins[p]; ok {
			delete(l.pins, p)
			l.reclaim = true
			l.keep.Signal()
		}
	}
}

// pinned is the number of the first segment that no pin keeps. Where there is no space the pins are taken away: this node goes before others.
func (l *Log) pinned() (number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.scarce.Load() {
		clear(l.pins)
	}
	for p := range l.pins {
		number = max(number, p.before)
	}
	return number
}

// Since is about how many bytes of the log lie behind a place.
func (r *Replica) Since(ref journal.Ref) int64 {
	end := wal.Pos(r.log.durable.Load())
	return int64(end.Segment()-ref.Segment())*r.log.opt.SegmentBytes + end.Offset() - int64(ref.Offset())
}

// Behind says that the owner's state refers to what is not there, and to no more of it than what later batches release.
func (r *Replica) Behind() { r.behind = true }

// Here reports whether the log has the segment of a record. It is the owner's.
func (r *Replica) Here(ref journal.Ref) bool {
	if number := ref.Segment(); r.last == nil || r.last.number != number || r.last.gone.Load() {
		r.last = r.log.segs.find(number)
	}
	return r.last != nil
}

// Records reads records of this shard, or nobody's; nil for those whose segment is not there. They are valid until the next call.
func (r *Replica) Records(refs []journal.Ref) ([][]byte, error) {
	s := &r.images
	if g := s.fileSeg; g != nil && g.gone.Load() {
		_ = s.closeFile() // nothing was written through it
	}
	s.giveBack()
	r.there = r.there[:0]
	for _, ref := range refs {
		if s.log.segs.find(ref.Segment()) != nil {
			r.there = append(r.there, ref)
		}
	}
	var err error
	if r.out, err = s.Read(r.there, r.out[:0]); err != nil || len(r.there) == len(refs) {
		return r.out, err
	}
	out := make([][]byte, len(refs))
	for i, k := 0, 0; i < len(refs) && k < len(r.there); i++ {
		if refs[i] == r.there[k] {
			out[i] = r.out[k]
			k++
		}
	}
	return out, nil
}

// giveBack gives up what was read before, but for the last chunk, which is likely to have what is read next.
func (s *Shard) giveBack() {
	for _, b := range s.lent {
		if cap(s.chunk) == 0 || &b[0] != &s.chunk[:1][0] {
			spare.Put(b)
		}
	}
	s.lent = s.lent[:0]
	if cap(s.chunk) > 0 {
		s.lent = append(s.lent, s.chunk)
	}
}

// A stored snapshot is open to be read. It stays readable when a newer one takes its place.
type stored struct {
	head []byte
	size int64  // of the state
	sum  uint32 // crc32c of the state
	file vfs.File
	from int64
}

func (s *stored) readAt(b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > s.size {
		return fmt.Errorf("filejournal: %d bytes at %d of a snapshot of %d", len(b), off, s.size)
	}
	n, err := s.file.ReadAt(b, s.from+off)
	if n < len(b) {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	return nil
}

func (s *stored) close() { _ = s.file.Close() } // it was only read

// Newest opens the shard's newest snapshot, and checks all of it.
func (r *Replica) Newest() (journal.Stored, error) {
	for {
		name := r.newest.Load()
		if name == nil {
			return journal.Stored{}, fs.ErrNotExist
		}
		s, err := r.openSnapshot(*name)
		if err == nil {
			return journal.Stored{Head: s.head, Size: s.size, Sum: s.sum, ReadAt: s.readAt, Close: s.close}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || r.newest.Load() == name {
			return journal.Stored{}, err
		}
	}
}

func (r *Replica) openSnapshot(name string) (s *stored, err error) {
	file, err := r.log.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // it was only read
		}
	}()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	damage := func(why string) error { return &wal.Damage{File: name, Why: why} }
	if size < snapHeader+4 {
		return nil, damage("the file is cut short")
	}
	first := make([]byte, snapHeader)
	if n, err := file.ReadAt(first, 0); n < len(first) {
		return nil, err
	}
	// The fields count when the whole file's checksum is right; until then they only must not lead astray.
	headLen := int64(binary.LittleEndian.Uint64(first[32:]))
	if headLen < 0 || headLen > size-snapHeader-4 {
		return nil, damage("the header is wrong")
	}
	s = &stored{head: make([]byte, headLen), file: file, from: snapHeader + headLen, size: size - snapHeader - headLen - 4}
	if n, err := file.ReadAt(s.head, snapHeader); int64(n) < headLen {
		return nil, err
	}
	all := crc32.Update(crc32.Checksum(first, castagnoli), castagnoli, s.head)
	for off, b := int64(0), make([]byte, copyBytes); off < s.size; off += int64(len(b)) {
		b = b[:min(s.size-off, copyBytes)]
		if err := s.readAt(b, off); err != nil {
			return nil, err
		}
		all, s.sum = crc32.Update(all, castagnoli, b), crc32.Update(s.sum, castagnoli, b)
	}
	last := make([]byte, 4)
	if n, err := file.ReadAt(last, size-4); n < len(last) {
		return nil, err
	}
	if all != binary.LittleEndian.Uint32(last) {
		return nil, damage("the checksum is wrong")
	}
	return s, nil
}
