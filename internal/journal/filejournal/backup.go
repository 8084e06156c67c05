package filejournal

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A backup is a tar archive that holds a data directory: what says so first, the
// checksums of all files last, so that one that was cut short is told from a whole one.
//
//	BACKUP                 what it is, of when, up to where
//	VERSION
//	snap/….snap            each shard's newest
//	wal/….seg              the log up to a place that was reached after the backup began
//	SHA256SUMS             as sha256sum writes and checks it
const (
	backupFile   = "BACKUP"
	sumsFile     = "SHA256SUMS"
	backupFormat = 1
	// copyBytes is copied at a time.
	copyBytes = 256 << 10
)

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Journal uint64
	End     wal.Pos // the log is in it up to here
	Began   time.Time
	Version string // of the program that made it
}

// EndText is End as people write it.
func (b BackupInfo) EndText() string { return fmt.Sprintf("%d:%d", b.End.Segment(), b.End.Offset()) }

func (b BackupInfo) text() []byte {
	return withSum(fmt.Sprintf("gmq backup\nformat %d\njournal %016x\nend %s\nbegan %s\nversion %q\n",
		backupFormat, b.Journal, b.EndText(), b.Began.UTC().Format(time.RFC3339Nano), b.Version))
}

func parseBackupInfo(text string) (b BackupInfo, err error) {
	damage := errors.New("its text is not what was written")
	i := strings.LastIndex(text, "sum ")
	if i < 0 || string(withSum(text[:i])) != text {
		return b, damage
	}
	format := 0
	if n, _ := fmt.Sscanf(text, "gmq backup\nformat %d\n", &format); n != 1 {
		return b, damage
	}
	if format > backupFormat {
		return b, fmt.Errorf("the backup has format %d, this program knows formats up to %d: it needs a newer program", format, backupFormat)
	}
	var segment uint32
	var offset int64
	var began string
	if _, err := fmt.Sscanf(text, "gmq backup\nformat %d\njournal %x\nend %d:%d\nbegan %s\nversion %q\n", &format, &b.Journal, &segment, &offset, &began, &b.Version); err != nil {
		return b, damage
	}
	b.End = wal.MakePos(segment, offset)
	if b.Began, err = time.Parse(time.RFC3339Nano, began); err != nil || string(b.text()) != text {
		return b, damage
	}
	return b, nil
}

// Why a backup is not made.
var (
	ErrBackupRuns   = errors.New("a backup is being made already")
	ErrBackupFull   = errors.New("the backup was given up: the disk is full, and what it holds back is needed")
	ErrBackupClosed = errors.New("the backup was given up: the server stops")
)

// Backup writes a backup of the log while it is being used: all that was
// committed before the call is in it. What it has yet to copy is not given back meanwhile, so
// whoever takes the bytes must not be slow without end: ctx, or an error of w, ends it.
func (l *Log) Backup(ctx context.Context, w io.Writer, began time.Time, version string) (BackupInfo, error) {
	info := BackupInfo{Journal: l.wal.ID, Began: began, Version: version}
	if err := l.hold(); err != nil {
		return info, err
	}
	defer l.holdFrom(nothingHeld)
	// In this order: what the snapshots refer to, and do not, is decided by the log up to an end behind them all.
	snaps, err := l.openSnapshots()
	if err != nil {
		return info, err
	}
	defer closeAll(snaps)
	info.End = wal.Pos(l.durable.Load())
	b := &backup{log: l, ctx: ctx, tar: tar.NewWriter(w), info: info, buf: make([]byte, copyBytes), sum: sha256.New()}
	if err := b.write(snaps); err != nil {
		return info, err
	}
	return info, b.tar.Close()
}

// backup is one being written.
type backup struct {
	log  *Log
	ctx  context.Context
	tar  *tar.Writer
	info BackupInfo
	buf  []byte
	sum  hash.Hash
	sums strings.Builder
}

// heldSnap is a snapshot file that stays readable when a newer one takes its place.
type heldSnap struct {
	name string
	file vfs.File
}

func closeAll(snaps []heldSnap) {
	for _, s := range snaps {
		_ = s.file.Close() // it was only read
	}
}

// openSnapshots opens each shard's newest snapshot.
func (l *Log) openSnapshots() ([]heldSnap, error) {
	for {
		snaps, err := l.tryOpenSnapshots()
		if !errors.Is(err, fs.ErrNotExist) {
			return snaps, err
		}
		closeAll(snaps) // a newer one has taken the place of one of them
	}
}

func (l *Log) tryOpenSnapshots() (snaps []heldSnap, err error) {
	v := &view{fs: l.fs, dir: l.dir, shards: len(l.shards), wal: l.wal}
	if err := v.list(); err != nil {
		return nil, err
	}
	for _, s := range v.snaps {
		if s.file == "" {
			continue
		}
		file, err := l.fs.Open(s.file)
		if err != nil {
			return snaps, err
		}
		snaps = append(snaps, heldSnap{filepath.Base(s.file), file})
	}
	return snaps, nil
}

func (b *backup) write(snaps []heldSnap) error {
	if err := b.text(backupFile, b.info.text()); err != nil {
		return err
	}
	id := identity{id: b.log.wal.ID, shards: len(b.log.shards)}
	if err := b.text("VERSION", id.text()); err != nil {
		return err
	}
	for _, s := range snaps {
		size, err := s.file.Size()
		if err == nil {
			err = b.file("snap/"+s.name, s.file, size, size)
		}
		if err != nil {
			return err
		}
	}
	segs := b.log.segs.sorted(func(s *segment) bool { return s.number <= b.info.End.Segment() })
	for _, s := range segs {
		if err := b.segment(s); err != nil {
			return err
		}
		b.log.holdFrom(s.number + 1)
	}
	return b.text(sumsFile, []byte(b.sums.String()))
}

// segment copies what belongs to the backup of a segment, and zeros for the rest of the file. What it
// copies it verifies: a backup with damage in it would be none.
func (b *backup) segment(s *segment) (err error) {
	d := b.log.wal
	f, h, err := d.Open(s.number, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	last := s.number == b.info.End.Segment()
	end := b.info.End.Offset()
	tail, err := wal.NewReader(d.Name(s.number), f, h).Walk(wal.PageBytes, func(f wal.Frame) error {
		if last && f.Pos >= b.info.End {
			return errEnough
		}
		return b.goOn()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if !last {
		end = tail.End
	}
	if tail.End != end || !last && tail.Last != wal.Seal {
		why := "the frames do not end where they should"
		if tail.Bad != nil {
			why = tail.Bad.Error()
		}
		return &wal.Damage{File: d.Name(s.number), Offset: tail.End, Why: why}
	}
	return b.file("wal/"+filepath.Base(d.Name(s.number)), f, end, h.Size)
}

// goOn is an error where the backup is not to go on.
func (b *backup) goOn() error {
	if err := b.log.Failed(); err != nil {
		return err
	}
	b.log.mu.Lock()
	closing := b.log.closing
	b.log.mu.Unlock()
	switch {
	case closing:
		return ErrBackupClosed
	case b.log.scarce.Load():
		return ErrBackupFull
	}
	return context.Cause(b.ctx)
}

func (b *backup) text(name string, data []byte) error {
	if err := b.begin(name, int64(len(data))); err != nil {
		return err
	}
	return b.end(name, b.put(data))
}

// file copies the first n bytes of a file, and zeros up to its size.
func (b *backup) file(name string, f vfs.File, n, size int64) error {
	if err := b.begin(name, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		buf := b.buf[:min(int64(len(b.buf)), size-at)]
		if at < n {
			buf = buf[:min(int64(len(buf)), n-at)]
			if got, err := f.ReadAt(buf, at); got < len(buf) {
				return fmt.Errorf("%s: reading at offset %d: %w", name, at, err)
			}
		} else {
			clear(buf)
		}
		if err := b.put(buf); err != nil {
			return err
		}
		at += int64(len(buf))
	}
	return b.end(name, nil)
}

func (b *backup) begin(name string, size int64) error {
	b.sum.Reset()
	return b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: b.info.Began.Truncate(time.Second)})
}

func (b *backup) put(data []byte) error {
	if err := b.goOn(); err != nil {
		return err
	}
	b.sum.Write(data) // a hash never fails
	_, err := b.tar.Write(data)
	return err
}

func (b *backup) end(name string, err error) error {
	fmt.Fprintf(&b.sums, "%x  %s\n", b.sum.Sum(nil), name)
	return err
}

// nothingHeld is greater than the number of any segment.
const nothingHeld = math.MaxUint32

// hold keeps every segment from being given back, until holdFrom says otherwise.
func (l *Log) hold() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holding {
		return ErrBackupRuns
	}
	l.holding, l.held = true, 0
	for l.giving { // by what was right before
		l.idle.Wait()
	}
	return nil
}

// holdFrom lets segments before that number be given back.
func (l *Log) holdFrom(number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.holding = number, number != nothingHeld
	l.reclaim = true
	l.keep.Signal()
}

// beginGiving says from which number on nothing is given back; endGiving ends the time for which that holds.
func (l *Log) beginGiving() (held uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giving = true
	if !l.holding {
		return nothingHeld
	}
	return l.held
}

func (l *Log) endGiving() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giving = false
	l.idle.Broadcast()
}
