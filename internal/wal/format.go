// Package wal keeps checksummed records in segment files: the bytes, how they
// are read back, and what a power cut or damage makes of them.
//
// A segment file, all numbers little-endian:
//
//	0     page     header: magic, version, number, journal id, size, crc32c
//	4096  frame    8-aligned, one behind the other
//	      frame
//	      ...      the last is a seal frame once the next segment is begun
//	      rest     zeros, or what a recycled file held before
//
// A frame is the unit of commit: it counts whole or not at all.
//
//	0   8  magic, bytes that no UTF-8 text holds
//	8   1  kind: 1 records, 2 seal, 3 close     9  3  zero
//	12  4  length of the records, without padding
//	16  4  segment    20  4  offset of this frame
//	24  8  synced: everything before this position was fsynced
//	           when the frame was written (segment<<32 | offset)
//	32  4  number of records
//	36  4  sum over the records' checksums
//	40  4  zero
//	44  4  crc32c of the 44 bytes before
//	48     records, then zeros up to the next multiple of 8
//
// A record:
//
//	0   4  length of the payload
//	4   4  crc32c of segment, offset of the record, length, shard, payload
//	8   1  shard     9  3  zero
//	12     payload
//
// Segment and offset are in every checksum, so that what a recycled file held
// before, or what a disk wrote to the wrong place, never passes.
//
// The package does not know what a payload or a shard is, nor who reads.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Sizes of the format.
const (
	PageBytes   = 4096 // a segment's header
	FrameBytes  = 48   // a frame's header
	RecordBytes = 12   // a record's header

	// Version of the segment format that this package writes and reads.
	Version = 1

	// MaxSegmentBytes keeps every offset in 32 bits.
	MaxSegmentBytes = 1<<32 - PageBytes
)

// Pos is a place in the log: the segment's number, then the offset in it.
type Pos uint64

// MakePos is the place at offset in segment.
func MakePos(segment uint32, offset int64) Pos { return Pos(segment)<<32 | Pos(uint32(offset)) }

// Segment is the number of the segment.
func (p Pos) Segment() uint32 { return uint32(p >> 32) }

// Offset is the offset in the segment.
func (p Pos) Offset() int64 { return int64(uint32(p)) }

// Kind says what a frame is for.
type Kind uint8

// The kinds of frames. Seal and Close frames hold no records.
const (
	Records Kind = 1
	Seal    Kind = 2 // the segment ends here, the next one follows
	Close   Kind = 3 // the journal was closed here, all before it is synced
)

var (
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	frameMagic   = [8]byte{0xFF, 0xFE, 'g', 'm', 'q', 0xC0, 0xF5, 0xC1}
	segmentMagic = [8]byte{0xFF, 'G', 'M', 'Q', 'W', 'A', 'L', '\n'}
)

// Damage is bytes that were once known to be safe and are not what they were.
type Damage struct {
	File   string
	Offset int64
	Why    string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s", d.File, d.Offset, d.Why)
}

// Align rounds up to where a frame may start.
func Align(n int64) int64 { return (n + 7) &^ 7 }

// FrameSize is the room that a frame with so many bytes of records takes.
func FrameSize(records int) int64 { return Align(FrameBytes + int64(records)) }

// SegmentHeader is what a segment's first page says.
type SegmentHeader struct {
	Number uint32
	ID     uint64 // the journal's, so that files are not mixed up
	Size   int64  // of the whole file
}

// Append appends the page.
func (h SegmentHeader) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, Version)
	dst = binary.LittleEndian.AppendUint32(dst, h.Number)
	dst = binary.LittleEndian.AppendUint64(dst, h.ID)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Size))
	dst = append(dst, make([]byte, PageBytes-4-(len(dst)-start))...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeSegmentHeader reads a segment's first page.
func DecodeSegmentHeader(page []byte) (SegmentHeader, error) {
	if len(page) < PageBytes {
		return SegmentHeader{}, errors.New("the header page is cut short")
	}
	page = page[:PageBytes]
	if [8]byte(page) != segmentMagic {
		return SegmentHeader{}, errors.New("not a segment file")
	}
	if crc32.Checksum(page[:PageBytes-4], castagnoli) != binary.LittleEndian.Uint32(page[PageBytes-4:]) {
		return SegmentHeader{}, errors.New("the header page's checksum is wrong")
	}
	if v := binary.LittleEndian.Uint32(page[8:]); v != Version {
		return SegmentHeader{}, fmt.Errorf("format version %d, this program reads %d", v, Version)
	}
	return SegmentHeader{
		Number: binary.LittleEndian.Uint32(page[12:]),
		ID:     binary.LittleEndian.Uint64(page[16:]),
		Size:   int64(binary.LittleEndian.Uint32(page[24:])),
	}, nil
}

// frameHeader is a frame's header, decoded.
type frameHeader struct {
	kind   Kind
	length uint32
	pos    Pos
	synced Pos
	count  uint32
	sum    uint32
}

func (h frameHeader) put(dst []byte) {
	_ = dst[FrameBytes-1]
	copy(dst, frameMagic[:])
	binary.LittleEndian.PutUint32(dst[8:], uint32(h.kind))
	binary.LittleEndian.PutUint32(dst[12:], h.length)
	binary.LittleEndian.PutUint32(dst[16:], h.pos.Segment())
	binary.LittleEndian.PutUint32(dst[20:], uint32(h.pos.Offset()))
	binary.LittleEndian.PutUint64(dst[24:], uint64(h.synced))
	binary.LittleEndian.PutUint32(dst[32:], h.count)
	binary.LittleEndian.PutUint32(dst[36:], h.sum)
	binary.LittleEndian.PutUint32(dst[40:], 0)
	binary.LittleEndian.PutUint32(dst[44:], crc32.Checksum(dst[:44], castagnoli))
}

// decodeFrameHeader accepts only the header of a frame that belongs at pos.
func decodeFrameHeader(b []byte, pos Pos) (frameHeader, bool) {
	if len(b) < FrameBytes || [8]byte(b) != frameMagic {
		return frameHeader{}, false
	}
	if crc32.Checksum(b[:44], castagnoli) != binary.LittleEndian.Uint32(b[44:]) {
		return frameHeader{}, false
	}
	h := frameHeader{
		kind:   Kind(b[8]),
		length: binary.LittleEndian.Uint32(b[12:]),
		pos:    MakePos(binary.LittleEndian.Uint32(b[16:]), int64(binary.LittleEndian.Uint32(b[20:]))),
		synced: Pos(binary.LittleEndian.Uint64(b[24:])),
		count:  binary.LittleEndian.Uint32(b[32:]),
		sum:    binary.LittleEndian.Uint32(b[36:]),
	}
	return h, h.pos == pos && h.kind >= Records && h.kind <= Close
}

// resembles reports whether the bytes were once the header of a frame at pos:
// one that was written in part, or whose bits have changed.
func resembles(b []byte, pos Pos) bool {
	if len(b) < FrameBytes || crc32.Checksum(b[:44], castagnoli) == binary.LittleEndian.Uint32(b[44:]) {
		return false // too short, or a whole header from the file's life before
	}
	same := 0
	for i, c := range frameMagic {
		if b[i] == c {
			same++
		}
	}
	place := MakePos(binary.LittleEndian.Uint32(b[16:]), int64(binary.LittleEndian.Uint32(b[20:]))) == pos
	segment := binary.LittleEndian.Uint32(b[16:]) == pos.Segment()
	return place && same >= 4 || segment && same == 8 || same == 8 && binary.LittleEndian.Uint32(b[20:]) == uint32(pos.Offset())
}

// A Framer fills in headers of frames and records. It is not for concurrent use.
type Framer struct {
	// scratch is what a record's checksum covers besides its payload. It is
	// here, and not on the stack, because crc32 makes it escape.
	scratch [16]byte
	sum     uint32
	count   uint32
}

func (f *Framer) crc(pos Pos, shard uint8, payload []byte) uint32 {
	binary.LittleEndian.PutUint64(f.scratch[0:], uint64(pos))
	binary.LittleEndian.PutUint32(f.scratch[8:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(f.scratch[12:], uint32(shard))
	return crc32.Update(crc32.Update(0, castagnoli, f.scratch[:]), castagnoli, payload)
}

func mix(sum, crc uint32) uint32 { return sum*0x01000193 ^ crc }

// Stamp fills in the headers of records, which lie at pos one after another,
// except for the lengths, which must be there.
func (f *Framer) Stamp(records []byte, pos Pos, shard uint8) error {
	for at := 0; at < len(records); {
		rest := records[at:]
		if len(rest) < RecordBytes {
			return errors.New("wal: a batch ends in half a record header")
		}
		n := int64(binary.LittleEndian.Uint32(rest))
		if n > int64(len(rest)-RecordBytes) {
			return errors.New("wal: a record is longer than its batch")
		}
		end := RecordBytes + int(n)
		crc := f.crc(pos+Pos(at), shard, rest[RecordBytes:end])
		binary.LittleEndian.PutUint32(rest[4:], crc)
		binary.LittleEndian.PutUint32(rest[8:], uint32(shard))
		f.sum = mix(f.sum, crc)
		f.count++
		at += end
	}
	return nil
}

// Finish writes the frame's header into the first FrameBytes of frame, behind
// which the stamped records lie, and zeros into its padding. The frame is
// FrameSize(records) long.
func (f *Framer) Finish(frame []byte, kind Kind, records int, pos, synced Pos) {
	clear(frame[FrameBytes+records : FrameSize(records)])
	frameHeader{kind: kind, length: uint32(records), pos: pos, synced: synced, count: f.count, sum: f.sum}.put(frame)
	f.sum, f.count = 0, 0
}

// Check verifies the record at pos and returns its payload, shard and length
// with the header. The record's bytes may be followed by others.
func (f *Framer) Check(record []byte, pos Pos) (payload []byte, shard uint8, size int, err error) {
	if len(record) < RecordBytes {
		return nil, 0, 0, errors.New("the record's header is cut short")
	}
	n := int64(binary.LittleEndian.Uint32(record))
	if n > int64(len(record)-RecordBytes) {
		return nil, 0, 0, errors.New("the record is cut short")
	}
	size = RecordBytes + int(n)
	payload = record[RecordBytes:size:size]
	if record[9]|record[10]|record[11] != 0 || f.crc(pos, record[8], payload) != binary.LittleEndian.Uint32(record[4:]) {
		return nil, 0, 0, errors.New("the record's checksum is wrong")
	}
	return payload, record[8], size, nil
}

// RecordSize is the length with its header of the record that starts there.
func RecordSize(header []byte) int64 {
	return RecordBytes + int64(binary.LittleEndian.Uint32(header))
}
