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
	Sealed  bool   // nothing more may be written into it
	Closed  bool   // the journal was closed there
	Frames  int
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
			return out, &Damage{File: d.Name(segments[i-1] + 1), Why: "the file is missing"}
		}
		one, err := Examine(d, n, i == len(segments)-1, change, fn)
		one.Frames += out.Frames
		out = one
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Examine is Recover for a single segment, of which it is known whether it is
// the last.
func Examine(d Dir, segment uint32, last, change bool, fn func(Frame) error) (Recovered, error) {
	f, h, err := d.Open(segment, change && last)
	if err != nil {
		return Recovered{}, err
	}
	out, err := examine(d, f, h, last, change, fn)
	return out, errors.Join(err, f.Close())
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
	out := Recovered{Segment: h.Number, End: tail.End, Size: h.Size, Sealed: tail.Last == Seal, Closed: tail.Last == Close, Frames: frames}
	if err != nil || out.Sealed {
		return out, err
	}
	if !last {
		// The next segment was begun after this one had been sealed and synced.
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

// wipe zeroes what is left of a segment, for good.
func wipe(f vfs.File, from, to int64) error {
	zeros := make([]byte, min(chunkBytes, to-from))
	for at := from; at < to; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-at)], at); err != nil {
			return err
		}
	}
	return f.Sync()
}
