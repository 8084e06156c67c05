package wal

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
)

// MaxMend is the largest run of bytes that Mend looks at. A checksum of 32 bits
// is explained by one changed bit in one of 4 billion / bits cases of any other damage.
const MaxMend = 64 << 10

// Mend finds the one bit that has changed where data does not have the checksum
// sum, and returns data as it was. It is false where no single bit explains
// it. Two changed bits are never taken for one: runs that differ in fewer than
// four bits have different sums.
func Mend(data []byte, sum uint32) ([]byte, bool) {
	differ := crc32.Checksum(data, castagnoli) ^ sum
	if len(data) > MaxMend || differ == 0 {
		return nil, false
	}
	if bits.OnesCount32(differ) == 1 {
		return data, true // the bit is one of the sum's own
	}
	// What a bit in the last byte changes in the sum; one step for each byte before.
	var change [8]uint32
	for b := range change {
		change[b] = castagnoli[1<<b]
	}
	for i := len(data) - 1; i >= 0; i-- {
		for b, c := range change {
			if c == differ {
				mended := slices.Clone(data)
				mended[i] ^= 1 << b
				return mended, true
			}
			change[b] = castagnoli[c&0xff] ^ c>>8
		}
	}
	return nil, false
}

// mendHeader is the header of the frame at pos with one bit put right.
func mendHeader(b []byte, pos Pos) (frameHeader, bool) {
	if len(b) < FrameBytes {
		return frameHeader{}, false
	}
	mended, ok := Mend(b[:44], binary.LittleEndian.Uint32(b[44:]))
	if !ok {
		return frameHeader{}, false
	}
	return decodeFrameHeader(binary.LittleEndian.AppendUint32(mended[:44:44], crc32.Checksum(mended, castagnoli)), pos)
}

// mendRecord is the record of which rec is all, with one bit put right: its
// payload, its shard, and the checksum that belongs to it.
func mendRecord(rec []byte, pos Pos) (payload []byte, shard uint8, crc uint32, ok bool) {
	const head = 16 // what a checksum covers besides the payload; see Framer.scratch
	data := make([]byte, head, head+len(rec)-RecordBytes)
	binary.LittleEndian.PutUint64(data, uint64(pos))
	binary.LittleEndian.PutUint32(data[8:], uint32(len(rec)-RecordBytes))
	binary.LittleEndian.PutUint32(data[12:], uint32(rec[8]))
	data = append(data, rec[RecordBytes:]...)
	place := [12]byte(data)
	crc = crc32.Checksum(data, castagnoli)
	if crc != binary.LittleEndian.Uint32(rec[4:]) {
		if data, ok = Mend(data, binary.LittleEndian.Uint32(rec[4:])); !ok {
			return nil, 0, 0, false
		}
		crc = crc32.Checksum(data, castagnoli)
	} // else what is wrong is a zero that no checksum covers
	if [12]byte(data) != place || data[13]|data[14]|data[15] != 0 {
		return nil, 0, 0, false // place and length are known for certain
	}
	return data[head:], data[12], crc, true
}
