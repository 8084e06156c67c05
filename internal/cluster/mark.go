package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
)

// The kinds of marks. They are a file format: a number, once given, keeps its meaning.
const (
	// markOrigin begins a group: what lies before it in the shard's log is the state at the index that it names.
	//
	//	kind | term | index | conf state, to the end
	markOrigin = 1
	// markEntry makes an entry of the records behind it, size bytes with their headers.
	//
	//	kind | type u8 | term | index | commit | size | data of a conf change, to the end
	//
	// Any entry with this index or a later one that lies before it counts no more.
	markEntry = 2
	// markState is a term, the vote in it, and how far the log is committed.
	//
	//	kind | term | vote | commit
	markState = 3
	// markEnd ends a group for good: its entries up to an index count, whatever else was said of them, and what follows counts as it is.
	//
	//	kind | index
	markEnd = 4
)

// Numbers are varints but for the kind and the type. A term, an index and a vote are never above 2^63, so that damage shows.

// A mark is one, decoded.
type mark struct {
	kind                      byte
	entry                     raftpb.EntryType
	term, index, vote, commit uint64
	size                      int
	data                      []byte // of a conf change; of an origin, the conf state
}

func (m *mark) append(dst []byte) []byte {
	dst = append(dst, m.kind)
	switch m.kind {
	case markOrigin:
		dst = binary.AppendUvarint(dst, m.term)
		dst = binary.AppendUvarint(dst, m.index)
		dst = append(dst, m.data...)
	case markEntry:
		dst = append(dst, byte(m.entry))
		dst = binary.AppendUvarint(dst, m.term)
		dst = binary.AppendUvarint(dst, m.index)
		dst = binary.AppendUvarint(dst, m.commit)
		dst = binary.AppendUvarint(dst, uint64(m.size))
		dst = append(dst, m.data...)
	case markState:
		dst = binary.AppendUvarint(dst, m.term)
		dst = binary.AppendUvarint(dst, m.vote)
		dst = binary.AppendUvarint(dst, m.commit)
	case markEnd:
		dst = binary.AppendUvarint(dst, m.index)
	}
	return dst
}

// record appends the mark as a record.
func (m *mark) record(dst []byte) []byte {
	start := len(dst)
	dst = m.append(journal.BeginRecord(dst))
	journal.EndRecord(dst, start)
	return dst
}

var errMark = errors.New("a mark is not what this program writes")

func parseMark(b []byte) (m mark, err error) {
	r := reader{b: b}
	m.kind = r.byte()
	switch m.kind {
	case markOrigin:
		m.term, m.index = r.number(), r.number()
		m.data = r.b
	case markEntry:
		m.entry = raftpb.EntryType(r.byte())
		m.term, m.index, m.commit = r.number(), r.number(), r.number()
		size := r.number()
		m.size, m.data = int(size), r.b
		if size > 1<<32 || m.entry > raftpb.EntryConfChangeV2 || m.size > 0 && m.entry != raftpb.EntryNormal || m.index == 0 {
			r.bad = true
		}
	case markState:
		m.term, m.vote, m.commit = r.number(), r.number(), r.number()
		r.bad = r.bad || len(r.b) > 0
	case markEnd:
		m.index = r.number()
		r.bad = r.bad || len(r.b) > 0
	default:
		return m, fmt.Errorf("a mark of the unknown kind %d: it needs a newer program", m.kind)
	}
	if r.bad {
		return m, errMark
	}
	return m, nil
}

// A reader takes numbers off bytes. It goes bad, and stays so, where they are not there.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<63 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}
