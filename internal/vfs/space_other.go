//go:build !linux && !darwin

package vfs

// DiskSpace is not known here.
func DiskSpace(string) (free, total int64) { return 0, 0 }
