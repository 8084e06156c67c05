package disk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// inside is set in the process that runs the tests: it has its own mounts and processes, which the
// kernel takes away when it ends, however it ends. So nothing is left behind, not even by a SIGKILL.
const inside = "GMQ_TEST_DISK_INSIDE"

// outside says why this process may not mount anything; nil where it may.
var outside error

// Main runs a package's tests as harness.Main does, where they may mount disks. TestMain calls it.
func Main(m *testing.M) int { return run(m, 0) }

// MainNetwork is Main where tests make networks, too: the process has one of its own, and names of networks that only it sees.
func MainNetwork(m *testing.M) int { return run(m, syscall.CLONE_NEWNET) }

// Outside says why this process is in no namespaces of its own; nil where it is.
func Outside() error { return outside }

func run(m *testing.M, more uintptr) int {
	flag.Parse()
	if os.Getenv(inside) != "" {
		if err := settle(more != 0); err != nil {
			outside = err
		}
		return harness.Main(m)
	}
	code, err := again(more)
	if err != nil {
		outside = fmt.Errorf("clone with namespaces of its own: %w", err)
		return harness.Main(m)
	}
	return code
}

// again runs this program in namespaces of its own and gives its exit code.
func again(more uintptr) (int, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | more, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 { // a user namespace allows a tmpfs at least
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // a signal has none
	} else if err != nil {
		return 1, nil
	}
	return 0, nil
}

// settle makes the namespaces fit to live in: nobody outside sees the mounts, nor the names of networks, and /proc is about the processes here.
func settle(network bool) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount / as private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if network { // where ip keeps the names
		if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "size=1m"); err != nil {
			return fmt.Errorf("mount /run: %w", err)
		}
	}
	return nil
}
