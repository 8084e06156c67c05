package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An audit file that cannot be written is told of, once for as long as it lasts, and counted.
func TestAuditFileThatFails(t *testing.T) {
	t.Parallel()
	var told []error
	l := &logFile{name: filepath.Join(t.TempDir(), "audit"), failing: func(err error) { told = append(told, err) }}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	write := func() {
		if _, err := l.Write([]byte("x\n")); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
	write()
	l.f.Close() // as good as a full disk
	write()
	write()
	if len(told) != 1 || l.failed.Load() != 2 {
		t.Errorf("told %v, counted %d", told, l.failed.Load())
	}
	_ = l.open() // which cannot close what is closed
	write()
	l.f.Close()
	write()
	if len(told) != 2 || l.failed.Load() != 3 {
		t.Errorf("told %v, counted %d", told, l.failed.Load())
	}
}

// Whoever was made while nobody had to log in is told of when logins begin to be required.
func TestUsersFromBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServerWith(t, filepath.Join(dir, "data"), "127.0.0.1:0", nil)
	s.must("a good password\n", "user", "add", "admin", "--allow", "*:>", "--password-stdin")
	s.must("", "token", "add", "t", "--allow", "*:>")
	s.stop()
	config := writeFile(t, "auth: {required: true}\n", 0o600)
	s = startServerWith(t, filepath.Join(dir, "data"), "127.0.0.1:0", []string{"GMQ_ADMIN_PASSWORD=mine"}, "--config", config)
	r := gmqRun(t, append(s.env(), "GMQ_USER=admin", "GMQ_PASSWORD=mine"), "", "user", "ls")
	equal(t, "the variable", r.code, exitNotAllowed)
	s.stop()
	if log := s.log.String(); !strings.Contains(log, "counts for nothing") || !strings.Contains(log, `"users":1,"tokens":1`) {
		t.Errorf("the log says: %s", log)
	}
}

// A file with a secret that others may read is told of by its name and mode, and not by what is in it.
func TestSecretsThatOthersMayRead(t *testing.T) {
	t.Parallel()
	s, admin := lockedServer(t)
	password := strings.TrimPrefix(admin[len(admin)-1], "GMQ_PASSWORD=")
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o440: false, 0o644: true} {
		file := writeFile(t, password+"\n", 0o600)
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		r := gmqRun(t, append(s.env(), "GMQ_USER=admin"), "", "user", "ls", "--password-file", file)
		equal(t, "code: "+r.err, r.code, 0)
		if strings.Contains(r.err, "chmod 600 "+file) != warned || strings.Contains(r.err, password) {
			t.Errorf("mode %o: %s", mode, r.err)
		}
	}
}
