//go:build linux || darwin

package vfs

import "syscall"

// DiskSpace is how many bytes the file system of a directory has free for this process, and in all; both 0 where that
// cannot be known.
func DiskSpace(dir string) (free, total int64) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize)
}
