package filejournal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A single changed bit, wherever it is, costs nothing.
func TestRepairEveryFlip(t *testing.T) {
	s := makeSample(t, true)
	s.written(t) // before it is shared
	for part := range 4 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			needed, n := 0, 0
			for _, name := range s.files() {
				for i, at := range append(s.places(t, name, 0), s.places(t, name, 1)...) {
					if i%4 != part {
						continue
					}
					n++
					mem := s.mem.Clone()
					must(t, mem.Flip(name, at, 1<<(at/2%8)))
					out, err := s.repair(t, mem)
					if err == nil && out.Needed() {
						needed++
						err = s.lostNothing(out)
					} else if err == nil {
						err = s.harmless(t, mem)
					}
					if err != nil {
						t.Fatalf("%s, byte %d: %v\n%+v", name, at, err, out.Repaired)
					}
				}
			}
			t.Logf("%d places, %d repairs", n, needed)
		})
	}
}

// harmless is an error where a directory that needs no repair does not open with all that it held.
func (s sample) harmless(t testing.TB, mem *vfs.Mem) error {
	detected, cut, wrong := s.outcome(t, mem)
	if detected != nil || cut > 0 || wrong != nil {
		return fmt.Errorf("no repair is needed, but %v, %d cut, %v", detected, cut, wrong)
	}
	return nil
}

// Whole sectors of zeros, of something else, and files that end early or are gone: what is lost is said.
func TestRepairDamage(t *testing.T) {
	s := makeSample(t, true)
	type hit struct {
		what string
		mem  *vfs.Mem
	}
	var hits []hit
	last := s.files()[0]
	for _, name := range s.files() {
		if strings.HasSuffix(name, ".seg") {
			last = name
		}
	}
	closed, err := Check(s.mem, "/data", nil) // what says that the end was synced
	must(t, err)
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, name := range s.files() {
		size, err := s.mem.Stat(name)
		must(t, err)
		for at := int64(0); at < size && !spareFile(name); at += 97 { // sectors do not begin at frames
			for _, length := range []int64{1, 20, 512, 3000} {
				mem := s.mem.Clone()
				b := make([]byte, min(length, size-at))
				if name == last && at+int64(len(b)) > int64(closed.End.Offset())-wal.FrameBytes {
					continue // nothing can tell this from an end
				}
				if at%2 == 0 {
					for i := range b {
						b[i] = byte(rnd.Uint32())
					}
				}
				overwrite(t, mem, name, at, b)
				hits = append(hits, hit{fmt.Sprintf("%s, %d bytes at %d", name, length, at), mem})
			}
			mem := s.mem.Clone()
			truncate(t, mem, name, at)
			hits = append(hits, hit{fmt.Sprintf("%s cut to %d bytes", name, at), mem})
		}
		mem := s.mem.Clone()
		must(t, mem.Remove(name))
		must(t, mem.SyncDir(filepath.Dir(name)))
		hits = append(hits, hit{name + " removed", mem})
	}
	counts := map[string]int{}
	for i, h := range hits {
		if testing.Short() && i%7 != 0 {
			continue
		}
		out, err := s.repair(t, h.mem)
		if err == nil && !out.Needed() {
			counts["not needed"]++
			err = s.harmless(t, h.mem)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%+v", h.what, err, out.Repaired)
		}
		if len(out.Gaps) > 0 {
			counts["gap"]++
		}
		if out.LeftOut > 0 {
			counts["left out"]++
		}
		if len(out.Lost) > 0 {
			counts["lost"]++
		}
		if out.Needed() && s.lostNothing(out) == nil {
			counts["nothing lost"]++
		}
		s.truth(t, h.what, out)
	}
	t.Log(counts)
	for _, what := range []string{"gap", "lost", "left out", "nothing lost"} {
		if counts[what] < 10 {
			t.Errorf("%s: %d times, that is no test", what, counts[what])
		}
	}
}

// Several places at once, after a clean end or none.
func TestRepairManyDamages(t *testing.T) {
	for _, clean := range []bool{true, false} {
		s := makeSample(t, clean)
		files := slices.DeleteFunc(s.files(), func(name string) bool { return spareFile(name) || strings.HasSuffix(name, "LOCK") })
		gaps := 0
		for seed := range uint64(*seeds) {
			rnd := rand.New(rand.NewPCG(seed, 8))
			mem := s.mem.Clone()
			what := fmt.Sprintf("clean %v, seed %d:", clean, seed)
			for range 1 + rnd.IntN(3) {
				what += s.hurt(t, mem, rnd, files[rnd.IntN(len(files))])
			}
			out, err := s.repair(t, mem)
			if err != nil {
				t.Fatalf("%s: %v\n%+v", what, err, out.Repaired)
			}
			s.truth(t, what, out)
			if len(out.Gaps) > 0 {
				gaps++
			}
		}
		t.Logf("clean %v: %d of %d with gaps", clean, gaps, *seeds)
	}
}

// hurt damages a file in some way, and says how.
func (s sample) hurt(t *testing.T, mem *vfs.Mem, rnd *rand.Rand, name string) string {
	size, err := mem.Stat(name)
	if err != nil || size == 0 {
		return " " + name + " again"
	}
	at := rnd.Int64N(size)
	switch rnd.IntN(4) {
	case 0:
		must(t, errors.Join(mem.Remove(name), mem.SyncDir(filepath.Dir(name))))
		return " " + name + " removed"
	case 1:
		truncate(t, mem, name, at)
		return fmt.Sprintf(" %s cut to %d", name, at)
	}
	b := make([]byte, min(1+rnd.Int64N(1500), size-at))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	overwrite(t, mem, name, at, b)
	return fmt.Sprintf(" %s, %d bytes at %d", name, len(b), at)
}

// truth checks that a shard that has less than it had is one of which a repair says so, or that the log's end is gone.
func (s sample) truth(t *testing.T, what string, out repaired) {
	t.Helper()
	if !out.Needed() {
		return
	}
	for i, m := range out.menders {
		gap := slices.ContainsFunc(out.Gaps, func(g Gap) bool { return slices.Contains(g.Shards, i) })
		if missing := len(s.hist[i].commands) - m.applied - len(m.left); missing > 0 && !gap && out.EndLost == "" && out.Torn == 0 {
			t.Errorf("%s: shard %d lacks %d commands, and nothing says so: %+v", what, i, missing, out.Repaired)
		}
	}
}

func overwrite(t testing.TB, mem *vfs.Mem, name string, at int64, b []byte) {
	t.Helper()
	f, err := mem.OpenWrite(name)
	must(t, err)
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, errors.Join(f.Sync(), f.Close()))
}

func truncate(t testing.TB, mem *vfs.Mem, name string, size int64) {
	t.Helper()
	f, err := mem.OpenWrite(name)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, errors.Join(f.Sync(), f.Close()))
}
