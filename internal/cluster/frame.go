package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/spare"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A frame is what nodes say to each other about an image, over connections of their own.
//
//	0  1  version    1  4  crc32c of all behind it    5  kind u8 | group | image, then, numbers as varints:
//
//	ask state    offset
//	ask records  serial | count | the distance of each ref from the one before
//	done         -
//	later        -
//	none         -
//	state        index | term | size | sum | offset | length of the conf state | conf state | bytes, to the end
//	records      serial | count | of each: 0, or the length and one | its bytes
//
// Whoever lacks an image asks, and asks again when no answer comes: each question may be lost, and be answered twice.
type frame struct {
	kind         byte
	group, image uint64 // image 0: whichever there is, or will be
	serial       uint64
	offset, size uint64
	index, term  uint64
	sum          uint64
	conf         []byte
	data         []byte
	refs         []journal.Ref
	records      [][]byte // nil for one that is gone
	whole        []byte   // what it was read from
}

const (
	frameAskState   = 1 + iota // a part of the state
	frameAskRecords            // records that the state refers to
	frameDone                  // the image is needed no more
	frameLater                 // it is being made
	frameNone                  // there is no such image any more, or this node makes none
	frameState
	frameRecords

	frameVersion = 1
	frameHeader  = 5
)

// encode is the frame as it is sent.
func (f *frame) encode() []byte {
	room := frameHeader + 64 + len(f.data) + len(f.conf) + binary.MaxVarintLen64*len(f.refs)
	for _, r := range f.records {
		room += len(r) + binary.MaxVarintLen32
	}
	b := append(spare.Get(room)[:frameHeader], f.kind)
	put := func(numbers ...uint64) {
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
	}
	put(f.group, f.image)
	switch f.kind {
	case frameAskState:
		put(f.offset)
	case frameAskRecords:
		put(f.serial, uint64(len(f.refs)))
		last := journal.Ref(0)
		for _, ref := range f.refs {
			put(uint64(ref - last))
			last = ref
		}
	case frameState:
		put(f.index, f.term, f.size, f.sum, f.offset, uint64(len(f.conf)))
		b = append(append(b, f.conf...), f.data...)
	case frameRecords:
		put(f.serial, uint64(len(f.records)))
		for _, r := range f.records {
			if r == nil {
				put(0)
				continue
			}
			put(uint64(len(r)) + 1)
			b = append(b, r...)
		}
	}
	return sealFrame(b)
}

// sealFrame fills in the header, for which there is room.
func sealFrame(b []byte) []byte {
	b[0] = frameVersion
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[frameHeader:], castagnoli))
	return b
}

var errFrame = errors.New("a frame of an image is not whole")

// parseFrame is the opposite of encode. What it returns holds views into the bytes.
func parseFrame(b []byte) (f frame, err error) {
	if len(b) < frameHeader || crc32.Checksum(b[frameHeader:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return f, errFrame
	}
	if b[0] != frameVersion {
		return f, fmt.Errorf("a frame of an image has version %d, this program knows %d", b[0], frameVersion)
	}
	r := reader{b: b[frameHeader:]}
	f.whole = b
	f.kind, f.group, f.image = r.byte(), r.number(), r.number()
	switch f.kind {
	case frameAskState:
		f.offset = r.number()
	case frameAskRecords:
		f.serial = r.number()
		f.refs = r.refs(r.number())
	case frameDone, frameLater, frameNone:
	case frameState:
		f.index, f.term, f.size, f.sum, f.offset = r.number(), r.number(), r.number(), r.number(), r.number()
		f.conf = r.bytes(r.number())
		f.data, r.b = r.b, nil
		r.bad = r.bad || f.sum > 1<<32-1 || f.offset > f.size || uint64(len(f.data)) > f.size-f.offset
	case frameRecords:
		f.serial = r.number()
		f.records = r.records(r.number())
	default:
		return f, fmt.Errorf("a frame of an image of the unknown kind %d", f.kind)
	}
	if r.bad || len(r.b) > 0 {
		return f, errFrame
	}
	return f, nil
}

func (r *reader) refs(n uint64) (refs []journal.Ref) {
	if n > journal.FetchRefs || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	last := uint64(0)
	refs = make([]journal.Ref, 0, n)
	for range n {
		d := r.number()
		if d == 0 || last+d < last {
			r.bad = true
		}
		last += d
		refs = append(refs, journal.Ref(last))
	}
	return refs
}

func (r *reader) records(n uint64) (records [][]byte) {
	if n > journal.FetchRefs || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	records = make([][]byte, 0, n)
	for range n {
		size := r.number()
		if size == 0 {
			records = append(records, nil)
			continue
		}
		records = append(records, r.bytes(size-1))
	}
	return records
}

// member reports whether a conf state has a node among its members.
func member(conf []byte, node uint64) (*raftpb.ConfState, bool) {
	cs := &raftpb.ConfState{}
	if proto.Unmarshal(conf, cs) != nil {
		return nil, false
	}
	for _, set := range [][]uint64{cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing()} {
		for _, id := range set {
			if id == node {
				return cs, true
			}
		}
	}
	return cs, false
}
