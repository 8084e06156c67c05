package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gmq/gmq/internal/vfs"
)

// State says how much of a piece is left.
type State uint8

// The states of a Piece.
const (
	Whole   State = iota // a record as it was written
	Mended               // a record in which one bit had changed
	Damaged              // a record of which the length is certain, and the checksum of what it held, but not what it holds
	Gap                  // bytes in which there may have been records
)

// A Piece is what Salvage came upon between two places.
type Piece struct {
	State    State
	From, To Pos
	Shard    uint8  // not of a Gap
	Payload  []byte // not of a Gap; valid during the call
	Why      string // it is not Whole
	Records  int    // of a Gap: how many there were; 0 where that is not known
}

// Salvaged is what Salvage has found out about a segment.
type Salvaged struct {
	Damage  []*Damage // in order; none where the segment is as it was written
	Foreign bool      // it is another segment, or another journal's: nothing was read
	Frames  int
	End     int64  // behind the last frame
	Sealed  bool   // there is a next segment
	Short   bool   // the file has become shorter
	Torn    int64  // bytes behind End that were being written when the machine stopped
	Why     string // they are torn
}

// Salvage reads a segment as far as that can be done. It calls fn for each
// record, and for each stretch where there is none though there should be one.
// Last says that no later segment was begun, proven that everything before it was synced.
func Salvage(d Dir, segment uint32, last bool, proven Pos, fn func(Piece) error) (out Salvaged, err error) {
	name := d.Name(segment)
	f, err := d.FS.Open(name)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := &salvager{out: &out, name: name, number: segment, last: last, proven: proven, fn: fn}
	size, err := s.header(d, f)
	if err != nil || out.Foreign {
		return out, err
	}
	s.r = NewReader(name, f, SegmentHeader{Number: segment, Size: size})
	err = s.frames()
	if errors.Is(err, errStop) {
		err = nil
	}
	return out, err
}

var errStop = errors.New("there is nothing more")

type salvager struct {
	r      *Reader
	out    *Salvaged
	name   string
	number uint32
	last   bool
	proven Pos
	fn     func(Piece) error
}

func (s *salvager) damaged(at int64, why string) {
	s.out.Damage = append(s.out.Damage, &Damage{File: s.name, Offset: at, Why: why})
}

// header looks at the first page, and returns how far there can be frames. A
// page that is damaged is done without: each frame says where it belongs.
func (s *salvager) header(d Dir, f vfs.File) (int64, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	page := make([]byte, min(size, PageBytes))
	if n, err := f.ReadAt(page, 0); n < len(page) && err != io.EOF {
		return 0, err
	}
	h, err := DecodeSegmentHeader(page)
	switch {
	case err != nil:
		s.damaged(0, err.Error())
		s.out.Short = size < PageBytes
	case h.Number != s.number || h.ID != d.ID:
		s.out.Foreign = true
		_, err = d.header(f, s.name, s.number)
		damage, is := errors.AsType[*Damage](err)
		if !is {
			return 0, err
		}
		s.out.Damage = append(s.out.Damage, damage)
	case h.Size != size:
		s.damaged(min(size, h.Size), fmt.Sprintf("the file has %d bytes, not the %d it was made with", size, h.Size))
		s.out.Short = size < h.Size
		size = min(size, h.Size)
	}
	return size, nil
}

func (s *salvager) frames() error {
	for off := int64(PageBytes); ; {
		f, next, bad, err := s.r.frame(off, true)
		if err != nil {
			return err
		}
		if bad != nil {
			if next, err = s.around(off, bad); err != nil {
				return err
			}
			s.out.Frames++
			s.out.End, off = next, next
			continue
		}
		pieces, _ := s.chain(f.At(), f.Data)
		if err := s.emit(pieces); err != nil {
			return err
		}
		s.out.Frames++
		s.out.End, off = next, next
		if s.out.Sealed = f.Kind == Seal; s.out.Sealed {
			return nil
		}
	}
}

// around deals with a place where no whole frame is, and returns where to go on.
func (s *salvager) around(off int64, bad error) (int64, error) {
	s.out.End = off
	pos := MakePos(s.number, off)
	head, err := s.r.peek(off, FrameBytes)
	if err != nil {
		return 0, err
	}
	h, known := decodeFrameHeader(head, pos)
	if !known {
		h, known = mendHeader(head, pos)
	}
	if known {
		return s.damagedFrame(off, h, bad)
	}
	safe, err := s.synced(off)
	if err != nil {
		return 0, err
	}
	if s.last && !safe {
		return 0, s.torn(off, bad)
	}
	s.damaged(off, bad.Error())
	next, found, err := s.r.nextHeader(off + 8)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, s.unsealed(off, bad)
	}
	all, err := s.bytes(off, next)
	if err != nil {
		return 0, err
	}
	if len(all) < FrameBytes {
		return next, s.fn(Piece{State: Gap, From: pos, To: MakePos(s.number, next), Why: bad.Error()})
	}
	pieces := s.headless(pos, all)
	return next, s.emit(pieces)
}

// headless finds the records of a frame whose header is lost. With it is lost how many there were; so
// only where they lie one behind the other from begin to end it is certain that these are all.
func (s *salvager) headless(pos Pos, all []byte) []Piece {
	at, data := pos+FrameBytes, all[FrameBytes:]
	for pad := 0; pad < 8 && pad <= len(data) && zeros(data[len(data)-pad:]); pad++ {
		pieces, ok := s.chain(at, data[:len(data)-pad])
		if ok && !slices.ContainsFunc(pieces, func(p Piece) bool { return p.State == Damaged }) {
			return pieces
		}
	}
	pieces := []Piece{{State: Gap, From: pos, To: at, Why: "the frame's header is lost"}}
	return append(pieces, s.resync(at, data)...)
}

func zeros(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// damagedFrame deals with a frame whose header is known, mended or not.
func (s *salvager) damagedFrame(off int64, h frameHeader, bad error) (int64, error) {
	next := off + FrameSize(int(h.length))
	all, err := s.bytes(off, next)
	if err != nil {
		return 0, err
	}
	data := all[min(FrameBytes, len(all)):min(FrameBytes+int64(h.length), int64(len(all)))]
	at := h.pos + FrameBytes
	pieces, ok := s.chain(at, data)
	ok = ok && len(data) == int(h.length) && s.agree(pieces, data, h)
	if !ok {
		pieces = s.resync(at, data)
		if len(data) < int(h.length) {
			pieces = append(pieces, Piece{State: Gap, From: at + Pos(len(data)), To: MakePos(s.number, next), Why: "the file ends here"})
		} else if !slices.ContainsFunc(pieces, func(p Piece) bool { return p.State != Whole }) {
			// Each record is one, but together they are not those of this frame.
			pieces = []Piece{{State: Gap, From: h.pos, To: MakePos(s.number, next), Why: bad.Error()}}
		}
	}
	countMissing(pieces, int(h.count))
	rescued := !slices.ContainsFunc(pieces, func(p Piece) bool { return p.State > Mended })
	if safe, err := s.synced(off); err != nil {
		return 0, err
	} else if s.last && !safe && !rescued {
		return 0, s.torn(off, bad)
	}
	s.damaged(off, bad.Error())
	s.out.Sealed = h.kind == Seal
	if err := s.emit(pieces); err != nil {
		return 0, err
	}
	if s.out.Sealed {
		s.out.Frames++
		s.out.End = next
		return 0, errStop
	}
	if int64(len(all)) < next-off {
		s.out.End = off + int64(len(all))
		return 0, s.unsealed(s.out.End, bad)
	}
	return next, nil
}

// countMissing notes how many records were in the only gap of a frame that had count of them.
func countMissing(pieces []Piece, count int) {
	gap, gaps := 0, 0
	for i, p := range pieces {
		if p.State == Gap {
			gap, gaps = i, gaps+1
		}
	}
	if gaps == 1 && count > len(pieces)-1 {
		pieces[gap].Records = count - (len(pieces) - 1)
	}
}

// synced reports whether something proves that what lies at off had been synced.
func (s *salvager) synced(off int64) (bool, error) {
	b, err := s.r.Beyond(off)
	return max(b.Synced, s.proven) > MakePos(s.number, off), err
}

func (s *salvager) torn(off int64, bad error) error {
	b, err := s.r.Beyond(off)
	if err != nil {
		return err
	}
	if b.Frames > 0 || bad != errNoFrame {
		s.out.Torn, s.out.Why = max(b.End-off, FrameBytes), bad.Error()
	}
	return errStop
}

// unsealed ends a segment behind which there is more.
func (s *salvager) unsealed(off int64, bad error) error {
	to := MakePos(s.number+1, PageBytes)
	if s.last {
		to = s.proven
	}
	if from := MakePos(s.number, off); from < to {
		if err := s.fn(Piece{State: Gap, From: from, To: to, Why: bad.Error()}); err != nil {
			return err
		}
	}
	return errStop
}

// bytes is a copy of what lies between two offsets, or up to the file's end.
func (s *salvager) bytes(from, to int64) ([]byte, error) {
	b, err := s.r.peek(from, to-from)
	return slices.Clone(b), err
}

func (s *salvager) emit(pieces []Piece) error {
	for _, p := range pieces {
		if err := s.fn(p); err != nil {
			return err
		}
	}
	return nil
}

// chain cuts data into records by their lengths. It is false where they do not lead to its end.
func (s *salvager) chain(at Pos, data []byte) (pieces []Piece, ok bool) {
	for off := 0; off < len(data); {
		rest := data[off:]
		if len(rest) < RecordBytes || RecordSize(rest) > int64(len(rest)) {
			return pieces, false
		}
		n := int(RecordSize(rest))
		pieces = append(pieces, s.record(rest[:n], at+Pos(off)))
		off += n
	}
	return pieces, true
}

// record looks at a record of which rec is all.
func (s *salvager) record(rec []byte, pos Pos) Piece {
	p := Piece{From: pos, To: pos + Pos(len(rec))}
	payload, shard, _, err := s.r.framer.Check(rec, pos)
	if err == nil {
		p.Payload, p.Shard = payload, shard
		return p
	}
	p.Why = err.Error()
	if payload, shard, _, ok := mendRecord(rec, pos); ok {
		p.State, p.Payload, p.Shard = Mended, payload, shard
		return p
	}
	p.State, p.Payload, p.Shard = Damaged, rec[RecordBytes:], rec[8]
	return p
}

// agree reports whether the pieces are the records that the frame was written
// with: as many as it says, and with the checksums that it says. So where one of them is Damaged, its length
// and its checksum are not.
func (s *salvager) agree(pieces []Piece, data []byte, h frameHeader) bool {
	sum := uint32(0)
	for _, p := range pieces {
		crc := binary.LittleEndian.Uint32(data[p.From-h.pos-FrameBytes+4:])
		if p.State != Damaged {
			crc = s.r.framer.crc(p.From, p.Shard, p.Payload)
		}
		sum = mix(sum, crc)
	}
	return sum == h.sum && uint32(len(pieces)) == h.count
}

// resync finds the records in data that are whole, wherever they begin.
func (s *salvager) resync(at Pos, data []byte) (pieces []Piece) {
	for off := 0; off < len(data); {
		rest := data[off:]
		if payload, shard, n, err := s.r.framer.Check(rest, at+Pos(off)); err == nil {
			pieces = append(pieces, Piece{From: at + Pos(off), To: at + Pos(off+n), Shard: shard, Payload: payload})
			off += n
			continue
		}
		n := 1
		for n < len(rest) {
			if _, _, _, err := s.r.framer.Check(rest[n:], at+Pos(off+n)); err == nil {
				break
			}
			n++
		}
		pieces = append(pieces, s.between(rest[:n], at+Pos(off)))
		off += n
	}
	return pieces
}

// between looks at what lies between two whole records: it may be one whose length has changed.
func (s *salvager) between(rest []byte, pos Pos) Piece {
	if len(rest) >= RecordBytes {
		one := slices.Clone(rest)
		binary.LittleEndian.PutUint32(one, uint32(len(rest)-RecordBytes))
		if payload, shard, _, err := s.r.framer.Check(one, pos); err == nil {
			return Piece{State: Mended, From: pos, To: pos + Pos(len(rest)), Shard: shard, Payload: payload, Why: "the record's length is wrong"}
		}
	}
	return Piece{State: Gap, From: pos, To: pos + Pos(len(rest)), Why: "no record can be made out"}
}

// nextHeader finds the first header of a frame at or behind offset.
func (r *Reader) nextHeader(offset int64) (at int64, found bool, err error) {
	err = r.headers(offset, func(off int64, _ frameHeader) bool {
		at, found = off, true
		return false
	})
	return at, found, err
}

// ReadRecord reads the record at pos of a segment's file that is known to be size bytes long, header
// included. A single bit that has changed is put right.
func ReadRecord(f vfs.File, name string, pos Pos, size uint32) ([]byte, error) {
	end, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < RecordBytes || pos.Offset()+int64(size) > end {
		return nil, &Damage{File: name, Offset: pos.Offset(), Why: "the record is cut short"}
	}
	rec := make([]byte, size)
	if _, err := f.ReadAt(rec, pos.Offset()); err != nil && err != io.EOF {
		return nil, err
	}
	var framer Framer
	binary.LittleEndian.PutUint32(rec, size-RecordBytes)
	payload, _, _, err := framer.Check(rec, pos)
	if err == nil {
		return payload, nil
	}
	if payload, _, _, ok := mendRecord(rec, pos); ok {
		return payload, nil
	}
	return nil, &Damage{File: name, Offset: pos.Offset(), Why: err.Error()}
}
