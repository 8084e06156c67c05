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
	defer g.storage.mu.Unlock()
	g.storage.setConf(c.index, cs)
}

// A Wish is who the members of all groups shall be.
type Wish struct {
	// Members are to be voters, and nobody else. Without any nothing is changed.
	Members []uint64
	// Avoid are members that are to lead nothing.
	Avoid []uint64
}

// Wish has every group that this node leads, now or later, move towards those members, one step at a time: who is new becomes a learner, is
// made a voter when it has caught up, and who is not wished is taken out. Leads are spread over members. Whatever is
// half done when a leader goes, the next one goes on with. It may be called from any goroutine. Nodes may be told at different times.
func (h *Host) Wish(w Wish) {
	h.post(func() { h.wish = w })
}

func (w *Wish) wants(node uint64) bool  { return slices.Contains(w.Members, node) }
func (w *Wish) avoids(node uint64) bool { return !w.wants(node) || slices.Contains(w.Avoid, node) }

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
	case before == 0 || len(g.host.wish.Members) == 0 || st.LeadTransferee != 0:
		return
	case g.noopIn != st.GetTerm() || st.Applied < max(g.noop, g.confEntry):
		return // raft takes one change at a time, and none before it knows of those of earlier leaders
	}
	c := g.census()
	if g.joint() {
		return // raft leaves it by itself
	}
	changes, ok := g.host.wish.next(g.host.cfg.ID, c, before)
	if !ok {
		if to := g.heir(c, before); to != 0 {
			g.raw.TransferLeader(to)
		}
		return
	}
	if len(changes) > 0 {
		g.change(changes)
	}
}

// joint reports whether two configurations count at the same time.
func (g *group) joint() bool {
	g.storage.mu.Lock()
	defer g.storage.mu.Unlock()
	return len(g.storage.members().GetVotersOutgoing()) > 0
}

// next is the next change towards the wish; ok is false where this node has to give up the lead first.
func (w *Wish) next(self uint64, c census, before uint64) (changes []*raftpb.ConfChangeSingle, ok bool) {
	one := func(kind raftpb.ConfChangeType, node uint64) {
		changes = append(changes, &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(node)})
	}
	for _, id := range w.Members {
		if _, there := c.progress[id]; !there {
			one(raftpb.ConfChangeAddLearnerNode, id)
			return changes, true
		}
	}
	// Who is not wished stays as long as nobody else can lead.
	shrink := slices.ContainsFunc(c.voters, w.wants)
	active, target := 0, 0
	count := func(id uint64) {
		target++
		if pr := c.progress[id]; id == self || pr.RecentActive {
			active++
		}
	}
	for _, id := range c.voters {
		if w.wants(id) || !shrink {
			count(id)
		} else {
			one(raftpb.ConfChangeRemoveNode, id)
		}
	}
	for _, id := range c.learners {
		switch {
		case !w.wants(id):
			one(raftpb.ConfChangeRemoveNode, id)
		case inStep(c.progress[id], before):
			one(raftpb.ConfChangeAddNode, id)
			count(id)
		}
	}
	if active <= target/2 {
		return nil, true // they could decide nothing
	}
	if shrink && !w.wants(self) {
		return nil, false
	}
	return changes, true
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

// change proposes one. More than one step at once goes by a joint configuration, which raft leaves by itself.
func (g *group) change(changes []*raftpb.ConfChangeSingle) {
	data, err := proto.Marshal(&raftpb.ConfChangeV2{Changes: changes})
	if err != nil {
		panic(err) // of our own making: numbers
	}
	m := &raftpb.Message{
		Type: raftpb.MsgProp.Enum(), From: new(g.host.cfg.ID),
		Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}},
	}
	if g.raw.Step(m) == nil { // else too much is under way; it comes again
		g.sent = append(g.sent, own{})
		g.host.cfg.Logf("group %d: members change: %s", g.number, describe(changes))
	}
}
