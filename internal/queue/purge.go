package queue

import (
	"encoding/binary"
	"slices"
)

// Flags of kindPurge: which messages its list means. Without one there is no list, and all go. Whether a message is
// leased or delayed depends on the owner's clock, so it is the owner who lists them.
const (
	flagOnly = 1 << 0 // those listed go
	flagBut  = 1 << 1 // those listed stay, and what was published after the listing
)

// AppendPurge appends the end of all messages of a queue, leased ones included.
func AppendPurge(dst []byte, id uint32, at int64) []byte {
	return appendHead(dst, kindPurge, 0, id, at)
}

// A Purge says which messages are to go.
type Purge struct {
	But  bool // those listed stay: the owner calls Thaw when it is decided
	upTo uint64
	seqs []uint64
}

// AppendPurgeState appends the end of messages that Purgeable has chosen.
//
//	head | greatest seq | count | seq, the first from 0, the others from the one before … (varints)
func AppendPurgeState(dst []byte, id uint32, at int64, p *Purge) []byte {
	flags := byte(flagOnly)
	if p.But {
		flags = flagBut
	}
	dst = binary.AppendUvarint(appendHead(dst, kindPurge, flags, id, at), p.upTo)
	dst = binary.AppendUvarint(dst, uint64(len(p.seqs)))
	before := uint64(0)
	for _, seq := range p.seqs {
		dst = binary.AppendUvarint(dst, seq-before)
		before = seq
	}
	return dst
}

// ascending reads what AppendPurgeState has listed.
func (r *reader) ascending() []uint64 {
	seqs := r.seqs(nil)
	for i := 1; i < len(seqs); i++ {
		if seqs[i] += seqs[i-1]; seqs[i] <= seqs[i-1] {
			r.fail(errShort)
			return nil
		}
	}
	return seqs
}

// Purgeable chooses the messages of q that are in a state, "ready", "delayed" or "leased". But for the leased, they are kept
// from consumers until the purge is decided.
func (st *State) Purgeable(q *Queue, state string) *Purge {
	p := &Purge{But: state == stateNames[ready], upTo: q.last}
	q.view(func(seq uint64, _ *chunk, m *msg) bool {
		if in := stateNames[m.state] == state; in != p.But {
			p.seqs = append(p.seqs, seq)
			if !p.But {
				st.Hold(q, seq)
			}
		}
		return true
	})
	if p.But {
		q.frozen++
	}
	return p
}

// Thaw undoes Purgeable for But.
func (st *State) Thaw(q *Queue) {
	q.frozen--
	st.touch(q)
}

// purge ends messages of q: all of them, but for what the flags and the list say. Leases are not in the journal, so
// leased messages may go as well.
func (st *State) purge(q *Queue, flags byte, r *reader) (n int) {
	var list []uint64
	upTo := q.last
	if flags != 0 {
		upTo, list = r.uvarint(), r.ascending()
	}
	if r != nil && r.err != nil {
		return 0
	}
	end := func(seq uint64, c *chunk, m *msg) {
		st.happened(q, seq, m, wasPurged, "")
		st.end(q, seq, c, m)
		n++
	}
	if flags&flagOnly != 0 {
		for _, seq := range list {
			if c, m := q.find(seq); m != nil {
				end(seq, c, m)
			}
		}
	} else {
		if flags == 0 {
			n = st.discard(q)
		}
		q.each(func(seq uint64, c *chunk, m *msg) bool {
			if _, stays := slices.BinarySearch(list, seq); !stays && seq <= upTo {
				end(seq, c, m)
			}
			return true
		})
	}
	q.Counts.Purged += uint64(n)
	if flags == 0 { // what discard has left out
		q.Bytes, q.extras, q.late, q.dead, q.lines = 0, nil, nil, nil, nil
	}
	return n
}

// discard is the part of a purge that need not look at messages: it takes the packed chunks out of q, and Spans gives their
// records up, some at a time. It leaves as many messages as there are events that are remembered. A snapshot wants to see each
// chunk before it goes, and rows each message.
func (st *State) discard(q *Queue) (n int) {
	if st.snap != nil || st.rows != nil {
		return 0
	}
	end, events := q.tail, 0
	for ; end != nil && events < pastEvents; end = end.prev {
		events += int(end.live)
	}
	if end == nil {
		return 0
	}
	for c := q.head; c != end; {
		next := c.next
		if c.m == nil {
			n += int(c.live)
			q.Counts.Ready -= int(c.live) - len(c.dues)
			q.Counts.Delayed -= len(c.dues)
			st.delayedN -= len(c.dues)
			q.chunks.remove(c)
			*c = chunk{live: c.live, packed: c.packed, next: st.discarded}
			st.discarded = c
		}
		c = next
	}
	st.liveN -= n
	return n
}

// discardStep is how many chunks Spans looks at in one call: no more records than shrink lets the slices keep.
const discardStep = 32

// giveUp gives up the records of some of what discard has taken out.
func (st *State) giveUp() {
	var tmp [chunkLen]msg
	for i := 0; i < discardStep && st.discarded != nil; i++ {
		c := st.discarded
		ms := c.look(&tmp)
		for k := range ms {
			if ms[k].state != gone {
				st.released = append(st.released, ms[k].stake())
			}
		}
		st.discarded = c.next
	}
}
