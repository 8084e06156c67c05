package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// Freeze stops a process in its tracks: when it returns none of the process's own instructions runs any more. A
// system call that waits for the disk may go on in the kernel, but nobody will learn how it ended. That is what
// the moment of a power cut needs: a sync that the cut overtakes may be told to have succeeded, by a kernel that
// believes to go on living, and a server that repeats it could not be blamed.
func Freeze(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(harness.Patience); time.Now().Before(deadline); runtime.Gosched() {
		still, err := frozen(pid)
		if still || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d did not stop", pid)
}

// frozen reports whether every thread is stopped or deep in the kernel, from where it comes back into the stop.
func frozen(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("no threads of process %d: %v", pid, err)
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		// The state comes after the name, which may have anything but ends with the last parenthesis.
		after := bytes.LastIndexByte(stat, ')') + 2
		if after >= len(stat) || !bytes.ContainsRune([]byte("TtDZX"), rune(stat[after])) {
			return false, nil
		}
	}
	return true, nil
}
