package cluster

import "testing"

// TestScale: quorum is said of a group when two members vote and a majority of them has what its leader may have confirmed alone.
func TestScale(t *testing.T) {
	var sc Scale
	one, two, three := []uint64{1}, []uint64{1, 2}, []uint64{1, 2, 3}
	at := func(matches ...uint64) (p []MemberStatus) {
		for i, m := range matches {
			p = append(p, MemberStatus{Node: uint64(i + 1), Match: m})
		}
		return p
	}
	for _, s := range []struct {
		name string
		is   GroupStatus
		want bool
	}{
		{"a server alone", GroupStatus{}, false},
		{"a group of one", GroupStatus{Leading: true, Voters: one, Last: 9, Progress: at(9)}, false},
		{"another one learns", GroupStatus{Leading: true, Voters: one, Learners: []uint64{2}, Last: 12, Progress: at(12, 12)}, false},
		{"it votes, and lacks the end", GroupStatus{Leading: true, Voters: two, Changed: 13, Last: 15, Progress: at(15, 13)}, false},
		{"it lacks less", GroupStatus{Leading: true, Voters: two, Changed: 13, Last: 20, Progress: at(20, 14)}, false},
		{"it has what was there when it came to vote", GroupStatus{Leading: true, Voters: two, Changed: 13, Last: 20, Progress: at(20, 15)}, true},
		{"a third one joins and has nothing", GroupStatus{Leading: true, Voters: three, Changed: 21, Last: 22, Progress: at(22, 22, 0)}, true},
		{"one is left", GroupStatus{Leading: true, Voters: one, Changed: 23, Last: 24, Progress: at(24)}, false},
		{"and has another one again", GroupStatus{Leading: true, Voters: two, Changed: 25, Last: 26, Progress: at(26, 0)}, false},
		{"which comes to lead", GroupStatus{Voters: two, Last: 26}, true},
	} {
		if got := sc.Quorum(&s.is); got != s.want {
			t.Errorf("%s: %v, want %v", s.name, got, s.want)
		}
	}
	if !sc.Quorum(&GroupStatus{Group: 5, Voters: three}) || sc.Quorum(&GroupStatus{Group: 4, Leading: true, Voters: three, Last: 1, Progress: at(1)}) {
		t.Error("groups are taken for each other")
	}
}
