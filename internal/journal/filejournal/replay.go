package filejournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

const (
	// gapBytes is read, rather than skipped, between two runs.
	gapBytes = 4 << 10
	// replayBytes is read at a time.
	replayBytes = 1 << 20
)

// runs is where the records of one shard lie in one segment: so each shard
// reads its own, not all of the log. It is kept from Open to Replay.
type runs struct {
	data     []byte // pairs of uvarints: the gap before a run, its length
	end      int64  // of the last run in data
	from, to int64  // a run that may get longer
}

// add notes the record that lies there.
func (r *runs) add(from, to int64) {
	if from != r.to {
		r.flush()
		r.from = from
	}
	r.to = to
}

func (r *runs) flush() {
	if r.to > r.from {
		r.data = binary.AppendUvarint(r.data, uint64(r.from-r.end))
		r.data = binary.AppendUvarint(r.data, uint64(r.to-r.from))
		r.end, r.from = r.to, r.to
	}
}

// run is the records from one offset to another.
type run struct{ from, to int64 }

// next takes runs off the list that are read together.
func (r *runs) next(into []run) []run {
	for len(r.data) > 0 {
		gap, n := binary.Uvarint(r.data)
		length, m := binary.Uvarint(r.data[n:])
		from := r.end + int64(gap)
		if k := len(into); k > 0 && (gap > gapBytes || from+int64(length)-into[0].from > replayBytes) {
			break
		}
		r.data = r.data[n+m:]
		r.end = from + int64(length)
		into = append(into, run{from, r.end})
	}
	return into
}

// note adds a frame's records to the runs of its segment.
func (l *Log) note(seg *segment, f wal.Frame) error {
	if f.Pos.Offset() == wal.PageBytes && l.indexed < l.opt.indexBytes {
		seg.runs = make([]runs, len(l.shards))
	}
	base := f.At().Offset()
	for at := int64(0); at < int64(len(f.Data)); {
		shard, n := f.Data[at+8], wal.RecordSize(f.Data[at:])
		if shard == nobody {
			at += n
			continue
		}
		shard, _ = owner(shard)
		if int(shard) >= len(l.shards) {
			return &wal.Damage{File: l.wal.Name(seg.number), Offset: base + at, Why: fmt.Sprintf("a record of shard %d, of %d", shard, len(l.shards))}
		}
		seg.shards[shard/64] |= 1 << (shard % 64)
		if seg.runs != nil {
			seg.runs[shard].add(base+at, base+at+n)
		}
		at += n
	}
	return nil
}

// noted ends the runs of a segment.
func (l *Log) noted(seg *segment) {
	for i := range seg.runs {
		r := &seg.runs[i]
		r.flush()
		r.end = 0
		l.indexed += int64(len(r.data))
	}
}

// Replay implements journal.Journal.
func (s *Shard) Replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	return s.replay(func(head, data []byte) error {
		if len(head) > 0 {
			return fmt.Errorf("%s: %w", s.snapFile, errReplica)
		}
		return snapshot(data)
	}, func(ref journal.Ref, mark bool, payload []byte) error {
		if mark {
			return fmt.Errorf("%s, offset %d: %w", s.log.wal.Name(ref.Segment()), ref.Offset(), errReplica)
		}
		return record(ref, payload)
	})
}

// replay is Replay for one who knows what marks mean, too.
func (s *Shard) replay(snapshot func(head, data []byte) error, record func(ref journal.Ref, mark bool, payload []byte) error) error {
	l := s.log
	if s.snapFile != "" {
		snap, err := readSnapshot(l.fs, s.snapFile, l.wal.ID)
		if err == nil {
			err = snapshot(snap.head, snap.data)
		}
		if err != nil {
			return err
		}
	}
	end := wal.MakePos(l.found.Segment, l.found.End)
	segs := l.segs.sorted(func(g *segment) bool {
		return g.number >= s.snapPos.Segment() && g.number <= end.Segment() && g.shards[s.number/64]&(1<<(s.number%64)) != 0
	})
	var buf []byte // of what is read at a time
	for _, g := range segs {
		file, h, err := l.wal.Open(g.number, false)
		if err != nil {
			return err
		}
		if g.runs != nil {
			buf, err = s.replayRuns(g, file, buf, record)
		} else {
			last := g.used.Load()
			if g.number == end.Segment() {
				last = end.Offset()
			}
			err = s.skim(g, wal.NewReader(l.wal.Name(g.number), file, h), last, record)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	s.pos = end
	return nil
}

// replayRuns replays a segment of which is known where the shard's records lie. It reads into buf, or what it returns.
func (s *Shard) replayRuns(g *segment, file vfs.File, buf []byte, record func(journal.Ref, bool, []byte) error) ([]byte, error) {
	r := g.runs[s.number]
	g.runs[s.number] = runs{}
	var together []run
	for {
		if together = r.next(together[:0]); len(together) == 0 {
			return buf, nil
		}
		from, to := together[0].from, together[len(together)-1].to
		if int64(cap(buf)) < to-from {
			buf = make([]byte, max(to-from, min(replayBytes, g.size)))
		}
		buf = buf[:to-from]
		if n, err := file.ReadAt(buf, from); n < len(buf) {
			if err == io.EOF {
				err = &wal.Damage{File: s.log.wal.Name(g.number), Offset: from, Why: "the file has become shorter"}
			}
			return buf, err
		}
		for _, one := range together {
			if err := s.replayRecords(wal.MakePos(g.number, one.from), buf[one.from-from:one.to-from], record); err != nil {
				return buf, err
			}
		}
	}
}

// skim replays a segment by going through all shards' records.
func (s *Shard) skim(g *segment, r *wal.Reader, last int64, record func(journal.Ref, bool, []byte) error) error {
	return r.Skim(wal.PageBytes, last, func(f wal.Frame) error {
		for at := int64(0); at < int64(len(f.Data)); {
			rest, n := int64(len(f.Data))-at, int64(wal.RecordBytes)
			if rest >= n {
				n = wal.RecordSize(f.Data[at:])
			}
			if n > rest {
				return &wal.Damage{File: s.log.wal.Name(g.number), Offset: f.At().Offset() + at, Why: "it has changed since it was scanned"}
			}
			if shard, _ := owner(f.Data[at+8]); shard == s.number {
				if err := s.replayRecords(f.At()+wal.Pos(at), f.Data[at:at+n], record); err != nil {
					return err
				}
			}
			at += n
		}
		return nil
	})
}

// replayRecords replays records of this shard that lie one after another.
func (s *Shard) replayRecords(pos wal.Pos, data []byte, record func(journal.Ref, bool, []byte) error) error {
	for at := 0; at < len(data); {
		payload, number, n, err := s.framer.Check(data[at:], pos+wal.Pos(at))
		shard, mark := owner(number)
		if err == nil && shard != s.number {
			err = errNoRecord
		}
		if err != nil {
			p := pos + wal.Pos(at)
			return &wal.Damage{File: s.log.wal.Name(p.Segment()), Offset: p.Offset(), Why: err.Error()}
		}
		if pos+wal.Pos(at) >= s.snapPos {
			if err := record(journal.Ref(pos)+journal.Ref(at), mark, payload); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}
