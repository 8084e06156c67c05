package cluster

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// HandOver asks that other nodes lead the groups that this one leads: before it stops. Its owner asks again as time passes, until
// Leads says that it is done or there is no more time. Where all groups are led by who leads the first one, that goes first: the others follow.
func (h *Host) HandOver() {
	h.post(func() {
		for _, g := range h.groups {
			if g.raw != nil && g.leading {
				g.handOver()
				if h.cfg.Gathered() && g.number == 0 {
					return
				}
			}
		}
	})
}

// Leads is how many groups this node leads, as of the last turn. Anybody's.
func (h *Host) Leads() int { return int(h.leads.Load()) }

// handOver asks that whoever is there and has most of the log leads.
func (g *group) handOver() {
	best, match, may := uint64(0), uint64(0), false
	g.raw.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		if id == g.host.cfg.ID || kind != raft.ProgressTypePeer || !pr.RecentActive {
			return
		}
		if can := g.host.cfg.MayLead(g.number, id); can && !may || can == may && pr.Match >= match {
			best, match, may = id, pr.Match, can
		}
	})
	if best != 0 && g.raw.BasicStatus().LeadTransferee == 0 {
		g.raw.TransferLeader(best)
	}
}

func (h *Host) countLeads() {
	n := int32(0)
	for _, g := range h.groups {
		if g.leading {
			n++
		}
	}
	h.leads.Store(n)
}

// relieve gives up the lead where the log has kept nothing for as long as a follower waits for a leader: a disk that hangs
// is as bad as none.
func (g *group) relieve() {
	if !g.leading || len(g.writes) == 0 || g.host.now-g.writes[0].since < uint64(g.host.cfg.ElectionTicks) {
		return
	}
	if first := g.host.groups[0]; g.host.cfg.Gathered() && first.raw != nil && first.leading {
		g = first // the others follow, and none could stay where that one is not
	}
	g.handOver()
}
