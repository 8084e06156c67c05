package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTermDrainsAndKeeps(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("kept\n", "pub", "q")
	s.stop()
	contains(t, "the log", s.log.String(), `"msg":"draining"`, `"msg":"stopped"`)
	again := startServerWith(t, s.dir, "127.0.0.1:0", nil)
	equal(t, "after the restart", again.must("", "sub", "q"), "kept\n")
}

func TestSecondServerRefuses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := gmqRun(t, nil, "", "serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--admin", "off")
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, fmt.Sprintf("locked by process %d ", s.cmd.Process.Pid))
	equal(t, "lines", strings.Count(r.err, "\n"), 1)
	s.must("", "ping")
}

func TestHangupReloadsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "gmq.yaml")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("limits: {max_queues: 1}\n")
	s := startServer(t, "--config", file)
	s.must("", "queue", "create", "a")
	full := func(queue string) {
		t.Helper()
		contains(t, "stderr", s.run("", "queue", "create", queue).err, "gmq: too_many_queues:")
	}
	full("b")
	configure("limits: {max_queues: 2}\n")
	s.signal(syscall.SIGHUP)
	s.await("configuration reloaded")
	s.must("", "queue", "create", "b")
	full("c")
	for _, bad := range []struct{ text, because string }{
		{"limits: {max_queues: 3, max_qeues: 3}\n", "max_qeues"},
		{"limits: {max_queues: 3}\nstorage: {file: {sync: never}}\n", "storage.file.sync"},
	} {
		configure(bad.text)
		s.signal(syscall.SIGHUP)
		for l := range s.lines {
			if strings.HasPrefix(l.Msg, "configuration not reloaded") {
				contains(t, "the log", l.raw, bad.because)
				break
			}
		}
		full("c")
	}
	configure("limits: {max_queues: 3}\n")
	s.signal(syscall.SIGHUP)
	s.await("configuration reloaded")
	s.must("", "queue", "create", "c")
	s.signal(syscall.SIGHUP)
	contains(t, "nothing has changed", s.await("configuration reloaded").raw, `"changed":[]`)
	s.stop()
}

func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "gmq") // the names of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	hear := func() string {
		t.Helper()
		b := make([]byte, 1024)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	s := startServerWith(t, t.TempDir(), "127.0.0.1:0", []string{"NOTIFY_SOCKET=" + socket})
	equal(t, "at first", hear(), "READY=1")
	s.must("", "ping")
	s.stop()
	equal(t, "at last", hear(), "STOPPING=1")
}
