package cluster

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// How a node that was taken out of a group forgets what it has of it. It must not do so as soon as it knows that it is out: others may not know it
// yet, and may need it for a majority of the members as they were. So it waits until the leader says that each voter has an entry behind the change, by
// which that counts after a restart too; from then on nobody asks it any more. What it forgets goes as it came, by an image: an
// empty one that nobody sends. The term and the vote stay.

// A sealing is what a leader knows of whether all voters know who they are.
type sealing struct {
	changed  uint64 // the entry that has made the members what they are
	after    uint64 // an entry that was appended when that was committed, or will be: who has it knows of the change
	done     bool   // all voters have it
	heralded bool   // nodes that are no members have been told who leads
}

// knows reports whether all voters know of a change of members.
func (s *sealing) knows(changed uint64) bool { return s.done && s.changed == changed }

// seal finds out whether all voters know of the last change of members, and sees to it that they can. It is called when that is applied here.
func (g *group) seal(c census) {
	g.storage.mu.Lock()
	changed := g.storage.confs[len(g.storage.confs)-1].index
	g.storage.mu.Unlock()
	s := &g.sealed
	if s.after == 0 || s.changed != changed {
		s.changed, s.after, s.done = changed, g.appended+1, false
	}
	if s.done {
		return
	}
	if g.appended < s.after {
		g.proposeNothing()
		return
	}
	s.done = !slices.ContainsFunc(c.voters, func(id uint64) bool { return c.progress[id].Match < s.after })
}

// proposeNothing has an entry appended that says nothing to the owner.
func (g *group) proposeNothing() {
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(g.host.cfg.ID), Entries: []*raftpb.Entry{{}}}
	if g.raw.Step(m) == nil { // else too much is under way; it comes again
		g.sent = append(g.sent, own{})
	}
}

// quietElections is for how many elections' time a node must not have heard a leader as a member does, before it forgets what it has: else it
// may have been made one again. It is more than a packet may be late.
const quietElections = 4

// out reports whether this node is no member of the group any more, as a leader says who has applied all up to an entry. Where this node knows of a
// later change of members the word is an old one.
func (g *group) out(applied uint64) bool {
	if g.raw == nil || g.leading || g.vacant() || g.host.now-g.led < uint64(quietElections*g.host.cfg.ElectionTicks) {
		return false
	}
	g.storage.mu.Lock()
	defer g.storage.mu.Unlock()
	return g.storage.confs[len(g.storage.confs)-1].index <= applied
}

// vacate has the owner forget what this node has of the group.
func (g *group) vacate(applied uint64) {
	if g.host.cfg.SendImage == nil || g.installing != nil || !g.out(applied) {
		return
	}
	i := g.host.images
	life := g.life.Load()
	i.post(func() {
		if i.taking != nil {
			return // one at a time; the leader will say it again
		}
		t := &image{i: i, g: g, id: 1, index: 0, conf: &raftpb.ConfState{}, whole: true, empty: true, applied: applied, life: life, heard: i.now}
		i.taking = t
		g.post(func(g *group) {
			if !g.out(applied) || g.installing != nil {
				t.end()
				return
			}
			g.journal.image.Store(t)
			g.journal.wake()
		})
	})
}

// vacated makes the group what it is where this node was never a member, when the owner has forgotten all and that is kept.
func (g *group) vacated(t *image) {
	term := g.term
	g.installing = nil
	items := g.abandon()
	st := &g.storage
	st.mu.Lock()
	hard := raftpb.HardState{Term: st.hard.Term, Vote: st.hard.Vote, Commit: new(uint64(0))}
	st.reset()
	st.hard.Term, st.hard.Vote, st.hard.Commit = hard.Term, hard.Vote, hard.Commit
	st.setConf(0, &raftpb.ConfState{})
	st.mu.Unlock()
	g.term = term
	g.handOn(append(items, item{installed: true}))
	g.giveRole(raft.None)
	g.start(0, nil)
	t.end()
	g.host.cfg.Tracef("group %d: this node is no member any more, and has forgotten what it had", g.number)
}
