package filejournal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/vfs"
)

var backupTime = time.Date(2026, 11, 23, 0, 39, 44, 123456789, time.UTC)

// since is what was done up to now, of which so much was confirmed when a backup began.
func (r *rig) since(confirmed []int) *rig {
	out := newRig(r.t, r.rnd, r.opt)
	for i, h := range r.hist {
		*out.hist[i] = history{commands: h.commands, ends: maps.Clone(h.ends), confirmed: confirmed[i]}
	}
	return out
}

func (r *rig) confirmed() (n []int) {
	for _, h := range r.hist {
		n = append(n, h.confirmed)
	}
	return n
}

// restored is an empty disk on which a backup was restored.
func restored(t testing.TB, archive []byte) (*vfs.Mem, BackupInfo) {
	t.Helper()
	mem := vfs.NewMem()
	info, report, err := Restore(mem, "/data", bytes.NewReader(archive), nil)
	must(t, err)
	if report.Records == 0 && report.Snapshots == 0 || len(report.Damage) > 0 {
		t.Fatalf("%+v", report)
	}
	return mem, info
}

// A backup that is made while everything goes on has all that was confirmed before, and ends as a crash could have.
func TestBackupUnderLoad(t *testing.T) {
	for _, sync := range []bool{true, false} {
		given := 0
		for seed := range uint64(*seeds / 8) {
			n, err := backupLives(t, seed, crashOptions(sync))
			if err != nil {
				t.Fatalf("seed %d, sync %v: %v", seed, sync, err)
			}
			given += n
		}
		t.Logf("sync %v: %d segments were given back while backups were made", sync, given)
		if given < *seeds/8 {
			t.Error("compaction had no part in this")
		}
	}
}

func backupLives(t *testing.T, seed uint64, opt Options) (given int, err error) {
	r := newRig(t, rand.New(rand.NewPCG(seed, 5)), opt)
	must(t, r.open(vfs.NewMem()))
	for range 4 {
		if err := r.live(100, 3000); err != nil {
			return given, err
		}
		confirmed, before := r.confirmed(), r.log.segs.sorted(func(*segment) bool { return true })
		archive, err := backupSlowly(r)
		if err != nil {
			return given, err
		}
		for _, s := range before {
			if s.gone.Load() {
				given++
			}
		}
		if info, err := VerifyBackup(bytes.NewReader(archive)); err != nil || !info.Began.Equal(backupTime) || info.Version != `v"1` {
			return given, fmt.Errorf("%+v, %w", info, err)
		}
		copied := r.since(confirmed)
		copied.opt.Sync = true // so that verify wants all that was confirmed
		mem, _ := restored(t, archive)
		if err := errors.Join(copied.open(mem)); err != nil {
			return given, err
		}
		if err := errors.Join(copied.verify(), copied.log.Close()); err != nil {
			return given, err
		}
		for _, st := range copied.state {
			st.settleNow()
		}
		if err := copied.log.Failed(); err != nil {
			return given, err
		}
	}
	return given, r.log.Close()
}

// backupSlowly takes the bytes of a backup a few at a time, and lives in between.
func backupSlowly(r *rig) ([]byte, error) {
	out, in := io.Pipe()
	go func() {
		_, err := r.log.Backup(context.Background(), in, backupTime, `v"1`)
		in.CloseWithError(err)
	}()
	var archive bytes.Buffer
	for {
		_, err := io.CopyN(&archive, out, 1+r.rnd.Int64N(40_000))
		if err == io.EOF {
			return archive.Bytes(), nil
		}
		if err == nil {
			err = r.live(r.rnd.IntN(30), 3000)
		}
		if err != nil {
			out.CloseWithError(err)
			return nil, err
		}
	}
}

// stall makes a backup whose bytes nobody takes: it has begun when stall returns. end takes the rest.
func stall(t *testing.T, l *Log, ctx context.Context) (end func() error) {
	t.Helper()
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := l.Backup(ctx, in, backupTime, "v1")
		done <- errors.Join(err, in.Close())
	}()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return func() error {
		_, err := io.Copy(io.Discard, out)
		return errors.Join(err, <-done)
	}
}

// What a backup has still to copy stays; what it has copied does not, nor anything once it is over.
func TestBackupHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rand.New(rand.NewPCG(1, 6)), crashOptions(true))
		must(t, r.open(vfs.NewMem()))
		must(t, r.live(150, 3000))
		ctx, cancel := context.WithCancel(t.Context())
		end := stall(t, r.log, ctx)
		before := r.log.segs.sorted(func(*segment) bool { return true }) // not earlier: some may have been on their way out
		if _, err := r.log.Backup(ctx, io.Discard, backupTime, ""); !errors.Is(err, ErrBackupRuns) {
			t.Errorf("a second backup: %v", err)
		}
		gone := func() (n int) {
			synctest.Wait()
			for _, s := range before {
				if s.gone.Load() {
					n++
				}
			}
			return n
		}
		must(t, r.live(400, 3000))
		if n := gone(); n > 0 {
			t.Errorf("%d segments were given back before they were copied", n)
		}
		cancel()
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		must(t, r.live(50, 3000))
		if gone() == 0 {
			t.Error("nothing is given back after the backup")
		}
		must(t, r.log.Close())
	})
}

// A backup does not begin while segments are being given back: it could find one of them.
func TestBackupWaitsForWhatIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rand.New(rand.NewPCG(1, 6)), crashOptions(true))
		mem := vfs.NewMem()
		giving, goOn := make(chan struct{}), make(chan struct{})
		var armed, struck atomic.Bool
		mem.Fault = func(op vfs.Op) error {
			if armed.Load() && strings.HasSuffix(op.Path, ".seg") && (op.Kind == vfs.OpRename || op.Kind == vfs.OpRemove) && struck.CompareAndSwap(false, true) {
				close(giving)
				<-goOn
			}
			return nil
		}
		must(t, r.open(mem))
		for waits := true; waits; {
			must(t, r.live(20, 3000))
			armed.Store(true) // not before: what is written may have to wait for what is given back
			synctest.Wait()
			armed.Store(false)
			select {
			case <-giving:
				waits = false
			default:
			}
		}
		done := make(chan error, 1)
		var archive bytes.Buffer
		go func() {
			_, err := r.log.Backup(t.Context(), &archive, backupTime, "v1")
			done <- err
		}()
		synctest.Wait()
		if archive.Len() > 0 {
			t.Error("the backup has begun")
		}
		close(goOn)
		must(t, <-done)
		restored(t, archive.Bytes())
		must(t, r.log.Close())
	})
}

// Without Sync a segment is given back some time after it has been chosen: not if a backup has begun in between.
func TestBackupHoldsWhatWasToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rand.New(rand.NewPCG(1, 6)), crashOptions(true))
		must(t, r.open(vfs.NewMem()))
		must(t, r.live(150, 3000))
		synctest.Wait()
		all := r.log.segs.sorted(func(s *segment) bool { return s.sealed.Load() })
		must(t, r.log.hold())
		r.log.holdFrom(all[1].number)
		synctest.Wait()
		r.log.dying, r.log.dyingAt = slices.Clone(all[:2]), 0 // the keeper, whose it is, is asleep
		r.log.poke(func() { r.log.reclaim = true })
		synctest.Wait()
		if !all[0].gone.Load() || all[1].gone.Load() {
			t.Errorf("given back: %v and %v, want only the first", all[0].gone.Load(), all[1].gone.Load())
		}
		r.log.holdFrom(nothingHeld)
		_ = r.log.Close() // it needs what was given back
	})
}

// A server that needs the room that a backup holds back, or that stops, gives the backup up.
func TestBackupGivesWay(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(600 << 10)
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), fullOptions())
	must(t, r.open(mem))
	s, id := r.state[0], uint64(0)
	for range 200 {
		s.propose(false, command{id: id, body: make([]byte, 1000)})
		id++
	}
	must(t, s.drain())
	end := stall(t, r.log, t.Context())
	fill(t, r, s, &id)
	if err := end(); !errors.Is(err, ErrBackupFull) {
		t.Errorf("on a full disk: %v", err)
	}
	mem.SetCapacity(0)
	for refused := -1; refused != s.refused; { // until the log has noticed
		refused = s.refused
		s.propose(false, command{id: id, body: make([]byte, 1000)})
		must(t, s.drain())
	}
	end = stall(t, r.log, t.Context())
	must(t, r.log.Close())
	if err := end(); !errors.Is(err, ErrBackupClosed) {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// Damage is found when the backup is made, not when it is needed.
func TestBackupOfDamage(t *testing.T) {
	s := makeSample(t, true)
	r := s.rig(t)
	mem := s.mem.Clone()
	must(t, r.open(mem))
	must(t, mem.Flip("/data/wal/0000000001.seg", 5000, 1)) // which no start looks at
	_, err := r.log.Backup(t.Context(), io.Discard, backupTime, "")
	if err == nil || !strings.Contains(err.Error(), "0000000001.seg is damaged at offset ") {
		t.Errorf("%v", err)
	}
	must(t, r.log.Close())
}
