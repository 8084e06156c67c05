package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Both file systems do the same.
func TestSame(t *testing.T) {
	for name, c := range map[string]struct {
		fs  FS
		dir string
	}{"os": {OS(), t.TempDir()}, "mem": {NewMem(), "/d"}} {
		t.Run(name, func(t *testing.T) { testFS(t, c.fs, c.dir) })
	}
}

func testFS(t *testing.T, fsys FS, dir string) {
	dir = filepath.Join(dir, "a", "b")
	must(t, fsys.MkdirAll(dir))
	file := func(n string) string { return filepath.Join(dir, n) }
	if _, err := fsys.Open(file("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := fsys.Stat(file("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	f, err := fsys.Create(file("x"))
	must(t, err)
	must(t, f.Allocate(100))
	_, err = f.WriteAt([]byte("hello"), 98)
	must(t, err)
	must(t, f.Sync())
	if n, err := f.Size(); err != nil || n != 103 {
		t.Error(n, err)
	}
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 96); n != 7 || err == nil || string(b[:n]) != "\x00\x00hello" {
		t.Error(n, err, b)
	}
	must(t, f.Truncate(99))
	must(t, f.Close())
	if err := f.Sync(); err == nil {
		t.Error("a closed file was synced")
	}
	must(t, fsys.Rename(file("x"), file("y")))
	must(t, WriteFileAtomic(fsys, file("z"), []byte("1"), nil, []byte("23")))
	must(t, fsys.SyncDir(dir))
	names, err := fsys.ReadDir(dir)
	must(t, err)
	if strings.Join(names, " ") != "y z" {
		t.Error(names)
	}
	if got, err := ReadFile(fsys, file("z"), 10); err != nil || string(got) != "123" {
		t.Error(got, err)
	}
	if _, err := ReadFile(fsys, file("z"), 2); err == nil {
		t.Error("a file beyond the limit was read")
	}
	must(t, fsys.Remove(file("y")))
	if _, err := fsys.Open(file("y")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	r, err := fsys.Open(file("z"))
	must(t, err)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a file that was opened for reading was written")
	}
	must(t, r.Close())
	other := filepath.Join(dir, "other")
	must(t, fsys.MkdirAll(other))
	must(t, fsys.Rename(file("z"), filepath.Join(other, "z")))
	if got, err := ReadFile(fsys, filepath.Join(other, "z"), 10); err != nil || string(got) != "123" {
		t.Error(got, err)
	}
	if err := fsys.Rename(filepath.Join(other, "z"), filepath.Join(dir, "none", "z")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := fsys.Remove(other); err == nil {
		t.Error("a directory that is not empty was removed")
	}
	must(t, fsys.Remove(filepath.Join(other, "z")))
	must(t, fsys.Remove(other))
	if _, err := fsys.ReadDir(other); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	lock, err := fsys.Lock(file("LOCK"))
	must(t, err)
	_, err = fsys.Lock(file("LOCK"))
	if locked := (*LockedError)(nil); !errors.As(err, &locked) || locked.PID != os.Getpid() || !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	must(t, lock.Close())
	lock, err = fsys.Lock(file("LOCK"))
	must(t, err)
	must(t, lock.Close())
}

// What was synced is always there after a crash; all else sometimes.
func TestCrash(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(300) {
		m := NewMem()
		must(t, m.MkdirAll("/d"))
		must(t, WriteFileAtomic(m, "/d/kept", []byte(strings.Repeat("k", 2000))))
		f, err := m.OpenWrite("/d/kept")
		must(t, err)
		_, err = f.WriteAt([]byte(strings.Repeat("n", 1024)), 512)
		must(t, err)
		g, err := m.Create("/d/new")
		must(t, err)
		must(t, g.Sync())
		must(t, m.Rename("/d/new", "/d/newer"))
		c := m.Kill().Crash(rand.New(rand.NewPCG(seed, 0)))
		got, err := ReadFile(c, "/d/kept", 2000)
		must(t, err)
		if string(got[:512])+string(got[1536:]) != strings.Repeat("k", 976) {
			t.Fatal("what was synced is gone")
		}
		seen[string(got[512])+string(got[1024])]++
		seen[c.List()]++
	}
	for _, want := range []string{"kk", "kn", "nk", "nn", "/d/kept", "/d/kept\n/d/new", "/d/kept\n/d/newer"} {
		if seen[want] < 10 {
			t.Errorf("%q came about %d times", want, seen[want])
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("this cannot come about: %v", seen)
	}
}

// A file that goes from one directory into another is in one of them after a crash, and in the new one for certain
// once both are synced.
func TestCrashAcrossDirectories(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(100) {
		m := NewMem()
		must(t, errors.Join(m.MkdirAll("/a"), m.MkdirAll("/b"), WriteFileAtomic(m, "/a/f", []byte("x"))))
		must(t, m.Rename("/a/f", "/b/f"))
		crash := func() string { return m.Kill().Crash(rand.New(rand.NewPCG(seed, 0))).List() }
		seen["unsynced "+crash()]++
		must(t, m.SyncDir("/b"))
		seen["half "+crash()]++
		must(t, m.SyncDir("/a"))
		seen["synced "+crash()]++
	}
	for _, want := range []string{"unsynced /a/f", "unsynced /b/f", "half /a/f", "half /b/f"} {
		if seen[want] < 10 {
			t.Errorf("%q came about %d times", want, seen[want])
		}
	}
	if seen["synced /b/f"] != 100 || len(seen) != 5 {
		t.Errorf("%v", seen)
	}
}

func TestFaults(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("/d"))
	f, err := m.Create("/d/f")
	must(t, err)
	m.Fault = func(op Op) error {
		switch op.Kind {
		case OpWrite:
			return &Short{N: 3, Err: syscall.EIO}
		case OpSync:
			return syscall.ENOSPC
		}
		return nil
	}
	if n, err := f.WriteAt([]byte("hello"), 0); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Error(n, err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	m.Fault = nil
	if got, err := ReadFile(m, "/d/f", 10); err != nil || string(got) != "hel" {
		t.Errorf("%q %v", got, err)
	}
	m.SetCapacity(10)
	if err := f.Allocate(11); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if _, err := f.WriteAt(make([]byte, 11), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	must(t, f.Allocate(10))
	must(t, m.Flip("/d/f", 1, 1))
	if got, err := ReadFile(m, "/d/f", 10); err != nil || string(got[:3]) != "hdl" {
		t.Errorf("%q %v", got, err)
	}
}
