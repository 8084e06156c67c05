package filejournal

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
)

var (
	seeds    = flag.Int("seeds", 120, "how many seeds the crash tests try")
	seedFrom = flag.Uint64("seed", 1, "the first of them")
)

// TestMain gives memory for time: the tests make logs by the ten thousand, and keep none. With -short, which is for the race detector, there
// are fewer seeds: they differ in what a disk has kept, which is nothing to it.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	flag.Parse()
	if testing.Short() {
		*seeds /= 4
	}
	os.Exit(m.Run())
}

var errPower = errors.New("the power is gone")

// faults is a Fault hook that can be armed while the file system is used.
type faults struct {
	left atomic.Int64 // operations until it strikes; 0 or less: unarmed
	hit  atomic.Bool  // it has struck
	last atomic.Pointer[vfs.Op]

	only func(vfs.Op) bool      // which operations count
	err  func(left int64) error // what happens from the strike on; left counts down from 0
}

func (f *faults) hook(op vfs.Op) error {
	if f.only != nil && !f.only(op) {
		return nil
	}
	if !f.hit.Load() {
		if f.left.Load() <= 0 || f.left.Add(-1) > 0 {
			return nil
		}
		f.hit.Store(true)
		f.last.Store(&op)
		return f.err(0)
	}
	return f.err(f.left.Add(-1))
}

func powerCut() *faults { return &faults{err: func(int64) error { return errPower }} }

func crashOptions(sync bool) Options {
	return Options{Sync: sync, Shards: 3, SegmentBytes: 32 << 10, CacheBytes: 64 << 10, CompactSlack: 32 << 10, CompactEvery: 16 << 10}
}

func TestCrash(t *testing.T) {
	for _, sync := range []bool{true, false} {
		cuts := 0
		for i := range uint64(*seeds) {
			seed := *seedFrom + i
			n, err := crashLives(t, seed, crashOptions(sync))
			if err != nil {
				t.Fatalf("go test -run TestCrash -seeds 1 -seed %d (sync %v): %v", seed, sync, err)
			}
			cuts += n
		}
		t.Logf("sync %v: %d power cuts", sync, cuts)
	}
}

// crashLives runs several lives, each of which a power cut ends somewhere, be
// it while the log is opened.
func crashLives(t testing.TB, seed uint64, opt Options) (cuts int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, rnd, opt)
	mem := vfs.NewMem()
	for range 6 {
		f := powerCut()
		mem.Fault = f.hook
		f.left.Store(1 + rnd.Int64N(400))
		err := r.open(mem)
		if err == nil {
			if err := r.verify(); err != nil && !errors.Is(err, errPower) && !f.hit.Load() {
				return cuts, err
			}
			if err := r.live(150, 3000); err != nil && !errors.Is(err, errPower) {
				return cuts, err
			}
			if err := r.log.Close(); err != nil && !errors.Is(err, errPower) {
				return cuts, err
			}
		} else if !errors.Is(err, errPower) {
			return cuts, err
		}
		if f.hit.Load() {
			cuts++
		}
		if rnd.IntN(3) == 0 {
			mem = mem.Kill() // the machine goes on
		} else {
			mem = mem.Crash(rnd)
		}
	}
	if err := r.open(mem); err != nil {
		return cuts, err
	}
	return cuts, errors.Join(r.verify(), r.log.Close())
}

// An operation that fails, any of them, is the end: nothing is confirmed any
// more, and what was confirmed before is there after a restart.
func TestFailedOperation(t *testing.T) {
	changes := func(op vfs.Op) bool {
		switch op.Kind {
		case vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpRename, vfs.OpRemove, vfs.OpCreate, vfs.OpTruncate, vfs.OpAllocate:
			return op.Path != "/data/snap/reserve"
		}
		return false
	}
	stride := int64(1)
	if testing.Short() { // as with seeds
		stride = 5
	}
	for n := int64(1); ; n += stride {
		f := &faults{only: changes, err: func(left int64) error {
			if left == 0 {
				return syscall.EIO
			}
			return nil
		}}
		rnd := rand.New(rand.NewPCG(7, 7))
		r := newRig(t, rnd, crashOptions(true))
		mem := vfs.NewMem()
		mem.Fault = f.hook
		f.left.Store(n)
		err := r.open(mem)
		if err == nil {
			err = r.live(200, 3000)
			f.left.Add(1 << 40)
			confirmedAfterFailure(t, r)
			err = errors.Join(err, r.log.Close())
		}
		if !f.hit.Load() {
			t.Logf("%d operations", n-1)
			return
		}
		if !errors.Is(err, syscall.EIO) { // it is noticed at the latest when the log is closed: it may have failed in the background at the very end
			t.Errorf("operation %d, %+v, failed and nobody noticed: %v", n, f.last.Load(), err)
		}
		mem = mem.Crash(rnd)
		if err := r.open(mem); err != nil {
			t.Fatalf("after operation %d, %+v: %v", n, f.last.Load(), err)
		}
		if err := errors.Join(r.verify(), r.log.Close()); err != nil {
			t.Fatalf("after operation %d, %+v: %v", n, f.last.Load(), err)
		}
	}
}

func confirmedAfterFailure(t *testing.T, r *rig) {
	t.Helper()
	if r.log.Failed() == nil {
		return
	}
	for _, s := range r.state {
		_ = s.collect() // what was confirmed before the failure
		s.propose(false, command{id: 1})
	}
	r.log.awaitLoops() // they end by themselves
	for i, s := range r.state {
		if got := s.j.Committed(nil); len(got) > 0 {
			t.Errorf("shard %d: %d batches were confirmed after the failure", i, len(got))
		}
	}
}
