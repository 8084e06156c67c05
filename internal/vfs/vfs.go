// Package vfs is the dozen file operations that the storage needs: on the real
// file system (OS), and in memory with power cuts and faults (Mem).
//
// It owns nothing but what it opens, and does not know what the files hold.
package vfs

import (
	"errors"
	"io"
	"path/filepath"
	"strconv"
)

// FS is a file system. A name that was made, renamed or removed is certain to
// survive a power cut only after SyncDir of its directory; bytes only after
// File.Sync.
type FS interface {
	// Create makes a file for reading and writing; one that exists is emptied.
	Create(name string) (File, error)
	// Open opens an existing file for reading, OpenWrite for writing too.
	Open(name string) (File, error)
	OpenWrite(name string) (File, error)

	// Remove removes a file, or a directory in which nothing is.
	Remove(name string) error
	Rename(from, to string) error
	// Stat is the size of a file. A missing one is an fs.ErrNotExist.
	Stat(name string) (int64, error)

	MkdirAll(dir string) error
	// ReadDir lists the names in a directory, sorted.
	ReadDir(dir string) ([]string, error)
	SyncDir(dir string) error

	// Lock takes a lock that no second process, and no second opener in this
	// one, gets until it is closed. The error of that one is a *LockedError.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the bytes, and the size, survive a power cut.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	// Allocate reserves room for size bytes, so that writing them cannot fail
	// for want of space, where the file system can; else it does nothing.
	Allocate(size int64) error
}

// ErrLocked is what every *LockedError is.
var ErrLocked = errors.New("locked")

// LockedError says who holds a lock.
type LockedError struct {
	Name   string
	PID    int    // 0 where the holder did not say
	Holder string // what the holder wrote about itself
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return e.Name + " is locked by another process"
	}
	return e.Name + " is locked by process " + strconv.Itoa(e.PID) + " (" + e.Holder + ")"
}

// Is makes errors.Is(err, ErrLocked) work.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// WriteFileAtomic leaves either the old file or the new one, whole, under the
// name, whatever happens meanwhile. When it returns nil it is the new one, for good.
func WriteFileAtomic(fs FS, name string, parts ...[]byte) error {
	tmp := name + ".tmp"
	err := writeFile(fs, tmp, parts)
	if err == nil {
		err = fs.Rename(tmp, name)
	}
	if err != nil {
		// Best effort: a leftover is ignored and overwritten.
		_ = fs.Remove(tmp)
		return err
	}
	return fs.SyncDir(filepath.Dir(name))
}

func writeFile(fs FS, name string, parts [][]byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	offset := int64(0)
	for _, p := range parts {
		if err == nil && len(p) > 0 {
			_, err = f.WriteAt(p, offset)
			offset += int64(len(p))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadFile returns the whole file, or an error if it is larger than limit.
func ReadFile(fs FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > limit {
		err = errors.New(name + ": " + strconv.FormatInt(size, 10) + " bytes is more than the " + strconv.FormatInt(limit, 10) + " expected")
	}
	var data []byte
	if err == nil {
		data = make([]byte, size)
		if n, rerr := f.ReadAt(data, 0); n < len(data) {
			err = rerr
		}
	}
	return data, errors.Join(err, f.Close())
}
