package docs

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gmq/gmq/test/harness"
)

const (
	root = "../.."
	// inside makes this test binary the program that sets up the network, and then becomes the shell.
	inside = "inside-the-network"
	// noNetwork is its exit code where it could not.
	noNetwork = 77
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == inside {
		fmt.Fprintln(os.Stderr, becomeShell(os.Args[2]))
		os.Exit(noNetwork)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // documents wait, for elections and for each other's processes, and cost little
		panic(err)
	}
	os.Exit(harness.Main(m))
}

// becomeShell switches the loopback interface on, which a new network has off, and runs the script.
func becomeShell(script string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	request := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: unix.IFF_UP | unix.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	shell, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	return syscall.Exec(shell, []string{"bash", script}, os.Environ())
}

// shims are programs that stand in for those which would build the server anew: the one under test is there.
func shims(t *testing.T, dir string) {
	t.Helper()
	exe := harness.Exe(t)
	compiler, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"gmq":  "exec '" + exe + "' \"$@\"\n",
		"make": "[ \"$*\" = build ] || { echo \"this make builds only, not $*\" >&2; exit 1; }\nmkdir -p bin && ln -sf '" + exe + "' bin/gmq\n",
		"go": "if [ \"$1 $2\" = 'run ./cmd/gmq' ]; then shift 2; exec '" + exe + "' \"$@\"; fi\n" +
			"exec '" + compiler + "' \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// clone makes of a directory what a reader takes for a clone: what a program that uses the client needs, and examples.
func clone(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"client", "wire", "examples"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
}

// shell runs a script in a clone, alone in a network, and ends all that it has left running. It returns what was said.
func shell(t *testing.T, script string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("nc"); err != nil && strings.Contains(script, "nc -q") {
		t.Fatal("this document uses nc, which is not installed here (Debian: netcat-openbsd)")
	}
	tools, dir := t.TempDir(), t.TempDir()
	shims(t, tools)
	clone(t, dir)
	file := filepath.Join(tools, "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment(t, tools)
	log, code, err := ran(t, exec.Command(os.Args[0], inside, file), alone(), tools, dir, env)
	if code != noNetwork {
		return log, err
	}
	machine.Lock() // the ports are those of the machine: one document at a time
	defer machine.Unlock()
	if err := free(); err != nil {
		t.Skipf("this system gives no network of its own (%s), and on its own a port of the document is taken: %v", strings.TrimSpace(log), err)
	}
	log, _, err = ran(t, exec.Command("bash", file), &syscall.SysProcAttr{Setpgid: true}, tools, dir, env)
	return log, err
}

// machine is held by the document that has the ports of the machine; ports are those that documents use.
var (
	machine sync.Mutex
	ports   = []int{4567, 4569, 4577, 4579, 4580, 4587, 4589, 4600, 8080}
)

// free waits until the ports are: what the document before has left there is ending. The error is that of one that stays taken.
func free() (err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(harness.Patience / 6)
	for _, port := range ports {
		for {
			var l net.Listener
			if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
				l.Close()
				break
			}
			select {
			case <-tick.C:
			case <-over:
				return err
			}
		}
	}
	return nil
}

// alone is how to start a process in a network of its own, as root or not.
func alone() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true}
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	return attr
}

// environment is what a reader has: nothing of this server's settings, and what Go has compiled already.
func environment(t *testing.T, tools string) (env []string) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); !strings.HasPrefix(name, "GMQ_") && name != "PATH" && name != "HOME" && name != "XDG_CONFIG_HOME" {
			env = append(env, e)
		}
	}
	cache, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	where := strings.Fields(string(cache))
	return append(env, "PATH="+tools+":"+os.Getenv("PATH"), "HOME="+tools, "GOCACHE="+where[0], "GOMODCACHE="+where[1],
		"GOPROXY=off", "GOSUMDB=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
}

// ran runs a command to its end, and ends what it has left behind. The code is noNetwork where it could not be started as attr says.
func ran(t *testing.T, cmd *exec.Cmd, attr *syscall.SysProcAttr, tools, dir string, env []string) (log string, code int, err error) {
	t.Helper()
	output, err := os.Create(filepath.Join(tools, "log")) // a file: what goes on in the background keeps it open, and nobody waits for its end
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Dir, cmd.Env, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = dir, env, attr, output, output
	if err := cmd.Start(); err != nil {
		return err.Error(), noNetwork, err
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	select {
	case err = <-over:
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	case <-time.After(2 * harness.Patience):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-over
		err = fmt.Errorf("it does not end")
	}
	text, readErr := os.ReadFile(output.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), cmd.ProcessState.ExitCode(), err
}
