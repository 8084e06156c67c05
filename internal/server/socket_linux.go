//go:build !race

package server

import (
	"syscall"
	"unsafe"
)

// readSocket reads from a socket that does not block. Go's scheduler is not told of it: where it is, its watcher takes the processor from
// who has been in a call for 20 µs, has another thread woken for it, and looks for that 50,000 times a second. Of much it is told, for
// that takes a while. (The race detector wants to be told always: see socket.go.)
func readSocket(fd uintptr, b []byte) (int, error) {
	if len(b) > deskBytes {
		return syscall.Read(int(fd), b)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return called(n, errno)
}

// writeSocket is the same for writing.
func writeSocket(fd uintptr, b []byte) (int, error) {
	if len(b) > deskBytes {
		return syscall.Write(int(fd), b)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return called(n, errno)
}

func called(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
