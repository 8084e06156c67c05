package broker

import "sync/atomic"

// A node that knew of leaders and finds none for any shard is, as a rule, cut off from the others, which go on without it. Clients had better know soon, so
// that they go to another node: there is no use in letting them wait for as long as an election may take.
const cutOffAfter = int64(5e8) // ns; elections that end well take a fraction of it from the moment at which a leader is missed

// A horizon is whether there are leaders. Seen belongs to the forwarder's mu.
type horizon struct {
	seen  bool         // this process has known of a leader
	empty atomic.Int64 // since when there has been none, ns; 0: there is one, or was none yet
}

// look takes over that leaders have changed.
func (h *horizon) look(b *Broker) {
	for shard := range Shards {
		if node, _ := b.leader(shard); node != 0 {
			h.seen = true
			h.empty.Store(0)
			return
		}
	}
	if h.seen && h.empty.Load() == 0 {
		h.empty.Store(b.opt.Now())
	}
}

// patience is how long a request waits for a leader that has come since then, ns.
func (h *horizon) patience(now, since int64) int64 {
	if empty := h.empty.Load(); empty != 0 && now-max(empty, since) >= cutOffAfter {
		return 0
	}
	return patience
}
