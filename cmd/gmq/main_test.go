package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exe is the binary that the tests run.
var exe string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gmq-cli-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	exe = filepath.Join(dir, "gmq")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version=v9.8.7", "-o", exe, ".")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience ends what hangs; nothing is measured by it.
const patience = 60 * time.Second

// command is the binary with an environment that says nothing to gmq.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GMQ_") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") && !strings.HasPrefix(e, "XDG_CONFIG_HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+filepath.Join(filepath.Dir(exe), "none")) // whoever runs the tests may have contexts
	return cmd
}

type result struct {
	code     int
	out, err string
}

// gmqRun runs the binary to its end.
func gmqRun(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, env...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	// Exit codes are looked at; what else went wrong shows in them.
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// A daemon is a running gmq serve.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	addr   string
	admin  string
	lines  chan logLine // what it logs; closed at its end
	log    strings.Builder
	exited bool
}

type logLine struct {
	Msg, Listen, Admin, Err string
	raw                     string
}

func startServer(t *testing.T, args ...string) *daemon {
	t.Helper()
	return startServerWith(t, t.TempDir(), "127.0.0.1:0", nil, args...)
}

func startServerWith(t *testing.T, dir, listen string, env []string, args ...string) *daemon {
	t.Helper()
	s := &daemon{t: t, dir: dir, lines: make(chan logLine, 1024)}
	s.cmd = command(t, append([]string{"serve", "--data", dir, "--listen", listen, "--admin", "off"}, args...)...)
	s.cmd.Env = append(s.cmd.Env, env...)
	stderr, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		in := bufio.NewScanner(stderr)
		for in.Scan() {
			l := logLine{raw: in.Text()}
			_ = json.Unmarshal(in.Bytes(), &l) // the last words of a failed start are no JSON
			s.lines <- l
		}
	}()
	t.Cleanup(func() { s.signal(syscall.SIGKILL); s.wait() })
	ready := s.await("ready")
	s.addr, s.admin = ready.Listen, ready.Admin
	return s
}

// await reads the log until the server says msg.
func (s *daemon) await(msg string) logLine {
	s.t.Helper()
	for l := range s.lines {
		s.log.WriteString(l.raw + "\n")
		if l.Msg == msg {
			return l
		}
	}
	s.t.Fatalf("the server ended and never said %q:\n%s", msg, s.log.String())
	return logLine{}
}

func (s *daemon) signal(sig os.Signal) {
	if !s.exited {
		_ = s.cmd.Process.Signal(sig) // one that has ended shows in wait
	}
}

// wait waits for its end and tells the exit code.
func (s *daemon) wait() int {
	if !s.exited {
		s.exited = true
		for l := range s.lines {
			s.log.WriteString(l.raw + "\n")
		}
		_ = s.cmd.Wait() // the exit code says it
	}
	return s.cmd.ProcessState.ExitCode()
}

// stop drains the server.
func (s *daemon) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != 0 {
		s.t.Fatalf("TERM: exit code %d\n%s", code, s.log.String())
	}
}

func (s *daemon) env() []string { return []string{"GMQ_SERVER=" + s.addr} }

// run runs a command against the server.
func (s *daemon) run(stdin string, args ...string) result {
	s.t.Helper()
	return gmqRun(s.t, s.env(), stdin, args...)
}

// must is run where nothing may go wrong; it gives stdout.
func (s *daemon) must(stdin string, args ...string) string {
	s.t.Helper()
	r := s.run(stdin, args...)
	if r.code != 0 || r.err != "" {
		s.t.Fatalf("gmq %s: exit code %d, %s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// counts are those of a queue.
func (s *daemon) counts(queue string) map[string]int {
	s.t.Helper()
	var info struct{ Counts map[string]int }
	if err := json.Unmarshal([]byte(s.must("", "queue", "info", queue, "-o", "json")), &info); err != nil {
		s.t.Fatal(err)
	}
	return info.Counts
}

// A child is a running command whose stdin and stdout are ours.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
	pip io.Closer
}

func (s *daemon) start(args ...string) *child {
	s.t.Helper()
	c := &child{Cmd: command(s.t, args...)}
	c.Env = append(c.Env, s.env()...)
	c.Stderr = &c.err
	var err error
	if c.in, err = c.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	c.pip, c.out = out, bufio.NewReader(out)
	s.t.Cleanup(func() {
		_ = c.Process.Kill() // most have ended long ago
		_ = c.Wait()
	})
	return c
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		code := c.end()
		t.Fatalf("%v; code %d, stderr: %s", err, code, c.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// end waits for the end and gives the exit code.
func (c *child) end() int {
	_ = c.Wait() // the exit code says it
	return c.ProcessState.ExitCode()
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func contains(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: no %q in:\n%s", what, part, got)
		}
	}
}
