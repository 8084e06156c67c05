package cluster

import (
	"slices"

	"github.com/gmq/gmq/internal/cluster/placement"
)

// balanceElections is how many elections' time lies between two leads that a node gives away to balance them: each of them makes
// whoever publishes to that group wait a little.
const balanceElections = 2

// balance gives away leads: all, where this node is to lead nothing, or one, where another member leads at least two fewer.
func (h *Host) balance() {
	w := &h.wish
	every := uint64(balanceElections * h.cfg.ElectionTicks)
	if len(w.Members) == 0 || h.now%every != h.cfg.ID%every {
		return
	}
	leads, unknown := map[uint64]int{}, 0
	for _, g := range h.groups {
		if leader := g.knownLeader(); leader == 0 {
			unknown++
		} else {
			leads[leader]++
		}
	}
	leaves := slices.Contains(w.Avoid, h.cfg.ID) || !slices.Contains(w.Members, h.cfg.ID)
	if !leaves && (unknown > 0 || h.cfg.Gathered()) {
		return // something is going on, or is to be as it is
	}
	for _, g := range h.groups {
		if !g.leading || g.raw.BasicStatus().LeadTransferee != 0 || g.joint() {
			continue
		}
		to := placement.Lighter(leads, h.cfg.ID, g.fit(g.looked))
		if leaves {
			to = placement.Lightest(leads, g.fit(g.looked))
		}
		if to == 0 {
			continue
		}
		h.cfg.Tracef("group %d: node %016x is to lead", g.number, to)
		g.raw.TransferLeader(to)
		if !leaves {
			return
		}
		leads[to]++
	}
}

// heirs are those who can lead this group in this node's place and are in step, in order.
func (g *group) heirs(before uint64) (may []uint64) {
	return slices.DeleteFunc(g.able(before), func(id uint64) bool { return g.host.wish.avoids(g.number, id) })
}

// able are heirs and those who are to lead nothing.
func (g *group) able(before uint64) (may []uint64) {
	c := g.census()
	for _, id := range c.voters {
		if id != g.host.cfg.ID && inStep(c.progress[id], before) {
			may = append(may, id)
		}
	}
	return may
}

// fit are the heirs who may lead all of the shard.
func (g *group) fit(before uint64) []uint64 {
	return slices.DeleteFunc(g.heirs(before), func(id uint64) bool { return !g.host.cfg.MayLead(g.number, id) })
}

// heir is who is to lead in this node's place: of the heirs who may lead all of the shard, or else of all, who has most of the log; 0: nobody.
func (g *group) heir(c census, before uint64) (best uint64) {
	for _, id := range g.heirs(before) {
		may, was := g.host.cfg.MayLead(g.number, id), best != 0 && g.host.cfg.MayLead(g.number, best)
		if best == 0 || may && !was || may == was && c.progress[id].Match > c.progress[best].Match {
			best = id
		}
	}
	return best
}

// cede gives a lead to somebody who may have it, where this node may not. Better to one who is to lead nothing than to nobody: as long as it is here nobody is served.
func (g *group) cede() {
	may := g.host.cfg.MayLead
	if !g.leading || !g.looks() || may(g.number, g.host.cfg.ID) || g.raw.BasicStatus().LeadTransferee != 0 || g.joint() {
		return
	}
	to := g.heir(g.census(), g.looked)
	if to == 0 || !may(g.number, to) {
		to = 0
		for _, id := range g.able(g.looked) {
			if may(g.number, id) {
				to = id
			}
		}
	}
	if to != 0 {
		g.host.cfg.Tracef("group %d: node %016x is to lead, as this one cannot lead all of the shard yet", g.number, to)
		g.raw.TransferLeader(to)
	}
}
