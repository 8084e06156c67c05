package filejournal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// Format is the version of the directory's format that this program writes.
const Format = 1

// The sizes that wal and journal must agree on.
var _ = [1]struct{}{}[wal.RecordBytes-journal.HeaderBytes]

// identity is what DATA/VERSION says.
type identity struct {
	id     uint64
	shards int
}

func (i identity) text() []byte {
	return withSum(fmt.Sprintf("gmq journal\nformat %d\nid %016x\nshards %d\n", Format, i.id, i.shards))
}

// withSum adds the line that every format ends with.
func withSum(s string) []byte {
	return fmt.Appendf(nil, "%ssum %08x\n", s, crc32.ChecksumIEEE([]byte(s)))
}

func versionFile(dir string) string { return filepath.Join(dir, "VERSION") }

// readIdentity returns an fs.ErrNotExist where there is none.
func readIdentity(fsys vfs.FS, dir string) (identity, error) {
	name := versionFile(dir)
	data, err := vfs.ReadFile(fsys, name, 4096)
	if err != nil {
		return identity{}, err
	}
	damage := &wal.Damage{File: name, Why: "its text is not what was written"}
	text := string(data)
	if i := strings.LastIndex(text, "sum "); i < 0 || string(withSum(text[:i])) != text {
		return identity{}, damage
	}
	var format int
	if n, _ := fmt.Sscanf(text, "gmq journal\nformat %d\n", &format); n != 1 {
		return identity{}, damage
	}
	if format > Format {
		return identity{}, fmt.Errorf("%s: the journal has format %d, this program knows formats up to %d: it needs a newer program", name, format, Format)
	}
	var id identity
	_, err = fmt.Sscanf(text, "gmq journal\nformat %d\nid %x\nshards %d\n", &format, &id.id, &id.shards)
	if err != nil || id.shards < 1 || id.shards > maxShards || string(id.text()) != text {
		return identity{}, damage
	}
	return id, nil
}

// Open opens the log in dir, or makes one. Damage, a lock that is held and a
// newer format are errors that leave everything as it is.
func Open(fsys vfs.FS, dir string, opt Options) (*Log, error) {
	opt = opt.withDefaults()
	if opt.Shards < 0 || opt.Shards > maxShards {
		return nil, fmt.Errorf("filejournal: %d shards, at most %d are possible", opt.Shards, maxShards)
	}
	l := &Log{fs: fsys, dir: dir, opt: opt}
	l.work, l.keep, l.snap, l.idle = l.cond(), l.cond(), l.cond(), l.cond()
	if err := makeDirs(fsys, dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, err
	}
	l.lock = lock
	if err := l.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	l.begin(l.commitLoop)
	l.begin(l.keepLoop)
	l.begin(l.snapLoop)
	return l, nil
}

func makeDirs(fsys vfs.FS, dir string) error {
	for _, d := range []string{"wal", "snap"} {
		if err := fsys.MkdirAll(filepath.Join(dir, d)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

func (l *Log) open() error {
	if err := unfinished(l.fs, l.dir); err != nil {
		return err
	}
	l.wal = wal.Dir{FS: l.fs, Path: filepath.Join(l.dir, "wal")}
	id, err := readIdentity(l.fs, l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = l.create()
	}
	if err != nil {
		return err
	}
	if l.opt.Shards != 0 && l.opt.Shards != id.shards {
		return fmt.Errorf("%s: the journal was made for %d shards and cannot serve %d", l.dir, id.shards, l.opt.Shards)
	}
	l.wal.ID = id.id
	for i := range id.shards {
		l.shards = append(l.shards, &Shard{log: l, number: uint8(i), wakeFunc: func() {}})
	}
	if err := l.findSnapshots(); err != nil {
		return err
	}
	return l.recover()
}

// create makes a new log: the identity last, so that it stands for the rest.
func (l *Log) create() (identity, error) {
	id := identity{shards: max(l.opt.Shards, 1)}
	var b [8]byte
	random := l.opt.Random
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return id, err
	}
	id.id = binary.LittleEndian.Uint64(b[:])
	l.wal.ID = id.id
	if err := l.clearUnborn(); err != nil {
		return id, err
	}
	// The directory's own name; who may not read its parent did not make it.
	if err := l.fs.SyncDir(filepath.Dir(filepath.Clean(l.dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return id, err
	}
	if err := l.wal.Prepare(0, l.opt.SegmentBytes); err != nil {
		return id, err
	}
	f, _, err := l.wal.Adopt(0, 1)
	if err != nil {
		return id, err
	}
	if err := f.Close(); err != nil {
		return id, err
	}
	return id, vfs.WriteFileAtomic(l.fs, versionFile(l.dir), id.text())
}

// clearUnborn removes what a creation that was cut short has left. Anything
// more than that is somebody's data without its VERSION file.
func (l *Log) clearUnborn() error {
	segments, spares, leftovers, err := l.wal.List()
	if err != nil {
		return err
	}
	snaps, err := l.fs.ReadDir(l.snapDir())
	if err != nil {
		return err
	}
	missing := &wal.Damage{File: versionFile(l.dir), Why: "the file is missing, though there is a log"}
	if len(snaps) > 0 || len(segments) > 1 || len(segments) == 1 && segments[0] != 1 {
		return missing
	}
	for _, n := range segments {
		if err := l.unborn(n, missing); err != nil {
			return err
		}
		leftovers = append(leftovers, l.wal.Name(n))
	}
	for _, k := range spares {
		leftovers = append(leftovers, l.wal.SpareName(k))
	}
	for _, name := range leftovers {
		if err := l.fs.Remove(name); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.wal.Path)
}

// unborn checks that nothing was ever written into a segment.
func (l *Log) unborn(n uint32, missing error) (err error) {
	name := l.wal.Name(n)
	f, err := l.fs.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil || size < wal.PageBytes {
		return err
	}
	b := make([]byte, wal.FrameBytes)
	if n, rerr := f.ReadAt(b, wal.PageBytes); n < len(b) {
		return rerr
	}
	for _, c := range b {
		if c != 0 {
			return missing
		}
	}
	return nil
}

// recover finds the log's end, and readies it for the next frame.
func (l *Log) recover() error {
	segments, spares, leftovers, err := l.wal.List()
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		return &wal.Damage{File: l.wal.Path, Why: "there are no segments"}
	}
	from := wal.Pos(l.needed.Load())
	first := max(from.Segment(), 1)
	var scan []uint32
	table := make(map[uint32]*segment, len(segments))
	for _, n := range segments {
		size, serr := l.fs.Stat(l.wal.Name(n))
		if serr != nil {
			return serr
		}
		seg := &segment{number: n, size: size}
		table[n] = seg
		if n >= first {
			scan = append(scan, n)
			continue
		}
		// The records of an old one are checked when they are read.
		seg.used.Store(size)
		seg.sealed.Store(true)
		f, _, oerr := l.wal.Open(n, false)
		if oerr != nil {
			return oerr
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	l.segs.table.Store(&table)
	if len(scan) == 0 || scan[0] != first {
		return &wal.Damage{File: l.wal.Name(first), Why: "the file is missing, though a snapshot needs what follows it"}
	}
	if err := l.scan(scan); err != nil {
		return err
	}
	return l.ready(spares, leftovers)
}

func (l *Log) scan(segments []uint32) error {
	// A first look changes nothing, so that a log that turns out to end before
	// a snapshot is left as it is.
	var last *segment
	found, err := wal.Recover(l.wal, segments, false, func(f wal.Frame) error {
		seg := l.segs.find(f.Pos.Segment())
		seg.used.Store(f.At().Offset() + int64(len(f.Data)))
		if f.Kind == wal.Seal {
			seg.sealed.Store(true)
		}
		if seg != last && last != nil {
			l.noted(last)
		}
		last = seg
		return l.note(seg, f)
	})
	if last != nil {
		l.noted(last)
	}
	if err != nil {
		return err
	}
	end := wal.MakePos(found.Segment, found.End)
	for _, s := range l.shards {
		if s.snapPos > end {
			return &wal.Damage{File: l.wal.Name(found.Segment), Offset: found.End, Why: fmt.Sprintf("the log ends here, before %s, which was written later", s.snapFile)}
		}
	}
	l.found = found
	return nil
}

// ready opens the last segment for writing, and makes sure of everything that
// the process before may not have synced.
func (l *Log) ready(spares []int, leftovers []string) error {
	found := l.found
	if found.Cut > 0 {
		l.opt.Logf("%s: %d bytes at offset %d were being written when the machine or the process stopped, and are cut off: %s", found.CutFile, found.Cut, found.End, found.CutWhy)
		if _, err := wal.Recover(l.wal, []uint32{found.Segment}, true, nil); err != nil {
			return err
		}
	}
	// The seal before may be as little synced as what follows it.
	if seg := l.segs.find(found.Segment - 1); seg != nil {
		before, _, err := l.wal.Open(seg.number, true)
		if err != nil {
			return err
		}
		end := seg.used.Load()
		if err := errors.Join(writeAgain(before, end-wal.FrameBytes, end), before.Sync(), before.Close()); err != nil {
			return err
		}
	}
	f, h, err := l.wal.Open(found.Segment, true)
	if err != nil {
		return err
	}
	from := int64(wal.PageBytes)
	if found.Synced.Segment() == found.Segment {
		from = found.Synced.Offset()
	}
	if err := errors.Join(writeAgain(f, from, found.End), f.Sync(), l.fs.SyncDir(l.wal.Path), l.fs.SyncDir(l.snapDir())); err != nil {
		return errors.Join(err, f.Close())
	}
	if found.Unborn != 0 {
		l.segs.remove([]*segment{l.segs.find(found.Unborn)})
		leftovers = append(leftovers, l.wal.Name(found.Unborn))
	}
	for _, name := range leftovers {
		if err := l.fs.Remove(name); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := l.takeSpares(spares); err != nil {
		return errors.Join(err, f.Close())
	}
	seg := l.segs.find(found.Segment)
	l.noteSpares()
	seg.used.Store(found.End)
	l.halfFull.Store(found.End > h.Size/2)
	end := wal.MakePos(found.Segment, found.End)
	l.committer = committer{file: f, seg: seg, off: found.End, size: h.Size, synced: end, closed: found.Closed}
	l.synced = end
	l.durable.Store(uint64(end))
	l.committed.Store(uint64(end))
	l.cache.limit = l.opt.CacheBytes
	// What earlier lives left counts as if it were written now: a process that lives
	// too briefly to write enough for a compaction would otherwise never make one.
	_, used, _ := l.segs.sums()
	l.activity.Store(used)
	return nil
}

// writeAgain writes what lies between two offsets of a file once more. Once an fsync has failed, the system takes what it
// could not write for written: a process that is started then finds it, and no sync of its own would bring it to the disk.
func writeAgain(f vfs.File, from, to int64) error {
	if to <= from {
		return nil
	}
	b := make([]byte, to-from)
	if n, err := f.ReadAt(b, from); n < len(b) {
		return err
	}
	_, err := f.WriteAt(b, from)
	return err
}

// takeSpares keeps the spares of the right size.
func (l *Log) takeSpares(spares []int) error {
	for _, k := range spares {
		l.nextSpare = max(l.nextSpare, k+1)
		size, err := l.fs.Stat(l.wal.SpareName(k))
		if err == nil && (size != l.opt.SegmentBytes || len(l.spares) == maxSpares) {
			err = l.fs.Remove(l.wal.SpareName(k))
		} else if err == nil {
			l.spares = append(l.spares, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
