package filejournal

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

const (
	maxText  = 64 << 10 // of BACKUP and VERSION
	maxSnap  = 1 << 40
	maxSums  = 64 << 20
	maxFiles = 1 << 18 // of a log of 4 TiB
)

// VerifyBackup reads a backup and checks that it is whole.
func VerifyBackup(r io.Reader) (BackupInfo, error) {
	return readBackup(r, func(name string, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	})
}

// Restore makes a data directory of a backup. The directory must be empty, or not be there; what it holds then has
// been verified: the checksums of the backup, every record, and that the states that states makes find all they refer
// to. Where it fails, nothing is left.
func Restore(fsys vfs.FS, dir string, r io.Reader, states func(shard int) State) (info BackupInfo, report Report, err error) {
	if err := mustBeEmpty(fsys, dir); err != nil {
		return info, report, err
	}
	if err := makeDirs(fsys, dir); err != nil {
		return info, report, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return info, report, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	w := &restoring{fs: fsys, dir: dir}
	if err := vfs.WriteFileAtomic(fsys, unfinishedFile(dir), []byte(unfinishedRestore)); err != nil {
		return info, report, err
	}
	if info, err = readBackup(r, w.put); err == nil {
		report, err = w.finish(info, states)
	}
	if err != nil {
		w.undo()
	}
	return info, report, err
}

func mustBeEmpty(fsys vfs.FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The root of a file system may have a place for what its check finds.
	names = slices.DeleteFunc(names, func(n string) bool { return n == "lost+found" })
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%s is not empty: there is %s; a backup is restored into a new directory only", dir, filepath.Join(dir, names[0]))
	}
	return err
}

// restoring is a directory that is being restored.
type restoring struct {
	fs      vfs.FS
	dir     string
	names   []string
	version []byte
}

// put writes one file of a backup.
func (w *restoring) put(name string, body io.Reader) error {
	if name == "VERSION" { // stands for the rest, so it comes last
		data, err := io.ReadAll(body)
		w.version = data
		return err
	}
	file := filepath.Join(w.dir, filepath.FromSlash(name))
	w.names = append(w.names, file)
	f, err := w.fs.Create(file)
	if err != nil {
		return err
	}
	if _, err = io.CopyBuffer(&appender{f: f}, body, make([]byte, copyBytes)); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// appender writes into a file from its beginning on.
type appender struct {
	f  vfs.File
	at int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.f.WriteAt(p, a.at)
	a.at += int64(n)
	return n, err
}

// finish makes what has been written a data directory, once it is known to be a good one.
func (w *restoring) finish(info BackupInfo, states func(int) State) (report Report, err error) {
	if w.version == nil {
		return report, errors.New("the backup has no VERSION")
	}
	for _, d := range []string{"wal", "snap"} {
		if err := w.fs.SyncDir(filepath.Join(w.dir, d)); err != nil {
			return report, err
		}
	}
	w.names = append(w.names, versionFile(w.dir))
	if err := vfs.WriteFileAtomic(w.fs, versionFile(w.dir), w.version); err != nil {
		return report, err
	}
	id, err := readIdentity(w.fs, w.dir)
	if err != nil {
		return report, err
	}
	if report, err = check(w.fs, w.dir, states); err != nil {
		return report, err
	}
	switch {
	case id.id != info.Journal:
		return report, errors.New("the backup's files are those of another journal than it says")
	case len(report.Damage) > 0:
		return report, fmt.Errorf("what was backed up is damaged: %w", report.Damage[0])
	case wal.Pos(report.End) != info.End || report.Torn > 0:
		end := report.End
		return report, fmt.Errorf("the log ends at %d:%d, not at %d:%d", end.Segment(), end.Offset(), info.End.Segment(), info.End.Offset())
	}
	if err := w.fs.Remove(unfinishedFile(w.dir)); err != nil {
		return report, err
	}
	return report, w.fs.SyncDir(w.dir)
}

// undo removes what was written. What cannot be removed is no data directory: it is marked as unfinished.
func (w *restoring) undo() {
	for _, name := range append(w.names, filepath.Join(w.dir, "LOCK")) {
		if err := w.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	for _, d := range []string{"wal", "snap"} {
		if err := w.fs.Remove(filepath.Join(w.dir, d)); err != nil {
			return
		}
	}
	_ = w.fs.Remove(unfinishedFile(w.dir))
}

// readBackup reads a backup, calls put for each file that belongs to a data directory, and checks that it is whole
// and has nothing else in it.
func readBackup(r io.Reader, put func(name string, body io.Reader) error) (info BackupInfo, err error) {
	in := tar.NewReader(r)
	var sums bytes.Buffer
	seen := map[string]bool{}
	for {
		h, err := in.Next()
		if err == io.EOF {
			return info, errors.New("the backup is cut short: the checksums at its end are missing")
		}
		if err != nil {
			return info, fmt.Errorf("the backup cannot be read: %w", err)
		}
		name := h.Name
		limit, err := fileLimit(h)
		switch {
		case err != nil:
		case len(seen) == 0 && name != backupFile:
			err = errors.New("it does not begin as a backup does")
		case seen[name]:
			err = errors.New("it is there twice")
		case len(seen) == maxFiles:
			err = errors.New("there are too many files")
		case h.Size > limit:
			err = fmt.Errorf("it has %d bytes, at most %d are possible", h.Size, limit)
		}
		if err != nil {
			return info, fmt.Errorf("the backup is none: %q: %w", name, err)
		}
		seen[name] = true
		if name == sumsFile {
			return info, endOfBackup(in, h.Size, sums.Bytes())
		}
		sum := sha256.New()
		body := &exactly{r: io.TeeReader(in, sum), left: h.Size}
		if name == backupFile {
			var text []byte
			if text, err = io.ReadAll(body); err == nil {
				info, err = parseBackupInfo(string(text))
			}
		} else {
			err = put(name, body)
		}
		if err == nil {
			err = body.done()
		}
		if err != nil {
			return info, fmt.Errorf("the backup's %s: %w", name, err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), name)
	}
}

// exactly is a body that must be read to its end, and has one.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (e *exactly) done() error {
	if e.left != 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// fileLimit is how large a file of a backup may be. Only the names that Backup gives are known.
func fileLimit(h *tar.Header) (int64, error) {
	if h.Typeflag != tar.TypeReg {
		return 0, errors.New("it is no plain file")
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes that stand for any number of zeros
			return 0, errors.New("it is a file with holes")
		}
	}
	switch h.Name {
	case backupFile, "VERSION":
		return maxText, nil
	case sumsFile:
		return maxSums, nil
	}
	if name, ok := strings.CutPrefix(h.Name, "snap/"); ok {
		if _, _, ok := parseSnapName(name); ok {
			return maxSnap, nil
		}
	}
	if name, ok := strings.CutPrefix(h.Name, "wal/"); ok {
		number, is := strings.CutSuffix(name, ".seg")
		n, err := strconv.ParseUint(number, 10, 32)
		if is && err == nil && n > 0 && filepath.Base(wal.Dir{}.Name(uint32(n))) == name {
			return wal.MaxSegmentBytes, nil
		}
	}
	return 0, errors.New("no file of a data directory is called that")
}

// endOfBackup compares the checksums at the end with those of what was read.
func endOfBackup(in *tar.Reader, size int64, want []byte) error {
	got, err := io.ReadAll(in)
	if err != nil || int64(len(got)) != size {
		return fmt.Errorf("the backup's %s cannot be read: %w", sumsFile, errors.Join(err, io.ErrUnexpectedEOF))
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the backup is damaged: %s", differing(got, want))
	}
	if _, err := in.Next(); err != io.EOF {
		return errors.New("the backup has something behind its end")
	}
	return nil
}

// differing says which file is not the one whose checksum stands in the backup.
func differing(got, want []byte) string {
	told := map[string]string{}
	for line := range strings.Lines(string(got)) {
		if sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok {
			told[name] = sum
		}
	}
	for line := range bytes.Lines(want) {
		sum, name, _ := strings.Cut(string(bytes.TrimSuffix(line, []byte("\n"))), "  ")
		switch is, there := told[name]; {
		case !there:
			return fmt.Sprintf("%s has no checksum", name)
		case is != sum:
			return fmt.Sprintf("%s has the checksum %.16s…, not %.16q…", name, sum, is)
		}
		delete(told, name)
	}
	for name := range told {
		return fmt.Sprintf("%.100q is missing", name)
	}
	return "its checksums are in another order"
}
