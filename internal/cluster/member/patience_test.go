package member

import (
	"testing"
	"time"
)

// TestPatience: where nobody has led for longer than an election takes it is not waited for one: this node is cut off, and who asks goes to another one.
func TestPatience(t *testing.T) {
	leader := uint64(0)
	m := &Manager{opt: Options{Leader: func() uint64 { return leader }}}
	now := time.Unix(1_000_000, 0)
	want := func(what string, d time.Duration) {
		t.Helper()
		if got := m.patience(now); got != d {
			t.Errorf("%s: it is waited %v, want %v", what, got, d)
		}
	}
	want("nobody known yet", leaderWait)
	leader = 7
	want("a leader", leaderWait)
	leader, now = 0, now.Add(cutOff)
	want("lost just now", leaderWait)
	now = now.Add(time.Second)
	want("lost long ago", cutOffWait)
	leader = 8
	want("another one", leaderWait)
	leader, now = 0, now.Add(time.Second)
	want("lost again", leaderWait)
}
