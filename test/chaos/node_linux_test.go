package chaos_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
)

// A node is a machine: a network, a disk and most of the time a process.
type node struct {
	t     *testing.T
	net   *network
	index int
	disk  *disk.Disk // nil: the machine's, which forgets nothing
	data  string
	cmd   *exec.Cmd
	ready chan struct{} // closed when the process serves clients
	ended chan struct{} // closed when it is gone

	mu   sync.Mutex // guards the following
	name string     // in the cluster, of the process that runs or ran last
	log  []string
}

func (n *node) addr() string { return ipOf(n.index) + ":4567" }

// start starts the process and waits for nothing. With a token it joins.
func (n *node) start(token string) error {
	args := []string{"serve", "--data", n.data, "--listen", ":4567", "--cluster-listen", ipOf(n.index) + ":4569", "--admin", "off", "--insecure"}
	if token != "" {
		args = append(args, "--join", token)
	}
	cmd := exec.Command(harness.Exe(n.t), args...)
	storage := "file"
	if os.Getenv("GMQ_STORAGE_MYSQL_DSN") != "" { // which every node gets
		storage = "mysql"
	}
	cmd.Env = append(os.Environ(), "GMQ_QUEUE_DEFAULTS_STORAGE="+storage, fmt.Sprintf("GMQ_CLUSTER_REPLICAS=%d", n.net.nodes))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := n.net.within(n.index, cmd.Start); err != nil {
		return err
	}
	n.cmd, n.ready, n.ended = cmd, make(chan struct{}), make(chan struct{})
	n.note("--- process %d", cmd.Process.Pid)
	go n.read(cmd, stderr, n.ready, n.ended)
	return nil
}

// up starts the process and waits until it serves.
func (n *node) up(token string) error {
	if err := n.start(token); err != nil {
		return err
	}
	select {
	case <-n.ready:
		return nil
	case <-n.ended:
		return fmt.Errorf("node %d has ended with exit code %d", n.index+1, n.cmd.ProcessState.ExitCode())
	case <-time.After(harness.Patience):
		return fmt.Errorf("node %d is not ready after %v", n.index+1, harness.Patience)
	}
}

// read takes the log until it ends, and reaps the process.
func (n *node) read(cmd *exec.Cmd, stderr io.Reader, ready, ended chan<- struct{}) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.note("%s", lines.Text())
		var line struct{ Msg string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			close(ready)
		}
	}
	cmd.Wait()
	close(ended)
}

func (n *node) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// lately is the end of the node's log.
func (n *node) lately(lines int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.log[max(0, len(n.log)-lines):], "\n")
}

// logged reports whether the log of the last process has a text.
func (n *node) logged(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, line := range slices.Backward(n.log) {
		if strings.Contains(line, text) {
			return true
		}
		if strings.Contains(line, "--- process") {
			break
		}
	}
	return false
}

// token is one for another node to join. It is told to those on the machine itself only, as there is no TLS for clients here.
func (n *node) token() (token string, err error) {
	cmd := exec.Command(harness.Exe(n.t), "cluster", "token", "--server", "127.0.0.1:4567")
	err = n.net.within(n.index, func() error {
		out, err := cmd.CombinedOutput()
		if token = strings.TrimSpace(string(out)); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	return token, err
}

// running reports whether there is a process.
func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as a crash would.
func (n *node) kill() {
	if n.running() {
		n.cmd.Process.Kill()
		<-n.ended
	}
}

// stop has the process stand still, and go makes it go on.
func (n *node) stop() error { return n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) goOn() error { return n.cmd.Process.Signal(syscall.SIGCONT) }

// stands reports whether all of the process stands still.
func (n *node) stands() (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		return false, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "T"), nil
}

// lose ends the process as a power cut does: what was not synced is gone, where there is a disk that can forget.
func (n *node) lose(l disk.Loss) error {
	if n.disk == nil {
		n.kill()
		return nil
	}
	if err := n.stop(); err != nil { // so that no sync that is under way succeeds without its data
		return err
	}
	for {
		if stands, err := n.stands(); err != nil || stands {
			if err != nil {
				return err
			}
			break
		}
	}
	err := n.disk.Cut(l)
	n.kill()
	return err
}

// remount gives the disk back.
func (n *node) remount() error {
	if n.disk == nil {
		return nil
	}
	return n.disk.Remount()
}

// wipe empties the data directory.
func (n *node) wipe() error { return errors.Join(os.RemoveAll(n.data), os.MkdirAll(n.data, 0o700)) }

// flip changes one bit of a file in the data directory.
func flip(name string, at int64, bit uint) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		return err
	}
	return f.Sync()
}

// segments are the files of the node's log, the oldest first, with how far there is something in them.
func (n *node) segments() (names []string, used []int64, err error) {
	names, err = filepath.Glob(filepath.Join(n.data, "wal", "*.seg"))
	slices.Sort(names)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		end := len(data)
		for end > 0 && data[end-1] == 0 {
			end--
		}
		used = append(used, int64(end))
	}
	return names, used, err
}

// anyFile is a file in the data directory that has something in it, and its size.
func (n *node) anyFile(chance *rand.Rand) (name string, size int64, err error) {
	var names []string
	err = filepath.WalkDir(n.data, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	for err == nil {
		var data []byte
		name = names[chance.IntN(len(names))]
		if data, err = os.ReadFile(name); len(data) > 0 {
			return name, int64(len(data)), err
		}
	}
	return "", 0, err
}
