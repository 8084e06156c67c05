package main

import (
	"sync"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
)

// stored is what confirms of queues in files stand for on a node, by group.
type stored struct {
	alone string // without other nodes

	mu    sync.Mutex // guards the following
	scale cluster.Scale
	told  [broker.Shards]bool
}

// look tells the broker of groups for which something else holds from now on. Whoever is about to go does not count any more, also before
// the groups know.
func (s *stored) look(n *node, b *broker.Broker) {
	if s.alone != "disk" { // what nobody syncs is at no majority's disks
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	copies := n.member.Copies() > 1
	for _, g := range n.host.Status() {
		quorum := s.scale.Quorum(&g) && copies
		if quorum == s.told[g.Group] {
			continue
		}
		s.told[g.Group] = quorum
		name := s.alone
		if quorum {
			name = "quorum"
		}
		b.SetStoredOf(g.Group, "file", name)
	}
}

// run looks with each tick until the node ends.
func (s *stored) run(n *node, b *broker.Broker) {
	tick := time.NewTicker(clusterTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.look(n, b)
		case <-n.stop:
			return
		}
	}
}
