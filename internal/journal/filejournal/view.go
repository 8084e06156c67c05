package filejournal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// view is a look at a directory: nothing is taken and nothing written, so that it
// can be had of a medium that is read-only, and while a server writes.
//
// What a server changes is told from damage by looking again. It appends, and
// what was synced never changes; it gives segments back only when their names are
// gone; so damage is what is found twice, at the same place, in a file that still has its name.
type view struct {
	fs      vfs.FS
	dir     string
	shards  int
	wal     wal.Dir
	numbers []uint32    // the segments, as last listed
	snaps   []snapPlace // each shard's newest snapshot, as last listed
}

// snapPlace is a snapshot file; the zero value is none.
type snapPlace struct {
	file string
	pos  wal.Pos
}

func look(fsys vfs.FS, dir string) (*view, error) {
	if err := unfinished(fsys, dir); err != nil {
		return nil, err
	}
	return lookAt(fsys, dir)
}

// lookAt is look also at what is unfinished.
func lookAt(fsys vfs.FS, dir string) (*view, error) {
	id, err := readIdentity(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) && anyLog(fsys, dir) {
		err = &wal.Damage{File: versionFile(dir), Why: "the file is missing, though there is a log"}
	}
	if err != nil {
		return nil, err
	}
	v := &view{fs: fsys, dir: dir, shards: id.shards, wal: wal.Dir{FS: fsys, Path: filepath.Join(dir, "wal"), ID: id.id}}
	return v, v.list()
}

// anyLog reports whether there is more than what a server leaves that was stopped while it made the directory.
func anyLog(fsys vfs.FS, dir string) bool {
	d := wal.Dir{FS: fsys, Path: filepath.Join(dir, "wal")}
	numbers, _, _, err := d.List()
	snaps, serr := snapNames(fsys, dir)
	if err != nil || serr != nil || len(numbers)+len(snaps) == 0 {
		return false
	}
	if len(snaps) > 0 || !slices.Equal(numbers, []uint32{1}) {
		return true
	}
	head, err := readHead(fsys, d.Name(1), wal.PageBytes+wal.FrameBytes)
	return err == nil && len(head) > wal.PageBytes && slices.ContainsFunc(head[wal.PageBytes:], func(c byte) bool { return c != 0 })
}

// list looks which files there are: the snapshots first, as what they leave to
// replay is given back only when there are newer ones.
func (v *view) list() error {
	names, err := snapNames(v.fs, v.dir)
	if err != nil {
		return err
	}
	v.snaps = make([]snapPlace, v.shards)
	for _, name := range names {
		shard, pos, ok := parseSnapName(name)
		if ok && int(shard) < v.shards && (v.snaps[shard].file == "" || pos > v.snaps[shard].pos) {
			v.snaps[shard] = snapPlace{filepath.Join(v.dir, "snap", name), pos}
		}
	}
	v.numbers, _, _, err = v.wal.List()
	return err
}

// needed is where a replay begins.
func (v *view) needed() wal.Pos {
	needed := v.snaps[0].pos
	for _, s := range v.snaps {
		needed = min(needed, s.pos)
	}
	return needed
}

// newest is the position of the newest snapshot. The log was synced up to there.
func (v *view) newest() (pos wal.Pos) {
	for _, s := range v.snaps {
		pos = max(pos, s.pos)
	}
	return pos
}

func (v *view) has(number uint32) bool {
	_, ok := slices.BinarySearch(v.numbers, number)
	return ok
}

// after is the segments behind number.
func (v *view) after(number uint32) []uint32 {
	i, found := slices.BinarySearch(v.numbers, number)
	if found {
		i++
	}
	return v.numbers[i:]
}

func (v *view) missing(number uint32) *wal.Damage {
	return &wal.Damage{File: v.wal.Name(number), Why: "the file is missing"}
}

// listed is which files there were.
type listed struct {
	numbers []uint32
	snaps   []snapPlace
}

// walk goes through the frames of a view's segments.
type walk struct {
	*view
	// frame is called for each whole frame, once, in order.
	frame func(wal.Frame) error
	// damage is called for the first damage of each file; the walk goes on where it returns nil.
	damage func(*wal.Damage) error

	began  listed           // what there was then
	seen   wal.Pos          // the frames before were handed over
	ends   map[uint32]int64 // how far each segment's frames go
	last   uint32           // the segment in which the log ends
	unborn uint32           // one behind it that was made and not used
	torn   wal.Recovered    // of the last segment, where its end is torn
	moved  bool             // something of it was given back meanwhile, or has been added to
	err    error            // frame's
}

// run walks from a segment on, up to the end of the segment that is the last one
// now: a server may write faster than somebody reads.
func (w *walk) run(first uint32) error {
	w.ends, w.began = map[uint32]int64{}, listed{w.numbers, w.snaps}
	next := max(w.needed().Segment(), first, 1) // those before may have been given back
	if len(w.numbers) == 0 || w.numbers[len(w.numbers)-1] < next {
		return w.damage(w.missing(next))
	}
	stop := w.numbers[len(w.numbers)-1]
	for prev := max(first, 1) - 1; ; {
		rest := w.after(prev)
		if len(rest) == 0 || rest[0] > stop {
			return nil
		}
		n := rest[0]
		if n > next {
			if err := w.list(); err != nil {
				return err
			}
			if needed := w.needed().Segment(); needed > next {
				w.moved, next = true, needed
			}
			if rest := w.after(prev); len(rest) == 0 || rest[0] != n {
				continue // what was missing is there now, or n is not any more
			}
			if n > next {
				if err := w.damage(w.missing(next)); err != nil {
					return err
				}
			}
		}
		if err := w.segment(n); err != nil {
			return err
		}
		prev, next = n, max(next, n+1)
	}
}

// examined is what a look at a segment has found.
type examined struct {
	why string
	end int64
	cut int64
}

// looks is how often a segment that is different each time is looked at.
const looks = 100

// segment hands over the frames of one segment.
func (w *walk) segment(n uint32) error {
	var before examined
	for try := 0; ; try++ {
		found, err := wal.Examine(w.wal, n, w.after(n), false, w.unseen)
		if w.err != nil {
			err, w.err = w.err, nil
			if d, is := errors.AsType[*wal.Damage](err); is {
				return w.damage(d)
			}
			return err
		}
		damage, is := errors.AsType[*wal.Damage](err)
		if err != nil && !is && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w.note(n, found)
		if err == nil && found.Cut == 0 {
			return nil
		}
		now := examined{end: found.End, cut: found.Cut}
		if err != nil {
			now.why = err.Error()
		}
		if try > 0 && now == before || try == looks {
			switch {
			case is:
				return w.damage(damage)
			case err != nil:
				return err
			}
			w.torn = found
			return nil
		}
		if w.moved = w.moved || try > 0; w.moved && err == nil {
			return nil // what is torn was written since it was looked at before
		}
		before = now
		if err := w.list(); err != nil {
			return err
		}
		if !w.has(n) {
			delete(w.ends, n)
			w.moved = true
			return nil
		}
	}
}

// note keeps where a segment ends, and whether the log does.
func (w *walk) note(n uint32, found wal.Recovered) {
	w.ends[n] = max(w.ends[n], found.End)
	w.unborn = max(w.unborn, found.Unborn)
	if n != w.unborn || found.Frames > 0 {
		w.last = n
	}
}

// unseen passes on what was not passed on before.
func (w *walk) unseen(f wal.Frame) error {
	if f.Pos < w.seen {
		return nil
	}
	w.seen = f.Pos + 1
	w.err = w.frame(f)
	return w.err
}

// end is the end of the log, as far as it was walked.
func (w *walk) end() wal.Pos { return wal.MakePos(w.last, w.ends[w.last]) }

// grown reports whether a server has changed anything since the walk began.
func (w *walk) grown() (bool, error) {
	if err := w.list(); err != nil {
		return false, err
	}
	if w.moved || !slices.Equal(w.began.numbers, w.numbers) || !slices.Equal(w.began.snaps, w.snaps) || !w.has(w.last) {
		return true, nil
	}
	f, h, err := w.wal.Open(w.last, false)
	if errors.Is(err, fs.ErrNotExist) { // given back since it was listed
		return true, nil
	}
	if _, damaged := errors.AsType[*wal.Damage](err); err != nil {
		if damaged {
			err = nil // told already
		}
		return false, err
	}
	tail, err := wal.NewReader(w.wal.Name(w.last), f, h).Walk(w.ends[w.last], nil)
	return tail.End > w.ends[w.last], errors.Join(err, f.Close())
}

// snapNames lists what is called a snapshot. A start makes the directory where there is none.
func snapNames(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.ReadDir(filepath.Join(dir, "snap"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, snapSuffix) }), err
}
