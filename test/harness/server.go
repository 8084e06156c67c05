package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It is far above what anything takes, so
// that a busy machine fails no test.
const Patience = 60 * time.Second

// A Server is a data directory and, most of the time, a process that serves it.
type Server struct {
	Addr  string // of the running process
	Admin string // its admin address; "" where the configuration names none
	Data  string

	t      testing.TB
	env    []string
	config string
	join   string // with which it becomes a node of a cluster
	admin  bool   // the configuration says where the admin address is
	stays  bool   // it is always at the same address
	cmd    *exec.Cmd
	ready  chan address  // gives the addresses when the process serves
	exited chan struct{} // closed when the process has ended

	mu  sync.Mutex // guards the following
	log []string
}

type address struct{ listen, admin string }

// Start runs a server on a new data directory. The configuration is YAML; the addresses and the
// directory are the harness's; there is an admin address only where the configuration has one (admin: 127.0.0.1:0). It is killed when the test ends.
func Start(t testing.TB, config string) *Server {
	t.Helper()
	return StartOn(t, filepath.Join(t.TempDir(), "data"), config)
}

// Join is Start for a further node of the cluster of which somebody has given this token.
func Join(t testing.TB, config, token string) *Server {
	t.Helper()
	s := &Server{Data: filepath.Join(t.TempDir(), "data"), t: t, config: filepath.Join(t.TempDir(), "gmq.yaml"), env: storageEnv(t, config), join: token}
	s.begin(config)
	return s
}

// StartOn is Start on a data directory that the test has chosen.
func StartOn(t testing.TB, data, config string) *Server {
	t.Helper()
	s := &Server{Data: data, t: t, config: filepath.Join(t.TempDir(), "gmq.yaml"), env: storageEnv(t, config)}
	s.begin(config)
	return s
}

func (s *Server) begin(config string) {
	s.t.Helper()
	s.Configure(config)
	if err := s.Up(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.end)
}

// Configure replaces the configuration; it holds from the next start.
func (s *Server) Configure(config string) {
	s.t.Helper()
	s.admin = strings.HasPrefix(config, "admin:") || strings.Contains(config, "\nadmin:")
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Stay has the server at the address of now whenever it is started again: for clients that know no other.
func (s *Server) Stay() { s.stays = true }

// end kills the process, and shows what it logged where the test failed.
func (s *Server) end() {
	s.Kill()
	if s.t.Failed() {
		s.t.Logf("the server's log:\n%s", strings.Join(s.Log(), "\n"))
	}
}

// Up starts the process and waits until it says that it is ready. Unlike the
// other methods it may be called from any goroutine, as it fails no test.
func (s *Server) Up() error {
	if err := s.Spawn(); err != nil {
		return err
	}
	select {
	case at := <-s.ready:
		s.Addr, s.Admin = at.listen, at.admin
		return nil
	case <-s.exited:
	case <-time.After(Patience):
		s.Kill()
	}
	return fmt.Errorf("the server was not ready; its log:\n%s", strings.Join(s.Log(), "\n"))
}

// Spawn starts the process and does not wait for anything. Addr is not known.
func (s *Server) Spawn() error {
	listen := "127.0.0.1:0"
	if s.stays {
		listen = s.Addr
	}
	args := []string{"serve", "--config", s.config, "--data", s.Data, "--listen", listen}
	if !s.admin {
		args = append(args, "--admin", "off")
	}
	if s.join != "" {
		args = append(args, "--join", s.join)
	}
	cmd := exec.Command(Exe(s.t), args...)
	cmd.Env = append(os.Environ(), s.env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.ready, s.exited = cmd, make(chan address, 1), make(chan struct{})
	go s.read(stderr, s.ready, s.exited)
	return nil
}

// read takes the server's log until it ends, and reaps the process.
func (s *Server) read(stderr io.Reader, ready chan<- address, exited chan<- struct{}) {
	cmd := s.cmd
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.log = append(s.log, lines.Text())
		s.mu.Unlock()
		var line struct{ Msg, Listen, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			ready <- address{line.Listen, line.Admin}
		}
	}
	cmd.Wait()
	close(exited)
}

// Log is what the server has logged, over all its lives.
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// Kill ends the process as a crash would (SIGKILL) and waits until it is gone.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// Running reports whether the process is there.
func (s *Server) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the process of now has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// ExitCode is that of the process that has ended, -1 where a signal ended it.
func (s *Server) ExitCode() int {
	<-s.exited
	return s.cmd.ProcessState.ExitCode()
}

// PID is that of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Restart kills the process and starts it again on the same data.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.Up(); err != nil {
		s.t.Fatal(err)
	}
}

// Term asks the process to end and gives its exit code, which is -1 where it had to be killed.
func (s *Server) Term() int {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(Patience):
		s.Kill()
	}
	return s.cmd.ProcessState.ExitCode()
}

// Hup tells the process to read its configuration again; it answers in its log.
func (s *Server) Hup() { s.cmd.Process.Signal(syscall.SIGHUP) }

// Memory is the resident memory of the process in bytes, now and at its highest. The test is
// skipped where the system does not tell.
func (s *Server) Memory() (now, peak int64) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skip("this system does not tell the memory of a process: ", err)
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak
}

// Eventually looks every few milliseconds until ok, for what no event announces.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain until %s", Patience, what)
		}
	}
}
