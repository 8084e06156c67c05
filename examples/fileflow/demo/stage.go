package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// A stage is the processes. It belongs to the goroutine that plays.
type stage struct {
	tmp     string
	gmqAddr string
	webAddr string
	broker  *proc
	web     *proc
	workers []*proc
	failed  chan error // processes that ended and were not meant to
}

func (s *stage) path(name string) string { return filepath.Join(s.tmp, name) }

// build makes the three programs.
func (s *stage) build(ctx context.Context) error {
	const module = "github.com/gmq/gmq/"
	for name, pkg := range map[string]string{
		"gmq": "cmd/gmq", "web": "examples/fileflow/web", "worker": "examples/fileflow/worker",
	} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", s.path(name), module+pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	err := errors.Join(os.Mkdir(s.path("store"), 0o755), os.Mkdir(s.path("results"), 0o755))
	if err != nil {
		return err
	}
	if s.gmqAddr, err = freeAddr(); err != nil {
		return err
	}
	s.webAddr, err = freeAddr()
	return err
}

// freeAddr finds a port that nobody listens on.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (s *stage) startBroker(ctx context.Context) error {
	var err error
	s.broker, err = s.start("gmq", "serve", "--data", s.path("data"), "--listen", s.gmqAddr, "--admin", "off")
	return errors.Join(err, s.reachable(ctx, s.gmqAddr))
}

func (s *stage) startWeb(ctx context.Context) error {
	var err error
	s.web, err = s.start("web", "-listen", s.webAddr, "-store", s.path("store"), "-gmq", s.gmqAddr, "-confirm", "500ms")
	return errors.Join(err, s.reachable(ctx, s.webAddr))
}

func (s *stage) startWorkers(n int) error {
	for range n {
		w, err := s.start("worker", "-store", s.path("store"), "-results", s.path("results"), "-gmq", s.gmqAddr)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, w)
	}
	return nil
}

func (s *stage) killWorkers() {
	for _, w := range s.workers {
		w.end(syscall.SIGKILL)
	}
	s.workers = nil
}

// stop ends what still runs, those first who need the others.
func (s *stage) stop() {
	for _, p := range append(append([]*proc{s.web}, s.workers...), s.broker) {
		if p != nil {
			p.end(syscall.SIGTERM)
		}
	}
}

// reachable waits until somebody listens at addr.
func (s *stage) reachable(ctx context.Context, addr string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on %s: %w", addr, ctx.Err())
		}
	}
}

// A proc is a process of ours.
type proc struct {
	cmd    *exec.Cmd
	ending atomic.Bool
	ended  chan struct{}
}

// start runs one of the built programs; its output is appended to a log.
func (s *stage) start(name string, args ...string) (*proc, error) {
	log, err := os.OpenFile(s.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	p := &proc{cmd: exec.Command(s.path(name), args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// The terminal's interrupt is for the demo, which then ends the others.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := p.cmd.Wait()
		if !p.ending.Load() {
			s.failed <- fmt.Errorf("%s ended by itself (%v); see %s", name, err, log.Name())
		}
		close(p.ended)
	}()
	return p, nil
}

// endTime is how long a process may take to end when asked politely.
const endTime = 20 * time.Second

func (p *proc) end(sig os.Signal) {
	p.ending.Store(true)
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
	case <-time.After(endTime):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}
