package cluster

import (
	"hash/fnv"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3"
)

// answer answers questions as long as the budget lasts: others need the disk and the network too.
func (i *Images) answer() {
	for len(i.asks) > 0 && i.left > 0 && i.pause() == 0 {
		a := i.asks[0]
		i.asks = i.asks[1:]
		f := i.reply(a)
		f.group = a.f.group
		n := int64(len(f.data))
		for _, r := range f.records {
			n += int64(len(r))
		}
		i.left -= n + 64
		i.send(a.from, f)
		i.pace.answered(i, n)
	}
	if len(i.asks) == 0 {
		i.asks = nil
	}
}

// reply is the answer to a question.
func (i *Images) reply(a ask) *frame {
	m := i.made[int(a.f.group)]
	if m != nil && !i.good(m) {
		i.forget(m)
		m = nil
	}
	if a.f.image == 0 {
		if m != nil && m.id != 0 && !m.knows(a.from) { // from before that node was made a member
			if _, waited := m.members[a.from]; waited {
				return &frame{kind: frameNone} // or it is none any more
			}
			i.forget(m)
			m = nil
		}
		if m == nil {
			if m = i.begin(int(a.f.group)); m == nil {
				return &frame{kind: frameNone}
			}
		}
	}
	if m == nil || a.f.image != 0 && m.id != a.f.image {
		return &frame{kind: frameNone, image: a.f.image}
	}
	i.used(m, a.from)
	switch {
	case m.id == 0:
		return &frame{kind: frameLater}
	case a.f.kind == frameAskState:
		return i.part(m, a.f.offset)
	}
	return i.records(m, &a.f)
}

func (m *making) knows(node uint64) bool {
	_, ok := member(m.conf, node)
	return ok
}

// used notes that a member asks: its leader waits for it meanwhile.
func (i *Images) used(m *making, from uint64) {
	m.asked = i.now
	if last, ok := m.members[from]; ok && last == i.now {
		return
	}
	m.members[from] = i.now
	m.g.post(func(g *group) {
		if _, ok := g.offered[from]; ok {
			g.offered[from] = g.host.now
		}
	})
}

// begin has the shard make a snapshot, and all that it refers to stay. nil where this node does not lead the group: whoever does makes better ones.
func (i *Images) begin(group int) *making {
	g := i.h.groups[group]
	if g.journal == nil || !g.journal.replicated.Load() || !g.leads.Load() {
		return nil
	}
	m := &making{g: g, asked: i.now, since: i.now, members: map[uint64]uint64{}}
	m.held, m.release = g.log.Pin()
	m.appended = g.storage.hold(0)
	i.made[group] = m
	g.journal.snapshotFor(func(kept bool) { i.post(func() { i.kept(m, kept) }) })
	return m
}

// kept: the snapshot is on the disk.
func (i *Images) kept(m *making, kept bool) {
	if i.made[m.g.number] != m {
		return
	}
	if !kept || !i.open(m) {
		i.forget(m)
		return
	}
	for _, to := range sortedKeys(m.members) { // they wait for it
		f := &frame{kind: frameNone}
		if m.knows(to) {
			f = i.part(m, 0)
		}
		f.group = uint64(m.g.number)
		i.send(to, f)
	}
}

func (i *Images) open(m *making) bool {
	stored, err := m.g.log.Newest()
	if err != nil {
		i.h.cfg.Logf("group %d: no image can be made: %v", m.g.number, err)
		return false
	}
	m.stored = stored
	h, err := parseHead(stored.Head)
	if err != nil {
		i.h.cfg.Logf("group %d: no image can be made: %v", m.g.number, err)
		return false
	}
	m.index, m.conf = h.applied, h.conf
	if m.term, err = m.g.storage.Term(m.index); err != nil {
		return false // the log has gone on
	}
	m.g.storage.hold(m.index)
	sum := fnv.New64a()
	_, _ = sum.Write(stored.Head) // it never fails
	m.id = sum.Sum64()>>33<<31 | uint64(stored.Sum)>>1 | 1
	return true
}

// good reports whether an image is of any use: what it refers to is there, and the log goes on from it.
func (i *Images) good(m *making) bool {
	if m.id == 0 {
		return i.now-m.since < 2*unused && m.held()
	}
	return i.now-m.asked < unused && m.held() && m.g.storage.holds(m.index, m.appended+i.h.cfg.KeepBytes)
}

// look forgets images that are of no use any more.
func (i *Images) look() {
	for group := range i.h.groups {
		if m := i.made[group]; m != nil && !i.good(m) {
			i.forget(m)
		}
	}
}

func (i *Images) forget(m *making) {
	delete(i.made, m.g.number)
	m.g.storage.hold(noHold)
	m.release()
	if m.stored.Close != nil {
		m.stored.Close()
	}
}

// part is a part of the state.
func (i *Images) part(m *making, offset uint64) *frame {
	if offset > uint64(m.stored.Size) {
		return &frame{kind: frameNone, image: m.id}
	}
	f := &frame{kind: frameState, image: m.id, index: m.index, term: m.term, size: uint64(m.stored.Size), sum: uint64(m.stored.Sum), offset: offset, conf: m.conf}
	f.data = make([]byte, min(uint64(m.stored.Size)-offset, stateBytes))
	if err := m.stored.ReadAt(f.data, int64(offset)); err != nil {
		return i.broken(m, err)
	}
	return f
}

// records are what a member has asked for.
func (i *Images) records(m *making, a *frame) *frame {
	got, err := m.g.log.Records(a.refs)
	if !m.held() { // what was not there may have been given back while it was needed
		i.forget(m)
		return &frame{kind: frameNone, image: m.id}
	}
	if err != nil {
		return i.broken(m, err)
	}
	return &frame{kind: frameRecords, image: m.id, serial: a.serial, records: got}
}

// broken: this node cannot read what it must have. Another one that leads may.
func (i *Images) broken(m *making, err error) *frame {
	i.h.cfg.Logf("group %d: an image cannot be read: %v", m.g.number, err)
	i.forget(m)
	m.g.post(func(g *group) {
		if g.raw != nil && g.leading {
			g.handOver()
		}
	})
	return &frame{kind: frameNone, image: m.id}
}

// done: a member has what it needs.
func (i *Images) done(from uint64, f frame) {
	m := i.made[int(f.group)]
	if m == nil || m.id != f.image {
		return
	}
	delete(m.members, from)
	index := m.index
	m.g.post(func(g *group) {
		g.linger(index)
		if g.raw != nil && g.leading {
			g.raw.ReportSnapshot(from, raft.SnapshotFinish)
		}
		delete(g.offered, from)
	})
	if len(m.members) == 0 {
		i.forget(m)
	}
}

// Keeping the log.

// noHold lets the log go.
const noHold = ^uint64(0)

// hold keeps the entries behind an index, for an image; 0 all that there are now.
func (s *storage) hold(index uint64) (appended int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch index {
	case noHold:
		s.held = 0
	case 0:
		s.held = s.base + 1
	default:
		s.held = index + 1
	}
	return s.appended
}

// holds reports whether the entries behind an index are there, and not more were appended than that.
func (s *storage) holds(index uint64, appended int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return index >= s.base && s.appended <= appended
}

// linger keeps the entries behind an index a little longer: who has the image is about to ask for them.
func (g *group) linger(index uint64) {
	g.lingers, g.lingerTill = index+1, g.host.now+patience/4
}

// lacks is from which index on the log is kept for somebody who lacks what begins at that one: as much of it as there is, as it may turn out that
// he has more than is known of him. 0 where it has become too much.
func (g *group) lacks(index uint64) uint64 {
	st := &g.storage
	st.mu.Lock()
	index = max(index, st.base+1)
	mark := journal.Ref(0)
	if at := st.at(index); at != nil {
		mark = at.mark
	}
	st.mu.Unlock()
	if mark == 0 || g.host.cfg.SendImage == nil || g.log.Since(mark) <= g.host.cfg.KeepBytes {
		return index
	}
	return 0
}

// trim forgets entries that nobody is to get any more: who lacks them gets an image, though the log has them as long as nothing makes a snapshot. An image
// is sent at a measured pace, and by others than who leads; and what is known of entries takes memory.
func (g *group) trim() {
	st := &g.storage
	st.mu.Lock()
	to := min(st.needed, g.journal.taken.Load()+1)
	first := st.at(st.base + 1)
	if !st.images || first == nil || to <= st.base+1 {
		st.mu.Unlock()
		return
	}
	mark := first.mark
	st.mu.Unlock()
	if keep := g.host.cfg.KeepBytes; g.log.Since(mark) > keep+keep/4 {
		st.mu.Lock()
		st.compact(to - 1)
		st.mu.Unlock()
	}
}

// offer notes a snapshot that raft wants to send: the member is told that it needs one, and asks for it.
func (g *group) offer(to uint64) {
	if g.offered == nil {
		g.offered = map[uint64]uint64{}
	}
	g.offered[to] = g.host.now
}

// expire has raft try again with members that have not asked for what they were offered.
func (g *group) expire() {
	for _, id := range sortedKeys(g.offered) {
		if g.host.now-g.offered[id] > patience/4 {
			delete(g.offered, id)
			g.raw.ReportSnapshot(id, raft.SnapshotFailure)
		}
	}
}
