package cluster

import (
	"bytes"
	"slices"
	"testing"
)

// Whatever comes: no panic, and what is read is what would be written.
func FuzzKeeper(f *testing.F) {
	a := account{boot: 7, member: MemberID(1, 7), epoch: 3, groups: []standing{{leading: true, changed: 4, committed: 9, voters: []uint64{1, 2, 3}, outgoing: []uint64{1}}, {}}}
	f.Add(a.encode())
	f.Add((&renewal{epoch: 2, founders: []uint64{5, 6}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseAccount(&reader{b: b}); err == nil {
			if again, err := parseAccount(&reader{b: got.encode()}); err != nil || !bytes.Equal(again.encode(), got.encode()) {
				t.Errorf("%+v, then %+v, %v", got, again, err)
			}
		}
		if got, err := parseRenewal(b); err == nil {
			if again, err := parseRenewal(got.encode()); err != nil || again.epoch != got.epoch || !slices.Equal(again.founders, got.founders) {
				t.Errorf("%+v, then %+v, %v", got, again, err)
			}
		}
	})
}

// A group begins anew only where no majority of its newest members is alive, and from who led it, or has most.
func TestWhenGroupsBeginAnew(t *testing.T) {
	id := func(node, boot uint64) uint64 { return MemberID(node, boot) }
	all := []uint64{id(1, 1), id(2, 1), id(3, 1)}
	had := func(leading bool, changed, committed uint64, voters []uint64) standing {
		return standing{leading: leading, changed: changed, committed: committed, voters: voters}
	}
	for _, c := range []struct {
		name    string
		boots   [3]uint64
		groups  [3]standing
		lost    bool
		founder uint64
	}{
		{"all are alive", [3]uint64{1, 1, 1}, [3]standing{had(true, 1, 9, all), had(false, 1, 9, all), had(false, 1, 8, all)}, false, id(1, 1)},
		{"one has restarted", [3]uint64{2, 1, 1}, [3]standing{{}, had(true, 1, 9, all), had(false, 1, 8, all)}, false, id(2, 1)},
		{"two have restarted", [3]uint64{2, 2, 1}, [3]standing{{}, {}, had(false, 1, 8, all)}, true, id(3, 1)},
		{"two have restarted, and one of them is a member again", [3]uint64{2, 2, 1},
			[3]standing{had(false, 5, 8, []uint64{id(1, 2), id(2, 1), id(3, 1)}), {}, had(true, 1, 9, all)}, false, id(3, 1)},
		{"all have restarted", [3]uint64{2, 2, 2}, [3]standing{}, true, id(1, 2)},
		{"members change, and the old ones are gone", [3]uint64{2, 2, 1},
			[3]standing{{}, {}, {changed: 7, committed: 7, voters: []uint64{id(1, 2), id(3, 1)}, outgoing: all}}, true, id(3, 1)},
	} {
		h, err := New(Config{ID: id(1, c.boots[0]), Groups: 1, Memory: true, Wake: func() {}, Send: func(uint64, []byte) {}})
		if err != nil {
			t.Fatal(err)
		}
		k := NewKeeper(KeeperConfig{Node: 1, Boot: c.boots[0], Host: h, LeaderOf: func(int) uint64 { return 0 }})
		for i, s := range c.groups {
			node := uint64(i + 1)
			k.hear(node, &account{boot: 1, member: id(node, 1), epoch: 1, groups: []standing{{}}}) // the life before
			k.hear(node, &account{boot: c.boots[i], member: id(node, c.boots[i]), epoch: 1, groups: []standing{s}})
			k.hear(node, &account{boot: 0, member: id(node, 0), epoch: 1}) // which comes late
		}
		if founder, lost := k.heir([]uint64{1, 2, 3}, []uint64{1, 2, 3}, 0); lost != c.lost || founder != c.founder {
			t.Errorf("%s: lost: %v, founder %x, want %v, %x", c.name, lost, founder, c.lost, c.founder)
		}
	}
}

// keeperOf is the keeper of node 1, which leads the first group on disks, and what it has had decided: that is on its way until the test says done.
func keeperOf(t *testing.T, boot uint64) (k *Keeper, decided *[]renewal) {
	k, decided, _ = slowKeeperOf(t, boot)
	return k, decided
}

func slowKeeperOf(t *testing.T, boot uint64) (k *Keeper, decided *[]renewal, done *func()) {
	t.Helper()
	h, err := New(Config{ID: MemberID(1, boot), Groups: 1, Memory: true, Wake: func() {}, Send: func(uint64, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	decided, done = &[]renewal{}, new(func())
	return NewKeeper(KeeperConfig{
		Node: 1, Boot: boot, Host: h, LeaderOf: func(int) uint64 { return 2 },
		Decide: func(b []byte, over func()) {
			*done = over
			d, err := parseRenewal(b)
			if err != nil {
				t.Error(err)
			}
			*decided = append(*decided, d)
		},
	}), decided, done
}

// A decision that is long on its way is not made a second time: nodes could hear either, and begin from different members.
func TestOneDecisionAtATime(t *testing.T) {
	k, decided, done := slowKeeperOf(t, 2)
	k.now = absent + 1
	decide := func() int {
		k.hear(2, &account{boot: 2, member: MemberID(2, 2), epoch: 1, groups: []standing{{}}})
		k.hear(1, &account{boot: 2, member: MemberID(1, 2), epoch: 1, groups: []standing{{}}})
		k.decide([]uint64{1, 2, 3})
		k.now += decideEvery + 1
		return len(*decided)
	}
	if n := decide(); n != 1 {
		t.Fatalf("%d decisions, want one", n)
	}
	if n := decide(); n != 1 {
		t.Errorf("%d decisions are on their way", n)
	}
	(*done)()
	if n := decide(); n != 2 {
		t.Errorf("%d decisions: it is not tried again when the first has come to nothing", n)
	}
}

// A node that is away for long is waited for no longer, unless those that are there know of a leader, or are no majority.
func TestWhoIsWaitedFor(t *testing.T) {
	voters := []uint64{MemberID(1, 1), MemberID(2, 1), MemberID(3, 1)}
	member := standing{changed: 1, committed: 9, voters: voters}
	led := member
	led.led = true
	for _, c := range []struct {
		name   string
		boot   uint64            // of node 1
		there  map[uint64]uint64 // boots of the other nodes that are
		two    standing          // of node 2
		now    uint64
		begins bool
	}{
		{"all have lost power, and one is not back yet", 2, map[uint64]uint64{2: 2}, standing{}, absent, false},
		{"all have lost power, and one does not come back", 2, map[uint64]uint64{2: 2}, standing{}, absent + 1, true},
		{"one has restarted while another one is away", 2, map[uint64]uint64{2: 1}, member, absent + 1, true},
		{"one has restarted, and the other one hears a leader", 2, map[uint64]uint64{2: 1}, led, absent + 1, false},
		{"one is away", 1, map[uint64]uint64{2: 1}, member, absent + 1, false},
		{"nobody else is there", 2, nil, standing{}, 10 * absent, false},
	} {
		k, decided := keeperOf(t, c.boot)
		k.now = c.now
		mine := standing{}
		if c.boot == 1 {
			mine = member
		}
		k.hear(1, &account{boot: c.boot, member: MemberID(1, c.boot), epoch: 1, groups: []standing{mine}})
		for node, boot := range c.there {
			k.hear(node, &account{boot: boot, member: MemberID(node, boot), epoch: 1, groups: []standing{c.two}})
		}
		k.decide([]uint64{1, 2, 3})
		if got := len(*decided) > 0; got != c.begins {
			t.Errorf("%s: the groups begin anew: %v", c.name, got)
		}
	}
}

// What is confirmed is said to be on a majority of the nodes only when it is, and so is what was confirmed before.
func TestWhatAMajorityHolds(t *testing.T) {
	k, _ := keeperOf(t, 1)
	var held []bool
	k.cfg.Held = func(_ int, quorum bool) { held = append(held, quorum) }
	a, b, c := MemberID(1, 1), MemberID(2, 1), MemberID(3, 1)
	for _, s := range []struct {
		name  string
		is    GroupStatus
		nodes int
		want  []bool
	}{
		{"alone", GroupStatus{Leading: true, Voters: []uint64{a}}, 1, nil},
		{"one of three votes", GroupStatus{Leading: true, Voters: []uint64{a}, Learners: []uint64{b}}, 3, nil},
		{"two vote, and one does not have the beginning", GroupStatus{Leading: true, Voters: []uint64{a, b}, Changed: 7, Progress: []MemberStatus{{Node: a, Match: 9}, {Node: b, Match: 6}}}, 3, nil},
		{"two have all", GroupStatus{Leading: true, Voters: []uint64{a, b}, Changed: 7, Progress: []MemberStatus{{Node: a, Match: 9}, {Node: b, Match: 7}}}, 3, []bool{true}},
		{"a new leader has not heard of the others yet", GroupStatus{Leading: true, Voters: []uint64{a, b, c}, Changed: 8, Progress: []MemberStatus{{Node: a, Match: 9}}}, 3, []bool{true}},
		{"there are five nodes", GroupStatus{Leading: true, Voters: []uint64{a, b, c}}, 5, []bool{true, false}},
	} {
		s.is.Epoch = 1
		if k.weigh(&s.is, s.nodes); !slices.Equal(held, s.want) {
			t.Errorf("%s: told %v, want %v", s.name, held, s.want)
		}
	}
	k.weigh(&GroupStatus{Epoch: 1, Voters: []uint64{a, b, c}}, 3)
	if err := k.Decided((&renewal{epoch: 2, founders: []uint64{a}}).encode()); err != nil {
		t.Fatal(err)
	}
	k.weigh(&GroupStatus{Epoch: 1, Voters: []uint64{a, b, c}}, 3) // as it was before
	if want := []bool{true, false, true, false}; !slices.Equal(held, want) {
		t.Errorf("when groups begin anew: told %v, want %v", held, want)
	}
}

// A group on disks is led by who may lead the one in memory, too, as long as that goes on.
func TestWhoMayLead(t *testing.T) {
	k, _ := keeperOf(t, 1)
	voters := []uint64{MemberID(1, 1), MemberID(2, 1), MemberID(3, 1)}
	for node, boot := range map[uint64]uint64{1: 1, 2: 1, 3: 2} {
		a := account{boot: boot, member: MemberID(node, boot), epoch: 1, groups: []standing{{}}}
		if boot == 1 {
			a.groups[0] = standing{changed: 1, voters: voters}
		}
		k.hear(node, &a)
	}
	k.settle([]uint64{1, 2, 3})
	if !k.MayLead(0, 1) || !k.MayLead(0, 2) || k.MayLead(0, 3) {
		t.Error("of three nodes the two whose members vote may lead")
	}
	k.hear(2, &account{boot: 2, member: MemberID(2, 2), epoch: 1, groups: []standing{{}}})
	if k.settle([]uint64{1, 2, 3}); !k.MayLead(0, 3) {
		t.Error("where the group goes on no more, anybody may lead")
	}
}

// TestFollowerOfWhoIsGone: a member that does not vote goes on following a leader that is gone, and raft tells it nothing: that must not
// keep the others waiting for it.
func TestFollowerOfWhoIsGone(t *testing.T) {
	k, _ := keeperOf(t, 1)
	leader := MemberID(3, 1)
	led := func(member uint64) bool { return k.account([]GroupStatus{{Here: true, Leader: member}}).groups[0].led }
	there := func() { k.hear(3, &account{boot: 1, member: leader, epoch: 1, groups: []standing{{}}}) }
	there()
	if !led(leader) || !led(k.id) || led(0) || led(MemberID(3, 9)) {
		t.Errorf("led by one that is heard: %v, by itself: %v, by nobody: %v, by a life that nobody knows: %v", led(leader), led(k.id), led(0), led(MemberID(3, 9)))
	}
	k.now += stale + 1
	if led(leader) {
		t.Error("it is led by one that is gone")
	}
	if there(); !led(leader) {
		t.Error("it is not led by one that is back")
	}
}
