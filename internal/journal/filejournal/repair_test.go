package filejournal

import (
	"bytes"
	"cmp"
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

// mender is a rig's state as a repair sees it. Where it knows what was written it guesses right, and
// lets nothing else pass.
type mender struct {
	written []written // by the number of the command; nil: not known
	applied int       // commands, those in the snapshot included
	base    int       // those in the snapshot
	refs    map[journal.Ref]bool
	left    map[journal.Ref]bool // out
	things  map[uint64]thing
	gapped  bool
	done    bool // the snapshot was taken
}

// written is a record as it was written.
type written struct {
	ref     journal.Ref
	payload []byte
}

func newMender(records []written) *mender {
	return &mender{written: records, things: map[uint64]thing{}, refs: map[journal.Ref]bool{}, left: map[journal.Ref]bool{}}
}

func (m *mender) Load(data []byte) error {
	s := &state{j: noJournal{}, things: m.things}
	err := s.load(data)
	m.applied, m.base = s.applied, s.applied
	return err
}

func (m *mender) Apply(ref journal.Ref, payload []byte) error {
	if n := len(m.written); n > 0 && ref.Segment() <= m.written[n-1].ref.Segment() { // else a repair has written it
		i, ok := slices.BinarySearchFunc(m.written, ref, func(w written, ref journal.Ref) int { return cmp.Compare(w.ref, ref) })
		if !ok || !bytes.Equal(m.written[i].payload, payload) {
			return fmt.Errorf("the record at %d was never written", ref)
		}
	}
	if m.gapped && len(payload) > 60 && payload[1] < 20 {
		m.left[ref] = true
		return ErrLeftOut
	}
	m.refs[ref] = true
	s := &state{j: noJournal{}, things: m.things, applied: m.applied}
	err := s.apply(ref, payload)
	m.applied = s.applied
	return err
}

func (m *mender) Gap() { m.gapped = true }

func (m *mender) Guess(ref journal.Ref, payload []byte) bool {
	i, ok := slices.BinarySearchFunc(m.written, ref, func(w written, ref journal.Ref) int { return cmp.Compare(w.ref, ref) })
	if !ok || payload[0] != 0 || len(payload) != len(m.written[i].payload) || !bytes.Equal(payload[:9], m.written[i].payload[:9]) {
		return false
	}
	return m.Apply(ref, m.written[i].payload) == nil
}

func (m *mender) Refs(fn func(journal.Span)) {
	for _, id := range slices.Sorted(maps.Keys(m.things)) {
		fn(journal.Span{Ref: m.things[id].ref, Size: m.things[id].size})
	}
}

func (m *mender) Snapshot(in func(journal.Ref) bool) (data []byte, kept []Kept) {
	m.done = true
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

// noJournal is told what a state retains and does not care.
type noJournal struct{ journal.Journal }

func (noJournal) Retain([]journal.Span)  {}
func (noJournal) Release([]journal.Span) {}

// repaired is a repair of a sample and what became of its shards.
type repaired struct {
	*Repaired
	menders []*mender
}

// repair repairs mem. It returns an error where what it leaves is not what was written, where it does not
// say what is lost, and where it leaves out a record that is whole.
func (s sample) repair(t testing.TB, mem *vfs.Mem) (repaired, error) {
	before := mem.Clone()
	out, err := s.repairInto(t, mem, "damaged")
	if err != nil || !out.Needed() {
		return out, err
	}
	return out, errors.Join(s.verify(t, mem, out), s.complete(before, out))
}

func (s sample) repairInto(t testing.TB, mem *vfs.Mem, aside string) (out repaired, err error) {
	records := s.written(t)
	out.menders = make([]*mender, len(s.hist))
	out.Repaired, err = Repair(mem, "/data", RepairOptions{Shards: len(s.hist), SegmentBytes: s.opt.SegmentBytes, Aside: aside, Do: true, Menders: func(shard int) Mender {
		if out.menders[shard] != nil && out.menders[shard].done {
			return newMender(nil) // it checks the result
		}
		out.menders[shard] = newMender(records[shard])
		return out.menders[shard]
	}})
	return out, err
}

// written is all records of the sample, by shard; their places are in order.
func (s sample) written(t testing.TB) [][]written {
	if len(*s.records) == 0 {
		all := make([][]written, len(s.hist))
		must(t, Dump(s.mem, "/data", func(ref journal.Ref, shard int, payload []byte) error {
			all[shard] = append(all[shard], written{ref, slices.Clone(payload)})
			return nil
		}))
		*s.records = all
	}
	return *s.records
}

// complete is an error where a record that is whole, and in none of the snapshots, was neither applied nor
// left out on purpose.
func (s sample) complete(before *vfs.Mem, out repaired) error {
	for shard, m := range out.menders {
		for i, w := range m.written {
			if i < m.base || m.refs[w.ref] || m.left[w.ref] || w.ref >= out.End && (out.EndLost != "" || out.Torn > 0) {
				continue
			}
			name := fmt.Sprintf("/data/wal/%010d.seg", w.ref.Segment())
			is, err := readAt(before, name, w.ref, len(w.payload))
			if err != nil {
				continue
			}
			was, err := readAt(s.mem, name, w.ref, len(w.payload))
			if err != nil {
				return err
			}
			if bytes.Equal(is, was) {
				return fmt.Errorf("shard %d: the record at %d:%d is whole, and was not applied", shard, w.ref.Segment(), w.ref.Offset())
			}
		}
	}
	return nil
}

// readAt reads a record with its header.
func readAt(mem *vfs.Mem, name string, ref journal.Ref, payload int) ([]byte, error) {
	f, err := mem.Open(name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, payload+wal.RecordBytes)
	_, err = f.ReadAt(b, int64(ref.Offset()))
	return b, errors.Join(err, f.Close())
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
	n := 0
	for shard, m := range out.menders {
		n += len(m.left)
		for _, w := range m.written {
			if !m.left[w.ref] {
				continue
			}
			name := filepath.Join(out.Aside, fmt.Sprintf("wal/%010d.seg", w.ref.Segment()))
			f, err := mem.Open(name)
			if err != nil {
				return fmt.Errorf("shard %d: a record was left out, and is not kept: %w", shard, err)
			}
			if _, err := wal.ReadRecord(f, name, wal.Pos(w.ref), uint32(len(w.payload)+wal.RecordBytes)); err != nil && !errors.Is(err, syscall.EIO) {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
	}
	if n != out.LeftOut {
		return fmt.Errorf("%d records were left out, not %d", n, out.LeftOut)
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

// compare holds a restored state to what was applied, and to what the repair says is lost.
func (s sample) compare(shard int, st *state, out repaired) error {
	want := map[uint64][]byte{}
	m := out.menders[shard]
	for i, c := range s.hist[shard].commands {
		if i >= m.base && !m.refs[m.written[i].ref] {
			continue
		}
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

// lostNothing is an error where not all that was confirmed is there.
func (s sample) lostNothing(out repaired) error {
	if len(out.Lost) > 0 || len(out.Gaps) > 0 || out.LeftOut > 0 {
		return fmt.Errorf("lost %+v, gaps %+v, %d left out", out.Lost, out.Gaps, out.LeftOut)
	}
	for i, m := range out.menders {
		if m.applied != len(s.hist[i].commands) {
			return fmt.Errorf("shard %d: %d of %d commands are left", i, m.applied, len(s.hist[i].commands))
		}
	}
	return nil
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
			out, err := s.repairInto(t, mem, "damaged")
			if !f.hit.Load() {
				must(t, err)
				t.Logf("%s: %d operations, after which a second repair finished the first %d times and began anew %d times", what, n-1, finished, anew)
				break
			}
			mem = mem.Crash(rand.New(rand.NewPCG(uint64(n), 2)))
			before := mem.Clone()
			again, err := s.repairInto(t, mem, fmt.Sprint("damaged-", n))
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
		out, err := Repair(mem, "/data", RepairOptions{Aside: "damaged", Do: what == "whole", Menders: func(shard int) Mender { return newMender(nil) }})
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
	out, err := s.repairInto(t, mem, "damaged")
	if err == nil {
		err = s.verify(t, mem, out)
	}
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
		if len(out.Gaps) != 1 || len(out.Gaps[0].Shards) != 1 || out.Gaps[0].From != journal.MakeRef(1, wal.PageBytes) {
			t.Errorf("%s, and no log: %+v", name, out.Repaired)
		}
	}
}

// What another journal has written is not taken, be it whole.
func TestRepairForeign(t *testing.T) {
	s, other := makeSample(t, true), makeSample(t, true)
	for _, name := range s.files() {
		if !strings.HasSuffix(name, snapSuffix) && !strings.HasSuffix(name, ".seg") {
			continue
		}
		// Snapshots are called by where they lie in the log, which is not the same in both; they begin with their shard.
		i := slices.IndexFunc(other.files(), func(f string) bool {
			return f == name || strings.HasSuffix(name, snapSuffix) && strings.HasSuffix(f, snapSuffix) && f[:len("/data/snap/000")] == name[:len("/data/snap/000")]
		})
		data, err := vfs.ReadFile(other.mem, other.files()[i], 1<<30)
		must(t, err)
		mem := s.mem.Clone()
		overwrite(t, mem, name, 0, data)
		out, err := s.repairInto(t, mem, "damaged")
		if err == nil {
			err = s.verify(t, mem, out)
		}
		if err != nil || !out.Needed() {
			t.Errorf("%s: %+v, %v", name, out.Repaired, err)
		}
		s.truth(t, name, out)
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
