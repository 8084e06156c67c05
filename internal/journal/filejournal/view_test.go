package filejournal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

var errReadOnly = errors.New("the medium is read-only")

// reading lets only those operations pass that change nothing and take nothing.
func reading(op vfs.Op) error {
	switch op.Kind {
	case vfs.OpOpen, vfs.OpRead, vfs.OpReadDir:
		return nil
	}
	return fmt.Errorf("%w: %s %s", errReadOnly, op.Kind, op.Path)
}

// Looking needs nothing but to read, also where a lock is held.
func TestLookingChangesNothing(t *testing.T) {
	s := makeSample(t, false)
	mem := s.mem.Clone()
	lock, err := mem.Lock("/data/LOCK")
	must(t, err)
	mem.Fault = reading
	report, err := Check(mem, "/data", func(int) State { return newMender(nil) })
	if err != nil || len(report.Damage) > 0 || report.Growing {
		t.Errorf("check: %+v, %v", report, err)
	}
	must(t, Dump(mem, "/data", func(journal.Ref, int, []byte) error { return nil }))
	if _, err := Play(mem, "/data", Until{Records: -1, Shard: -1}, func(int) State { return newMender(nil) }); err != nil {
		t.Error(err)
	}
	must(t, lock.Close())
}

// seen is what somebody saw who looked while a log was being written.
type seen struct {
	states    []*mender
	confirmed []int // before
}

// What is being written is never taken for damage, and what was confirmed before a look is seen by it.
func TestBesideWriter(t *testing.T) {
	for name, c := range map[string]struct {
		fs    vfs.FS
		looks int
	}{"memory": {vfs.NewMem(), 150}, "files": {vfs.OS(), 20}} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				c.looks /= 5
			}
			r := newRig(t, rand.New(rand.NewPCG(2, 2)), crashOptions(true))
			dir := "/data"
			if name == "files" {
				dir = t.TempDir()
			}
			must(t, r.openAt(c.fs, dir))
			must(t, r.live(100, 3000))
			var confirmed atomic.Pointer[[]int]
			done := make(chan []seen, 1)
			first := r.confirmed()
			confirmed.Store(&first)
			go func() { done <- lookOn(t, c.fs, dir, len(r.hist), c.looks, &confirmed) }()
			for {
				must(t, r.live(10, 3000))
				now := r.confirmed()
				confirmed.Store(&now)
				select {
				case all := <-done:
					must(t, r.log.Close())
					for i, s := range all {
						for shard, m := range s.states {
							if err := prefix(r.hist[shard], m, s.confirmed[shard]); err != nil {
								t.Errorf("look %d, shard %d: %v", i, shard, err)
							}
						}
					}
					return
				default:
				}
			}
		})
	}
}

// lookOn checks, dumps and replays a directory again and again.
func lookOn(t *testing.T, fsys vfs.FS, dir string, shards, times int, confirmed *atomic.Pointer[[]int]) (all []seen) {
	grew := 0
	for look := 0; look < times || grew == 0 && look < 50*times; look++ { // the writer may get no turn for a while
		report, err := Check(fsys, dir, func(int) State { return newMender(nil) })
		if err != nil || len(report.Damage) > 0 || report.Torn > 0 && !report.Growing {
			t.Errorf("check: %v, %+v", err, report)
		}
		if report.Growing {
			grew++
		}
		last := journal.Ref(0)
		if err := Dump(fsys, dir, func(ref journal.Ref, shard int, _ []byte) error {
			if ref <= last || shard >= shards {
				return fmt.Errorf("shard %d, %d behind %d", shard, ref, last)
			}
			last = ref
			return nil
		}); err != nil {
			t.Errorf("dump: %v", err)
		}
		s := seen{confirmed: *confirmed.Load(), states: make([]*mender, shards)}
		played, err := Play(fsys, dir, Until{Records: -1, Shard: -1}, func(shard int) State {
			s.states[shard] = newMender(nil)
			return s.states[shard]
		})
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil || !played.End {
			t.Errorf("play: %v, %+v", err, played)
		}
		all = append(all, s)
	}
	if grew == 0 || len(all) == 0 {
		t.Errorf("the log grew during %d of %d looks, %d saw all of it", grew, times, len(all))
	}
	return all
}

// prefix is an error where a state is not that after a beginning of a history that holds all that was confirmed.
func prefix(h *history, m *mender, confirmed int) error {
	if m.applied < confirmed || m.applied > len(h.commands) || !h.ends[m.applied] {
		return fmt.Errorf("%d of %d commands, %d were confirmed", m.applied, len(h.commands), confirmed)
	}
	want := map[uint64]uint32{}
	for _, c := range h.commands[:m.applied] {
		if delete(want, c.id); !c.drop {
			want[c.id] = crc32.ChecksumIEEE(encode(c))
		}
	}
	if len(want) != len(m.things) {
		return fmt.Errorf("%d things, want %d", len(m.things), len(want))
	}
	for id, sum := range want {
		if m.things[id].sum != sum {
			return fmt.Errorf("thing %d is not what was written", id)
		}
	}
	return nil
}

func TestPlay(t *testing.T) {
	s := makeSample(t, true)
	bases := make([]int, len(s.hist)) // commands in the snapshots
	play := func(until Until) (Played, []*mender, error) {
		states := make([]*mender, len(s.hist))
		out, err := Play(s.mem, "/data", until, func(shard int) State {
			states[shard] = newMender(nil)
			return states[shard]
		})
		return out, states, err
	}
	_, at, err := play(Until{Shard: -1})
	must(t, err)
	for i, m := range at {
		bases[i] = m.applied
	}
	all, at, err := play(Until{Records: -1, Shard: -1})
	must(t, err)
	behind := int64(0)
	for i, m := range at {
		must(t, prefix(s.hist[i], m, len(s.hist[i].commands)))
		behind += int64(m.applied - bases[i])
	}
	if all.Records != behind || !all.End || all.Snapshots != 2 {
		t.Errorf("%+v, want %d records", all, behind)
	}
	var places []journal.Ref
	for n := range behind {
		out, at, err := play(Until{Records: n, Shard: -1})
		must(t, err)
		applied := int64(0)
		for i, m := range at {
			applied += int64(m.applied - bases[i])
		}
		if out.Records != n || applied != n || out.End {
			t.Errorf("until %d: %+v, %d applied", n, out, applied)
		}
		places = append(places, out.Last)
	}
	for n, ref := range places {
		if n == 0 {
			continue
		}
		out, _, err := play(Until{Records: -1, Before: ref, Shard: -1})
		if err != nil && strings.Contains(err.Error(), "has a snapshot of") {
			continue // the other shard's is newer
		}
		must(t, err)
		if out.Records != int64(n-1) || out.End {
			t.Errorf("before %d: %+v", ref, out)
		}
	}
	one, _, err := play(Until{Records: -1, Shard: 0})
	other, at, oerr := play(Until{Records: -1, Shard: 1})
	must(t, errors.Join(err, oerr))
	if one.Records+other.Records != behind || at[0] != nil {
		t.Errorf("%d and %d records, want %d together", one.Records, other.Records, behind)
	}
	if _, _, err := play(Until{Records: -1, Shard: 2}); err == nil || !strings.Contains(err.Error(), "no shard 2") {
		t.Error(err)
	}
	if _, _, err := play(Until{Records: -1, Shard: -1, Before: places[1] - 1<<32}); err == nil || !strings.Contains(err.Error(), "cannot be known") {
		t.Error(err)
	}
}
