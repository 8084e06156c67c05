//go:build !arm

package powercut_test

import (
	"math/rand/v2"
	"os"
	"syscall"
)

// scatter lets the kernel write back some pages of a file and not others, as it may at any time. So a write that
// was not synced is on the disk in part, with a later page but not an earlier one.
func scatter(f *os.File, chance *rand.Rand) error {
	const page, write = 4096, 7 // SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE, _WAIT_AFTER
	info, err := f.Stat()
	for at := int64(0); err == nil && at < info.Size(); at += page {
		if chance.IntN(2) == 0 {
			err = syscall.SyncFileRange(int(f.Fd()), at, page, write)
		}
	}
	return err
}
