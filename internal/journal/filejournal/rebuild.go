package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

const (
	// maxPlan is more than any plan has bytes.
	maxPlan = 256 << 20
	// rebuiltBytes is where a frame of records written anew is full.
	rebuiltBytes = 1 << 20
	// stagedSuffix ends the names of files that become part of the directory when all of them are there.
	stagedSuffix = ".repair"
)

// A move is what becomes of a file. The names are relative to the directory.
type move struct{ from, to string }

// rebuild makes the directory what settle has found. What is new is written under names that mean nothing to a
// server; then the plan of what is to be renamed, which stands for the rest: whoever finds it carries it out.
func (r *repairer) rebuild() (err error) {
	moves, err := r.setAside()
	if err != nil {
		return err
	}
	var staged []move
	w := &rewriter{fs: r.fs, dir: r.dir, wal: r.wal, number: r.highest + 1, size: r.opt.SegmentBytes}
	defer func() {
		if err != nil && unfinished(r.fs, r.dir) == nil {
			for _, m := range append(staged, w.staged...) { // they mean nothing, so it is of no matter whether this succeeds
				_ = r.fs.Remove(filepath.Join(r.dir, m.from))
			}
		}
	}()
	start := wal.MakePos(w.number, wal.PageBytes)
	err = w.begin(0)
	for _, s := range r.shards {
		if err == nil {
			err = r.renewShard(w, s)
		}
		if err == nil {
			name := filepath.Join("snap", snapName(s.number, start))
			staged = append(staged, move{name + stagedSuffix, name})
			snap := &snapshot{id: r.wal.ID, shard: s.number, pos: start, data: s.snapshot}
			head, tail := snap.encode()
			err = vfs.WriteFileAtomic(r.fs, filepath.Join(r.dir, name+stagedSuffix), head, snap.data, tail)
		}
	}
	err = errors.Join(err, w.end(), r.closeFiles())
	if r.renew && err == nil {
		staged = append(staged, move{"VERSION" + stagedSuffix, "VERSION"})
		err = vfs.WriteFileAtomic(r.fs, versionFile(r.dir)+stagedSuffix, r.id.text())
	}
	if err != nil {
		return err
	}
	if err := r.fs.SyncDir(r.wal.Path); err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(r.fs, unfinishedFile(r.dir), planText(slices.Concat(moves, staged, w.staged))); err != nil {
		return err
	}
	_, err = finishRepair(r.fs, r.dir, true)
	return err
}

// setAside makes the directory for what is moved, and says what that is.
func (r *repairer) setAside() (moves []move, err error) {
	aside := r.opt.Aside
	if _, err := r.fs.ReadDir(filepath.Join(r.dir, aside)); err == nil {
		return nil, fmt.Errorf("%s: it is there already", filepath.Join(r.dir, aside))
	}
	for _, sub := range []string{"wal", "snap"} {
		err := r.fs.MkdirAll(filepath.Join(r.dir, aside, sub))
		if err == nil {
			err = r.fs.MkdirAll(filepath.Join(r.dir, sub)) // one that was removed
		}
		if err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{r.dir, filepath.Join(r.dir, aside)} {
		if err := r.fs.SyncDir(dir); err != nil {
			return nil, err
		}
	}
	out := func(file string) error {
		from, err := filepath.Rel(r.dir, file)
		if err != nil {
			return err
		}
		to := filepath.Join(aside, from)
		moves = append(moves, move{from, to})
		r.out.Moved = append(r.out.Moved, to)
		return nil
	}
	files := slices.Clone(r.strays)
	for _, n := range r.numbers {
		if r.segs[n].aside {
			files = append(files, r.wal.Name(n))
		}
	}
	for _, s := range r.snaps {
		files = append(files, s.file)
	}
	for _, file := range files {
		if err := out(file); err != nil {
			return nil, err
		}
	}
	// So that the commands that look at a journal can look at what was moved.
	version := versionFile(filepath.Join(r.dir, aside))
	if err := vfs.WriteFileAtomic(r.fs, version, r.id.text()); err != nil || !r.renew {
		return moves, err
	}
	old, err := vfs.ReadFile(r.wal.FS, versionFile(r.dir), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return moves, nil
	}
	if err == nil {
		err = vfs.WriteFileAtomic(r.fs, version+".damaged", old)
	}
	return moves, err
}

// renewShard writes what lets a shard's state, which the new snapshot holds, do without what is moved.
func (r *repairer) renewShard(w *rewriter, s *mending) error {
	var records []byte
	for _, k := range s.kept {
		payload, err := r.read(k)
		start := len(records)
		records = journal.BeginRecord(records)
		if _, lost := errors.AsType[*wal.Damage](err); lost {
			records, err = s.Drop(records, k), nil
		} else if err == nil {
			records, err = s.Move(records, k, payload)
		}
		if err != nil {
			return err
		}
		journal.EndRecord(records, start)
		if len(records) >= rebuiltBytes {
			if err := w.add(s.number, records); err != nil {
				return err
			}
			records = records[:0]
		}
	}
	if len(records) == 0 {
		return nil
	}
	return w.add(s.number, records)
}

// rewriter writes frames into new segments, whose names are not theirs yet.
type rewriter struct {
	fs     vfs.FS
	dir    string
	wal    wal.Dir
	number uint32 // of the segment being written
	size   int64
	file   vfs.File
	off    int64
	room   int64 // size of this segment
	framer wal.Framer
	staged []move
}

// begin begins a segment in which need bytes have room.
func (w *rewriter) begin(need int64) error {
	name := filepath.Join("wal", filepath.Base(w.wal.Name(w.number)))
	w.staged = append(w.staged, move{name + stagedSuffix, name})
	w.room = max(w.size, (wal.PageBytes+need+tailBytes+4095)&^4095)
	if w.room > wal.MaxSegmentBytes {
		return errors.New("filejournal: a record is larger than a segment can be")
	}
	var err error
	if w.file, err = w.fs.Create(filepath.Join(w.dir, name+stagedSuffix)); err != nil {
		return err
	}
	err = w.file.Allocate(w.room)
	zeros := make([]byte, min(w.room, replayBytes))
	for at := int64(0); at < w.room && err == nil; at += int64(len(zeros)) {
		_, err = w.file.WriteAt(zeros[:min(int64(len(zeros)), w.room-at)], at)
	}
	if err == nil {
		_, err = w.file.WriteAt(wal.SegmentHeader{Number: w.number, ID: w.wal.ID, Size: w.room}.Append(nil), 0)
	}
	w.off = wal.PageBytes
	return err
}

func (w *rewriter) pos() wal.Pos { return wal.MakePos(w.number, w.off) }

// add writes records of one shard, all in one frame.
func (w *rewriter) add(shard uint8, records []byte) error {
	size := wal.FrameSize(len(records))
	if w.off+size > w.room-tailBytes {
		if err := w.frame(wal.Seal, 0, nil); err != nil {
			return err
		}
		if err := w.close(); err != nil {
			return err
		}
		w.number++
		if err := w.begin(size); err != nil {
			return err
		}
	}
	return w.frame(wal.Records, shard, records)
}

// frame writes a frame. That all before is synced is true of none of them yet, and of all when the plan is written.
func (w *rewriter) frame(kind wal.Kind, shard uint8, records []byte) error {
	buf := make([]byte, wal.FrameSize(len(records)))
	copy(buf[wal.FrameBytes:], records)
	if err := w.framer.Stamp(buf[wal.FrameBytes:wal.FrameBytes+len(records)], w.pos()+wal.FrameBytes, shard); err != nil {
		return err
	}
	w.framer.Finish(buf, kind, len(records), w.pos(), w.pos())
	if _, err := w.file.WriteAt(buf, w.off); err != nil {
		return err
	}
	w.off += int64(len(buf))
	return nil
}

func (w *rewriter) close() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.file.Sync(), w.file.Close())
	w.file = nil
	return err
}

// end ends the last segment as a server that is stopped does.
func (w *rewriter) end() error {
	if w.file == nil {
		return nil
	}
	return errors.Join(w.frame(wal.Close, 0, nil), w.close())
}

// planText is what stands in the file while files are moved.
func planText(moves []move) []byte {
	var b strings.Builder
	b.WriteString(unfinishedRepair)
	for _, m := range moves {
		fmt.Fprintf(&b, "move %q %q\n", m.from, m.to)
	}
	return withSum(b.String())
}

// parsePlan is the opposite of planText.
func parsePlan(text string) (moves []move, err error) {
	damage := errors.New("its text is not what was written")
	i := strings.LastIndex(text, "sum ")
	if i < 0 || string(withSum(text[:i])) != text {
		return nil, damage
	}
	lines, ok := strings.CutPrefix(text[:i], unfinishedRepair)
	if !ok {
		return nil, damage
	}
	for line := range strings.Lines(lines) {
		var m move
		if n, err := fmt.Sscanf(line, "move %q %q\n", &m.from, &m.to); err != nil || n != 2 || !filepath.IsLocal(m.from) || !filepath.IsLocal(m.to) {
			return nil, damage
		}
		moves = append(moves, m)
	}
	return moves, nil
}

// finishRepair carries out the plan of a repair, if there is one, from wherever it was interrupted.
func finishRepair(fsys vfs.FS, dir string, do bool) (bool, error) {
	state := unfinished(fsys, dir)
	if state == nil {
		return false, nil
	}
	name := unfinishedFile(dir)
	data, err := vfs.ReadFile(fsys, name, maxPlan)
	if err != nil {
		return false, err
	}
	if !do || !strings.HasPrefix(string(data), unfinishedRepair) {
		return false, state
	}
	moves, err := parsePlan(string(data))
	if err != nil {
		return false, &wal.Damage{File: name, Why: err.Error()}
	}
	dirs := map[string]bool{dir: true}
	for _, m := range moves {
		from, to := filepath.Join(dir, m.from), filepath.Join(dir, m.to)
		dirs[filepath.Dir(from)], dirs[filepath.Dir(to)] = true, true
		err := fsys.Rename(from, to)
		if errors.Is(err, fs.ErrNotExist) {
			_, err = fsys.Stat(to) // moved before it was interrupted
		}
		if err != nil {
			return false, err
		}
	}
	for d := range dirs {
		if err := fsys.SyncDir(d); err != nil {
			return false, err
		}
	}
	if err := fsys.Remove(name); err != nil {
		return false, err
	}
	return true, fsys.SyncDir(dir)
}
