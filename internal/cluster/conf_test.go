package cluster

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// TestNextChange: which step a leader takes towards the members that are wished. Node 1 leads.
func TestNextChange(t *testing.T) {
	const before = 100
	in := tracker.Progress{Match: before, State: tracker.StateReplicate, RecentActive: true}
	late := tracker.Progress{Match: before - 1, State: tracker.StateReplicate, RecentActive: true}
	away := tracker.Progress{Match: before, State: tracker.StateReplicate}
	image := tracker.Progress{Match: before, State: tracker.StateSnapshot, RecentActive: true}
	type members map[uint64]tracker.Progress
	for _, c := range []struct {
		what             string
		wish             []uint64
		voters, learners members
		want             string
		gives            bool // up the lead first
	}{
		{"nothing to do", []uint64{1, 2, 3}, members{1: in, 2: in, 3: in}, nil, "", false},
		{"who is new learns", []uint64{1, 2, 3}, members{1: in}, nil, "l2", false},
		{"one at a time", []uint64{1, 2, 3}, members{1: in}, members{2: late}, "l3", false},
		{"who is late goes on learning", []uint64{1, 2}, members{1: in}, members{2: late}, "", false},
		{"who is away goes on learning", []uint64{1, 2}, members{1: in}, members{2: away}, "", false},
		{"who gets an image goes on learning", []uint64{1, 2}, members{1: in}, members{2: image}, "", false},
		{"who is in step votes", []uint64{1, 2}, members{1: in}, members{2: in}, "v2", false},
		{"all at once", []uint64{1, 2, 3}, members{1: in}, members{2: in, 3: in}, "v2 v3", false},
		{"one takes another's place", []uint64{1, 2, 4}, members{1: in, 2: in, 3: away}, members{4: in}, "r3 v4", false},
		{"whose place nobody takes yet stays", []uint64{1, 2, 4}, members{1: in, 2: in, 3: away}, members{4: late}, "", false},
		{"one comes and one goes, though two are to", []uint64{1, 4, 5}, members{1: in, 2: away, 3: in}, members{4: in, 5: late}, "r2 v4", false},
		{"both at once where both are in step", []uint64{1, 4, 5}, members{1: in, 2: in, 3: in}, members{4: in, 5: in}, "r2 r3 v4 v5", false},
		{"the leader goes last", []uint64{2, 4, 5}, members{1: in, 2: in, 3: in}, members{4: in, 5: late}, "r3 v4", false},
		{"there are more than are wished", []uint64{1, 2, 3}, members{1: in, 2: in, 3: in, 4: in, 5: in}, nil, "r4 r5", false},
		{"too many, one of whom somebody replaces", []uint64{1, 2, 6}, members{1: in, 2: in, 3: in, 4: in, 5: in}, members{6: late}, "r4 r5", false},
		{"not wished any more before it voted", []uint64{1, 2, 3}, members{1: in, 2: in, 3: in}, members{4: late}, "r4", false},
		{"who stays could decide nothing", []uint64{1, 3}, members{1: in, 2: in, 3: away}, nil, "", false},
		{"down to one", []uint64{1}, members{1: in, 2: in}, nil, "r2", false},
		{"the leader goes", []uint64{2, 3}, members{1: in, 2: in, 3: in}, nil, "", true},
		{"the leader goes, and nobody else votes yet", []uint64{2}, members{1: in, 3: in}, members{2: in}, "v2", false},
		{"the leader goes, and nobody else is in step yet", []uint64{2}, members{1: in}, members{2: late}, "", false},
	} {
		cs := census{progress: c.voters}
		for id := range c.voters {
			cs.voters = append(cs.voters, id)
		}
		for id, pr := range c.learners {
			cs.learners = append(cs.learners, id)
			cs.progress[id] = pr
		}
		slices.Sort(cs.voters)
		slices.Sort(cs.learners)
		changes, ok := (&goal{voters: c.wish}).next(1, cs, before)
		if got := raftpb.ConfChangesToString(changes); got != c.want || ok == c.gives {
			t.Errorf("%s: %q, keeps the lead: %v; want %q, %v", c.what, got, ok, c.want, !c.gives)
		}
	}
}

// A snapshot says who the members were at its entry, and not who they are by now: what came later is applied again at a restart.
func TestMembersOfASnapshot(t *testing.T) {
	c := newTrio(t)
	c.busy = 1
	for _, h := range c.hosts {
		h.Wish(Wish{Members: []uint64{1, 2}})
	}
	c.tick(20)
	st := c.hosts[1].Status()[0]
	if want := []uint64{1, 2}; !slices.Equal(st.Voters, want) || st.Leading || !c.hosts[0].Status()[0].Leading {
		t.Fatalf("the members are %+v, want voters %d, led by node 1", st, want)
	}
	voters(t, c.journals[1], 3)
	c.busy = -1
	c.run()
	voters(t, c.journals[1], 2)
}

func voters(t *testing.T, j *Journal, want int) {
	t.Helper()
	h, _ := j.place()
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(h.conf, conf); err != nil {
		t.Fatal(err)
	}
	if got := len(conf.GetVoters()); got != want {
		t.Errorf("at entry %d there are %d voters, want %d", h.applied, got, want)
	}
}

// TestJoin: who is new gets the log and is a voter then; who leads and goes hands over first; who is away is taken out; two cannot decide
// without each other.
func TestJoin(t *testing.T) {
	c := newTrio(t)
	wish := func(members ...uint64) {
		for _, h := range c.hosts {
			h.Wish(Wish{Members: members})
		}
	}
	check := func(who int, want ...uint64) {
		t.Helper()
		if st := c.hosts[who].Status()[0]; !slices.Equal(st.Members(), want) || len(st.Learners)+len(st.Outgoing) > 0 {
			t.Fatalf("the members are %+v, want %d", st, want)
		}
	}
	wish(1)
	c.tick(30)
	check(0, 1)
	c.journals[0].Propose(batchOf("alone"))
	c.run()
	wish(1, 2)
	c.tick(30)
	check(1, 1, 2)
	if want := []string{"alone"}; !slices.Equal(c.told[1], want) || c.told[2] != nil {
		t.Fatalf("node 2 has %q, want %q; node 3 has %q", c.told[1], want, c.told[2])
	}
	wish(2) // node 1 leads, and goes
	c.tick(60)
	check(1, 2)
	if !c.journals[1].Role().Leading {
		t.Fatal("node 2 does not lead")
	}
	wish(1, 2, 3)
	c.tick(60)
	check(2, 1, 2, 3)
	c.cut = 2
	c.tick(30)
	wish(1, 2)
	c.tick(30)
	check(1, 1, 2)
	c.cut = 0
	c.tick(30)
	wish(2) // who is asked alone may not decide it alone
	c.tick(30)
	check(1, 1, 2)
}
