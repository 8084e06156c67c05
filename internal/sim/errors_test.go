package sim

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/vfs"
)

// script is a short world without any other faults: what its disk does until the fault is the same each time.
var script = Config{Nodes: 1, Clients: 4, For: 2500 * time.Millisecond}

// each lets worlds happen, one for each of the given configurations.
func each(t *testing.T, cfgs []Config) (reports []Report) {
	t.Helper()
	reports = make([]Report, len(cfgs))
	var wg sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := worker; i < len(cfgs); i += runtime.GOMAXPROCS(0) {
				reports[i] = Run(4, cfgs[i])
			}
		})
	}
	wg.Wait()
	for i, r := range reports {
		if r.Failure != "" {
			c := cfgs[i]
			t.Errorf("%s\n%s\nwith FailAt %d %q, FullAt %d, ReadOnly %v", r.Tail(40), r.Failure, c.FailAt, c.Kind, c.FullAt, c.ReadOnly)
		}
	}
	return reports
}

// every is 1, 2, 3, … up to n, fewer of them where time is short.
func every(n int) (at []int) {
	step := 1
	if testing.Short() {
		step = 1 + n/10
	}
	for i := 1; i <= n; i += step {
		at = append(at, i)
	}
	return at
}

// TestFailedCalls lets each of the first operations of a kind fail with EIO, one in each world. The process says that it has
// failed and promises nothing more; the next one has everything that was promised.
func TestFailedCalls(t *testing.T) {
	for kind, n := range map[vfs.OpKind]int{
		vfs.OpSync: 300, vfs.OpWrite: 150, vfs.OpSyncDir: 16, vfs.OpRename: 20, vfs.OpOpen: 20, vfs.OpCreate: 9, vfs.OpAllocate: 8, vfs.OpRead: 30,
	} {
		t.Run(string(kind), func(t *testing.T) {
			var cfgs []Config
			for _, at := range every(n) {
				cfg := script
				cfg.FailAt, cfg.Kind = at, kind
				cfgs = append(cfgs, cfg)
			}
			var all Stats
			for _, r := range each(t, cfgs) {
				all.Add(r.Stats)
			}
			if all.Errors < len(cfgs)*8/10 || kind == vfs.OpSync && all.Failed+all.Exits < len(cfgs) {
				t.Errorf("of %d operations %d failed, %d processes said so and %d ended", len(cfgs), all.Errors, all.Failed, all.Exits)
			}
			t.Logf("%d operations failed, %d processes told of it, %d ended; %d confirmed", all.Errors, all.Failed, all.Exits, all.Confirmed)
		})
	}
}

// TestFullAtEachCall lets the disk be full from one operation on, and have room again later. No process ends by that: publishes
// are refused, acks and deliveries go on, and it resumes by itself.
func TestFullAtEachCall(t *testing.T) {
	var cfgs []Config
	for _, at := range every(240) {
		cfg := script
		cfg.FullAt = at + 60 // a directory that is made on a full disk cannot be
		cfgs = append(cfgs, cfg)
	}
	var all Stats
	for i, r := range each(t, cfgs) {
		all.Add(r.Stats)
		if s := r.Stats; s.Starts != 2 || s.Exits > 0 || s.Resumed == 0 {
			t.Errorf("full at operation %d: %d starts, %d exits, resumed %d times", cfgs[i].FullAt, s.Starts, s.Exits, s.Resumed)
		}
	}
	if n := len(cfgs); all.DiskFull < n/2 || all.AckedFull < n {
		t.Errorf("%d publishes were refused for want of space, and %d acks accepted meanwhile, in %d worlds", all.DiskFull, all.AckedFull, n)
	}
	t.Logf("%d worlds: %d requests refused, %d acks accepted on a full disk, resumed %d times", len(cfgs), all.DiskFull, all.AckedFull, all.Resumed)
}

// TestReadOnly lets the disk refuse every change for a while: the process ends, none starts until it is over, and
// then everything is there.
func TestReadOnly(t *testing.T) {
	var cfgs []Config
	for _, at := range every(100) {
		cfg := script
		cfg.FullAt, cfg.ReadOnly = at*3, true
		cfgs = append(cfgs, cfg)
	}
	for i, r := range each(t, cfgs) {
		if r.Stats.Exits == 0 {
			t.Error(fmt.Sprint("read-only at operation ", cfgs[i].FullAt, ": nothing came of it"))
		}
	}
}
