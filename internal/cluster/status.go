package cluster

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// A GroupStatus is a group as this node sees it.
type GroupStatus struct {
	Group     int
	Here      bool   // the group is there: this node is not alone
	Leading   bool   // and has applied all of earlier leaders, so it knows who the members are
	Leader    uint64 // 0: nobody that it knows of
	Term      uint64
	Epoch     uint64 // of groups in memory
	Last      uint64 // the last entry in the log of this node
	Committed uint64
	Changed   uint64 // the entry that has made the members what they are
	// Sealed: who leads knows that all voters know who they are, also after a restart. Before, who is no member any more may be needed.
	Sealed bool
	// The members by what is applied here, none where this node has nothing of the group. Where there are outgoing ones two configurations count at the same time.
	Voters, Outgoing, Learners []uint64
	// Progress is what the leader knows of each member.
	Progress []MemberStatus
}

// A MemberStatus is a member as its leader sees it.
type MemberStatus struct {
	Node   uint64
	Active bool   // it was heard from within an election's time
	Match  uint64 // it has the log up to here, at least
	InStep bool   // it lags by less than half an election's time
}

// Members are all of the group's, voters or not, old or new, in order.
func (s *GroupStatus) Members() []uint64 {
	all := slices.Concat(s.Voters, s.Outgoing, s.Learners)
	slices.Sort(all)
	return slices.Compact(all)
}

// Status is what this node knows of its groups, as of the last tick. It may be called from any goroutine; what it returns must not be changed.
func (h *Host) Status() []GroupStatus {
	if p := h.status.Load(); p != nil {
		return *p
	}
	return nil
}

// report notes what Status says.
func (h *Host) report() {
	all := make([]GroupStatus, len(h.groups))
	for i, g := range h.groups {
		if all[i] = (GroupStatus{Group: i}); g.raw != nil {
			all[i] = g.report()
		}
	}
	h.status.Store(&all)
}

func (g *group) report() GroupStatus {
	st := g.raw.BasicStatus()
	s := GroupStatus{Group: g.number, Here: true, Epoch: g.host.Epoch(), Leading: g.leading && g.noopIn == st.GetTerm() && st.Applied >= g.noop, Leader: g.knownLeader(), Term: g.term, Committed: st.GetCommit()}
	g.storage.mu.Lock()
	s.Last = g.storage.last()
	conf := g.storage.members()
	if n := len(g.storage.confs); n > 0 {
		s.Changed = g.storage.confs[n-1].index
	}
	g.storage.mu.Unlock()
	s.Sealed = s.Leading && g.sealed.knows(s.Changed)
	s.Voters, s.Outgoing = conf.GetVoters(), conf.GetVotersOutgoing()
	s.Learners = slices.Concat(conf.GetLearners(), conf.GetLearnersNext())
	if !g.leading {
		return s
	}
	g.raw.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		self := id == g.host.cfg.ID
		pr.RecentActive = g.active(id)
		s.Progress = append(s.Progress, MemberStatus{Node: id, Active: self || pr.RecentActive, Match: pr.Match, InStep: self || inStep(pr, g.looked)})
	})
	return s
}
