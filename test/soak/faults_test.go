//go:build unix

package soak_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
)

// A fault is something that goes wrong under a working server. When it is over the server serves.
type fault struct {
	name     string
	possible func(*disk.Disk) bool // with that disk, which may be nil
	do       func(*round)
}

var faults = []fault{
	{"kill", always, (*round).kill},
	{"term", always, (*round).term},
	{"pause", always, (*round).pause},
	{"storm", always, (*round).storm},
	{"readers", always, (*round).readers},
	{"full", func(d *disk.Disk) bool { return d != nil && runtime.GOOS == "linux" }, (*round).full},
	{"slow", real, (*round).slow},
	{"cut", real, (*round).cut},
	{"cut-amid-work", real, (*round).cutAmidWork},
}

func always(*disk.Disk) bool { return true }

// real is for what a tmpfs has no call for.
func real(d *disk.Disk) bool { return d != nil && d.Kind != "tmpfs" }

// measure notes what the process and its files take. It is called before the process ends.
func (r *round) measure() {
	r.t.Helper()
	if runtime.GOOS == "linux" {
		_, peak := r.server.Memory()
		r.report.memory = max(r.report.memory, peak)
	}
	r.report.space = max(r.report.space, r.report.size(r.server.Data))
}

// up starts the server again.
func (r *round) up() {
	r.t.Helper()
	began := time.Now()
	r.must(r.server.Up())
	r.report.restarted(time.Since(began))
	r.life = r.Begin()
}

func (r *round) kill() {
	r.measure()
	r.server.Kill()
	r.up()
}

func (r *round) term() {
	r.measure()
	if code := r.server.Term(); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM", code)
	}
	r.up()
}

// pause stops the process again and again for a while, so that to its clients it is a slow machine, and to it the clock jumps.
func (r *round) pause() {
	for range 5 + r.chance.IntN(10) {
		r.must(syscall.Kill(r.server.PID(), syscall.SIGSTOP))
		<-time.After(time.Duration(20+r.chance.IntN(300)) * time.Millisecond)
		r.must(syscall.Kill(r.server.PID(), syscall.SIGCONT))
		<-time.After(time.Duration(5+r.chance.IntN(50)) * time.Millisecond)
	}
	r.confirms(1, "it goes on after pauses")
}

// slow stalls the file system again and again for a while: the process goes on, its writes and syncs do not.
func (r *round) slow() {
	for range 10 + r.chance.IntN(20) {
		r.must(r.disk.Stall())
		<-time.After(time.Duration(20+r.chance.IntN(200)) * time.Millisecond)
		r.must(r.disk.Proceed())
		<-time.After(time.Duration(5+r.chance.IntN(50)) * time.Millisecond)
	}
	r.confirms(1, "it goes on after a slow disk")
}

func (r *round) loss() disk.Loss {
	return []disk.Loss{disk.SyncAll, disk.FlushLog, disk.FlushLog, disk.FlushLog, disk.FlushNone}[min(r.chance.IntN(20), 4)]
}

// cut takes the disk away from a server that is stopped in the same moment.
func (r *round) cut() {
	r.measure()
	r.must(disk.Freeze(r.server.PID()))
	r.must(r.disk.Cut(r.loss()))
	r.server.Kill()
	r.must(r.disk.Remount())
	r.up()
}

// cutAmidWork takes it from under a server that goes on, notices and must end.
func (r *round) cutAmidWork() {
	r.measure()
	r.Over(r.life)
	r.must(r.disk.Cut(r.loss()))
	r.Gone()
	select {
	case <-r.server.Exited():
		if code := r.server.ExitCode(); code != 1 {
			r.t.Errorf("without a disk the server ended with exit code %d", code)
		}
	case <-time.After(harness.Patience):
		r.t.Error("the server goes on without its disk")
		r.server.Kill()
	}
	r.must(r.disk.Remount())
	r.up()
}

// full fills the disk with messages that nobody consumes, until publishes are refused, and gives the space back: the
// disk's, or that of those messages first.
func (r *round) full() {
	const left = 8 << 20
	ballast := r.disk.Ballast(r.t, left)
	before := r.Main.Counts().Refused
	r.fill(r.Main.Reached(func(n load.Counts) bool { return n.Refused >= before+200 }))
	acked := r.Main.Counts().Acked
	r.until("acks go on", func(n load.Counts) bool { return n.Acked >= acked+20 })
	if r.chance.IntN(2) == 0 {
		r.kill()
	}
	frees := r.chance.IntN(2) == 0
	if !frees {
		r.must(os.Remove(ballast))
		r.confirms(500, "publishes go on by themselves, as there is space")
	}
	r.server.Dial(r.t).OK(`{"op":"queue.delete","queue":"%s"}`, r.filler())
	r.confirms(500, "publishes go on by themselves, as a queue is gone")
	if frees {
		r.must(os.Remove(ballast))
	}
}

func (r *round) filler() string { return r.Main.Queue + ".filler" }

// fill publishes until the clients have been told that the disk is full.
func (r *round) fill(told <-chan struct{}) {
	r.t.Helper()
	c := r.server.Dial(r.t)
	batch := strings.Repeat(fmt.Sprintf(`,{"body":"%s"}`, strings.Repeat("filler ", 3000)), 20)[1:]
	for deadline := time.After(harness.Patience); ; {
		select {
		case <-told:
			return
		case <-deadline:
			r.t.Fatalf("%v of publishing did not fill the disk: %+v", harness.Patience, r.Main.Counts())
		default:
		}
		if l := c.Do(`{"op":"publish","queue":"%s","messages":[%s]}`, r.filler(), batch); !l.Bool("ok") && l.Code() != "disk_full" {
			r.t.Fatalf("wanted disk_full: %.300s", l.Raw)
		}
	}
}
