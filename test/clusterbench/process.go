package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long something may take that must come about.
const patience = 60 * time.Second

// A process is a node's. What it says goes into a file in its directory.
type process struct {
	cmd  *exec.Cmd
	over chan struct{}
}

func spawn(dir, name string, env []string, command string, args ...string) (*process, error) {
	f, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(command, args...), over: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = f, f, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with what it starts itself
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.over)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.over
}

// record has perf look at processes, which goes on until the function that it returns has been called.
func record(base string, pids []int, d time.Duration) (wait func()) {
	var all []*process
	for i, pid := range pids {
		p, err := spawn(filepath.Dir(base), "perf", nil, "perf", "record", "-q", "-g", "-F", "499", "-o", fmt.Sprintf("%s-n%d.data", base, i+1),
			"-p", fmt.Sprint(pid), "--", "sleep", fmt.Sprint(max(d.Seconds()-0.5, 0.5)))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		all = append(all, p)
	}
	return func() {
		for _, p := range all {
			<-p.over
		}
	}
}

// freePorts are ports of loopback that nobody has at the moment.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // when all are known, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// until looks again and again until ok says so.
func until(what string, ok func() bool) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-look.C:
		case <-deadline:
			return fmt.Errorf("waited %v in vain until %s", patience, what)
		}
	}
	return nil
}
