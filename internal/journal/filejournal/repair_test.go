package filejournal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// mender is a rig's state as a repair sees it. It knows what was written, so that it guesses right.
type mender struct {
	h       *history
	applied int
	things  map[uint64]thing
	kept    int // applied when the snapshot was taken
	beyond  int
}

func newMender(h *history) *mender { return &mender{h: h, things: map[uint64]thing{}, kept: -1} }

func (m *mender) Load(data []byte) error {
	s := &state{j: noJournal{}, things: m.things}
	err := s.load(data)
	m.applied = s.applied
	return err
}

func (m *mender) Apply(ref journal.Ref, payload []byte) error {
	s := &state{j: noJournal{}, things: m.things, applied: m.applied}
	err := s.apply(ref, payload)
	m.applied = s.applied
	return err
}

func (m *mender) Guess(ref journal.Ref, payload []byte) bool {
	if m.applied >= len(m.h.commands) {
		return false
	}
	written := encode(m.h.commands[m.applied])
	if written[0] != 0 || len(payload) != len(written) || !bytes.Equal(payload[:9], written[:9]) {
		return false
	}
	return m.Apply(ref, payload) == nil
}

func (m *mender) Refs(fn func(journal.Span)) {
	for _, id := range slices.Sorted(maps.Keys(m.things)) {
		fn(journal.Span{Ref: m.things[id].ref, Size: m.things[id].size})
	}
}

func (m *mender) Snapshot(in func(journal.Ref) bool) (data []byte, kept []Kept) {
	m.kept = m.applied
	data = binary.LittleEndian.AppendUint64(nil, uint64(m.applied))
	for _, id := range slices.Sorted(maps.Keys(m.things)) {
		e := m.things[id]
		data = binary.LittleEndian.AppendUint64(data, id)
		data = binary.LittleEndian.AppendUint64(data, uint64(e.ref))
		data = binary.LittleEndian.AppendUint32(data, e.size)
		data = binary.LittleEndian.AppendUint32(data, e.sum)
		if in(e.ref) {
			kept = append(kept, Kept{journal.Span{Ref: e.ref, Size: e.size}, id})
		}
	}
	return data, kept
}

func (m *mender) Move(dst []byte, _ Kept, payload []byte) ([]byte, error) {
	return append(dst, payload...), nil
}

func (m *mender) Drop(dst []byte, k Kept) []byte {
	return append(dst, encode(command{drop: true, id: k.Owner.(uint64)})...)
}

func (m *mender) Beyond(journal.Ref, []byte) { m.beyond++ }

// noJournal is told what a state retains and does not care.
type noJournal struct{ journal.Journal }

func (noJournal) Retain([]journal.Span)  {}
func (noJournal) Release([]journal.Span) {}

// repaired is a repair of a sample and what became of its shards.
type repaired struct {
	*Repaired
	menders []*mender
}

// repair repairs mem and returns an error where what it leaves is not a beginning of what was done,
// less what it says is lost.
func (s sample) repair(t testing.TB, mem *vfs.Mem) (repaired, error) {
	out, err := s.repairInto(mem, "damaged")
	if err != nil || !out.Needed() {
		return out, err
	}
	return out, s.verify(t, mem, out)
}

func (s sample) repairInto(mem *vfs.Mem, aside string) (out repaired, err error) {
	out.menders = make([]*mender, len(s.hist))
	out.Repaired, err = Repair(mem, "/data", RepairOptions{Shards: len(s.hist), SegmentBytes: s.opt.SegmentBytes, Aside: aside, Do: true, Menders: func(shard int) Mender {
		m := newMender(s.hist[shard])
		if out.menders[shard] == nil || out.menders[shard].kept < 0 {
			out.menders[shard] = m // later ones check the result
		}
		return m
	}})
	return out, err
}

// verify opens a repaired log.
func (s sample) verify(t testing.TB, mem *vfs.Mem, out repaired) error {
	if out.Repaired == nil {
		return errors.New("there was no repair")
	}
	r := s.rig(t)
	if err := r.open(mem); err != nil {
		return fmt.Errorf("after the repair: %w", err)
	}
	for i, st := range r.state {
		st.settleNow()
		if err := s.compare(i, st, out); err != nil {
			return errors.Join(err, r.log.Close())
		}
	}
	if err := errors.Join(r.log.Failed(), s.leftOut(mem, out)); err != nil {
		return fmt.Errorf("after the repair: %w", err)
	}
	if repairs.Add(1)%16 != 0 {
		return r.log.Close()
	}
	return r.goesOn(mem)
}

// leftOut is an error where what was left out is not in the files that were moved.
func (s sample) leftOut(mem *vfs.Mem, out repaired) error {
	left := map[int]int{}
	d := wal.Dir{FS: mem, Path: filepath.Join(out.Aside, "wal")}
	id, err := readIdentity(mem, out.Aside)
	if err != nil {
		return err
	}
	d.ID = id.id
	names, err := mem.ReadDir(d.Path)
	if err != nil {
		return err
	}
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(name, "%d.seg", &n); err != nil {
			return err
		}
		if _, err := wal.Salvage(d, n, false, 0, func(p wal.Piece) error {
			for _, c := range out.Cuts {
				if p.State <= wal.Mended && int(p.Shard) == c.Shard && journal.Ref(p.From) >= c.At {
					left[c.Shard]++
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, c := range out.Cuts {
		if left[c.Shard] != c.Left {
			return fmt.Errorf("shard %d: %d records were left out, %d of them are in what was moved", c.Shard, c.Left, left[c.Shard])
		}
	}
	return nil
}

var repairs atomic.Int64

// goesOn uses a repaired log as any other: what is done now is there after a restart.
func (r *rig) goesOn(mem *vfs.Mem) error {
	for _, h := range r.hist {
		*h = history{ends: map[int]bool{0: true}}
	}
	for _, st := range r.state {
		st.applied = 0
		for id := range uint64(40) {
			c := command{drop: true, id: id}
			st.h.commands = append(st.h.commands, c)
			st.propose(false, c)
		}
		st.h.ends[len(st.h.commands)] = true
		if err := st.drain(); err != nil {
			return err
		}
		st.snapshot()
	}
	if err := errors.Join(r.live(10, 300), r.log.Close()); err != nil {
		return err
	}
	if err := r.open(mem); err != nil {
		return err
	}
	return errors.Join(r.verify(), r.log.Close())
}

// compare holds a restored state to what the repair said of it.
func (s sample) compare(shard int, st *state, out repaired) error {
	want := map[uint64][]byte{}
	for _, c := range s.hist[shard].commands[:out.menders[shard].kept] {
		if delete(want, c.id); !c.drop {
			want[c.id] = encode(c)
		}
	}
	for _, l := range out.Lost {
		if l.Shard == shard {
			if want[l.Owner.(uint64)] == nil {
				return fmt.Errorf("shard %d: thing %d is said to be lost, and was not there", shard, l.Owner)
			}
			delete(want, l.Owner.(uint64))
		}
	}
	if len(want) != len(st.things) {
		return fmt.Errorf("shard %d: %d things, want %d", shard, len(st.things), len(want))
	}
	for id, w := range want {
		p, err := st.j.Read([]journal.Ref{st.things[id].ref}, nil)
		if err != nil {
			return err
		}
		if !bytes.Equal(p[0], w) {
			return fmt.Errorf("shard %d: thing %d is not what was written", shard, id)
		}
	}
	return nil
}

// lostNothing reports whether all that was confirmed is there.
func (s sample) lostNothing(out repaired) error {
	if len(out.Lost) > 0 || len(out.Cuts) > 0 {
		return fmt.Errorf("lost %+v, cut %+v", out.Lost, out.Cuts)
	}
	for i, m := range out.menders {
		if m.kept != len(s.hist[i].commands) {
			return fmt.Errorf("shard %d: %d of %d commands are left", i, m.kept, len(s.hist[i].commands))
		}
	}
	return nil
}

// A single changed bit, wherever it is, costs nothing.
func TestRepairEveryFlip(t *testing.T) {
	s := makeSample(t, true)
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
		if len(out.Cuts) > 0 {
			counts["cut"]++
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
	for _, what := range []string{"cut", "lost", "nothing lost"} {
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
		cut := 0
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
			if len(out.Cuts) > 0 {
				cut++
			}
		}
		t.Logf("clean %v: %d of %d cut", clean, cut, *seeds)
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

// truth checks that a shard that has less than it had is one that a repair says it cut, or that the log's end is gone.
func (s sample) truth(t *testing.T, what string, out repaired) {
	t.Helper()
	if !out.Needed() {
		return
	}
	for i, m := range out.menders {
		cut := slices.ContainsFunc(out.Cuts, func(c Cut) bool { return c.Shard == i })
		if missing := len(s.hist[i].commands) - m.kept; missing > 0 && !cut && out.EndLost == "" && out.Torn == 0 {
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

// A repair that a power cut ends is either not begun, or is finished by the next one.
func TestRepairCrash(t *testing.T) {
	s := makeSample(t, true)
	for what, damage := range map[string]func(*vfs.Mem){
		"segment":  func(m *vfs.Mem) { overwrite(t, m, "/data/wal/0000000004.seg", 5000, make([]byte, 700)) },
		"missing":  func(m *vfs.Mem) { must(t, errors.Join(m.Remove("/data/wal/0000000004.seg"), m.SyncDir("/data/wal"))) },
		"identity": func(m *vfs.Mem) { overwrite(t, m, "/data/VERSION", 20, []byte("nonsense")) },
	} {
		damaged := s.mem.Clone()
		damage(damaged)
		finished, anew := 0, 0
		for n := int64(1); ; n++ {
			f := powerCut()
			mem := damaged.Clone()
			mem.Fault = f.hook
			f.left.Store(n)
			out, err := s.repairInto(mem, "damaged")
			if !f.hit.Load() {
				must(t, err)
				t.Logf("%s: %d operations, after which a second repair finished the first %d times and began anew %d times", what, n-1, finished, anew)
				break
			}
			mem = mem.Crash(rand.New(rand.NewPCG(uint64(n), 2)))
			before := mem.Clone()
			again, err := s.repairInto(mem, fmt.Sprint("damaged-", n))
			switch {
			case err != nil:
			case again.Finished:
				finished++
				if _, oerr := Open(before, "/data", s.opt); oerr == nil || !strings.Contains(oerr.Error(), "gmq journal repair") {
					t.Errorf("%s, operation %d, %+v: half a repair opens: %v", what, n, f.last.Load(), oerr)
				}
			case again.Needed():
				anew++
				out = again
			}
			if err == nil {
				err = s.verify(t, mem, out)
			}
			if err != nil {
				t.Fatalf("%s, operation %d, %+v: %v", what, n, f.last.Load(), err)
			}
		}
		if finished == 0 || anew == 0 {
			t.Errorf("%s: that is no test", what)
		}
	}
}

// Without Do, and where nothing is damaged, nothing is changed.
func TestRepairOnlyLooks(t *testing.T) {
	s := makeSample(t, true)
	for what, damage := range map[string]func(*vfs.Mem){
		"damaged": func(m *vfs.Mem) { overwrite(t, m, "/data/wal/0000000004.seg", 5000, make([]byte, 700)) },
		"whole":   func(*vfs.Mem) {},
	} {
		mem := s.mem.Clone()
		damage(mem)
		before := mem.Clone()
		out, err := Repair(mem, "/data", RepairOptions{Aside: "damaged", Do: what == "whole", Menders: func(shard int) Mender { return newMender(s.hist[shard]) }})
		if err != nil || out.Needed() == (what == "whole") {
			t.Errorf("%s: %+v, %v", what, out, err)
		}
		if diff := different(t, before, mem); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

// A sector that cannot be read at all is damage like any other.
func TestRepairUnreadable(t *testing.T) {
	s := makeSample(t, true)
	mem := s.mem.Clone()
	bad := int64(5120)
	mem.Fault = func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Path, "/0000000004.seg") && op.Offset < bad+512 && op.Offset+int64(op.Size) > bad {
			return syscall.EIO
		}
		return nil
	}
	if _, err := Check(mem, "/data", nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("check: %v", err)
	}
	out, err := s.repair(t, mem)
	if err != nil || !slices.ContainsFunc(out.Damage, func(d *wal.Damage) bool { return d.Offset == bad && strings.Contains(d.Why, "cannot be read") }) {
		t.Errorf("%+v, %v", out.Repaired, err)
	}
	s.truth(t, "unreadable", out)
}

// A snapshot that is beyond help costs its shard no more than the log no longer has.
func TestRepairSnapshot(t *testing.T) {
	s := makeSample(t, true)
	for _, name := range s.files() {
		if !strings.HasSuffix(name, snapSuffix) {
			continue
		}
		mem := s.mem.Clone()
		overwrite(t, mem, name, 100, bytes.Repeat([]byte{0xa5}, 300))
		out, err := s.repair(t, mem)
		if err != nil {
			t.Fatal(err)
		}
		// No segment was given back yet, so the log has everything from the beginning.
		if err := s.lostNothing(out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		mem = s.mem.Clone()
		overwrite(t, mem, name, 100, bytes.Repeat([]byte{0xa5}, 300))
		must(t, errors.Join(mem.Remove("/data/wal/0000000001.seg"), mem.SyncDir("/data/wal")))
		if out, err = s.repair(t, mem); err != nil {
			t.Fatal(err)
		}
		if len(out.Cuts) != 1 || !out.Cuts[0].Empty || out.Cuts[0].Left == 0 || out.menders[out.Cuts[0].Shard].beyond != out.Cuts[0].Left {
			t.Errorf("%s, and no log: %+v", name, out.Repaired)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(string(planText([]move{{"wal/0000000001.seg", "damaged/wal/0000000001.seg"}, {"a b", "c\n\"d"}})))
	f.Add(string(withSum(unfinishedRepair + "move \"../x\" \"y\"\n")))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		moves, err := parsePlan(text)
		if err != nil {
			return
		}
		for _, m := range moves {
			if !filepath.IsLocal(m.from) || !filepath.IsLocal(m.to) {
				t.Errorf("%q leads out of the directory", m)
			}
		}
		again, err := parsePlan(string(planText(moves)))
		if err != nil || !slices.Equal(again, moves) {
			t.Errorf("%q is %q again, %v", moves, again, err)
		}
	})
}
