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
		k := NewKeeper(KeeperConfig{Node: 1, Boot: c.boots[0], Host: h})
		for i, s := range c.groups {
			node := uint64(i + 1)
			k.hear(node, &account{boot: 1, member: id(node, 1), epoch: 1, groups: []standing{{}}}) // the life before
			k.hear(node, &account{boot: c.boots[i], member: id(node, c.boots[i]), epoch: 1, groups: []standing{s}})
			k.hear(node, &account{boot: 0, member: id(node, 0), epoch: 1}) // which comes late
		}
		if founder, lost := k.heir([]uint64{1, 2, 3}, 0); lost != c.lost || founder != c.founder {
			t.Errorf("%s: lost: %v, founder %x, want %v, %x", c.name, lost, founder, c.lost, c.founder)
		}
	}
}
