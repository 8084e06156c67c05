package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gmq/gmq/internal/vfs"
)

const chunkBytes = 1 << 20

// Frame is a frame that was read and found whole.
type Frame struct {
	Kind   Kind
	Pos    Pos
	Synced Pos
	Data   []byte // the records; valid until the next one is read
	Count  int
}

// At is the place of Data's first byte.
func (f Frame) At() Pos { return f.Pos + FrameBytes }

// errNoFrame: there is nothing that looks like a frame of this place.
var errNoFrame = errors.New("no frame starts here")

// Reader reads one segment's frames. It is not for concurrent use.
type Reader struct {
	name   string
	file   vfs.File
	number uint32
	size   int64
	framer Framer

	buf []byte // the file's bytes from at on
	at  int64
}

// NewReader reads the frames of a segment whose header was checked.
func NewReader(name string, file vfs.File, h SegmentHeader) *Reader {
	return &Reader{name: name, file: file, number: h.Number, size: h.Size}
}

// peek returns the n bytes at offset, fewer at the file's end.
func (r *Reader) peek(offset, n int64) ([]byte, error) {
	n = min(n, r.size-offset)
	if n <= 0 {
		return nil, nil
	}
	if offset < r.at || offset+n > r.at+int64(len(r.buf)) {
		want := min(max(n, chunkBytes), r.size-offset)
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		r.buf, r.at = r.buf[:want], offset
		got, err := r.file.ReadAt(r.buf, offset)
		r.buf = r.buf[:got]
		if err != nil && err != io.EOF {
			r.buf = r.buf[:0]
			return nil, fmt.Errorf("%s: reading at offset %d: %w", r.name, offset, err)
		}
	}
	from := offset - r.at
	return r.buf[from:min(from+n, int64(len(r.buf)))], nil
}

// frame reads the frame at offset. bad says why there is none; err is a failure
// to read. Without verify the records are not looked at.
func (r *Reader) frame(offset int64, verify bool) (f Frame, next int64, bad, err error) {
	pos := MakePos(r.number, offset)
	head, err := r.peek(offset, FrameBytes)
	if err != nil {
		return Frame{}, 0, nil, err
	}
	h, ok := decodeFrameHeader(head, pos)
	if !ok {
		if resembles(head, pos) {
			return Frame{}, 0, errors.New("the frame's header is wrong"), nil
		}
		return Frame{}, 0, errNoFrame, nil
	}
	size := FrameSize(int(h.length))
	all, err := r.peek(offset, size)
	if err != nil {
		return Frame{}, 0, nil, err
	}
	if int64(len(all)) < size {
		return Frame{}, 0, errors.New("the frame is longer than the file"), nil
	}
	if verify {
		if bad = r.verify(h, all); bad != nil {
			return Frame{}, 0, bad, nil
		}
	}
	data := all[FrameBytes : FrameBytes+h.length]
	return Frame{Kind: h.kind, Pos: pos, Synced: h.synced, Data: data, Count: int(h.count)}, offset + size, nil, nil
}

func (r *Reader) verify(h frameHeader, all []byte) error {
	end := FrameBytes + int(h.length)
	sum, count := uint32(0), uint32(0)
	for at := FrameBytes; at < end; count++ {
		_, _, n, err := r.framer.Check(all[at:end], h.pos+Pos(at))
		if err != nil {
			return fmt.Errorf("at offset %d %w", h.pos.Offset()+int64(at), err)
		}
		crc := all[at+4 : at+8]
		sum = mix(sum, uint32(crc[0])|uint32(crc[1])<<8|uint32(crc[2])<<16|uint32(crc[3])<<24)
		at += n
	}
	if sum != h.sum || count != h.count || h.kind != Records && h.length != 0 {
		return errors.New("the frame's records are not those it was written with")
	}
	for _, b := range all[end:] {
		if b != 0 {
			return errors.New("the frame's padding is not zero")
		}
	}
	return nil
}

// Tail is how the frames of a segment end.
type Tail struct {
	End    int64 // where the next frame belongs
	Last   Kind  // of the last frame, 0 where there is none
	Synced Pos   // the latest that a frame says
	Bad    error // why there is no frame at End; nil behind a seal
}

// Torn reports whether something was begun at End.
func (t Tail) Torn() bool { return t.Bad != nil && t.Bad != errNoFrame }

// Walk calls fn, which may be nil, for each frame from offset on.
func (r *Reader) Walk(offset int64, fn func(Frame) error) (Tail, error) {
	t := Tail{End: offset}
	for {
		f, next, bad, err := r.frame(t.End, true)
		if err != nil {
			return t, err
		}
		if bad != nil {
			t.Bad = bad
			return t, nil
		}
		if fn != nil {
			if err := fn(f); err != nil {
				return t, err
			}
		}
		t.End, t.Last, t.Synced = next, f.Kind, max(t.Synced, f.Synced)
		if f.Kind == Seal {
			return t, nil
		}
	}
}

// Skim calls fn for each frame from offset up to end, all of which Walk has
// found whole before. Only their headers are checked again.
func (r *Reader) Skim(offset, end int64, fn func(Frame) error) error {
	for offset < end {
		f, next, bad, err := r.frame(offset, false)
		if err == nil && bad != nil {
			err = &Damage{File: r.name, Offset: offset, Why: bad.Error()}
		}
		if err == nil {
			err = fn(f)
		}
		if err != nil {
			return err
		}
		offset = next
	}
	return nil
}

// Beyond is what lies behind a place where no whole frame is.
type Beyond struct {
	Frames int   // headers of frames that belong where they are
	End    int64 // of the last one
	Synced Pos   // the latest that one of them says
}

// Beyond looks for frames at or behind offset.
func (r *Reader) Beyond(offset int64) (Beyond, error) {
	b := Beyond{End: offset}
	err := r.headers(offset, func(at int64, h frameHeader) bool {
		b.Frames++
		b.End = min(r.size, at+FrameSize(int(h.length)))
		b.Synced = max(b.Synced, h.synced)
		return true
	})
	return b, err
}

// headers calls fn for each header of a frame at or behind offset that belongs
// where it is, whatever lies around it, until fn returns false.
func (r *Reader) headers(offset int64, fn func(at int64, h frameHeader) bool) error {
	for at := offset; at+FrameBytes <= r.size; {
		chunk, err := r.peek(at, chunkBytes)
		if err != nil {
			return err
		}
		if len(chunk) < FrameBytes {
			break
		}
		for i := bytes.Index(chunk, frameMagic[:]); i >= 0; {
			place := at + int64(i)
			if h, ok := decodeFrameHeader(chunk[i:], MakePos(r.number, place)); ok && !fn(place, h) {
				return nil
			}
			k := bytes.Index(chunk[i+1:], frameMagic[:])
			if k < 0 {
				break
			}
			i += 1 + k
		}
		// A header that the chunk's end cuts is seen whole by the next one.
		at += int64(len(chunk)) - FrameBytes + 1
	}
	return nil
}
