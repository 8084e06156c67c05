// Package disk gives tests disks that they may take away, fill and stall: images with real file systems on them, ext4
// and xfs, which the kernel's own shutdown call makes forget what was not synced, or a tmpfs. It needs Linux, the right to
// mount, loop devices and mkfs; where one is missing it says which. It knows nothing of the server.
//
// What it cannot show: that somebody asks for too few flushes of the disk's own cache. What the kernel has
// written to an image stays written.
package disk

import (
	"flag"
	"testing"
)

var required = flag.Bool("required", false, "fail where a test would be skipped because of the machine")

// Required reports whether what the machine does not allow is a failure.
func Required() bool { return *required }

// A Disk is a file system in a file, or in memory.
type Disk struct {
	Kind string // ext4, xfs or tmpfs
	Dir  string // where it is mounted

	image string
}

// A Loss is what a disk forgets when it is cut.
type Loss uint32

const (
	SyncAll   Loss = 0 // nothing: everything is written first
	FlushLog  Loss = 1 // data that was not written; its log is
	FlushNone Loss = 2 // everything that was not synced
)

func (l Loss) String() string {
	return [...]string{"after a sync", "after its log", "at once"}[l]
}

// New is Try, and skips the test where the machine does not allow it.
func New(t *testing.T, kind, in string, size int64) *Disk {
	t.Helper()
	d, err := Try(t, kind, in, size)
	if err != nil && *required {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("this machine does not allow it: %v", err)
	}
	return d
}
