package vfs

import (
	"errors"
	"os"
	"syscall"
)

// syncData is fdatasync: it writes the size if it has changed, but not the
// times, which would cost a journal commit of the file system each time.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != syscall.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func allocate(f *os.File, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case err == nil, errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return nil
		case err != syscall.EINTR:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}
