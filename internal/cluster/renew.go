package cluster

import (
	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Groups in memory end when a majority of their members have restarted at once: nobody can decide anything any more. They begin anew,
// under an epoch that others than they have decided (keeper.go), from what one member has left.

// A renewal is a decision that all groups begin anew.
type renewal struct {
	epoch    uint64
	founders []uint64 // by group: the member from whose state it begins
}

// firstTerm is the term with which the groups of an epoch begin: greater than any in the epoch before.
func firstTerm(epoch uint64) uint64 { return originTerm + (epoch-1)<<16 }

// Renew has all groups begin anew, as soon as all of them are there. Their founders have what they have applied, and are their first voters; everybody
// else waits for an image. What was proposed and is not committed has an unknown outcome.
func (h *Host) Renew(epoch uint64, founders []uint64) {
	h.post(func() { h.renewal = &renewal{epoch, founders} })
}

// renew does what was decided, when it can. Nothing that was said in the epoch before is heard or said any more: it is called when all packets that have come are
// dealt with, and what waits to be sent is dropped.
func (h *Host) renew() {
	r := h.renewal
	if r == nil {
		return
	}
	for _, g := range h.groups {
		if g.raw == nil {
			return // its owner has not begun
		}
	}
	h.renewal = nil
	for i, g := range h.groups {
		g.renew(firstTerm(r.epoch), i < len(r.founders) && r.founders[i] == h.cfg.ID)
	}
	clear(h.out)
	h.targets = h.targets[:0]
	h.epoch.Store(r.epoch)
}

// Epoch is the one in which the groups are. It may be called from any goroutine.
func (h *Host) Epoch() uint64 { return max(h.epoch.Load(), 1) }

func (g *group) renew(term uint64, founder bool) {
	items := g.abandon()
	st := &g.storage
	st.mu.Lock()
	st.base, st.baseTerm, st.slots, st.confs = 0, 0, nil, []confAt{{0, &raftpb.ConfState{}}}
	st.hard = raftpb.HardState{Term: new(uint64(0)), Commit: new(uint64(0))}
	st.needed, st.held, st.cached, st.evicted, st.trailed, st.trailFrom = 0, 0, 0, 0, 0, 0
	m, index := mark{kind: markOrigin}, uint64(0)
	if founder {
		conf := &raftpb.ConfState{Voters: []uint64{g.host.cfg.ID}}
		index = originIndex
		st.base, st.baseTerm, st.confs = index, term, []confAt{{index, conf}}
		st.hard.Term, st.hard.Commit = new(term), new(index)
		m.term, m.index = term, index
		m.data, _ = proto.Marshal(conf) // of our own making: it cannot fail
	}
	st.mu.Unlock()
	g.alien = !founder
	g.handOn(append(items, item{renewed: true, role: &journal.Role{Term: term}}))
	w := &write{origin: true, index: index, batch: journal.Batch{Essential: true, Data: m.record(nil)}}
	w.batch.Parts = []journal.Part{{Shard: g.number, End: len(w.batch.Data), Mark: true}}
	w.batch.Owner = w
	g.write(w)
	g.start(index, nil)
}

// abandon ends all that belongs to the group as it was.
func (g *group) abandon() (items []item) {
	for _, e := range g.early {
		items = append(items, item{batch: e.batch})
	}
	g.early = nil
	for _, o := range g.own {
		for _, b := range o.batches {
			b.Base, b.Err = 0, journal.ErrUnknown
			items = append(items, item{batch: b})
		}
	}
	g.refuse(g.waiting, journal.ErrNotLeading)
	for _, w := range g.writes {
		w.void = true
	}
	if t := g.installing; t != nil {
		t.end()
	}
	g.raw, g.own, g.sent, g.waiting, g.writes, g.stuck = nil, nil, nil, nil, nil, false
	g.installing, g.frozen, g.offered, g.lingerTill = nil, false, nil, 0
	g.term, g.leader, g.leading, g.solo, g.noop, g.noopIn, g.lacking, g.told, g.confEntry, g.looked = 0, 0, false, false, 0, 0, 0, 0, 0, 0
	g.leads.Store(false)
	g.life.Add(1)
	i := g.host.images
	i.post(func() {
		if m := i.made[g.number]; m != nil {
			i.forget(m)
		}
		if t := i.taking; t != nil && t.g == g && !t.installed.Load() {
			t.end()
		}
	})
	return items
}
