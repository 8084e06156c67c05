package cluster

import (
	"encoding/binary"
	"fmt"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A replayer makes a group's storage out of a node's log, and hands on what counts: records without a mark as they come,
// those of entries when something behind them says that they are committed. What nothing says that of stays in the storage; raft finds out.
type replayer struct {
	st     *storage
	record func(ref journal.Ref, payload []byte) error

	founded bool        // there is a group
	end     journal.Ref // the state has all before it; where there is a group, at its beginning
	taken   uint64      // entries up to here are in the snapshot; the log may begin before them
	applied uint64      // entries up to here were handed on, or are in the snapshot
	commit  uint64      // entries up to here are known to be committed
	confs   []confEntry // the changes of members that were handed on

	open mark // the entry whose records are being read, left bytes of which are to come
	left int
	void bool // it counts for nothing
	at   slot
	data []byte
}

// A head is what a group keeps in front of a shard's snapshot.
//
//	version u8 | applied | commit | term | vote | base | base's term | conf state, to the end
type head struct {
	applied, commit, term, vote, base, baseTerm uint64
	conf                                        []byte
}

const headVersion = 1

func (h *head) append(dst []byte) []byte {
	dst = append(dst, headVersion)
	for _, n := range []uint64{h.applied, h.commit, h.term, h.vote, h.base, h.baseTerm} {
		dst = binary.AppendUvarint(dst, n)
	}
	return append(dst, h.conf...)
}

func parseHead(b []byte) (h head, err error) {
	r := reader{b: b}
	if v := r.byte(); v != headVersion {
		return h, fmt.Errorf("the snapshot's head has version %d, this program reads %d", v, headVersion)
	}
	for _, n := range []*uint64{&h.applied, &h.commit, &h.term, &h.vote, &h.base, &h.baseTerm} {
		*n = r.number()
	}
	h.conf = r.b
	if r.bad || h.base > h.applied {
		return h, fmt.Errorf("the snapshot's head is not what this program writes")
	}
	return h, nil
}

// snapshot takes up where a snapshot ends.
func (p *replayer) snapshot(pos journal.Ref, headBytes []byte) error {
	p.end = pos
	if len(headBytes) == 0 {
		return nil // there is no group yet
	}
	h, err := parseHead(headBytes)
	if err != nil {
		return err
	}
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(h.conf, conf); err != nil {
		return fmt.Errorf("the snapshot's members: %w", err)
	}
	p.founded, p.taken, p.applied, p.commit = true, h.applied, h.applied, max(h.commit, h.applied)
	p.st.base, p.st.baseTerm = h.base, h.baseTerm
	p.st.setConf(h.applied, conf)
	p.st.hard.Term, p.st.hard.Vote = new(h.term), new(h.vote)
	return nil
}

// next takes the next record of the shard.
func (p *replayer) next(ref journal.Ref, isMark bool, payload []byte) error {
	if !isMark {
		if p.left == 0 {
			if !p.founded {
				p.end = ref + journal.Ref(len(payload)+journal.HeaderBytes)
			}
			return p.record(ref, payload)
		}
		return p.part(ref, payload)
	}
	if p.left > 0 {
		return fmt.Errorf("cluster: an entry is cut short by a mark at %d:%d", ref.Segment(), ref.Offset())
	}
	m, err := parseMark(payload)
	if err == nil {
		err = p.mark(ref, m, len(payload)+journal.HeaderBytes)
	}
	if err != nil {
		return fmt.Errorf("cluster: the mark at %d:%d: %w", ref.Segment(), ref.Offset(), err)
	}
	return nil
}

func (p *replayer) mark(ref journal.Ref, m mark, size int) error {
	switch {
	case m.kind == markOrigin:
		if p.founded {
			return fmt.Errorf("a group begins a second time")
		}
		conf := &raftpb.ConfState{}
		if err := proto.Unmarshal(m.data, conf); err != nil {
			return err
		}
		p.founded, p.applied, p.commit, p.end = true, m.index, m.index, ref+journal.Ref(size)
		p.st.base, p.st.baseTerm = m.index, m.term
		p.st.setConf(m.index, conf)
		p.st.hard.Term = new(m.term)
		return nil
	case !p.founded:
		return fmt.Errorf("it is of a group that has not begun")
	case m.kind == markState:
		p.state(&m)
		return p.handOn()
	case m.kind == markEnd:
		return p.over(ref+journal.Ref(size), m.index)
	}
	return p.entry(ref, m, size)
}

// over ends the group: all of its entries count, and it is as if there had never been one.
func (p *replayer) over(end journal.Ref, last uint64) error {
	if last != p.st.last() {
		return fmt.Errorf("a group ends at entry %d, and its last one is %d", last, p.st.last())
	}
	p.commit = last
	if err := p.handOn(); err != nil {
		return err
	}
	p.founded, p.end, p.taken, p.applied, p.commit, p.confs = false, end, 0, 0, 0, nil
	p.st.reset()
	return nil
}

// state takes over a term and a vote, if they are not older than what is known.
func (p *replayer) state(m *mark) {
	switch {
	case m.term > p.st.hard.GetTerm():
		p.st.hard.Term, p.st.hard.Vote = new(m.term), new(m.vote)
	case m.term == p.st.hard.GetTerm() && m.vote != 0:
		p.st.hard.Vote = new(m.vote)
	}
	p.commit = max(p.commit, m.commit)
}

// entry begins an entry. One that leaves a gap was never answered for: its predecessor could not be written, and both came again.
func (p *replayer) entry(ref journal.Ref, m mark, size int) error {
	p.open, p.left, p.data = m, m.size, nil
	p.at = slot{mark: ref, ref: ref + journal.Ref(size), size: uint32(m.size)}
	p.void = m.index > p.st.last()+1 || m.index <= p.st.base
	// Before what the snapshot has the log may show entries that others have replaced. Behind it, what is handed on stays.
	if old := p.st.at(m.index); old != nil && m.index <= p.applied && m.index > p.taken {
		if old.term != m.term {
			return fmt.Errorf("entry %d of term %d was committed and is overwritten by one of term %d", m.index, old.term, m.term)
		}
		p.void = true // written twice, for want of space the first time
	}
	if p.left == 0 {
		return p.close()
	}
	return nil
}

func (p *replayer) part(ref journal.Ref, payload []byte) error {
	n := len(payload) + journal.HeaderBytes
	if p.left -= n; p.left < 0 {
		return fmt.Errorf("cluster: the record at %d:%d is in two entries", ref.Segment(), ref.Offset())
	}
	if !p.void {
		start := len(p.data)
		p.data = append(journal.BeginRecord(p.data), payload...)
		journal.EndRecord(p.data, start)
	}
	if p.left == 0 {
		return p.close()
	}
	return nil
}

// close ends an entry.
func (p *replayer) close() error {
	if !p.void {
		data := p.data
		if p.open.entry != raftpb.EntryNormal {
			data = append([]byte(nil), p.open.data...)
		}
		e := &raftpb.Entry{Type: p.open.entry.Enum(), Term: new(p.open.term), Index: new(p.open.index), Data: data}
		p.st.append(e, p.at)
	}
	p.commit = max(p.commit, p.open.commit)
	return p.handOn()
}

// handOn hands on what is known to be committed.
func (p *replayer) handOn() error {
	for p.applied < min(p.commit, p.st.last()) {
		p.applied++
		at := p.st.at(p.applied)
		switch at.e.GetType() {
		case raftpb.EntryConfChange, raftpb.EntryConfChangeV2:
			cc, err := confChange(at.e)
			if err != nil {
				return err
			}
			p.confs = append(p.confs, confEntry{p.applied, cc})
		default:
			for off := 0; off < len(at.e.GetData()); {
				payload, next := journal.NextRecord(at.e.GetData(), off)
				if err := p.record(at.ref+journal.Ref(off), payload); err != nil {
					return err
				}
				off = next
			}
		}
	}
	p.st.evict(p.applied)
	return nil
}

// finish ends the replay.
func (p *replayer) finish() error {
	if p.left > 0 {
		return fmt.Errorf("cluster: the log ends in the middle of entry %d", p.open.index)
	}
	if p.applied > p.st.last() {
		return fmt.Errorf("cluster: the snapshot has entries up to %d, the log ends at %d", p.applied, p.st.last())
	}
	p.st.hard.Commit = new(p.applied)
	return nil
}

func confChange(e *raftpb.Entry) (raftpb.ConfChangeI, error) {
	if e.GetType() == raftpb.EntryConfChange {
		cc := &raftpb.ConfChange{}
		return cc, proto.Unmarshal(e.GetData(), cc)
	}
	cc := &raftpb.ConfChangeV2{}
	return cc, proto.Unmarshal(e.GetData(), cc)
}
