package cluster

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func (c *trio) members(i int) *raftpb.ConfState {
	st := &c.hosts[i].groups[0].storage
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.members()
}

func (c *trio) last(i int) uint64 {
	st := &c.hosts[i].groups[0].storage
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.last()
}

// Who votes no more does not know so before a majority of those who stay would know of the change after a restart: until then it may be needed to elect one of
// them, or be the only one who can be elected, as it may have more entries.
func TestWhoVotesNoMoreHearsItLast(t *testing.T) {
	c := newTrio(t)
	for _, h := range c.hosts {
		h.Wish(Wish{Members: []uint64{1, 2, 3}, Groups: [][]uint64{{1, 3}}, Everywhere: []int{0}})
	}
	over := func(i int) bool {
		m := c.members(i)
		return len(m.GetVotersOutgoing()) == 0 && slices.Equal(m.GetLearners(), []uint64{2})
	}
	for n := 0; !over(0); n++ {
		if n == 50 {
			t.Fatalf("the members are %v", c.members(0))
		}
		c.tick(1)
	}
	c.hangs = 2
	c.journals[0].Propose(batchOf("behind the change"))
	c.tick(3)
	if c.last(1) <= c.last(2) {
		t.Fatalf("node 2 has %d entries, and node 3 has %d", c.last(1), c.last(2))
	}
	if over(1) {
		t.Error("node 2 knows that it votes no more, and nobody but the leader has anything behind that")
	}
	c.hangs = -1
	c.tick(15)
	for i := range c.hosts {
		if !over(i) {
			t.Errorf("node %d does not know of the change: %v", i+1, c.members(i))
		}
	}
}

// A node that has been told who leads, and is told nothing any more, does not take who led before for the leader.
func TestOldLeadersAreOver(t *testing.T) {
	c := newTrio(t)
	before := c.journals[1].Role()
	c.hosts[1].post(func() {
		c.hosts[1].groups[0].heralded(&raftpb.Message{Type: msgLead.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(before.Term + 1), Index: new(uint64(1))})
	})
	c.run()
	if r := c.journals[1].Role(); before.Leader != 1 || r.Leader != 3 || r.Term != before.Term+1 {
		t.Fatalf("before %+v, then %+v", before, r)
	}
	c.tick(3*int(c.hosts[1].heraldEvery()) + 2)
	if r := c.journals[1].Role(); r.Leader != 0 || r.Term != before.Term+1 {
		t.Errorf("when nothing more has come: %+v", r)
	}
}

// Who was taken out of a group and restarts from a snapshot knows its members as of that, not since when. It forgets what it has all the same.
func TestOutSinceBeforeASnapshot(t *testing.T) {
	c := newTrio(t)
	h := c.hosts[1]
	h.cfg.SendImage = func(uint64, []byte) { t.Error("nobody has an image to ask for") }
	for _, h := range c.hosts {
		h.Wish(Wish{Members: []uint64{1, 2, 3}, Groups: [][]uint64{{1, 3}}})
	}
	for n := 0; !c.hosts[0].groups[0].sealed.done || len(c.members(0).GetVoters()) != 2; n++ {
		if n == 50 {
			t.Fatalf("the members are %v", c.members(0))
		}
		c.tick(1)
	}
	changed := c.hosts[0].Status()[0].Changed
	st := &h.groups[0].storage
	st.mu.Lock()
	st.confs = []confAt{{changed + 1, c.members(0)}}
	st.mu.Unlock()
	for n := 0; c.journals[1].Image() == nil; n++ {
		if n == 200 {
			t.Fatal("it keeps what it has")
		}
		c.tick(1)
		h.Images().Turn()
	}
}

// A lead that is being handed over when two configurations have come to count keeps raft from leaving the old one. It is left when the lead stays, though
// nobody proposes anything.
func TestJointIsLeftInTheEnd(t *testing.T) {
	c := newTrio(t)
	g := c.hosts[0].groups[0]
	c.hangs = 0
	for _, h := range c.hosts {
		h.Wish(Wish{Members: []uint64{1, 2, 3}, Groups: [][]uint64{{1, 3}}, Everywhere: []int{0}})
	}
	for n := 0; g.confEntry == 0; n++ {
		if n == 50 {
			t.Fatal("no change of members is proposed")
		}
		c.tick(1)
	}
	c.cut = 2
	c.hosts[0].Transfer(0, 3)
	c.run()
	c.hangs = -1
	c.run()
	if len(c.members(0).GetVotersOutgoing()) == 0 || g.raw.BasicStatus().LeadTransferee != 3 {
		t.Fatalf("members %v, the lead is to go to %d", c.members(0), g.raw.BasicStatus().LeadTransferee)
	}
	c.cut = -1
	c.tick(40)
	if m := c.members(0); !c.journals[0].Role().Leading || len(m.GetVotersOutgoing()) > 0 {
		t.Errorf("%+v, members %v", c.journals[0].Role(), m)
	}
}
