//go:build !linux || race

package server

import "syscall"

// readSocket and writeSocket are as for Linux, but that Go's scheduler is told.
func readSocket(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

func writeSocket(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
