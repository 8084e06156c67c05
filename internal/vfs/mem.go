package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
)

// OpKind is what an operation does.
type OpKind string

// The operations that the Fault hook sees.
const (
	OpCreate   OpKind = "create"
	OpOpen     OpKind = "open"
	OpRead     OpKind = "read"
	OpWrite    OpKind = "write"
	OpSync     OpKind = "sync"
	OpTruncate OpKind = "truncate"
	OpAllocate OpKind = "allocate"
	OpRemove   OpKind = "remove"
	OpRename   OpKind = "rename"
	OpMkdir    OpKind = "mkdir"
	OpReadDir  OpKind = "readdir"
	OpSyncDir  OpKind = "syncdir"
	OpLock     OpKind = "lock"
)

// Op is one operation, as the Fault hook sees it before it happens.
type Op struct {
	Kind   OpKind
	Path   string
	To     string // of a rename
	N      int    // the how-manieth operation of this file system, from 1
	Offset int64
	Size   int
}

// Short, returned by the Fault hook for a write, lets the first N bytes
// through and then fails with Err.
type Short struct {
	N   int
	Err error
}

func (s *Short) Error() string { return s.Err.Error() }

// Unwrap gives the error that the writer gets.
func (s *Short) Unwrap() error { return s.Err }

// Pretend, returned by the Fault hook for a Sync or SyncDir, lets it do nothing and succeed: a disk that lies.
var Pretend = errors.New("nothing was synced, and nobody is told")

// Lost, returned by the Fault hook for a Sync, lets it fail with Err and forgets that anything was to be written: reads
// still find it, no later sync does. That is what Linux makes of a failed fsync.
type Lost struct{ Err error }

func (l *Lost) Error() string { return l.Err.Error() }

// Unwrap gives the error that the caller gets.
func (l *Lost) Unwrap() error { return l.Err }

// sector is the unit that a disk writes whole.
const sector = 512

// Mem is a file system in memory that can lose power (Crash) and fail (Fault,
// Flip, Capacity). Directories are kept as soon as they are made; names in
// them are not. Safe for any number of goroutines.
type Mem struct {
	// Fault, where set, is asked before each operation; an error makes the
	// operation fail and do nothing. Set it before the file system is used.
	// It is called with no lock held.
	Fault func(Op) error

	// Everything below is guarded by mu.
	mu       sync.Mutex
	ops      int
	capacity int64 // bytes of all files together; 0 is no limit
	dirs     map[string]bool
	names    map[string]*memInode
	stable   map[string]*memInode // the names that a power cut leaves for certain
	pending  []nameOp             // what happened to names since their directory was synced
	locks    map[string]bool
}

// nameOp is a name's change: inode is nil where it is gone.
type nameOp struct {
	from, to string // to is "" unless it is a rename
	inode    *memInode
	source   string // the directory of from, and that of to, or the same
	target   string
	half     string // of a rename into another directory: the one of the two that was synced
}

// sync says that a directory is synced, and reports whether the change is kept with that.
func (op *nameOp) sync(dir string) bool {
	if op.source == op.target || dir != op.source && dir != op.target || op.half != "" && op.half != dir {
		return dir == op.source || dir == op.target
	}
	op.half = dir
	return false
}

// memInode is a file's bytes, guarded by the Mem's mu. Copies of a file system have the same bytes until one of them writes.
type memInode struct {
	data     []byte
	reserved int64  // room allocated beyond the data
	stable   []byte // what a power cut leaves for certain
	dirty    map[int64]struct{}

	lent, stableLent bool // others may read the bytes: they are not to be written
}

// lend is a copy of the inode.
func (i *memInode) lend() *memInode {
	i.lent, i.stableLent = true, true
	c := *i
	c.dirty = maps.Clone(i.dirty)
	return &c
}

// own sees to it that the bytes may be written.
func (i *memInode) own() {
	if i.lent {
		i.data, i.lent = bytes.Clone(i.data), false
	}
}

func (i *memInode) ownStable() {
	if i.stableLent {
		i.stable, i.stableLent = bytes.Clone(i.stable), false
	}
}

// NewMem is an empty file system with a root directory.
func NewMem() *Mem {
	return &Mem{
		dirs:   map[string]bool{"/": true, ".": true},
		names:  map[string]*memInode{},
		stable: map[string]*memInode{},
		locks:  map[string]bool{},
	}
}

// SetCapacity limits the bytes of all files together; 0 is no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used is the bytes of all files together.
func (m *Mem) Used() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.names {
		n += i.room()
	}
	return n
}

// Ops is how many operations there have been.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Flip inverts the bits of mask in one byte of a file, for good.
func (m *Mem) Flip(name string, offset int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.names[filepath.Clean(name)]
	if f == nil || offset >= int64(len(f.data)) {
		return notExist("flip", name)
	}
	f.own()
	f.ownStable()
	f.data[offset] ^= mask
	if offset < int64(len(f.stable)) {
		f.stable[offset] ^= mask
	}
	return nil
}

// Crash is the file system as a power cut at this moment may leave it: what
// was synced is there; of the rest each sector and each name is kept or lost
// as chance has it. The original goes on unchanged, the copy has no faults.
func (m *Mem) Crash(rnd *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, copied := m.copyOf(func(i *memInode) *memInode { return i.crash(rnd) })
	names := crashNames(m.stable, m.pending, rnd)
	for _, name := range sortedNames(names) {
		c.names[name] = copied(names[name])
		c.stable[name] = c.names[name]
	}
	return c
}

// Clone is the file system as it is, with everything synced.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, copied := m.copyOf(func(i *memInode) *memInode {
		i.lent = true
		return &memInode{data: i.data, stable: i.data, dirty: map[int64]struct{}{}, lent: true, stableLent: true}
	})
	for name, inode := range m.names {
		c.names[name], c.stable[name] = copied(inode), copied(inode)
	}
	return c
}

// Kill is the file system as the end of the process leaves it: nothing is
// lost, but what was not synced a power cut may still take. Locks are free.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, copied := m.copyOf((*memInode).lend)
	for name, inode := range m.names {
		c.names[name] = copied(inode)
	}
	for name, inode := range m.stable {
		c.stable[name] = copied(inode)
	}
	for _, op := range m.pending {
		if op.inode != nil {
			op.inode = copied(op.inode)
		}
		c.pending = append(c.pending, op)
	}
	return c
}

// copyOf begins a copy; copied is each inode's copy, made when it is first
// asked for. Called with mu held.
func (m *Mem) copyOf(fresh func(*memInode) *memInode) (c *Mem, copied func(*memInode) *memInode) {
	c = NewMem()
	c.capacity = m.capacity
	c.dirs = maps.Clone(m.dirs)
	copies := map[*memInode]*memInode{}
	return c, func(i *memInode) *memInode {
		if copies[i] == nil {
			copies[i] = fresh(i)
		}
		return copies[i]
	}
}

// crashNames applies some of the pending operations. One that builds on a lost
// one is lost too: so no state arises that could not have been.
func crashNames(stable map[string]*memInode, pending []nameOp, rnd *rand.Rand) map[string]*memInode {
	names := make(map[string]*memInode, len(stable))
	for n, i := range stable {
		names[n] = i
	}
	lost := map[string]bool{}
	keep := rnd.Float64()
	for _, op := range pending {
		if lost[op.from] || (op.to != "" && lost[op.to]) || rnd.Float64() > keep {
			lost[op.from] = true
			if op.to != "" {
				lost[op.to] = true
			}
			continue
		}
		op.apply(names)
	}
	return names
}

func (op nameOp) apply(names map[string]*memInode) {
	switch {
	case op.to != "":
		delete(names, op.from)
		names[op.to] = op.inode
	case op.inode == nil:
		delete(names, op.from)
	default:
		names[op.from] = op.inode
	}
}

func sortedNames(names map[string]*memInode) []string {
	out := make([]string, 0, len(names))
	for n := range names {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// crash chooses sector by sector between what was synced and what was written.
func (f *memInode) crash(rnd *rand.Rand) *memInode {
	data := append([]byte(nil), f.stable...)
	if len(f.data) != len(data) && rnd.IntN(2) == 0 {
		data = resize(data, int64(len(f.data)))
	}
	dirty := make([]int64, 0, len(f.dirty))
	for s := range f.dirty {
		dirty = append(dirty, s)
	}
	sort.Slice(dirty, func(i, k int) bool { return dirty[i] < dirty[k] })
	keep := rnd.Float64()
	for _, s := range dirty {
		from, to := s*sector, min((s+1)*sector, int64(len(f.data)), int64(len(data)))
		if from < to && rnd.Float64() < keep {
			copy(data[from:to], f.data[from:to])
		}
	}
	return &memInode{data: data, stable: data, dirty: map[int64]struct{}{}, lent: true, stableLent: true}
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// begin counts an operation and asks the hook.
func (m *Mem) begin(op Op) error {
	m.mu.Lock()
	m.ops++
	op.N = m.ops
	m.mu.Unlock()
	if m.Fault == nil {
		return nil
	}
	return m.Fault(op)
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	name = filepath.Clean(name)
	if err := m.begin(Op{Kind: OpCreate, Path: name}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Dir(name)] {
		return nil, notExist("create", name)
	}
	f := m.names[name]
	if f == nil {
		f = &memInode{dirty: map[int64]struct{}{}}
		m.change(nameOp{from: name, inode: f})
	} else {
		f.truncate(0)
	}
	return &memFile{m: m, name: name, inode: f, write: true}, nil
}

// change makes a name's change, to be kept once the directory is synced.
func (m *Mem) change(op nameOp) {
	op.source = filepath.Dir(op.from)
	if op.target = op.source; op.to != "" {
		op.target = filepath.Dir(op.to)
	}
	op.apply(m.names)
	m.pending = append(m.pending, op)
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	name = filepath.Clean(name)
	if err := m.begin(Op{Kind: OpOpen, Path: name}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.names[name]
	if f == nil {
		return nil, notExist("open", name)
	}
	return &memFile{m: m, name: name, inode: f, write: write}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	name = filepath.Clean(name)
	if err := m.begin(Op{Kind: OpRemove, Path: name}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		for n := range m.names {
			if strings.HasPrefix(n, name+"/") {
				return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
			}
		}
		delete(m.dirs, name)
		return nil
	}
	f := m.names[name]
	if f == nil {
		return notExist("remove", name)
	}
	m.change(nameOp{from: name})
	return nil
}

// Rename implements FS. From one directory into another it is kept once both are synced.
func (m *Mem) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	if err := m.begin(Op{Kind: OpRename, Path: from, To: to}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.names[from]
	if f == nil {
		return notExist("rename", from)
	}
	if !m.dirs[filepath.Dir(to)] {
		return notExist("rename", to)
	}
	m.change(nameOp{from: from, to: to, inode: f})
	return nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.names[filepath.Clean(name)]
	if f == nil {
		return 0, notExist("stat", name)
	}
	return int64(len(f.data)), nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	if err := m.begin(Op{Kind: OpMkdir, Path: dir}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := dir; !m.dirs[d]; d = filepath.Dir(d) {
		m.dirs[d] = true
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	if err := m.begin(Op{Kind: OpReadDir, Path: dir}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return nil, notExist("readdir", dir)
	}
	var out []string
	for n := range m.names {
		if filepath.Dir(n) == dir {
			out = append(out, filepath.Base(n))
		}
	}
	for d := range m.dirs {
		if d != dir && filepath.Dir(d) == dir {
			out = append(out, filepath.Base(d))
		}
	}
	sort.Strings(out)
	return out, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	if err := m.begin(Op{Kind: OpSyncDir, Path: dir}); err == Pretend {
		return nil
	} else if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rest := m.pending[:0]
	for i := range m.pending {
		if op := &m.pending[i]; op.sync(dir) {
			op.apply(m.stable)
		} else {
			rest = append(rest, *op)
		}
	}
	m.pending = rest
	return nil
}

// Lock implements FS. The lock is the copy's own after a Crash: the process is gone.
func (m *Mem) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	if err := m.begin(Op{Kind: OpLock, Path: name}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, &LockedError{Name: name, PID: syscall.Getpid(), Holder: "this process"}
	}
	m.locks[name] = true
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.name)
	})
	return nil
}

// List is the name of every file, one a line.
func (m *Mem) List() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(sortedNames(m.names), "\n")
}
