package filejournal

import (
	"errors"
	"fmt"
	"io"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/internal/wal"
)

var errNoRecord = errors.New("no record of this shard is there")

// Read implements journal.Journal.
func (s *Shard) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	base := len(into)
	s.misses = s.misses[:0]
	c := &s.log.cache
	c.mu.Lock()
	for i, ref := range refs {
		data := c.find(wal.Pos(ref))
		if data == nil {
			s.misses = append(s.misses, i)
			into = append(into, nil)
			continue
		}
		if len(data) < wal.RecordBytes || data[8] != s.number && data[8] != nobody || wal.RecordSize(data) > int64(len(data)) {
			c.mu.Unlock()
			return into[:base], s.readError(ref, errNoRecord)
		}
		n := wal.RecordSize(data)
		into = append(into, data[wal.RecordBytes:n:n])
	}
	c.mu.Unlock()
	for _, i := range s.misses {
		payload, err := s.readDisk(wal.Pos(refs[i]), len(s.misses) > 1)
		if err != nil {
			return into[:base], s.readError(refs[i], err)
		}
		into[base+i] = payload
	}
	return into, nil
}

// readError names the place. What is not the reading's failure is damage.
func (s *Shard) readError(ref journal.Ref, err error) error {
	name := s.log.wal.Name(ref.Segment())
	if failed := (*readFailure)(nil); errors.As(err, &failed) {
		return fmt.Errorf("%s: reading the record at offset %d: %w", name, ref.Offset(), failed.err)
	}
	return &wal.Damage{File: name, Offset: int64(ref.Offset()), Why: err.Error()}
}

// readFailure is an error of the file system's.
type readFailure struct{ err error }

func (f *readFailure) Error() string { return f.err.Error() }

// readDisk reads and checks one record. The bytes around it are kept: what is
// read next is likely to be among them.
func (s *Shard) readDisk(pos wal.Pos, several bool) ([]byte, error) {
	record, err := s.bytes(pos, wal.RecordBytes, several)
	if err != nil {
		return nil, err
	}
	if n := wal.RecordSize(record); n > int64(len(record)) {
		if record, err = s.bytes(pos, n, several); err != nil {
			return nil, err
		}
	}
	payload, shard, _, err := s.framer.Check(record, pos)
	if err == nil && shard != s.number && shard != nobody {
		err = errNoRecord
	}
	return payload, err
}

// bytes are those from pos on, at least n of them.
func (s *Shard) bytes(pos wal.Pos, n int64, several bool) ([]byte, error) {
	end := s.chunkPos + wal.Pos(len(s.chunk))
	if pos >= s.chunkPos && pos+wal.Pos(n) <= end {
		return s.chunk[pos-s.chunkPos:], nil
	}
	g := s.log.segs.find(pos.Segment())
	if g == nil {
		return nil, errors.New("the segment is not there")
	}
	// Only what is committed may be kept: what follows is yet to be written.
	limit := g.used.Load()
	if d := wal.Pos(s.log.durable.Load()); d.Segment() == g.number {
		limit = d.Offset()
	}
	if pos.Offset()+n > limit {
		return nil, fmt.Errorf("%d bytes from here go beyond the log's end at %d", n, limit)
	}
	want := int64(readOnce)
	if several || pos >= s.chunkPos && pos <= end+readAhead {
		want = readAhead
	}
	want = min(max(n, min(want, s.log.opt.SegmentBytes/8)), limit-pos.Offset())
	if err := s.openFile(g); err != nil {
		return nil, &readFailure{err}
	}
	// Not into the old chunk: payloads in it may still be held.
	chunk := s.room(int(want))
	got, err := s.file.ReadAt(chunk, pos.Offset())
	if err != nil && err != io.EOF {
		return nil, &readFailure{err}
	}
	if int64(got) < n {
		return nil, errors.New("the file ends here")
	}
	s.chunk, s.chunkPos = chunk[:got], pos
	return s.chunk, nil
}

// openFile keeps one file open: reading goes through a segment before the next.
func (s *Shard) openFile(g *segment) error {
	if s.fileSeg == g {
		return nil
	}
	if err := s.closeFile(); err != nil {
		return err
	}
	file, err := s.log.fs.Open(s.log.wal.Name(g.number))
	if err != nil {
		return err
	}
	s.file, s.fileSeg = file, g
	return nil
}

// room is n bytes to read into.
func (s *Shard) room(n int) []byte {
	if !s.lends {
		return make([]byte, n)
	}
	b := spare.Get(n)[:n]
	s.lent = append(s.lent, b)
	return b
}
