package filejournal

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
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
		before := r.log.segs.sorted(func(*segment) bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		end := stall(t, r.log, ctx)
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
		first := true // the keeper alone gives back
		mem.Fault = func(op vfs.Op) error {
			if first && strings.HasSuffix(op.Path, ".seg") && (op.Kind == vfs.OpRename || op.Kind == vfs.OpRemove) {
				first = false
				close(giving)
				<-goOn
			}
			return nil
		}
		must(t, r.open(mem))
		for waits := true; waits; {
			must(t, r.live(20, 3000))
			synctest.Wait()
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

// archived is a backup of a small log.
func archived(t testing.TB) []byte {
	s := makeSample(t, true)
	r := s.rig(t)
	must(t, r.open(s.mem.Clone()))
	var archive bytes.Buffer
	_, err := r.log.Backup(context.Background(), &archive, backupTime, "v1")
	must(t, errors.Join(err, r.log.Close()))
	return archive.Bytes()
}

// nothingLeft is an error where a restore that failed left something that could be taken for a data directory.
func nothingLeft(mem *vfs.Mem) error {
	if left := mem.List(); left != "" {
		return fmt.Errorf("the restore left %q", left)
	}
	return nil
}

// Whatever happens to a backup is found when it is restored, and then nothing is.
func TestRestoreDamaged(t *testing.T) {
	archive := archived(t)
	want, _ := restored(t, archive)
	try := func(what string, damaged []byte, mayPass bool) {
		mem := vfs.NewMem()
		_, _, err := Restore(mem, "/data", bytes.NewReader(damaged), nil)
		if _, verr := VerifyBackup(bytes.NewReader(damaged)); err != nil && verr == nil && !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: verified, but not restored: %v", what, err)
		}
		switch {
		case err == nil && !mayPass:
			t.Errorf("%s: restored", what)
		case err == nil:
			if diff := different(t, want, mem); diff != "" {
				t.Errorf("%s: restored, but %s", what, diff)
			}
		default:
			if err := nothingLeft(mem); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	step := 29 // a checksum is over all of a file
	if testing.Short() {
		step = 601
	}
	for at := 0; at < len(archive); at++ {
		if block := archive[at&^511 : at&^511+512]; at%step != 0 && (!bytes.Equal(block[257:262], []byte("ustar")) || testing.Short() && at%7 != 0) {
			continue // every byte of the headers, and some of the files
		}
		damaged := bytes.Clone(archive)
		damaged[at] ^= 1 << (at % 8)
		// The tar headers' own checksums find what matters; padding is of no account.
		try(fmt.Sprintf("byte %d", at), damaged, true)
	}
	whole := bytes.LastIndexByte(archive, '\n') + 1 // what follows is padding
	for n := 0; n < len(archive); n += step {
		try(fmt.Sprintf("%d of %d bytes", n, len(archive)), archive[:n], n >= whole)
	}
	try("something behind its end", append(bytes.Clone(archive[:len(archive)-1024]), archive...), false) // two blocks of zeros end an archive
}

// different says how two disks differ in what they hold under /data.
func different(t testing.TB, a, b *vfs.Mem) string {
	if a.List() != b.List() {
		return "the files are " + b.List()
	}
	for name := range strings.Lines(a.List()) {
		name = strings.TrimSpace(name)
		one, err := vfs.ReadFile(a, name, 1<<30)
		must(t, err)
		other, err := vfs.ReadFile(b, name, 1<<30)
		must(t, err)
		if !bytes.Equal(one, other) {
			return name + " differs"
		}
	}
	return ""
}

// entry is one of a made-up archive.
type entry struct {
	header tar.Header
	body   string
}

func archiveOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Size == 0 {
			h.Size = int64(len(e.body))
		}
		must(t, w.WriteHeader(&h))
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil && !strings.Contains(err.Error(), "missed writing") {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An archive that no backup is writes nothing outside of the directory, and no more than it has bytes.
func TestRestoreForeign(t *testing.T) {
	info := entry{tar.Header{Name: backupFile}, string(BackupInfo{Journal: 1, End: 1<<32 | 4096, Began: backupTime}.text())}
	for want, entries := range map[string][]entry{
		"cut short":                     {info},
		"no file of a data directory":   {info, {tar.Header{Name: "../outside"}, "x"}},
		"is called that":                {info, {tar.Header{Name: "/etc/passwd"}, "x"}},
		"of a data directory is called": {info, {tar.Header{Name: "wal/../../x.seg"}, "x"}},
		"no plain file":                 {info, {tar.Header{Name: "wal/0000000001.seg", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}},
		"it is there twice":             {info, {tar.Header{Name: "VERSION"}, "x"}, {tar.Header{Name: "VERSION"}, "x"}},
		"does not begin as a backup":    {{tar.Header{Name: "VERSION"}, "x"}},
		"not what was written":          {{tar.Header{Name: backupFile}, "gmq backup\nformat 1\n"}},
		"at most 65536":                 {info, {tar.Header{Name: "VERSION"}, strings.Repeat("x", 70_000)}},
		"at most 4294963200":            {info, {tar.Header{Name: "wal/0000000001.seg", Size: 1 << 40}, "x"}},
		"cannot be read":                {info, {tar.Header{Name: "wal/0000000001.seg", Size: 1 << 30}, "x"}},
		"a newer program":               {{tar.Header{Name: backupFile}, string(withSum("gmq backup\nformat 2\n"))}},
		"has no VERSION":                {info, {tar.Header{Name: sumsFile}, fmt.Sprintf("%x  BACKUP\n", sha(info.body))}},
		"has no checksum":               {info, {tar.Header{Name: sumsFile}, ""}},
	} {
		mem := vfs.NewMem()
		_, _, err := Restore(mem, "/data", bytes.NewReader(archiveOf(t, entries...)), nil)
		if err == nil || !strings.Contains(err.Error(), want) && want != "cannot be read" {
			t.Errorf("want %q: %v", want, err)
		}
		if err := nothingLeft(mem); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A backup whose checksums are right and whose files are not is no backup either.
func TestRestoreOfDamage(t *testing.T) {
	archive := archived(t)
	for want, change := range map[string]func(name string, body []byte) []byte{
		"what was backed up is damaged": func(name string, body []byte) []byte {
			if name == "wal/0000000001.seg" {
				body[5000] ^= 1
			}
			return body
		},
		"the log ends at": func(name string, body []byte) []byte {
			if name == "wal/0000000005.seg" {
				clear(body[wal.PageBytes:])
			}
			return body
		},
		"another journal": func(name string, body []byte) []byte {
			if name == "VERSION" {
				return identity{id: 77, shards: 2}.text()
			}
			return body
		},
	} {
		var entries []entry
		var sums strings.Builder
		in := tar.NewReader(bytes.NewReader(archive))
		for {
			h, err := in.Next()
			must(t, err)
			body, err := io.ReadAll(in)
			must(t, err)
			if h.Name == sumsFile {
				entries = append(entries, entry{tar.Header{Name: sumsFile}, sums.String()})
				break
			}
			body = change(h.Name, body)
			fmt.Fprintf(&sums, "%x  %s\n", sha(string(body)), h.Name)
			entries = append(entries, entry{tar.Header{Name: h.Name}, string(body)})
		}
		mem := vfs.NewMem()
		_, _, err := Restore(mem, "/data", bytes.NewReader(archiveOf(t, entries...)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if err := nothingLeft(mem); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestRestoreOnlyIntoNothing(t *testing.T) {
	archive := archived(t)
	mem, _ := restored(t, archive)
	before := mem.Clone()
	_, _, err := Restore(mem, "/data", bytes.NewReader(archive), nil)
	if err == nil || !strings.Contains(err.Error(), "/data is not empty") {
		t.Errorf("into a data directory: %v", err)
	}
	if diff := different(t, before, mem); diff != "" {
		t.Errorf("it was refused, and %s", diff)
	}
}

// A restore that a power cut ends leaves nothing that opens, or all of it.
func TestRestoreCrash(t *testing.T) {
	s, archive := makeSample(t, true), archived(t)
	opened := 0
	for n := int64(1); ; n++ {
		f := powerCut()
		mem := vfs.NewMem()
		mem.Fault = f.hook
		f.left.Store(n)
		_, _, err := Restore(mem, "/data", bytes.NewReader(archive), nil)
		if !f.hit.Load() {
			must(t, err)
			t.Logf("%d operations, %d times all was there", n-1, opened)
			return
		}
		mem = mem.Crash(rand.New(rand.NewPCG(uint64(n), 1)))
		if list := mem.List(); !strings.Contains(list, "/data/VERSION") && !strings.Contains(list, "/data/wal") && !strings.Contains(list, "/data/snap") {
			continue // nothing is there yet: a server would begin anew, as in any empty directory
		}
		r := s.rig(t)
		if err := r.open(mem); err != nil {
			continue
		}
		opened++
		if err := errors.Join(r.verify(), r.log.Close()); err != nil {
			t.Fatalf("after operation %d, %+v: it opens, and %v", n, f.last.Load(), err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	archive := archived(f)
	f.Add(archive[:2048])
	f.Add(archive[:4096])
	f.Add(archive)
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := vfs.NewMem()
		mem.SetCapacity(1 << 20)
		info, report, err := Restore(mem, "/data", bytes.NewReader(data), nil)
		if err != nil {
			if err := nothingLeft(mem); err != nil {
				t.Error(err)
			}
			return
		}
		if len(report.Damage) > 0 || string(info.text()) == "" {
			t.Errorf("%+v", report)
		}
		log, err := Open(mem, "/data", Options{})
		if err != nil {
			t.Fatalf("restored, and it does not open: %v", err)
		}
		must(t, log.Close())
	})
}

func sha(text string) [32]byte { return sha256.Sum256([]byte(text)) }
