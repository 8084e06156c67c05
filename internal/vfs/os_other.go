//go:build !linux

package vfs

import "os"

func syncData(f *os.File) error { return f.Sync() }

// allocate cannot reserve here; the caller's writing of zeros does.
func allocate(*os.File, int64) error { return nil }
