// Package mariadb runs a real MariaDB for tests: on a private directory and socket, with settings that are quick but as
// durable as production's. It can be killed and started again. With GMQ_TEST_MYSQL_DSN it uses the server named
// there instead, which is not killed.
package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// DSNVariable names a server to be used in place of a private one: its user must be allowed to create databases.
const DSNVariable = "GMQ_TEST_MYSQL_DSN"

// Patience is how long is waited for the server to answer.
const Patience = 3 * time.Minute

// A Server is one database server for all tests of a binary.
type Server struct {
	dsn *mysql.Config
	dir string // "": not ours

	mu     sync.Mutex // guards the following
	cmd    *exec.Cmd
	exited chan struct{}
}

var (
	start  sync.Once
	shared *Server
	reason error // why there is none
	dbs    atomic.Int64
)

// A missing is why there can be no server here.
type missing struct{ error }

// Get is the binary's server, started by the first who asks. Where there can be none the test is skipped, with
// the reason; one that is there and does not start is a failure.
func Get(t testing.TB) *Server {
	t.Helper()
	start.Do(func() { shared, reason = open() })
	if errors.As(reason, &missing{}) {
		t.Skip("no MariaDB: ", reason)
	} else if reason != nil {
		t.Fatal("MariaDB does not start: ", reason)
	}
	return shared
}

// Main runs a binary's tests, and ends the server behind them. It is for TestMain: os.Exit(mariadb.Main(m.Run)).
func Main(run func() int) int {
	code := run()
	start.Do(func() { reason = errors.New("the tests are over") })
	if shared != nil && shared.dir != "" {
		shared.Kill()
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}

func open() (*Server, error) {
	if dsn := os.Getenv(DSNVariable); dsn != "" {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		return &Server{dsn: cfg}, nil
	}
	if err := install(); err != nil {
		return nil, missing{err}
	}
	dir, err := os.MkdirTemp(place(), "gmq-mariadb-")
	if err != nil {
		return nil, err
	}
	s, err := create(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// create makes a server in a directory, and starts it.
func create(dir string, flags ...string) (*Server, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "unix", filepath.Join(dir, "sock")
	s := &Server{dsn: cfg, dir: dir}
	out, err := exec.Command("mariadb-install-db", "--no-defaults", "--user="+user(), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--datadir="+filepath.Join(dir, "data")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	return s, s.Up(flags...)
}

// DirVariable names where the private server's directory is made. By default that is in memory, where there is such a place: what
// is there outlives every process, which is all that tests of kills ask of it. Benchmarks want a disk.
const DirVariable = "GMQ_TEST_MARIADB_DIR"

func place() string {
	if dir := os.Getenv(DirVariable); dir != "" {
		return dir
	}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// install sees to it that there is a mariadbd.
func install() error {
	if _, err := exec.LookPath("mariadbd"); err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("mariadbd is not installed, " + DSNVariable + " is not set, and only root may install it")
	}
	apt := func(args ...string) ([]byte, error) {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return cmd.CombinedOutput()
	}
	if _, err := apt("update", "-q"); err != nil {
		return fmt.Errorf("mariadbd is not installed, and apt-get update fails: %w", err)
	}
	if out, err := apt("install", "-yq", "--no-install-recommends", "mariadb-server"); err != nil {
		return fmt.Errorf("mariadbd cannot be installed: %w\n%.500s", err, out)
	}
	return nil
}

// user is whom the server is to run as: it refuses to run as root unless it is told to.
func user() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// Private reports whether the server is the tests' own, so that it can be killed.
func (s *Server) Private() bool { return s.dir != "" }

// NeedPrivate skips a test that kills the server where it is not ours.
func (s *Server) NeedPrivate(t testing.TB) {
	t.Helper()
	if !s.Private() {
		t.Skip("the server of " + DSNVariable + " is not ours to kill")
	}
}

// Up starts the server, with more flags if some are given, and waits until it answers.
func (s *Server) Up(flags ...string) error {
	args := append([]string{"--no-defaults", "--user=" + user(), "--datadir=" + filepath.Join(s.dir, "data"), "--socket=" + s.dsn.Addr,
		"--skip-networking", "--skip-log-bin", "--skip-name-resolve", "--performance-schema=off", "--pid-file=" + filepath.Join(s.dir, "pid"),
		"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=96M", "--max-connections=200"}, flags...)
	cmd := exec.Command("mariadbd", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr, cmd.Stdout = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	s.mu.Lock()
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	return s.await(exited)
}

// await waits until the server answers.
func (s *Server) await(exited chan struct{}) error {
	db, err := sql.Open("mysql", s.dsn.FormatDSN())
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("mariadbd ended: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("mariadbd does not answer: %w; its log: %s", err, s.Log())
		case <-tick.C:
		}
	}
}

// Log is the end of what the server has logged.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// Kill ends the server as a crash would (SIGKILL) and waits until it is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, exited := s.cmd, s.exited
	s.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-exited
	}
}

// Process is the server's process, to be stopped and continued.
func (s *Server) Process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process
}

// Database makes an empty database and returns its DSN; it is dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("gmq_test_%d_%d", os.Getpid(), dbs.Add(1))
	admin := s.Admin(t)
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec("DROP DATABASE IF EXISTS " + name); err != nil {
			t.Log(err)
		}
	})
	cfg := s.dsn.Clone()
	cfg.DBName = name
	return cfg.FormatDSN()
}

// Admin is a connection that may do anything.
func (s *Server) Admin(t testing.TB) *sql.DB {
	t.Helper()
	return Connect(t, s.dsn.FormatDSN())
}

// Connect is a pool of connections to the database of a DSN, closed when the test ends.
func Connect(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Quiet keeps the driver from writing to standard error what tests expect: lost connections.
func Quiet() {
	_ = mysql.SetLogger(quiet{}) // fails for nil only
}

type quiet struct{}

func (quiet) Print(...any) {}
