package watermill_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
)

// broker is the server that all tests of the package use, in a process of its own.
var broker *server

// restartArgument makes this test binary the command that kills the broker and starts it again: the suite
// wants a command, and the process belongs to the one that runs the tests.
const restartArgument = "restart-the-broker"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == restartArgument {
		os.Exit(askRestart(os.Args[2]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gmq-watermill-")
	if err == nil {
		defer os.RemoveAll(dir)
		if broker, err = newServer(dir); err == nil {
			defer broker.kill()
			return m.Run()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A server is the real one, over files.
type server struct {
	exe, data string
	control   net.Listener // a connection to it restarts the server

	mu    sync.Mutex // guards the following
	cmd   *exec.Cmd
	addr  string
	kills int
}

func newServer(dir string) (*server, error) {
	s := &server{exe: os.Getenv("GMQ_EXE"), data: filepath.Join(dir, "data")}
	if s.exe == "" {
		s.exe = filepath.Join(dir, "gmq")
		build := exec.Command("go", "build", "-o", s.exe, "./cmd/gmq")
		build.Dir = "../.."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	var err error
	if s.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go s.listen()
	return s, s.start()
}

// start runs the process and returns when it is ready. s.mu is held, or nobody else knows s yet.
func (s *server) start() error {
	cmd := exec.Command(s.exe, "serve", "--data", s.data, "--listen", "127.0.0.1:0", "--admin", "off")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	lines := bufio.NewScanner(stderr)
	var log []string
	for lines.Scan() {
		log = append(log, lines.Text())
		var line struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			s.addr = line.Listen
			go func() {
				for lines.Scan() {
				}
			}()
			return nil
		}
	}
	return fmt.Errorf("the server was not ready:\n%s", strings.Join(log, "\n"))
}

// kill ends the process as kill -9 does, and waits until it is gone. s.mu is held, or the tests are over.
func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	s.kills++
	return s.start()
}

// listen restarts the server for each connection, and answers with what became of it.
func (s *server) listen() {
	for {
		conn, err := s.control.Accept()
		if err != nil {
			return
		}
		if err := s.restart(); err != nil {
			fmt.Fprintln(conn, err)
		} else {
			fmt.Fprintln(conn, "ok")
		}
		conn.Close()
	}
}

func askRestart(addr string) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "ok\n" {
		fmt.Fprintln(os.Stderr, line, err)
		return 1
	}
	return 0
}

// restartCommand is what the suite runs to have the broker killed and started again.
func (s *server) restartCommand() []string {
	return []string{os.Args[0], restartArgument, s.control.Addr().String()}
}

// dial connects to wherever the server is now: a new process has another port.
func (s *server) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	addr := s.addr
	s.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// client connects a client that is closed at the end of t.
func (s *server) client(t *testing.T) *gmq.Client {
	t.Helper()
	c, err := gmq.Dial(context.Background(), "the broker of the tests", gmq.DialWith(s.dial), gmq.Backoff(10*time.Millisecond, 100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
