package filejournal

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

func fullOptions() Options {
	return Options{Sync: true, Shards: 2, SegmentBytes: 64 << 10, CacheBytes: 64 << 10, CompactSlack: 1 << 30, CompactEvery: 1 << 30}
}

// fill adds things of 1 KiB until one is refused.
func fill(t *testing.T, r *rig, s *state, id *uint64) int {
	t.Helper()
	n := 0
	for refused := s.refused; s.refused == refused; n++ {
		if n > 5000 {
			t.Fatal("the disk does not get full")
		}
		c := command{id: *id, body: make([]byte, 1000)}
		s.propose(false, c)
		must(t, s.drain())
		if s.refused == refused {
			s.h.commands = append(s.h.commands, c)
			s.h.ends[len(s.h.commands)] = true
			*id++
		}
	}
	return n - 1
}

// On a full disk what frees space goes on, makes room, and then everything does.
func TestDiskFull(t *testing.T) { synctest.Test(t, diskFull) }

func diskFull(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(600 << 10)
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), fullOptions())
	r.opt.Logf = t.Logf
	must(t, r.open(mem))
	for _, s := range r.state { // as the first compaction makes the reserve
		s.snapshot()
	}
	s, id := r.state[0], uint64(0)
	for round := range 5 {
		first := id
		n, tries := 0, 0
		for ; n < 200; tries++ { // what the round before has freed is given back in the background
			n += fill(t, r, s, &id)
			for _, s := range r.state {
				must(t, s.compact(false))
			}
			if tries > 100_000 {
				t.Fatalf("round %d: refused after %d KiB", round, n)
			}
		}
		t.Logf("round %d: %d KiB, refused %d times", round, n, tries)
		refused := s.refused
		// The things are dropped one by one, all but a few, and compactions follow.
		for ; first < id-10; first++ {
			c := command{drop: true, id: first}
			s.h.commands = append(s.h.commands, c)
			s.h.ends[len(s.h.commands)] = true
			s.propose(true, c)
			must(t, s.drain())
			for _, s := range r.state {
				must(t, s.compact(false))
			}
			synctest.Wait() // for what goes on in the background: a machine that is busy is not the subject
		}
		if s.refused != refused {
			t.Fatalf("round %d: an essential batch was refused", round)
		}
	}
	must(t, r.log.Close())
	must(t, r.open(mem))
	must(t, r.verify())
	must(t, r.log.Close())
}

// Space that comes from elsewhere is found without a restart.
func TestDiskFullResumes(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(300 << 10)
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), fullOptions())
	must(t, r.open(mem))
	s, id := r.state[0], uint64(0)
	fill(t, r, s, &id)
	mem.SetCapacity(0)
	for try := 0; ; try++ {
		refused := s.refused
		s.propose(false, command{id: id, body: make([]byte, 1000)})
		must(t, s.drain())
		if s.refused == refused {
			break
		}
		if try > 100000 {
			t.Fatal("it does not resume")
		}
	}
	must(t, r.log.Close())
}

// Essential batches use up the reserve, and are refused then too; nothing fails.
func TestDiskFullToTheEnd(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(300 << 10)
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), fullOptions())
	must(t, r.open(mem))
	s, id := r.state[0], uint64(0)
	fill(t, r, s, &id)
	refused, n := s.refused, 0
	for ; s.refused == refused; n++ {
		c := command{id: id, body: make([]byte, 1000)}
		s.propose(true, c)
		must(t, s.drain())
	}
	if n < 20 {
		t.Errorf("only %d essential batches went into the reserve", n)
	}
	b := &journal.Batch{Data: record(make([]byte, 1<<20)), Essential: true}
	s.j.Propose(b)
	must(t, s.j.Close())
	if got := s.j.Committed(nil); len(got) != 1 || !errors.Is(got[0].Err, journal.ErrDiskFull) {
		t.Errorf("a batch larger than the disk: %v", got)
	}
	must(t, r.log.Failed())
	must(t, r.log.Close())
}

// A disk with random room never costs anything that was confirmed.
func TestDiskFullCrash(t *testing.T) {
	for seed := range uint64(*seeds / 4) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		r := newRig(t, rnd, crashOptions(true))
		mem := vfs.NewMem()
		must(t, r.open(mem))
		mem.SetCapacity(100<<10 + rnd.Int64N(300<<10))
		// What is refused is not in the log, so the histories do not fit: this
		// is for failures, and for what a restart says.
		must(t, r.live(300, 3000))
		mem.SetCapacity(0)
		must(t, r.log.Close())
		must(t, r.open(mem.Crash(rnd)))
		must(t, r.log.Close())
	}
}

func record(payload []byte) []byte {
	data := append(journal.BeginRecord(nil), payload...)
	journal.EndRecord(data, 0)
	return data
}
