package powercut_test

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

const cachestat = 451 // a system call, since Linux 6.5; its number is the same on all machines

// unsynced counts the pages of a file that are newer in memory than on the disk.
func unsynced(f *os.File) (pages uint64, err error) {
	var all struct{ offset, length uint64 } // 0 is the end
	var stat struct{ cached, dirty, written, evicted, recently uint64 }
	_, _, errno := syscall.Syscall6(cachestat, f.Fd(), uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return stat.dirty, nil
}

// await looks until a page of the file is unsynced, for so long at the most.
func await(f *os.File, longest time.Duration) {
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); {
		if n, err := unsynced(f); n > 0 || err != nil {
			return
		}
	}
}
