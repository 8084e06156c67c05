package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
)

const (
	segmentSuffix = ".seg"
	sparePrefix   = "spare-"
)

// Dir is a directory of segment files. It holds no state of its own: who uses
// it sees to it that one goroutine at a time changes a file.
type Dir struct {
	FS   vfs.FS
	Path string
	ID   uint64 // written into every segment, and expected there
}

// Name is the file of a segment.
func (d Dir) Name(segment uint32) string {
	return filepath.Join(d.Path, fmt.Sprintf("%010d%s", segment, segmentSuffix))
}

// SpareName is the file of a prepared segment that has no number yet.
func (d Dir) SpareName(k int) string {
	return filepath.Join(d.Path, sparePrefix+strconv.Itoa(k))
}

// List returns the segments in order, the prepared spares, and leftovers of
// preparations that were cut short.
func (d Dir) List() (segments []uint32, spares []int, leftovers []string, err error) {
	names, err := d.FS.ReadDir(d.Path)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, name := range names {
		if num, ok := strings.CutSuffix(name, segmentSuffix); ok {
			n, perr := strconv.ParseUint(num, 10, 32)
			if perr != nil || n == 0 || d.Name(uint32(n)) != filepath.Join(d.Path, name) {
				return nil, nil, nil, fmt.Errorf("%s is not a segment's name", filepath.Join(d.Path, name))
			}
			segments = append(segments, uint32(n))
		} else if num, ok := strings.CutPrefix(name, sparePrefix); ok {
			k, perr := strconv.Atoi(num)
			if perr != nil {
				leftovers = append(leftovers, filepath.Join(d.Path, name))
				continue
			}
			spares = append(spares, k)
		}
	}
	return segments, spares, leftovers, nil
}

// Prepare makes spare k: size bytes that are really written, so that syncing
// data into it later changes nothing but data. An error leaves nothing behind.
func (d Dir) Prepare(k int, size int64) error {
	tmp := d.SpareName(k) + ".tmp"
	f, err := d.FS.Create(tmp)
	if err != nil {
		return err
	}
	err = f.Allocate(size)
	for at := int64(0); at < size && err == nil; at += chunkBytes {
		_, err = f.WriteAt(zeroes[:min(chunkBytes, size-at)], at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.FS.Rename(tmp, d.SpareName(k))
	}
	if err != nil {
		return errors.Join(err, d.FS.Remove(tmp))
	}
	return nil
}

// Adopt makes spare k the segment with that number. When it returns, the file
// is there for good, with its header and no frame of its own.
func (d Dir) Adopt(k int, segment uint32) (vfs.File, int64, error) {
	spare := d.SpareName(k)
	f, err := d.FS.OpenWrite(spare)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(SegmentHeader{Number: segment, ID: d.ID, Size: size}.Append(nil), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.FS.Rename(spare, d.Name(segment))
	}
	if err == nil {
		err = d.FS.SyncDir(d.Path)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, 0, err
	}
	f, err = d.FS.OpenWrite(d.Name(segment)) // so that errors name it as it is
	return f, size, err
}

// Recycle makes the segment spare k. Its old name must be gone for good before
// anything is written into the file.
func (d Dir) Recycle(segment uint32, k int) error {
	if err := d.FS.Rename(d.Name(segment), d.SpareName(k)); err != nil {
		return err
	}
	return d.FS.SyncDir(d.Path)
}

// Open opens a segment and checks its header.
func (d Dir) Open(segment uint32, write bool) (vfs.File, SegmentHeader, error) {
	name := d.Name(segment)
	open := d.FS.Open
	if write {
		open = d.FS.OpenWrite
	}
	f, err := open(name)
	if err != nil {
		return nil, SegmentHeader{}, err
	}
	h, err := d.header(f, name, segment)
	if err != nil {
		return nil, SegmentHeader{}, errors.Join(err, f.Close())
	}
	return f, h, nil
}

func (d Dir) header(f vfs.File, name string, segment uint32) (SegmentHeader, error) {
	size, err := f.Size()
	if err != nil {
		return SegmentHeader{}, err
	}
	page := make([]byte, min(size, PageBytes))
	if n, err := f.ReadAt(page, 0); n < len(page) {
		return SegmentHeader{}, fmt.Errorf("%s: reading the header: %w", name, err)
	}
	h, err := DecodeSegmentHeader(page)
	switch {
	case err != nil:
	case h.Number != segment:
		err = fmt.Errorf("the file is segment %d by its header", h.Number)
	case h.ID != d.ID:
		err = errors.New("the file belongs to another journal")
	case h.Size != size:
		err = fmt.Errorf("the file has %d bytes, not the %d it was made with", size, h.Size)
	}
	if err != nil {
		return h, &Damage{File: name, Offset: 0, Why: err.Error()}
	}
	return h, nil
}
