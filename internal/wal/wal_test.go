package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
)

const testSize = 64 << 10

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writer writes frames into one segment, as a journal would.
type writer struct {
	t   testing.TB
	dir Dir
	f   vfs.File
	off int64
	fr  Framer
}

func newWriter(t testing.TB) *writer {
	w := &writer{t: t, dir: Dir{FS: vfs.NewMem(), Path: "/wal", ID: 42}, off: PageBytes}
	must(t, w.dir.FS.MkdirAll("/wal"))
	must(t, w.dir.Prepare(0, testSize))
	f, size, err := w.dir.Adopt(0, 1)
	must(t, err)
	if size != testSize {
		t.Fatal(size)
	}
	w.f = f
	return w
}

func frame(fr *Framer, kind Kind, pos, synced Pos, payloads ...string) []byte {
	data := make([]byte, FrameBytes)
	for i, p := range payloads {
		start := len(data)
		data = binary.LittleEndian.AppendUint32(data, uint32(len(p)))
		data = append(append(data, make([]byte, RecordBytes-4)...), p...)
		if err := fr.Stamp(data[start:], pos+Pos(start), uint8(i)); err != nil {
			panic(err)
		}
	}
	n := len(data) - FrameBytes
	data = append(data, make([]byte, FrameSize(n)-int64(len(data)))...)
	fr.Finish(data, kind, n, pos, synced)
	return data
}

func (w *writer) write(kind Kind, synced int64, payloads ...string) int64 {
	at := w.off
	data := frame(&w.fr, kind, MakePos(1, at), MakePos(1, synced), payloads...)
	_, err := w.f.WriteAt(data, at)
	must(w.t, err)
	w.off += int64(len(data))
	return at
}

func (w *writer) flip(at int64) { must(w.t, w.dir.FS.(*vfs.Mem).Flip(w.dir.Name(1), at, 4)) }

func (w *writer) recover(change bool) ([]string, Recovered, error) {
	var got []string
	out, err := Recover(w.dir, []uint32{1}, change, func(f Frame) error {
		var c Framer
		for at := 0; at < len(f.Data); {
			payload, shard, n, err := c.Check(f.Data[at:], f.At()+Pos(at))
			must(w.t, err)
			got = append(got, string(rune('0'+shard))+string(payload))
			at += n
		}
		return nil
	})
	return got, out, err
}

func TestFrames(t *testing.T) {
	w := newWriter(t)
	w.write(Records, PageBytes, "a", "", strings.Repeat("x", 5000))
	w.write(Records, PageBytes, "b")
	end := w.off
	got, out, err := w.recover(true)
	must(t, err)
	if want := "0a 1 2" + strings.Repeat("x", 5000) + " 0b"; strings.Join(got, " ") != want || out.End != end || out.Frames != 2 || out.Cut != 0 {
		t.Errorf("%.100q %+v", got, out)
	}
}

// A frame that was torn goes, with what was written behind it and not synced
// either; none of it comes back when the place is written again.
func TestTornTail(t *testing.T) {
	w := newWriter(t)
	a := w.write(Records, PageBytes, "a")
	b := w.write(Records, PageBytes, "b")
	c := w.write(Records, PageBytes, "c")
	w.flip(b + FrameBytes + RecordBytes)
	got, out, err := w.recover(false)
	must(t, err)
	if out.Cut != w.off-b || out.End != b || len(got) != 1 || out.CutWhy == "" {
		t.Errorf("%q %+v", got, out)
	}
	if _, again, err := w.recover(true); err != nil || again != out {
		t.Errorf("%v %+v", err, again)
	}
	w.off = b
	w.write(Records, a, "B")
	if w.off != c {
		t.Fatal("the new frame is not as long as the old one")
	}
	if got, out, err = w.recover(true); err != nil || strings.Join(got, " ") != "0a 0B" || out.Cut != 0 {
		t.Errorf("%v %q %+v", err, got, out)
	}
}

func TestDamage(t *testing.T) {
	for _, later := range []Kind{Records, Close} {
		w := newWriter(t)
		w.write(Records, PageBytes, "a")
		b := w.write(Records, PageBytes, "b")
		w.write(later, w.off)
		w.flip(b + 20)
		before, err := vfs.ReadFile(w.dir.FS, w.dir.Name(1), testSize)
		must(t, err)
		_, _, err = w.recover(true)
		if d := (*Damage)(nil); !errors.As(err, &d) || d.File != "/wal/0000000001.seg" || d.Offset != b {
			t.Errorf("%v", err)
		}
		after, err := vfs.ReadFile(w.dir.FS, w.dir.Name(1), testSize)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Error("the file was changed")
		}
	}
}

// What a recycled file held before is neither read nor taken for a torn frame.
func TestRecycled(t *testing.T) {
	w := newWriter(t)
	w.write(Records, PageBytes, "old", "older")
	w.write(Close, w.off)
	must(t, w.f.Close())
	must(t, w.dir.Recycle(1, 3))
	f, _, err := w.dir.Adopt(3, 2)
	must(t, err)
	must(t, f.Close())
	out, err := Recover(w.dir, []uint32{2}, true, nil)
	if err != nil || out.Frames != 0 || out.Cut != 0 || out.End != PageBytes {
		t.Errorf("%v %+v", err, out)
	}
}

func TestMissingSegments(t *testing.T) {
	w := newWriter(t)
	must(t, w.dir.Prepare(1, testSize))
	f, _, err := w.dir.Adopt(1, 2)
	must(t, err)
	must(t, f.Close())
	// Made, but the one before is not sealed yet.
	if out, err := Recover(w.dir, []uint32{1, 2}, true, nil); err != nil || out.Segment != 1 || out.Unborn != 2 {
		t.Errorf("%v %+v", err, out)
	}
	w.write(Seal, w.off)
	if out, err := Recover(w.dir, []uint32{1, 2}, true, nil); err != nil || out.Segment != 2 || out.Unborn != 0 {
		t.Errorf("%v %+v", err, out)
	}
	must(t, w.dir.Prepare(1, testSize))
	f, _, err = w.dir.Adopt(1, 3)
	must(t, err)
	must(t, f.Close())
	for _, list := range [][]uint32{{1}, {1, 3}} {
		_, err := Recover(w.dir, list, true, nil)
		if d := (*Damage)(nil); !errors.As(err, &d) || d.File != "/wal/0000000002.seg" {
			t.Errorf("%v: %v", list, err)
		}
	}
}

func TestPrepareLeavesNothingBehind(t *testing.T) {
	mem := vfs.NewMem()
	d := Dir{FS: mem, Path: "/wal"}
	must(t, mem.MkdirAll("/wal"))
	mem.SetCapacity(testSize / 2)
	if err := d.Prepare(0, testSize); err == nil || mem.List() != "" {
		t.Errorf("%v, %q", err, mem.List())
	}
}

// FuzzSegment reads arbitrary bytes as a segment.
func FuzzSegment(f *testing.F) {
	var fr Framer
	one := frame(&fr, Records, MakePos(1, PageBytes), MakePos(1, PageBytes), "hello", "")
	two := frame(&fr, Close, MakePos(1, PageBytes+int64(len(one))), MakePos(1, PageBytes+int64(len(one))))
	f.Add(append(one, two...), []byte{})
	f.Add(one, []byte{0, 200, 1})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, body, flips []byte) {
		mem := vfs.NewMem()
		d := Dir{FS: mem, Path: "/wal", ID: 42}
		must(t, mem.MkdirAll("/wal"))
		for i := 0; i+1 < len(flips) && len(body) > 0; i += 2 {
			body[int(flips[i])%len(body)] ^= flips[i+1]
		}
		size := PageBytes + int64(len(body))
		must(t, vfs.WriteFileAtomic(mem, d.Name(1), SegmentHeader{Number: 1, ID: 42, Size: size}.Append(nil), body))
		total := 0
		out, err := Recover(d, []uint32{1}, true, func(f Frame) error {
			total += len(f.Data)
			return nil
		})
		if err != nil {
			if d := (*Damage)(nil); !errors.As(err, &d) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := Recover(d, []uint32{1}, true, nil)
		if err != nil || again.End != out.End || again.Cut != 0 || total > len(body) {
			t.Errorf("%v: first %+v, then %+v", err, out, again)
		}
	})
}

// FuzzHeaders decodes arbitrary bytes as the headers.
func FuzzHeaders(f *testing.F) {
	f.Add(SegmentHeader{Number: 3, ID: 4, Size: 5 << 12}.Append(nil), uint64(1<<32|PageBytes))
	var fr Framer
	f.Add(frame(&fr, Records, 1<<32|PageBytes, 0, "x"), uint64(1<<32|PageBytes))
	f.Fuzz(func(t *testing.T, b []byte, pos uint64) {
		if h, err := DecodeSegmentHeader(b); err == nil && !bytes.Equal(h.Append(nil), b[:PageBytes]) {
			t.Errorf("%+v is not what was read", h)
		}
		decodeFrameHeader(b, Pos(pos))
		resembles(b, Pos(pos))
		var fr Framer
		if payload, _, n, err := fr.Check(b, Pos(pos)); err == nil && (n > len(b) || len(payload) != n-RecordBytes) {
			t.Errorf("%d bytes, %d of payload", n, len(payload))
		}
	})
}
