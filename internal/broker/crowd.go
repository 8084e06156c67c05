package broker

import (
	"slices"

	"github.com/gmq/gmq/internal/queue"
)

// crew is that of a session's subscriptions in one storage.
func (sh *shard) crew(m *member, st *store) *queue.Crew {
	if m.crews == nil {
		m.crews = make([]queue.Crew, len(sh.stores))
		if m.blocked {
			sh.block(m)
		}
	}
	return &m.crews[slices.Index(sh.stores, st)]
}

// block stops all deliveries to a session, until resume.
func (sh *shard) block(m *member) {
	m.blocked = true
	for i := range m.crews {
		sh.stores[i].state.Block(&m.crews[i])
	}
}

// resume lets a session whose reader was slow have deliveries again, but for one that is to get nothing more; receives of that one are answered as well.
func (sh *shard) resume(s *Session) {
	m := sh.members[s]
	if m == nil {
		return
	}
	if !m.hushed {
		m.blocked = false
		for i := range m.crews {
			sh.stores[i].state.Unblock(&m.crews[i])
		}
	}
	later := m.later
	m.later = nil
	for _, w := range later {
		if sh.admitControl(w) {
			sh.finish(w)
		}
	}
}
