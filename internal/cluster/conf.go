package cluster

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// Who a group's members are is in the group's own log. A change of them counts on a node when its entry is applied there, not when it
// is appended. This is safe after a restart too, where a node may not know any more that an entry was committed: a change is proposed only
// when the one before it is applied, and its entry's mark says how far was committed. So whoever has a change in its log
// knows that all changes before it count, and two nodes are never more than one change apart, unless one of them lacks
// entries that the other's majority has; then it is not elected.

// A confEntry is a change of members, and its place in the group's log.
type confEntry struct {
	index  uint64
	change raftpb.ConfChangeI
}

// A confAt is who the members are from an entry on.
type confAt struct {
	index uint64
	state *raftpb.ConfState
}

// setConf says who the members are from an entry on. Called with mu held.
func (s *storage) setConf(index uint64, cs *raftpb.ConfState) {
	s.confs = append(s.confs, confAt{index, cs})
}

// conf is who the members are when the entry of that index is applied, and no later one. Called with mu held.
func (s *storage) conf(index uint64) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, c := range s.confs {
		if c.index <= index {
			cs = c.state
		}
	}
	return cs
}

// members is who the members are as of the last entry that was applied. Called with mu held.
func (s *storage) members() *raftpb.ConfState { return s.conf(math.MaxUint64) }

// applyConf has a change of members count. One that does not fit the members means that the log is not what it was.
func (g *group) applyConf(c confEntry) {
	defer func() {
		if r := recover(); r != nil { // raft's way to say so
			panic(fatal{fmt.Errorf("cluster: group %d, entry %d: a change of members that cannot be: %v", g.number, c.index, r)})
		}
	}()
	cs := g.raw.ApplyConfChange(c.change)
	g.storage.mu.Lock()
	g.storage.setConf(c.index, cs)
	g.storage.mu.Unlock()
	if g.leading {
		g.beDiscreet()
	}
}

// A Wish is who the members of the groups shall be.
type Wish struct {
	// Members are the cluster's nodes. Without any nothing is changed.
	Members []uint64
	// Groups are for each group those that shall vote in it, and nobody else; nil: in every group all Members shall.
	Groups [][]uint64
	// Everywhere are groups that all Members have: those that do not vote in them follow as learners.
	Everywhere []int
	// Avoid are members that are to lead nothing.
	Avoid []uint64
}

// Wish has every group that this node leads, now or later, move towards those members, one step at a time: who is new becomes a learner, is
// made a voter when it has caught up, and who is not wished is taken out when it has. Leads are spread over members. Whatever is
// half done when a leader goes, the next one goes on with. It may be called from any goroutine. Nodes may be told at different times.
func (h *Host) Wish(w Wish) {
	h.post(func() { h.wish = w })
}

// A goal is who the members of one group shall be.
type goal struct{ voters, learners []uint64 }

// goal is what is wished for a group; without voters nothing is.
func (w *Wish) goal(group int) (g goal) {
	if g.voters = w.Members; w.Groups == nil || len(w.Members) == 0 {
		return g
	}
	if g.voters = nil; group < len(w.Groups) {
		g.voters = w.Groups[group]
	}
	if len(g.voters) > 0 && slices.Contains(w.Everywhere, group) {
		for _, id := range w.Members {
			if !slices.Contains(g.voters, id) {
				g.learners = append(g.learners, id)
			}
		}
	}
	return g
}

// wants reports whether a node shall vote, watches whether it shall follow.
func (g *goal) wants(node uint64) bool   { return slices.Contains(g.voters, node) }
func (g *goal) watches(node uint64) bool { return slices.Contains(g.learners, node) }

// avoids reports whether a node is not to lead a group.
func (w *Wish) avoids(group int, node uint64) bool {
	g := w.goal(group)
	return !g.wants(node) || slices.Contains(w.Avoid, node)
}

// A census is a group's members as its leader sees them.
type census struct {
	voters, learners []uint64 // in order
	progress         map[uint64]tracker.Progress
}

func (g *group) census() census {
	c := census{progress: map[uint64]tracker.Progress{}}
	g.raw.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		pr.RecentActive = g.active(id)
		c.progress[id] = pr
		if kind == raft.ProgressTypeLearner {
			c.learners = append(c.learners, id)
		} else {
			c.voters = append(c.voters, id)
		}
	})
	slices.Sort(c.voters)
	slices.Sort(c.learners)
	return c
}

// active reports whether a member was heard from within an election's time. Raft's own word for it is taken back once in that time, and
// who looks at the wrong moments never sees it.
func (g *group) active(node uint64) bool {
	at, ever := g.heard[node]
	return ever && g.host.now-at <= uint64(g.host.cfg.ElectionTicks)
}

// looks reports whether it is time to look at the group's members: twice in an election's time, and not for all groups at once.
func (g *group) looks() bool {
	every := uint64(max(1, g.host.cfg.ElectionTicks/2))
	return g.host.now%every == uint64(g.number)%every
}

// reconcile takes the next step towards the members that are wished.
func (g *group) reconcile() {
	if !g.leading || !g.looks() {
		return
	}
	st := g.raw.BasicStatus()
	g.storage.mu.Lock()
	last := g.storage.last()
	g.storage.mu.Unlock()
	before := g.looked
	g.looked = last
	switch {
	case before == 0 || st.LeadTransferee != 0:
		return
	case g.noopIn != st.GetTerm() || st.Applied < max(g.noop, g.confEntry):
		return // raft takes one change at a time, and none before it knows of those of earlier leaders
	}
	c, want := g.census(), g.host.wish.goal(g.number)
	if g.joint() {
		if before == last { // raft leaves it by itself when an entry is applied, but not while the lead is being handed over
			g.proposeNothing()
		}
		return
	}
	if len(want.voters) == 0 {
		return
	}
	g.seal(c)
	changes, ok := want.next(g.host.cfg.ID, c, before)
	if !ok {
		if to := g.heir(c, before); to != 0 {
			g.raw.TransferLeader(to)
		}
		return
	}
	if len(changes) > 0 {
		g.change(c, changes)
	}
}

// joint reports whether two configurations count at the same time.
func (g *group) joint() bool {
	g.storage.mu.Lock()
	defer g.storage.mu.Unlock()
	return len(g.storage.members().GetVotersOutgoing()) > 0
}

// next is the next change towards the goal; ok is false where this node has to give up the lead first. There are never fewer voters than
// are wished, if there have been as many: who is to go stays until who takes its place votes.
func (w *goal) next(self uint64, c census, before uint64) (changes []*raftpb.ConfChangeSingle, ok bool) {
	one := func(kind raftpb.ConfChangeType, node uint64) {
		changes = append(changes, &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(node)})
	}
	for _, id := range slices.Concat(w.voters, w.learners) {
		if _, there := c.progress[id]; !there {
			one(raftpb.ConfChangeAddLearnerNode, id)
			return changes, true
		}
	}
	come := slices.DeleteFunc(slices.Clone(c.learners), func(id uint64) bool { return !w.wants(id) || !inStep(c.progress[id], before) })
	stay := slices.DeleteFunc(slices.Clone(c.voters), func(id uint64) bool { return !w.wants(id) })
	out := w.out(self, c, len(stay)+len(come))
	active, target := 0, len(c.voters)-len(out)+len(come)
	for _, id := range slices.Concat(c.voters, come) {
		if pr := c.progress[id]; !slices.Contains(out, id) && (id == self || pr.RecentActive) {
			active++
		}
	}
	if active <= target/2 {
		return nil, true // they could decide nothing
	}
	if slices.Contains(out, self) {
		return nil, false
	}
	for _, id := range out {
		if w.watches(id) {
			one(raftpb.ConfChangeAddLearnerNode, id)
		} else {
			one(raftpb.ConfChangeRemoveNode, id)
		}
	}
	for _, id := range c.learners {
		switch {
		case slices.Contains(come, id):
			one(raftpb.ConfChangeAddNode, id)
		case !w.wants(id) && !w.watches(id):
			one(raftpb.ConfChangeRemoveNode, id)
		}
	}
	return changes, true
}

// out are the voters that go now, in order, where so many vote afterwards that are wished. Of those that are to go first this node stays, then
// those that are there; all of them as long as nobody else can lead.
func (w *goal) out(self uint64, c census, sure int) (out []uint64) {
	if !slices.ContainsFunc(c.voters, w.wants) {
		return nil
	}
	for _, id := range c.voters {
		if !w.wants(id) {
			out = append(out, id)
		}
	}
	for keep := min(len(w.voters)-sure, len(out)); keep > 0; keep-- {
		best := 0
		for i, id := range out {
			if pr := c.progress[id]; id == self || pr.RecentActive && out[best] != self && !c.progress[out[best]].RecentActive {
				best = i
			}
		}
		out = slices.Delete(out, best, best+1)
	}
	return out
}

// inStep reports whether a member has what was there when members were looked at before: it lags by less than the time between.
func inStep(pr tracker.Progress, before uint64) bool {
	return before > 0 && pr.RecentActive && pr.State == tracker.StateReplicate && pr.Match >= before
}

// describe is the changes in words.
func describe(changes []*raftpb.ConfChangeSingle) string {
	words := map[raftpb.ConfChangeType]string{
		raftpb.ConfChangeAddNode: "votes", raftpb.ConfChangeAddLearnerNode: "learns", raftpb.ConfChangeRemoveNode: "goes",
	}
	var all []string
	for _, c := range changes {
		all = append(all, fmt.Sprintf("node %016x %s", c.GetNodeId(), words[c.GetType()]))
	}
	return strings.Join(all, ", ")
}

// change proposes one. More than one step at once goes by a joint configuration, which raft leaves by itself; so does one by which somebody votes no more (discreet.go).
func (g *group) change(c census, changes []*raftpb.ConfChangeSingle) {
	cc := &raftpb.ConfChangeV2{Changes: changes}
	if slices.ContainsFunc(changes, func(one *raftpb.ConfChangeSingle) bool { return slices.Contains(c.voters, one.GetNodeId()) }) {
		cc.Transition = raftpb.ConfChangeTransitionJointImplicit.Enum()
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		panic(err) // of our own making: numbers
	}
	m := &raftpb.Message{
		Type: raftpb.MsgProp.Enum(), From: new(g.host.cfg.ID),
		Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}},
	}
	if g.raw.Step(m) == nil { // else too much is under way; it comes again
		g.sent = append(g.sent, own{})
		g.host.cfg.Tracef("group %d: members change: %s", g.number, describe(changes))
	}
}
