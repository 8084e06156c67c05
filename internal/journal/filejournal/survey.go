package filejournal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// oldSnap is a snapshot file that a repair has found.
type oldSnap struct {
	file   string
	shard  uint8
	pos    wal.Pos
	id     uint64
	err    *wal.Damage // it is of no use
	mended bool
}

// listSegments finds the segment files. Those with names that no segment has are strays.
func (r *repairer) listSegments() error {
	dir := filepath.Join(r.dir, "wal")
	names, err := r.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		number, is := strings.CutSuffix(name, ".seg")
		if !is {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n == 0 || filepath.Base(r.wal.Name(uint32(n))) != name {
			r.stray(filepath.Join(dir, name), "not a segment's name")
			continue
		}
		r.numbers = append(r.numbers, uint32(n))
		r.highest = max(r.highest, uint32(n))
	}
	slices.Sort(r.numbers)
	return nil
}

func (r *repairer) stray(file, why string) {
	r.strays = append(r.strays, file)
	r.damage(file, 0, why)
}

// ids counts the journals that the files say they belong to.
func (r *repairer) ids() (map[uint64]int, error) {
	known := map[uint64]int{}
	for _, n := range r.numbers {
		head, err := readHead(r.fs, r.wal.Name(n), wal.PageBytes)
		if err != nil {
			return nil, err
		}
		if h, err := wal.DecodeSegmentHeader(head); err == nil && h.Number == n {
			known[h.ID]++
		}
	}
	names, err := snapNames(r.fs, r.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if s, err := r.readSnap(filepath.Join(r.dir, "snap", name)); err != nil {
			return nil, err
		} else if s.err == nil {
			known[s.id]++
		}
	}
	return known, nil
}

// readHead reads the first n bytes of a file, fewer where it has no more.
func readHead(fsys vfs.FS, name string, n int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, n)
	got, err := f.ReadAt(head, 0)
	if err == io.EOF {
		err = nil
	}
	return head[:got], errors.Join(err, f.Close())
}

// readSnap looks at a snapshot file. The error is for what could not be looked at.
func (r *repairer) readSnap(file string) (oldSnap, error) {
	snap, mended, err := openSnap(r.fs, file)
	if d, is := errors.AsType[*wal.Damage](err); is {
		return oldSnap{file: file, err: d}, nil
	}
	if err != nil {
		return oldSnap{}, err
	}
	return oldSnap{file: file, shard: snap.shard, pos: snap.pos, id: snap.id, mended: mended}, nil
}

// openSnap reads a snapshot file. A single bit that has changed is put right.
func openSnap(fsys vfs.FS, file string) (s *snapshot, mended bool, err error) {
	data, err := vfs.ReadFile(fsys, file, 1<<40)
	if err != nil {
		return nil, false, err
	}
	s, err = decodeSnapshot(data)
	if err == nil {
		return s, false, nil
	}
	damage := &wal.Damage{File: file, Why: err.Error()}
	if len(data) < snapHeader+4 {
		return nil, false, damage
	}
	body := data[:len(data)-4]
	right, ok := wal.Mend(body, binary.LittleEndian.Uint32(data[len(body):]))
	if ok {
		s, err = decodeSnapshot(binary.LittleEndian.AppendUint32(slices.Clone(right), crc32.Checksum(right, castagnoli)))
	}
	if !ok || err != nil {
		return nil, false, damage
	}
	return s, true, nil
}

// listSnapshots finds the snapshots. What a file holds counts, not how it is called.
func (r *repairer) listSnapshots() error {
	names, err := snapNames(r.fs, r.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		s, err := r.readSnap(filepath.Join(r.dir, "snap", name))
		if err != nil {
			return err
		}
		if _, pos, ok := parseSnapName(name); ok {
			r.highest = max(r.highest, pos.Segment())
		}
		switch {
		case s.err != nil:
			r.out.Damage = append(r.out.Damage, s.err)
		case s.id != r.id.id || int(s.shard) >= r.id.shards:
			s.err = r.damage(s.file, 0, "the file belongs to another journal")
		case snapName(s.shard, s.pos) != name:
			r.damage(s.file, 0, "the file's name is not the one it was written under")
		case s.mended:
			r.out.Mended = append(r.out.Mended, r.damage(s.file, 0, "the checksum is wrong"))
		}
		if s.err == nil {
			r.proven = max(r.proven, s.pos)
			r.highest = max(r.highest, s.pos.Segment())
		}
		r.snaps = append(r.snaps, s)
	}
	slices.SortStableFunc(r.snaps, func(a, b oldSnap) int { return cmp.Compare(b.pos, a.pos) })
	return nil
}

// restore makes a shard's state from its newest snapshot that can be loaded.
func (r *repairer) restore(shard uint8) (*mending, error) {
	for _, s := range r.snaps {
		if s.err != nil || s.shard != shard {
			continue
		}
		snap, _, err := openSnap(r.fs, s.file)
		if err != nil {
			return nil, err
		}
		m := &mending{Mender: r.opt.Menders(int(shard)), number: shard, base: s.pos}
		if err := m.Load(snap.data); err == nil {
			return m, nil
		} else {
			r.damage(s.file, 0, fmt.Sprintf("it is whole, but cannot be loaded: %v", err))
		}
	}
	return &mending{Mender: r.opt.Menders(int(shard)), number: shard}, nil
}

// holedFS reads what cannot be read as zeros: the checksums tell what that means.
type holedFS struct {
	vfs.FS
	note func(file string, offset int64, err error)
}

// Open implements vfs.FS.
func (h *holedFS) Open(name string) (vfs.File, error) {
	f, err := h.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &holedFile{File: f, fs: h, name: name}, nil
}

type holedFile struct {
	vfs.File
	fs   *holedFS
	name string
}

// holeBytes is how much is given up where it cannot be read: a sector.
const holeBytes = 512

// ReadAt implements io.ReaderAt.
func (f *holedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err == nil || err == io.EOF {
		return n, err
	}
	size, serr := f.Size()
	if serr != nil {
		return n, serr
	}
	want := int(max(0, min(int64(len(p)), size-off)))
	for at := 0; at < want; {
		end := min(want, at+int(holeBytes-(off+int64(at))%holeBytes))
		if n, err := f.File.ReadAt(p[at:end], off+int64(at)); n < end-at {
			if err == io.EOF {
				return at + n, err
			}
			clear(p[at:end])
			f.fs.note(f.name, (off+int64(at))/holeBytes*holeBytes, err)
		}
		at = end
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}
