package loadgen

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A fineAlarm is a timer of the kernel that is read like a file. The timers of Go are up to a millisecond late in a
// process that has nothing else to do, which is more than what most servers take to answer.
type fineAlarm struct {
	fd   int
	file *os.File
}

func newFineAlarm() alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newCoarseAlarm()
	}
	return &fineAlarm{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
}

func (a *fineAlarm) wait(ctx context.Context, d time.Duration) {
	d = min(max(d, 1), longestNap)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(a.fd, 0, &spec, nil) != nil || ctx.Err() != nil {
		return // whoever waits looks at the clock again
	}
	var expirations [8]byte
	_, _ = a.file.Read(expirations[:]) // the same
}

func (a *fineAlarm) close() { a.file.Close() }
