package sim

import (
	"slices"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/placement"
)

// In a world of a cluster with more nodes than replicas each shard is at some of the nodes, and now and then one node is to have none, as if it were taken out, or
// a node that had none is given its part again. Clients come to any.

// settleIn says where the shards are at first, and has that change.
func (w *World) settleIn() {
	if w.cfg.Replicas == 0 {
		return
	}
	w.replan(0)
	for _, n := range w.nodes {
		n.plan = w.plan
	}
	w.move()
}

// replan makes a plan for all nodes but one; 0: for all.
func (w *World) replan(without uint64) {
	var ids []uint64
	for _, n := range w.nodes {
		if n.id != without {
			ids = append(ids, n.id)
		}
	}
	w.plan = placement.Next(w.plan, broker.Shards, ids, w.cfg.Replicas)
	w.note("world", "the shards shall be at %v", w.plan)
}

// move changes the plan now and then. Everybody hears of it in his own time.
func (w *World) move() {
	w.after(w.between(time.Second, 6*time.Second), func() {
		if w.peace {
			return
		}
		if !w.still() {
			w.shift()
		}
		w.move()
	})
}

// shift makes another plan.
func (w *World) shift() {
	w.replan(uint64(w.rng.IntN(len(w.nodes) + 1)))
	w.stats.Plans++
	plan := w.plan
	for _, n := range w.nodes {
		w.after(w.between(0, 2*time.Second), func() {
			if !w.still() {
				n.hear(plan)
			}
		})
	}
}

// hear is told where the shards shall be.
func (n *Node) hear(plan placement.Plan) {
	n.plan = plan
	if l := n.life; l != nil && l.host != nil {
		l.host.Wish(n.wish())
	}
}

// wish is what the node wishes, as far as it has heard; nothing where all have all.
func (n *Node) wish() (w cluster.Wish) {
	if n.plan == nil {
		return w
	}
	for _, o := range n.w.nodes {
		w.Members = append(w.Members, o.id)
	}
	w.Groups, w.Everywhere = n.plan, []int{0}
	return w
}

// founders are the nodes with whom the shards' groups begin.
func (w *World) founders() (ids []uint64) {
	for _, n := range w.nodes {
		if w.cfg.Replicas == 0 || len(ids) < w.cfg.Replicas {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// has reports whether a node shall have a shard.
func (w *World) has(n *Node, shard int) bool {
	return w.plan == nil || shard == 0 || slices.Contains(w.plan[shard], n.id)
}

// empty reports whether a node has nothing of a shard.
func (n *Node) empty(shard int) bool {
	if n.life == nil || n.life.host == nil {
		return false
	}
	all := n.life.host.Status()
	return len(all) > shard && len(all[shard].Voters) == 0
}
