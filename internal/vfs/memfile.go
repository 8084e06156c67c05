package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// memFile is an open file of a Mem.
type memFile struct {
	m     *Mem
	name  string
	inode *memInode
	write bool
	// closed is guarded by m.mu.
	closed bool
}

func (f *memFile) use(op string) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.m.begin(Op{Kind: OpRead, Path: f.name, Offset: off, Size: len(p)}); err != nil {
		return 0, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.m.begin(Op{Kind: OpWrite, Path: f.name, Offset: off, Size: len(p)})
	if short := (*Short)(nil); errors.As(err, &short) {
		p, err = p[:min(short.N, len(p))], short.Err
	} else if err != nil {
		return 0, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if uerr := f.use("write"); uerr != nil {
		return 0, uerr
	}
	if !f.write {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrPermission}
	}
	i := f.inode
	i.own()
	end := off + int64(len(p))
	if end > int64(len(i.data)) {
		if serr := f.m.reserve(i, end); serr != nil {
			return 0, serr
		}
		i.data = resize(i.data, end)
	}
	copy(i.data[off:], p)
	for s := off / sector; s*sector < end; s++ {
		i.dirty[s] = struct{}{}
	}
	return len(p), err
}

// reserve checks that the file may have size bytes. Called with mu held.
func (m *Mem) reserve(f *memInode, size int64) error {
	if m.capacity == 0 || size <= f.room() {
		return nil
	}
	used := size - f.room()
	for _, i := range m.names {
		used += i.room()
	}
	if used > m.capacity {
		return &fs.PathError{Op: "write", Path: "", Err: syscall.ENOSPC}
	}
	return nil
}

func (i *memInode) room() int64 { return max(int64(len(i.data)), i.reserved) }

func (i *memInode) truncate(size int64) {
	i.own()
	i.reserved = 0
	// What grows again is zeros, which a sync must keep too.
	for s := size / sector; s*sector < int64(len(i.data)); s++ {
		i.dirty[s] = struct{}{}
	}
	i.data = resize(i.data, size)
}

func (f *memFile) Allocate(size int64) error {
	if err := f.m.begin(Op{Kind: OpAllocate, Path: f.name, Size: int(size)}); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.reserve(f.inode, size); err != nil {
		return err
	}
	f.inode.own()
	f.inode.reserved = max(f.inode.reserved, size)
	f.inode.data = resize(f.inode.data, max(size, int64(len(f.inode.data))))
	return nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.begin(Op{Kind: OpTruncate, Path: f.name, Size: int(size)}); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.inode.truncate(size)
	return nil
}

func (f *memFile) Sync() error {
	err := f.m.begin(Op{Kind: OpSync, Path: f.name})
	if err == Pretend {
		return nil
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	i := f.inode
	if lost := (*Lost)(nil); errors.As(err, &lost) {
		clear(i.dirty)
		return lost.Err
	}
	if err != nil {
		return err
	}
	if err := f.use("sync"); err != nil {
		return err
	}
	i.ownStable()
	i.stable = resize(i.stable, int64(len(i.data)))
	for s := range i.dirty {
		from, to := s*sector, min((s+1)*sector, int64(len(i.data)))
		if from < to {
			copy(i.stable[from:to], i.data[from:to])
		}
	}
	clear(i.dirty)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.inode.data)), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.closed = true
	return nil
}
