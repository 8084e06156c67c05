package cluster

import (
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
)

// A node may be no member of a group. It has the group's journal all the same, empty and waiting, and must know who leads: so leaders say it to
// those nodes that are no members, when they come to lead and from time to time. They also say when a node that was a member once may
// forget what it has (vacate.go).

// heraldElections is how many elections' time lies between two words of a leader to a node that is no member; after three times that
// without one it is as if nobody led.
const heraldElections = 2

// msgLead is the type of such a word: none of raft's. Its index is the last entry that the leader has applied, up to which the members are known to it, and the
// flag of rejection says that all of them know who they are. The entry of the last change would not do: who has begun from a snapshot only knows that its members
// are those as of the snapshot.
const msgLead = raftpb.MessageType(30)

// A herald is what was said last, and when.
type herald struct{ leader, term, at uint64 }

func (h *Host) heraldEvery() uint64 { return uint64(heraldElections * h.cfg.ElectionTicks) }

// herald says to nodes that are no members who leads.
func (g *group) herald() {
	every := g.host.heraldEvery()
	if !g.leading || g.host.wish.Groups == nil || g.sealed.heralded && g.host.now%every != uint64(g.number)%every {
		return
	}
	st := g.raw.BasicStatus()
	if g.noopIn != st.GetTerm() || st.Applied < max(g.noop, g.confEntry) {
		return // who the members are is not known yet
	}
	g.sealed.heralded = true
	g.storage.mu.Lock()
	conf, changed := g.storage.members(), g.storage.confs[len(g.storage.confs)-1].index
	g.storage.mu.Unlock()
	members := slices.Concat(conf.GetVoters(), conf.GetVotersOutgoing(), conf.GetLearners(), conf.GetLearnersNext())
	for _, id := range g.host.wish.Members {
		if id == g.host.cfg.ID || slices.Contains(members, id) {
			continue
		}
		g.host.send(g.number, &raftpb.Message{Type: msgLead.Enum(), From: new(g.host.cfg.ID), To: new(id), Term: new(st.GetTerm()), Index: new(st.Applied), Reject: new(g.sealed.knows(changed))})
	}
}

// heralded takes such a word.
func (g *group) heralded(m *raftpb.Message) {
	if g.raw == nil || g.leading || m.GetTerm() < max(g.term, g.seen.term) || g.leader != 0 && g.leader != m.GetFrom() && g.term == m.GetTerm() {
		return // it is of somebody who leads no more
	}
	news := g.seen.leader != m.GetFrom() || g.seen.term != m.GetTerm()
	g.seen = herald{m.GetFrom(), m.GetTerm(), g.host.now}
	if news && (g.leader == 0 || g.term < m.GetTerm()) {
		g.giveRole(0)
	}
	if m.GetReject() {
		g.vacate(m.GetIndex())
	}
}

// knownLeader is who leads, as far as this node knows, be it as a member or not; 0: nobody.
func (g *group) knownLeader() uint64 {
	if g.leader == 0 || g.seen.term > g.term {
		return g.seen.leader
	}
	return g.leader
}

// giveRole tells the owner who leads: another node, or nobody that is known.
func (g *group) giveRole(leader uint64) {
	role := &journal.Role{Leader: leader, Term: g.term}
	if g.seen.term > g.term || g.seen.leader != 0 && leader == 0 && g.seen.term == g.term {
		role.Leader, role.Term = g.seen.leader, g.seen.term
	}
	g.give(item{role: role})
}

// hush forgets who leads where nothing has been heard of it for long.
func (g *group) hush() {
	if g.seen.leader == 0 || g.host.now-g.seen.at <= 3*g.host.heraldEvery() {
		return
	}
	was := g.knownLeader()
	g.seen.leader = 0 // the term stays: who led before it leads no more
	if was != g.knownLeader() && !g.leading {
		g.giveRole(g.leader)
	}
}

// vacant reports whether this node is no member of the group and has nothing of it. Such a one gives no vote: it might have had
// what was decided, when it was a member earlier.
func (g *group) vacant() bool {
	g.storage.mu.Lock()
	defer g.storage.mu.Unlock()
	conf := g.storage.members()
	return g.storage.last() == 0 && len(conf.GetVoters()) == 0
}
