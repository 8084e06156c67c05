package filejournal

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// Report is what Check found.
type Report struct {
	Shards    int
	Segments  int
	Frames    int
	Records   int
	Bytes     int64 // of the records' payloads
	Snapshots int

	// Torn is how many bytes at the log's end were being written when the
	// machine stopped. That is no damage: nobody was told that they are kept.
	Torn       int64
	TornFile   string
	TornOffset int64

	// Damage is every place found damaged, in the order of the files, the
	// first of each file.
	Damage []*wal.Damage
}

// Check verifies every frame, record and snapshot, and changes nothing. Damage
// is in the report; the error is for what could not be looked at.
func Check(fsys vfs.FS, dir string) (Report, error) {
	return inspect(fsys, dir, nil)
}

// Dump calls fn for every record that the log holds, garbage too, in order. It
// stops at the first damage, which is then its error. The payload is valid
// during the call.
func Dump(fsys vfs.FS, dir string, fn func(ref journal.Ref, shard uint8, payload []byte) error) error {
	report, err := inspect(fsys, dir, fn)
	if err == nil && len(report.Damage) > 0 {
		err = report.Damage[0]
	}
	return err
}

// inspector walks a closed log. Where fn is set, damage ends the walk.
type inspector struct {
	fs     vfs.FS
	dir    string
	wal    wal.Dir
	fn     func(journal.Ref, uint8, []byte) error
	report Report
	newest map[uint8]wal.Pos // each shard's newest snapshot
	unborn bool              // the last segment was never used
	framer wal.Framer
}

func inspect(fsys vfs.FS, dir string, fn func(journal.Ref, uint8, []byte) error) (report Report, err error) {
	in := &inspector{fs: fsys, dir: dir, fn: fn, newest: map[uint8]wal.Pos{}}
	id, err := readIdentity(fsys, dir)
	if err = in.note(err); err != nil || len(in.report.Damage) > 0 {
		return in.report, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return in.report, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	in.wal = wal.Dir{FS: fsys, Path: filepath.Join(dir, "wal"), ID: id.id}
	in.report.Shards = id.shards
	if err := in.snapshots(); err != nil {
		return in.report, err
	}
	return in.report, in.segments()
}

// note puts damage into the report and lets other errors through.
func (in *inspector) note(err error) error {
	if d := (*wal.Damage)(nil); errors.As(err, &d) {
		in.report.Damage = append(in.report.Damage, d)
		return nil
	}
	return err
}

func (in *inspector) stop() bool { return in.fn != nil && len(in.report.Damage) > 0 }

func (in *inspector) snapshots() error {
	names, err := in.fs.ReadDir(filepath.Join(in.dir, "snap"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, snapSuffix) {
			continue
		}
		file := filepath.Join(in.dir, "snap", name)
		shard, pos, ok := parseSnapName(name)
		if !ok || int(shard) >= in.report.Shards {
			err = &wal.Damage{File: file, Why: "not a snapshot's name"}
		} else {
			_, err = readSnapshot(in.fs, file, in.wal.ID)
			in.newest[shard] = max(in.newest[shard], pos)
		}
		if err := in.note(err); err != nil {
			return err
		}
		in.report.Snapshots++
	}
	return nil
}

func (in *inspector) segments() error {
	numbers, _, _, err := in.wal.List()
	if err != nil {
		return err
	}
	// Before the segment that the oldest snapshot leaves to replay, dead ones
	// are missing by right.
	needed, newest := wal.Pos(1<<63), wal.Pos(0)
	for i := range in.report.Shards {
		needed = min(needed, in.newest[uint8(i)])
		newest = max(newest, in.newest[uint8(i)])
	}
	next := max(needed.Segment(), 1)
	if len(numbers) == 0 || numbers[len(numbers)-1] < next {
		return in.note(&wal.Damage{File: in.wal.Name(next), Why: "the file is missing"})
	}
	for i, n := range numbers {
		if in.stop() {
			return nil
		}
		if n > next {
			if err := in.note(&wal.Damage{File: in.wal.Name(next), Why: "the file is missing"}); err != nil {
				return err
			}
		}
		if n >= next {
			next = n + 1
		}
		if err := in.segment(n, numbers[i+1:], newest); err != nil {
			return err
		}
	}
	return nil
}

func (in *inspector) segment(n uint32, after []uint32, newest wal.Pos) error {
	r := &in.report
	r.Segments++
	found, err := wal.Examine(in.wal, n, after, false, func(f wal.Frame) error {
		r.Frames++
		return in.frame(f)
	})
	if err == nil && (len(after) == 0 && !in.unborn || found.Unborn != 0) && wal.MakePos(n, found.End) < newest {
		err = &wal.Damage{File: in.wal.Name(n), Offset: found.End, Why: "the log ends here, before a snapshot that was written later"}
	}
	in.unborn = in.unborn || found.Unborn != 0
	if found.Cut > 0 && err == nil {
		r.Torn, r.TornFile, r.TornOffset = found.Cut, found.CutFile, found.End
	}
	return in.note(err)
}

func (in *inspector) frame(f wal.Frame) error {
	for at := 0; at < len(f.Data); {
		pos := f.At() + wal.Pos(at)
		payload, shard, n, err := in.framer.Check(f.Data[at:], pos)
		if err != nil {
			return err
		}
		if int(shard) >= in.report.Shards && shard != nobody {
			return &wal.Damage{File: in.wal.Name(pos.Segment()), Offset: pos.Offset(), Why: "a record of a shard that is not there"}
		}
		in.report.Records++
		in.report.Bytes += int64(len(payload))
		if in.fn != nil {
			if err := in.fn(journal.Ref(pos), shard, payload); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}
