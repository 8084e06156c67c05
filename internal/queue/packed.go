package queue

import "encoding/binary"

// A backlog that nobody touches is packed: the messages of a chunk that wait far behind the cursor take a few bytes each.
// A packed chunk is unpacked by whoever needs one of its messages (find, each, the cursor), and packed again when the sweep comes by. Packing happens in one place, before a message is stored: nobody holds one then.

// packBehind is how many chunks behind the cursor's stay as they are: they will be needed soon. Tests change it.
var packBehind uint64 = 64

// The sweep looks at one chunk for every sweepEvery messages, a power of two and fewer than a chunk's.
const sweepEvery = 8

// What a message in a packed chunk has beyond what its neighbour before leads to expect.
const (
	packRef     = 1 << iota // its record does not follow: varint, the distance
	packSize                // another size: uvarint
	packOver                // another over: uvarint
	packAge                 // another age: varint, the difference
	packFlags               // flags: a byte
	packCounts              // attempts, uncounted: uvarints
	packMissing             // there is none, nor are those behind it, as many as the byte that follows says
	packDelayed             // it is not ready but delayed; chunk.dues says until when
)

func (cs *chunks) unpack(c *chunk) {
	c.m, c.low = cs.pool.array(), 0
	readPacked(&reader{b: c.packed}, (*[chunkLen]msg)(c.m))
	c.packed = nil
}

// look is all messages of a chunk, to be read only; where it is packed, or has few, they are in tmp.
func (c *chunk) look(tmp *[chunkLen]msg) *[chunkLen]msg {
	if len(c.m) == chunkLen {
		return (*[chunkLen]msg)(c.m)
	}
	*tmp = [chunkLen]msg{}
	if c.m != nil {
		copy(tmp[c.low:], c.m)
	} else {
		readPacked(&reader{b: c.packed}, tmp)
	}
	return tmp
}

// packSome packs chunks that will not be needed soon: the one before the tail, and what the sweep comes upon. That
// goes round and round through all of them, one for every few messages that are stored: what was unpacked out of turn does not stay so.
func (cs *chunks) packSome() {
	if t := cs.tail; t != nil && t.prev != nil && t.live < 2 {
		cs.pack(t.prev)
	}
	if cs.stored++; cs.stored&(sweepEvery-1) != 0 {
		return
	}
	if cs.sweep == nil {
		cs.sweep = cs.from
	}
	if cs.sweep != nil {
		cs.pack(cs.sweep)
		cs.sweep = cs.sweep.next
	}
}

// pack packs a chunk, if it is one that waits.
func (cs *chunks) pack(c *chunk) {
	if c.m == nil || c.live == 0 || c.leased > 0 || c == cs.tail || cs.from == nil || c.key < cs.from.key+packBehind {
		return
	}
	for i := range c.m {
		if m := &c.m[i]; m.state != gone && (m.state != ready && m.state != delayed || m.flags&(msgInHeap|msgEnding) != 0) {
			return
		}
	}
	var room [chunkLen * 32]byte
	var all [chunkLen]msg
	c.packed = append([]byte(nil), appendPacked(room[:0], c.look(&all))...)
	clear(c.m)
	cs.pool.put(c.m)
	c.m = nil
}

// expected is what the message behind before is taken to be like.
func expected(before *msg) msg {
	return msg{ref: before.ref + Ref(before.size), size: before.size, over: before.over, ageShares: before.ageShares, state: ready, flags: before.flags}
}

func appendPacked(dst []byte, ms *[chunkLen]msg) []byte {
	var want msg
	for i := 0; i < chunkLen; i++ {
		m := &ms[i]
		if m.state == gone {
			first := i
			for i+1 < chunkLen && ms[i+1].state == gone {
				i++
			}
			dst = append(dst, packMissing, byte(i-first))
			continue
		}
		at := len(dst)
		dst = append(dst, 0)
		what := byte(0)
		if m.ref != want.ref {
			what |= packRef
			dst = binary.AppendVarint(dst, int64(m.ref-want.ref))
		}
		if m.size != want.size {
			what |= packSize
			dst = binary.AppendUvarint(dst, uint64(m.size))
		}
		if m.over != want.over {
			what |= packOver
			dst = binary.AppendUvarint(dst, uint64(m.over))
		}
		if m.ageShares != want.ageShares {
			what |= packAge
			dst = binary.AppendVarint(dst, int64(m.ageShares)-int64(want.ageShares))
		}
		if m.flags != want.flags {
			what |= packFlags
			dst = append(dst, m.flags)
		}
		if m.attempts != 0 || m.uncounted != 0 {
			what |= packCounts
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.attempts)), uint64(m.uncounted))
		}
		if m.state == delayed {
			what |= packDelayed
		}
		dst[at] = what
		want = expected(m)
	}
	return dst
}

// readPacked is the opposite of appendPacked; ms must be zero.
func readPacked(r *reader, ms *[chunkLen]msg) {
	var want msg
	for i := 0; i < chunkLen && r.err == nil; i++ {
		what := r.byte()
		if what&packMissing != 0 {
			i += int(r.byte())
			continue
		}
		m := &ms[i]
		*m = want
		m.state = ready
		if what&packRef != 0 {
			m.ref += Ref(r.varint())
		}
		if what&packSize != 0 {
			m.size = uint32(r.uvarint())
		}
		if what&packOver != 0 {
			m.over = uint16(r.uvarint())
		}
		if what&packAge != 0 {
			m.ageShares = uint32(int64(m.ageShares) + r.varint())
		}
		if what&packFlags != 0 {
			m.flags = r.byte()
		}
		if what&packCounts != 0 {
			m.attempts, m.uncounted = uint16(r.uvarint()), uint16(r.uvarint())
		}
		if what&packDelayed != 0 {
			m.state = delayed
		}
		want = expected(m)
	}
}
