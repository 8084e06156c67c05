package filejournal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// sample is a small journal with several segments, snapshots and a tail.
type sample struct {
	mem     *vfs.Mem
	hist    []*history
	opt     Options
	last    int          // commands of shard 0 that the last frame holds
	records *[][]written // see written
}

func (s sample) rig(t testing.TB) *rig {
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), s.opt)
	for i, h := range s.hist {
		copied := *h
		copied.ends = map[int]bool{}
		for n := range h.ends {
			copied.ends[n] = true
		}
		r.hist[i] = &copied
	}
	return r
}

func makeSample(t testing.TB, clean bool) sample {
	opt := Options{Sync: true, Shards: 2, SegmentBytes: 8 << 10, CacheBytes: 1, CompactSlack: 1 << 30}
	mem := vfs.NewMem()
	r := newRig(t, rand.New(rand.NewPCG(11, 3)), opt)
	must(t, r.open(mem))
	for i := range 3 {
		must(t, r.live(30, 200))
		if i == 1 {
			for _, s := range r.state {
				s.snapshot()
			}
		}
	}
	s := r.state[0]
	s.random(r.rnd, 200)
	must(t, s.drain())
	before := len(s.h.commands)
	s.random(r.rnd, 200)
	must(t, s.drain())
	out := sample{records: new([][]written), hist: r.hist, opt: opt, last: len(s.h.commands) - before}
	if clean {
		must(t, r.log.Close())
		out.mem = mem.Clone()
		return out
	}
	out.mem = mem.Kill().Clone()
	must(t, r.log.Close())
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcome opens a damaged copy. Detected is an error that says so; cut is how
// many commands the log admits to have lost at its end.
func (s sample) outcome(t testing.TB, mem *vfs.Mem) (detected error, cut int, wrong error) {
	r := s.rig(t)
	if err := r.open(mem); err != nil {
		return err, 0, nil
	}
	all := len(r.hist[0].commands)
	if r.log.Recovered().Cut > 0 {
		r.hist[0].confirmed -= s.last // at most the last frame
	}
	err := r.verify()
	if err == nil {
		cut = all - r.state[0].applied
	}
	for _, st := range r.state {
		st.settleNow() // so that files that are missing show
	}
	detected = r.log.Failed()
	cerr := r.log.Close()
	if d := (*wal.Damage)(nil); errors.As(err, &d) {
		return err, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	if detected == nil && cerr != nil {
		return nil, 0, cerr
	}
	return detected, cut, nil
}

func (s *state) settleNow() { s.j.(*Shard).settle() }

func (s sample) files() []string { return strings.Split(s.mem.List(), "\n") }

// spareFile reports whether a file's bytes are of no account.
func spareFile(name string) bool {
	return strings.Contains(name, "spare-") || strings.HasSuffix(name, "reserve")
}

// places are the even or the odd offsets in a file. Where it is all zeros they
// are few: one is like the other there.
func (s sample) places(t testing.TB, name string, odd int) (out []int64) {
	data, err := vfs.ReadFile(s.mem, name, 1<<30)
	must(t, err)
	for at := range data {
		zero := len(bytes.TrimLeft(data[max(0, at-16):min(len(data), at+16)], "\x00")) == 0
		if at%2 != odd || zero && at%32 != odd || testing.Short() && at%130 != odd {
			continue
		}
		out = append(out, int64(at))
	}
	return out
}

// Every byte of every file is changed: the log says so, or, where nothing
// proves that the bytes had ever been synced, that it cut its last frame; or
// the byte was of no account. It never serves what was not written.
func TestEveryFlip(t *testing.T) {
	for _, clean := range []bool{true, false} {
		s := makeSample(t, clean)
		for part := range 2 {
			t.Run(fmt.Sprintf("clean=%v/%d", clean, part), func(t *testing.T) {
				t.Parallel()
				flipPart(t, s, clean, part)
			})
		}
	}
}

func flipPart(t *testing.T, s sample, clean bool, part int) {
	counts := map[string]int{}
	for _, name := range s.files() {
		for _, at := range s.places(t, name, part) {
			mem := s.mem.Clone()
			must(t, mem.Flip(name, at, 1<<(at/2%8)))
			report, err := Check(mem, "/data", nil)
			must(t, err)
			detected, cut, wrong := s.outcome(t, mem)
			switch {
			case wrong != nil:
				t.Fatalf("%s, byte %d: %v", name, at, wrong)
			case detected != nil:
				counts["detected"]++
				if !strings.Contains(detected.Error(), "/data/") {
					t.Errorf("%s, byte %d: the error names no file: %v", name, at, detected)
				}
			case cut > 0 && clean:
				t.Errorf("%s, byte %d: %d commands were cut off a log that was closed", name, at, cut)
			case cut > 0:
				counts["cut"]++
			default:
				counts["harmless"]++
			}
			if (detected != nil || cut > 0) && len(report.Damage) == 0 && report.Torn == 0 {
				t.Errorf("%s, byte %d: Check finds nothing, but %v, cut %d", name, at, detected, cut)
			}
		}
	}
	t.Log(counts)
}

// Every file is cut to every length.
func TestEveryTruncation(t *testing.T) {
	s := makeSample(t, true)
	for _, name := range s.files() {
		size, err := s.mem.Stat(name)
		must(t, err)
		for _, n := range append(s.places(t, name, 0), s.places(t, name, 1)...) {
			mem := s.mem.Clone()
			f, err := mem.OpenWrite(name)
			must(t, err)
			must(t, f.Truncate(n))
			must(t, f.Sync())
			report := s.check(t, mem)
			detected, cut, wrong := s.outcome(t, mem)
			if wrong == nil && (detected != nil) != (len(report.Damage) > 0) {
				t.Errorf("%s cut to %d of %d bytes: %v, but Check finds %v", name, n, size, detected, report.Damage)
			}
			if wrong != nil || cut > 0 || detected == nil && !spareFile(name) {
				t.Errorf("%s cut to %d of %d bytes: detected %v, cut %d, wrong %v", name, n, size, detected, cut, wrong)
			}
		}
		mem := s.mem.Clone()
		must(t, mem.Remove(name))
		must(t, mem.SyncDir(filepath.Dir(name)))
		report := s.check(t, mem)
		detected, cut, wrong := s.outcome(t, mem)
		if wrong != nil || cut > 0 || (detected != nil) != (len(report.Damage) > 0) {
			t.Errorf("%s removed: detected %v, cut %d, wrong %v; Check finds %v", name, detected, cut, wrong, report.Damage)
		}
	}
}

// check is Check with the states that the sample's records make.
func (s sample) check(t testing.TB, mem *vfs.Mem) Report {
	t.Helper()
	report, err := Check(mem, "/data", func(int) State { return newMender(nil) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return report
}

func TestCheckAndDump(t *testing.T) {
	s := makeSample(t, true)
	report, err := Check(s.mem, "/data", nil)
	must(t, err)
	if len(report.Damage) > 0 || report.Torn != 0 || report.Snapshots != 2 || report.Shards != 2 || report.Segments < 3 {
		t.Errorf("%+v", report)
	}
	records := 0
	last := journal.Ref(0)
	must(t, Dump(s.mem, "/data", func(ref journal.Ref, shard int, payload []byte) error {
		if ref <= last || shard > 1 || len(payload) < 9 {
			t.Errorf("ref %d after %d, shard %d, %d bytes", ref, last, shard, len(payload))
		}
		last = ref
		records++
		return nil
	}))
	if want := len(s.hist[0].commands) + len(s.hist[1].commands); records != want || report.Records != want {
		t.Errorf("%d and %d records, want %d", records, report.Records, want)
	}
	stop := errors.New("enough")
	if err := Dump(s.mem, "/data", func(journal.Ref, int, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	must(t, s.mem.Flip("/data/wal/0000000001.seg", wal.PageBytes+60, 1))
	err = Dump(s.mem, "/data", func(journal.Ref, int, []byte) error { return nil })
	if d := (*wal.Damage)(nil); !errors.As(err, &d) || d.Offset != wal.PageBytes {
		t.Errorf("%v", err)
	}
}

func TestTwoOpeners(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(vfs.OS(), dir, Options{SegmentBytes: 8 << 10})
	must(t, err)
	_, err = Open(vfs.OS(), dir, Options{})
	if locked := (*vfs.LockedError)(nil); !errors.As(err, &locked) || locked.PID == 0 || !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("%v", err)
	}
	if _, err := Check(vfs.OS(), dir, nil); err != nil {
		t.Errorf("%v", err)
	}
	must(t, l.Close())
	must(t, l.Close())
}

func TestRefused(t *testing.T) {
	mem := vfs.NewMem()
	l, err := Open(mem, "/data", Options{Shards: 3, SegmentBytes: 8 << 10})
	must(t, err)
	must(t, l.Close())
	if _, err := Open(mem, "/data", Options{Shards: 4}); err == nil || !strings.Contains(err.Error(), "3 shards") {
		t.Errorf("%v", err)
	}
	data, err := vfs.ReadFile(mem, "/data/VERSION", 1000)
	must(t, err)
	newer, _, _ := strings.Cut(strings.Replace(string(data), "format 1", "format 2", 1), "sum")
	must(t, vfs.WriteFileAtomic(mem, "/data/VERSION", withSum(newer)))
	if _, err := Open(mem, "/data", Options{}); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("%v", err)
	}
	other, err := Open(mem, "/other", Options{Shards: 3, SegmentBytes: 8 << 10})
	must(t, err)
	must(t, other.Close())
	data, err = vfs.ReadFile(mem, "/other/VERSION", 1000)
	must(t, err)
	must(t, vfs.WriteFileAtomic(mem, "/data/VERSION", data))
	if _, err := Open(mem, "/data", Options{}); err == nil || !strings.Contains(err.Error(), "another journal") {
		t.Errorf("%v", err)
	}
}
