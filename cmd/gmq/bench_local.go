package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A localServer is a server in a process of its own that lives for one bench: so it has its own garbage collector and
// its own bill for the processors.
type localServer struct {
	cmd    *exec.Cmd
	dir    string
	addr   string
	exited chan struct{}
	remove func() error // its directory

	mu   sync.Mutex // guards the following
	last string     // that it logged
}

// localLimits are more than the defaults where the load needs that, and the user has not said otherwise.
func localLimits(f *benchFlags) (env []string) {
	s := &f.set
	for _, l := range []struct {
		name             string
		needed, defaults int
	}{
		{"GMQ_LIMITS_MAX_QUEUES", s.Queues + 10, 4096},
		{"GMQ_LIMITS_MAX_CONNECTIONS", s.Publishers + s.Consumers + s.Subscribers + s.Idle + 10, 10_000},
		{"GMQ_LIMITS_MAX_MESSAGE_BYTES", s.Size, 1 << 20},
	} {
		if l.needed > l.defaults && os.Getenv(l.name) == "" {
			env = append(env, l.name+"="+strconv.Itoa(l.needed))
		}
	}
	return append(env, "GMQ_LOG_FORMAT=json", "GMQ_LOG_LEVEL=info")
}

// startLocal starts the server and waits until it is ready. It has its own process group, so that ^C is bench's alone.
func startLocal(ctx context.Context, f *benchFlags) (*localServer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(f.dir, "gmq-bench-")
	if err != nil {
		return nil, err
	}
	s := &localServer{dir: dir, exited: make(chan struct{}), remove: sync.OnceValue(func() error { return os.RemoveAll(dir) })}
	s.cmd = exec.Command(exe, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "off", "--storage", f.local.value)
	s.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "NOTIFY_SOCKET=") }), localLimits(f)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	ready := make(chan string, 1)
	go s.read(log, ready)
	select {
	case s.addr = <-ready:
		return s, nil
	case <-s.exited:
		s.discard()
		return nil, fmt.Errorf("the local server did not start: %s", s.lastLine())
	case <-ctx.Done():
		s.discard()
		return nil, errors.New("interrupted before the load began")
	}
}

// read takes what the server logs until it ends.
func (s *localServer) read(log io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			ready <- line.Listen
		}
		s.mu.Lock()
		s.last = lines.Text()
		s.mu.Unlock()
	}
	// How it ended shows in what it has logged last, and in its exit code.
	_ = s.cmd.Wait()
	close(s.exited)
}

func (s *localServer) lastLine() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimPrefix(s.last, "gmq: ")
}

// end stops the server in good order and removes what it has stored.
func (s *localServer) end(patience time.Duration) error {
	// It fails where the process has ended, and then exited tells.
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	var err error
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			err = fmt.Errorf("the local server ended with exit code %d: %s", code, s.lastLine())
		}
	case <-time.After(patience):
		err = fmt.Errorf("the local server did not end within %v", patience)
	}
	s.discard()
	return errors.Join(err, s.remove())
}

// discard ends the server at once and removes what it has stored.
func (s *localServer) discard() {
	_ = s.cmd.Process.Kill() // as above
	<-s.exited
	_ = s.remove() // end tells
}
