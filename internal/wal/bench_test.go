package wal

import (
	"strconv"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
)

// BenchmarkFrame makes frames of records with 128 bytes each: lengths are there, checksums and headers are not.
func BenchmarkFrame(b *testing.B) {
	for _, count := range []int{1, 64, 1024} {
		b.Run("records="+strconv.Itoa(count), func(b *testing.B) {
			buf, n := benchFrame(count)
			var fr Framer
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				pos := MakePos(1, PageBytes)
				if err := fr.Stamp(buf[FrameBytes:FrameBytes+n], pos+FrameBytes, 3); err != nil {
					b.Fatal(err)
				}
				fr.Finish(buf, Records, n, pos, pos)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/record")
		})
	}
}

// benchFrame gives room for a frame, with count records that have their lengths, and how long these are.
func benchFrame(count int) (frame []byte, records int) {
	records = count * (RecordBytes + 128)
	frame = make([]byte, FrameSize(records))
	for at := FrameBytes; at < FrameBytes+records; at += RecordBytes + 128 {
		frame[at] = 128
	}
	return frame, records
}

// BenchmarkRecover verifies a segment of 4 MiB that is full of frames with 64 records, from memory.
func BenchmarkRecover(b *testing.B) {
	d := Dir{FS: vfs.NewMem(), Path: "/wal", ID: 7}
	must(b, d.FS.MkdirAll("/wal"))
	must(b, d.Prepare(0, 4<<20))
	f, size, err := d.Adopt(0, 1)
	must(b, err)
	buf, n := benchFrame(64)
	records := 0
	var fr Framer
	for at := int64(PageBytes); at+int64(len(buf)) <= size; at += int64(len(buf)) {
		pos := MakePos(1, at)
		must(b, fr.Stamp(buf[FrameBytes:FrameBytes+n], pos+FrameBytes, 3))
		fr.Finish(buf, Records, n, pos, pos)
		_, err := f.WriteAt(buf, at)
		must(b, err)
		records += 64
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		out, err := Recover(d, []uint32{1}, false, func(Frame) error { return nil })
		if err != nil || out.Frames*64 != records {
			b.Fatal(out, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
}
