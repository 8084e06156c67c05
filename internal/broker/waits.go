package broker

import (
	"cmp"
	"maps"
	"slices"
)

// endWaits answers every receive that waits: nothing more will come.
func (sh *shard) endWaits() {
	sessions := slices.SortedFunc(maps.Keys(sh.members), func(a, b *Session) int { return cmp.Compare(a.number, b.number) })
	for _, s := range sessions {
		sh.endWaitsOf(sh.members[s])
	}
}

func (sh *shard) endWaitsOf(m *member) {
	for _, wt := range m.waiters() {
		st := sh.storeOf(wt.c.Queue)
		st.state.Unsubscribe(wt.c)
		sh.answerReceive(st, wt)
		sh.drop(wt)
	}
	later := m.later
	m.later = nil
	for _, w := range later {
		if sh.admitControl(w) {
			sh.finish(w)
		}
	}
}

// waiters are the receives that wait, in the order in which they came.
func (m *member) waiters() []*waiter {
	var wts []*waiter
	for c := range m.waits {
		wts = append(wts, c.Tag.(*waiter))
	}
	slices.SortFunc(wts, func(a, b *waiter) int { return cmp.Compare(a.n, b.n) })
	return wts
}
