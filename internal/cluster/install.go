package cluster

import (
	"fmt"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// How an image takes the place of a group's log. The group stands still from the moment at which the owner is told to change states
// until the snapshot of the new one is on the disk: nothing is appended that would lie before it. Then raft is told. A crash in between
// leaves either the old log, or the new state and no log: raft never hears of an image that is not kept.

// Image implements journal.Replicated.
func (j *Journal) Image() journal.Image {
	if j.image.Load() == nil {
		return nil
	}
	if t := j.image.Swap(nil); t != nil {
		return t
	}
	return nil
}

// Await makes a member of a shard that has nothing yet: its state is to come from the group's other members, as an image. The owner has replayed.
func (j *Journal) Await() error {
	if j.replicated.Load() {
		return nil
	}
	j.log.Settle()
	st := &j.g.storage
	st.mu.Lock()
	st.setConf(0, &raftpb.ConfState{})
	st.hard.Term, st.hard.Commit = new(uint64(0)), new(uint64(0))
	st.mu.Unlock()
	j.replicated.Store(true)
	m := mark{kind: markOrigin}
	j.g.begin(m.record(nil), 0, false)
	return nil
}

// snapshotFor has the owner make a snapshot, and f be called when it is on the disk; or is not.
func (j *Journal) snapshotFor(f func(kept bool)) {
	j.wished.Store(&f)
	j.wake()
}

// wish is a wish for a snapshot besides the log's own.
func (j *Journal) wish() (journal.Compaction, bool) {
	if j.installing == nil {
		if j.wished.Load() == nil { // asked in every turn
			return journal.Compaction{}, false
		}
		j.told = *j.wished.Swap(nil)
	} else if !j.again.Swap(false) {
		return journal.Compaction{}, false
	}
	return journal.Compaction{Sparse: func(journal.Ref) bool { return false }}, true
}

// install begins to put an image in the place of the log.
func (g *group) install(t *image) {
	if g.raw == nil || t.over.Load() || g.installing != nil || t.life != g.life.Load() {
		t.end()
		return
	}
	g.installing = t
}

// needs is told that the leader would send a snapshot. Where this node has as much already raft says so; else it needs an image.
func (g *group) needs(m *raftpb.Message) {
	if g.raw == nil {
		return
	}
	g.led = g.host.now
	if m.GetIndex() <= g.raw.BasicStatus().GetCommit() {
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(m.GetIndex())}}
		g.step(m)
		return
	}
	g.host.images.offered(g.number, m.GetFrom())
}

// hears reports whether a message is for raft. Nothing may be appended or applied while an image is being installed, but votes may be given.
// A member that has nothing gives none, nor does one that is about to have nothing.
func (g *group) hears(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		if g.led = g.host.now; m.GetTerm() >= g.seen.term {
			g.seen = herald{}
		}
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if g.vacant() {
			return false
		}
	}
	if g.installing == nil {
		return true
	}
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		if g.frozen {
			m.Commit = new(uint64(0)) // so that nothing old is applied to the new state
		}
		return true
	case raftpb.MsgVote, raftpb.MsgPreVote:
		return !g.installing.empty
	}
	return false
}

// halt tells the owner to change states when all is handed over that belongs to the old one.
func (g *group) halt() {
	t := g.installing
	if t == nil || g.frozen {
		return
	}
	s := g.raw.BasicStatus()
	term, err := g.storage.Term(t.index)
	here := err == nil && term == t.term
	if t.empty {
		if t.over.Load() || !g.out(t.applied) { // it is a member again
			g.installing = nil
			t.end()
			return
		}
	} else if s.RaftState == raft.StateLeader || s.GetCommit() >= t.index || here || t.over.Load() {
		g.installing = nil // it came by batches meanwhile
		if here && s.RaftState != raft.StateLeader && s.GetCommit() < t.index {
			g.step(t.snap(s.Lead, s.GetTerm())) // raft commits what it has, and tells the leader, who would go on offering images
		}
		t.end()
		return
	}
	if len(g.writes) == 0 && s.Applied == s.GetCommit() {
		g.frozen = true
		g.give(item{image: t})
	}
}

// changeStates is called by the shard's goroutine when all items before have been taken.
func (j *Journal) changeStates(t *image) {
	j.installing, j.applied, j.founded = t, t.index, true
	j.log.Behind()
	t.installed.Store(true)
}

// installHead is what goes in front of the snapshot of the new state, and where that begins: behind all that was ever appended to the group. What is not
// told yet are votes, and they are in hard; or what the owner moves later.
func (j *Journal) installHead() (h head, pos journal.Ref) {
	st, t := &j.g.storage, j.installing
	st.mu.Lock()
	defer st.mu.Unlock()
	h = head{applied: t.index, commit: t.index, term: max(st.hard.GetTerm(), t.term), base: t.index, baseTerm: t.term, conf: marshalConf(t.conf)}
	if h.term == st.hard.GetTerm() {
		h.vote = st.hard.GetVote()
	}
	return h, max(t.behind, j.floor)
}

// kept is called when the snapshot of the new state is on the disk, or could not be.
func (j *Journal) kept(t *image, kept bool) {
	if !kept { // there was no space: the group stands still until there is
		j.again.Store(true)
		j.wake()
		return
	}
	j.g.post(func(g *group) { g.installed(t) })
}

// installed tells raft.
func (g *group) installed(t *image) {
	if g.installing != t {
		return // told twice
	}
	if t.empty {
		g.vacated(t)
		return
	}
	g.installing, g.frozen, g.alien, g.given = nil, false, false, t.index
	s := g.raw.BasicStatus()
	if s.GetTerm() < t.term {
		s.Lead = raft.None
	}
	err := g.raw.Step(t.snap(s.Lead, max(s.GetTerm(), t.term)))
	if got := g.raw.BasicStatus().GetCommit(); err != nil || got != t.index {
		g.host.fail(fmt.Errorf("cluster: group %d: raft does not take the image of entry %d, but has %d: %w", g.number, t.index, got, err))
		return
	}
	g.ready()
	var lost []item
	for len(g.own) > 0 && g.own[0].index <= t.index {
		for _, b := range g.own[0].batches {
			b.Base, b.Err = 0, journal.ErrUnknown
			lost = append(lost, item{batch: b})
		}
		g.own = g.own[1:]
	}
	g.give(append(lost, item{installed: true})...)
	t.end()
	g.host.cfg.Tracef("group %d: the image of entry %d from node %d is installed", g.number, t.index, t.from)
}

// snap is the image as raft hears of it, from a leader of that term.
func (t *image) snap(leader, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(leader), To: new(t.g.host.cfg.ID), Term: new(term),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(t.index), Term: new(t.term), ConfState: t.conf}}}
}

// replace makes the log empty: all up to an index is in the state.
func (s *storage) replace(m *raftpb.SnapshotMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base, s.baseTerm, s.confs, s.slots = m.GetIndex(), m.GetTerm(), []confAt{{m.GetIndex(), m.GetConfState()}}, nil
	s.hard.Commit = new(m.GetIndex())
	s.cached, s.evicted, s.trailed, s.trailFrom, s.needed = 0, m.GetIndex(), 0, m.GetIndex()+1, 0
}
