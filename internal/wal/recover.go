package wal

import (
	"errors"
	"fmt"

	"github.com/gmq/gmq/internal/vfs"
)

// Recovered is what Recover found, and what it did about it.
type Recovered struct {
	Segment uint32 // the last one
	End     int64  // where its next frame belongs
	Size    int64  // of its file
	Synced  Pos    // everything before this is on the disk, as its frames say
	Sealed  bool   // nothing more may be written into it
	Closed  bool   // the journal was closed there
	Frames  int
	Unborn  uint32 // a segment behind this one that was made but never used; 0 for none
	Cut     int64  // bytes of a frame that was being written when the power went
	CutFile string // where they were
	CutWhy  string
}

// Recover walks the segments, which are consecutive, verifies every frame and
// calls fn for each whole one. It finds the end of the log and makes it clean:
// a frame that was torn there is wiped, so that it cannot come back.
//
// A place that is not a whole frame although something later says that it had
// been synced is a *Damage; then nothing is changed. With change false nothing
// ever is.
func Recover(d Dir, segments []uint32, change bool, fn func(Frame) error) (Recovered, error) {
	var out Recovered
	for i, n := range segments {
		if i > 0 && n != segments[i-1]+1 {
			return out, missing(d, segments[i-1]+1)
		}
		one, err := Examine(d, n, segments[i+1:], change, fn)
		one.Frames += out.Frames
		out = one
		if err != nil || one.Unborn != 0 {
			return out, err
		}
	}
	return out, nil
}

func missing(d Dir, segment uint32) error {
	return &Damage{File: d.Name(segment), Why: "the file is missing"}
}

// Examine is Recover for a single segment, of which is known which ones follow.
//
// The next segment is made before the one before is sealed, and written into
// after that. So behind a seal there is a next one; and a segment without a
// seal is the last, but for one that holds no frame yet.
func Examine(d Dir, segment uint32, after []uint32, change bool, fn func(Frame) error) (Recovered, error) {
	last := len(after) == 0
	if len(after) == 1 && after[0] == segment+1 {
		var err error
		if last, err = virgin(d, after[0]); err != nil {
			return Recovered{}, err
		}
	}
	f, h, err := d.Open(segment, change && last)
	if err != nil {
		return Recovered{}, err
	}
	out, err := examine(d, f, h, last, change, fn)
	if err = errors.Join(err, f.Close()); err != nil {
		return out, err
	}
	if out.Sealed && len(after) == 0 {
		return out, missing(d, segment+1)
	}
	if !out.Sealed && len(after) == 1 {
		out.Unborn = after[0]
	}
	return out, nil
}

// virgin reports whether no frame was ever begun in a segment.
func virgin(d Dir, segment uint32) (bool, error) {
	f, h, err := d.Open(segment, false)
	if err != nil {
		return false, err
	}
	r := NewReader(d.Name(segment), f, h)
	_, _, bad, err := r.frame(PageBytes, false)
	untouched := bad == errNoFrame
	if err == nil && untouched {
		var b Beyond
		b, err = r.Beyond(PageBytes)
		untouched = b.Frames == 0
	}
	return untouched, errors.Join(err, f.Close())
}

func examine(d Dir, f vfs.File, h SegmentHeader, last, change bool, fn func(Frame) error) (Recovered, error) {
	name := d.Name(h.Number)
	r := NewReader(name, f, h)
	frames := 0
	tail, err := r.Walk(PageBytes, func(f Frame) error {
		frames++
		if fn == nil {
			return nil
		}
		return fn(f)
	})
	out := Recovered{Segment: h.Number, End: tail.End, Size: h.Size, Sealed: tail.Last == Seal, Closed: tail.Last == Close, Synced: tail.Synced, Frames: frames}
	if err != nil || out.Sealed {
		return out, err
	}
	if !last {
		return out, &Damage{File: name, Offset: tail.End, Why: "a later segment exists, but here " + tail.Bad.Error()}
	}
	beyond, err := r.Beyond(tail.End)
	if err != nil {
		return out, err
	}
	if beyond.Synced > MakePos(h.Number, tail.End) {
		return out, &Damage{File: name, Offset: tail.End, Why: fmt.Sprintf("this was synced before what lies up to offset %d was written, but %v", beyond.End, tail.Bad)}
	}
	if beyond.Frames > 0 || tail.Torn() {
		out.Cut, out.CutFile, out.CutWhy = max(beyond.End-tail.End, FrameBytes), name, tail.Bad.Error()
		if change {
			return out, wipe(f, tail.End, h.Size)
		}
	}
	return out, nil
}

// zeroes are what a segment is filled with. Nobody writes into them.
var zeroes [chunkBytes]byte

// wipe zeroes what is left of a segment, for good.
func wipe(f vfs.File, from, to int64) error {
	for at := from; at < to; at += chunkBytes {
		if _, err := f.WriteAt(zeroes[:min(chunkBytes, to-at)], at); err != nil {
			return err
		}
	}
	return f.Sync()
}
