package filejournal

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

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

// rewrapped is an archive with other contents, whose checksums are right.
func rewrapped(t testing.TB, archive []byte, change func(name string, body []byte) []byte) []byte {
	t.Helper()
	var entries []entry
	var sums strings.Builder
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := in.Next()
		must(t, err)
		body, err := io.ReadAll(in)
		must(t, err)
		if h.Name == sumsFile {
			return archiveOf(t, append(entries, entry{tar.Header{Name: sumsFile}, sums.String()})...)
		}
		body = change(h.Name, body)
		fmt.Fprintf(&sums, "%x  %s\n", sha(string(body)), h.Name)
		entries = append(entries, entry{tar.Header{Name: h.Name}, string(body)})
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
		mem := vfs.NewMem()
		_, _, err := Restore(mem, "/data", bytes.NewReader(rewrapped(t, archive, change)), nil)
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

// tiny is a backup of a log of few records, one segment and two snapshots.
func tiny(t testing.TB) []byte {
	r := newRig(t, rand.New(rand.NewPCG(5, 5)), Options{Sync: true, Shards: 2, SegmentBytes: 8 << 10})
	must(t, r.open(vfs.NewMem()))
	for _, s := range r.state {
		s.random(r.rnd, 40)
		must(t, s.drain())
		s.snapshot()
		s.random(r.rnd, 40)
		must(t, s.drain())
	}
	must(t, r.log.Close()) // which waits for the snapshots
	again, err := Open(r.log.fs, "/data", r.opt)
	must(t, err)
	var archive bytes.Buffer
	_, err = again.Backup(context.Background(), &archive, backupTime, "v1")
	must(t, errors.Join(err, again.Close()))
	return archive.Bytes()
}

// What is in a backup may be anything, with checksums that are right.
func FuzzRestoreContents(f *testing.F) {
	archive := tiny(f)
	f.Add(uint8(1), uint16(20), []byte("7"))
	f.Add(uint8(2), uint16(100), []byte("garbage"))
	f.Add(uint8(4), uint16(4100), []byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, which uint8, at uint16, with []byte) {
		n := -1
		changed := rewrapped(t, archive, func(_ string, body []byte) []byte {
			if n++; n == int(which)%5 {
				copy(body[min(int(at), len(body)):], with)
			}
			return body
		})
		mem := vfs.NewMem()
		mem.SetCapacity(1 << 20)
		if _, _, err := Restore(mem, "/data", bytes.NewReader(changed), nil); err != nil {
			if err := nothingLeft(mem); err != nil {
				t.Error(err)
			}
			return
		}
		log, err := Open(mem, "/data", Options{SegmentBytes: 8 << 10})
		if err != nil {
			t.Fatalf("restored, and it does not open: %v", err)
		}
		must(t, log.Close())
	})
}

func sha(text string) [32]byte { return sha256.Sum256([]byte(text)) }
