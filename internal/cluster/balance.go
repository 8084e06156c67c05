package cluster

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
		if g.raw == nil || g.leader == 0 {
			unknown++
			continue
		}
		leads[g.leader]++
	}
	leaves := w.avoids(h.cfg.ID)
	if !leaves && unknown > 0 {
		return // something is going on
	}
	for _, g := range h.groups {
		if !g.leading || g.raw.BasicStatus().LeadTransferee != 0 || g.joint() {
			continue
		}
		c := g.census()
		for _, id := range c.voters {
			if _, there := leads[id]; !there {
				leads[id] = 0
			}
		}
		to := g.least(c, leads)
		if to == 0 || !leaves && leads[h.cfg.ID]-leads[to] < 2 {
			continue
		}
		h.cfg.Logf("group %d: node %016x is to lead", g.number, to)
		g.raw.TransferLeader(to)
		if !leaves {
			return
		}
		leads[to]++
	}
}

// least is who leads the fewest groups of those that may lead this one and are in step; 0: nobody.
func (g *group) least(c census, leads map[uint64]int) (best uint64) {
	for _, id := range c.voters {
		if id == g.host.cfg.ID || g.host.wish.avoids(id) || !inStep(c.progress[id], g.looked) || !g.host.cfg.MayLead(g.number, id) {
			continue
		}
		if best == 0 || leads[id] < leads[best] {
			best = id
		}
	}
	return best
}

// heir is who is to lead in this node's place: of those in step who has most of the log; 0: nobody.
func (g *group) heir(c census, before uint64) (best uint64) {
	for _, id := range c.voters {
		if id == g.host.cfg.ID || g.host.wish.avoids(id) || !inStep(c.progress[id], before) {
			continue
		}
		may, was := g.host.cfg.MayLead(g.number, id), best != 0 && g.host.cfg.MayLead(g.number, best)
		if best == 0 || may && !was || may == was && c.progress[id].Match > c.progress[best].Match {
			best = id
		}
	}
	return best
}

// cede gives a lead to somebody who may have it, where this node may not.
func (g *group) cede() {
	may := g.host.cfg.MayLead
	if !g.leading || !g.looks() || may(g.number, g.host.cfg.ID) || g.raw.BasicStatus().LeadTransferee != 0 || g.joint() {
		return
	}
	if to := g.heir(g.census(), g.looked); to != 0 && may(g.number, to) {
		g.host.cfg.Logf("group %d: node %016x is to lead, as this one cannot lead all of the shard yet", g.number, to)
		g.raw.TransferLeader(to)
	}
}
