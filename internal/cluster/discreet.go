package cluster

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// What a leader keeps from those who are to vote no more. Who knows that it votes no more cannot come to lead, but those who take its place may not know it
// after a restart: then they ask it for its vote, and do not get it where it has more entries than they have. Nobody could lead then, though
// nobody is missing whom the group needs. So whoever goes does not hear that the change is committed before something is that was appended when the leader knew so: a majority of those who
// stay has that, and knows of the change by it. Until then it may come to lead as well.

// A discretion is how much some members are told of what is committed.
type discretion struct {
	nodes []uint64 // those that vote no more by a change of members
	upTo  uint64   // they hear of no entry as committed behind this one, which has begun the change
	until uint64   // before this entry is committed; 0: the change is not over
}

// beDiscreet is called by a leader when it begins to lead and when a change of members is applied. Whoever is to vote no more goes by a joint configuration.
func (g *group) beDiscreet() {
	g.storage.mu.Lock()
	last := confAt{state: &raftpb.ConfState{}}
	if n := len(g.storage.confs); n > 0 {
		last = g.storage.confs[n-1]
	}
	g.storage.mu.Unlock()
	if out := last.state.GetVotersOutgoing(); len(out) > 0 {
		gone := slices.DeleteFunc(slices.Clone(out), func(id uint64) bool { return slices.Contains(last.state.GetVoters(), id) })
		g.discreet = discretion{nodes: gone, upTo: last.index}
	} else if len(g.discreet.nodes) > 0 && g.discreet.until == 0 {
		g.discreet.until = g.appended + 1
	}
}

// beFrank ends it when it has served its purpose.
func (g *group) beFrank() {
	if until := g.discreet.until; until != 0 && g.raw.BasicStatus().GetCommit() >= until {
		g.discreet = discretion{}
	}
}

// veil changes what is sent accordingly.
func (g *group) veil(m *raftpb.Message) {
	d := &g.discreet
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		if slices.Contains(d.nodes, m.GetTo()) && m.GetCommit() > d.upTo {
			m.Commit = new(d.upTo)
		}
	}
}
