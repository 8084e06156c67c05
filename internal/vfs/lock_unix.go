//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockOS takes an flock, which the kernel gives back when the holder dies,
// however it dies. The file's text is for people and for the error only.
func lockOS(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = lockHolder(f, name)
	}
	if err == nil {
		text := fmt.Sprintf("%d\nstarted %s by %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339), os.Args[0])
		err = f.Truncate(0)
		if err == nil {
			_, err = f.WriteAt([]byte(text), 0)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func lockHolder(f *os.File, name string) error {
	text := make([]byte, 512)
	n, _ := f.ReadAt(text, 0) // an unreadable text leaves the holder unnamed
	pid, rest, _ := strings.Cut(string(text[:n]), "\n")
	e := &LockedError{Name: name, Holder: strings.TrimSpace(rest)}
	e.PID, _ = strconv.Atoi(pid)
	return e
}
