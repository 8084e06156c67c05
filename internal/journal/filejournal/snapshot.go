package filejournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A snapshot file, numbers little-endian:
//
//	0   8  magic           8   4  version      12  4  shard
//	16  8  journal id      24  8  position (segment<<32 | offset)
//	32  8  length of the head that a consensus has put before the data, 0 where there is none
//	40     head, data     then 4: crc32c of all before
const (
	snapHeader  = 40
	snapVersion = 1
	snapSuffix  = ".snap"
	tmpSuffix   = ".tmp" // of a file that is not whole yet
)

var (
	snapMagic  = [8]byte{0xFF, 'G', 'M', 'Q', 'S', 'N', 'P', '\n'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// snapshot is a shard's state after all its records before pos.
type snapshot struct {
	id    uint64
	shard uint8
	pos   wal.Pos
	head  []byte
	data  []byte
}

// encode returns what stands before and behind the data.
func (s *snapshot) encode() (head, tail []byte) {
	head = append(head, snapMagic[:]...)
	head = binary.LittleEndian.AppendUint32(head, snapVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(s.shard))
	head = binary.LittleEndian.AppendUint64(head, s.id)
	head = binary.LittleEndian.AppendUint64(head, uint64(s.pos))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(s.head)))
	head = append(head, s.head...)
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, s.data)
	return head, binary.LittleEndian.AppendUint32(nil, crc)
}

// decodeSnapshot reads a whole file; the data is a part of it.
func decodeSnapshot(file []byte) (*snapshot, error) {
	if len(file) < snapHeader+4 {
		return nil, errors.New("the file is cut short")
	}
	if [8]byte(file) != snapMagic {
		return nil, errors.New("not a snapshot file")
	}
	body := file[:len(file)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(file[len(body):]) {
		return nil, errors.New("the checksum is wrong")
	}
	if v := binary.LittleEndian.Uint32(file[8:]); v != snapVersion {
		return nil, fmt.Errorf("format version %d, this program reads %d", v, snapVersion)
	}
	shard := binary.LittleEndian.Uint32(file[12:])
	headLen := binary.LittleEndian.Uint64(file[32:])
	if shard > 255 || headLen > uint64(len(body)-snapHeader) {
		return nil, errors.New("the header is wrong")
	}
	return &snapshot{
		id:    binary.LittleEndian.Uint64(file[16:]),
		shard: uint8(shard),
		pos:   wal.Pos(binary.LittleEndian.Uint64(file[24:])),
		head:  body[snapHeader : snapHeader+headLen],
		data:  body[snapHeader+headLen:],
	}, nil
}

func snapName(shard uint8, pos wal.Pos) string {
	return fmt.Sprintf("%03d-%010d-%010d%s", shard, pos.Segment(), pos.Offset(), snapSuffix)
}

// parseSnapName is the opposite of snapName.
func parseSnapName(name string) (shard uint8, pos wal.Pos, ok bool) {
	var i, seg, off uint32
	if n, _ := fmt.Sscanf(name, "%d-%d-%d.snap", &i, &seg, &off); n != 3 || i > 255 {
		return 0, 0, false
	}
	pos = wal.MakePos(seg, int64(off))
	return uint8(i), pos, snapName(uint8(i), pos) == name
}

// readSnapshot reads and checks a snapshot file.
func readSnapshot(fsys vfs.FS, file string, id uint64) (*snapshot, error) {
	data, err := vfs.ReadFile(fsys, file, 1<<40)
	if err != nil {
		return nil, err
	}
	s, err := decodeSnapshot(data)
	switch {
	case err != nil:
	case s.id != id:
		err = errors.New("the file belongs to another journal")
	case snapName(s.shard, s.pos) != filepath.Base(file):
		err = errors.New("the file's name is not the one it was written under")
	}
	if err != nil {
		return nil, &wal.Damage{File: file, Why: err.Error()}
	}
	return s, nil
}

// findSnapshots finds each shard's newest snapshot. Replay reads and checks it; a damaged
// one is an error then: the log before it may be gone, so an older one is no help.
func (l *Log) findSnapshots() error {
	names, err := l.fs.ReadDir(l.snapDir())
	if err != nil {
		return err
	}
	for _, name := range names {
		file := filepath.Join(l.snapDir(), name)
		if strings.HasSuffix(name, ".tmp") {
			if err := l.fs.Remove(file); err != nil {
				return err
			}
			continue
		}
		if !strings.HasSuffix(name, snapSuffix) {
			continue
		}
		shard, pos, ok := parseSnapName(name)
		if !ok || int(shard) >= len(l.shards) {
			return &wal.Damage{File: file, Why: "not a snapshot's name"}
		}
		if s := l.shards[shard]; s.snapFile == "" || pos > s.snapPos {
			s.snapFile, s.snapPos = file, pos
		}
	}
	for _, s := range l.shards {
		if s.snapFile == "" {
			continue
		}
		size, err := l.fs.Stat(s.snapFile)
		if err != nil {
			return err
		}
		s.snapSize = max(size-snapHeader-4, 0)
		file := s.snapFile
		s.newest.Store(&file)
	}
	l.moveNeeded()
	return nil
}

// moveNeeded notes what the newest snapshots leave to replay.
func (l *Log) moveNeeded() {
	needed, bytes := l.shards[0].snapPos, int64(0)
	for _, s := range l.shards {
		needed = min(needed, s.snapPos)
		bytes += s.snapSize
	}
	l.needed.Store(uint64(needed))
	l.snapBytes.Store(bytes)
}

// The reserve is room for one snapshot on a disk that is full: only a snapshot
// lets segments go.
func (l *Log) reserveFile() string { return filepath.Join(l.snapDir(), "reserve") }

func (l *Log) dropReserve() bool { return l.fs.Remove(l.reserveFile()) == nil }

// keepReserve makes the reserve large enough for the largest snapshot. What
// cannot be had is done without.
func (l *Log) keepReserve() {
	want := int64(64 << 10)
	for _, s := range l.shards {
		want = max(want, 2*s.snapSize)
	}
	size, err := l.fs.Stat(l.reserveFile())
	if err == nil && size >= want || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	f, err := l.fs.Create(l.reserveFile())
	if err != nil {
		return
	}
	err = f.Allocate(want)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = l.dropReserve() // half a reserve is none
	}
}
