package broker

import (
	"cmp"
	"slices"

	"github.com/gmq/gmq/internal/queue"
)

// A ConsumerStats is what can be said of one consumer from outside.
type ConsumerStats struct {
	Client  string // as whom it said hello, and where it is
	Sub     uint64 // 0 for a receive that waits
	Credit  int    // messages that it may have at a time
	Leased  int    // those that it has
	Auto    bool   // its deliveries are settled by being delivered
	Waiting bool   // a receive, and no subscription
}

// Consumers are the consumers of a queue, in order of their clients, as many as most.
func (b *Broker) Consumers(name string, most int) []ConsumerStats {
	var all []ConsumerStats
	b.shards[shardOf([]byte(name))].call(func(sh *shard) {
		for _, st := range sh.stores {
			q := st.state.Queue(name)
			if q == nil {
				continue
			}
			listed := q.Listed()
			for _, c := range listed[:min(len(listed), most)] {
				is := ConsumerStats{Credit: c.Limit, Leased: c.Leased(), Auto: c.Auto, Waiting: c.Until != 0}
				switch t := c.Tag.(type) {
				case *tag:
					is.Client, is.Sub = t.s.name(), t.sub
				case *waiter:
					is.Client = t.s.name()
				}
				all = append(all, is)
			}
		}
	})
	slices.SortFunc(all, func(a, b ConsumerStats) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Sub, b.Sub))
	})
	return all
}

// A Binding is a queue with a pattern that it is bound to.
type Binding struct{ Queue, Pattern string }

// Bindings are those of all queues but ephemeral ones, in order of their patterns; with a topic, only those that match it.
func (b *Broker) Bindings(topic string) []Binding {
	var all []Binding
	b.each(func(sh *shard) {
		for _, st := range sh.stores {
			for _, q := range st.state.Queues() {
				if queue.Ephemeral(q.Name) {
					continue
				}
				for _, pattern := range q.Bindings {
					all = append(all, Binding{q.Name, pattern})
				}
			}
		}
	})
	if topic != "" {
		var tree queue.Topics[int]
		for i := range all {
			tree.Bind(all[i].Pattern, i)
		}
		var matching []Binding
		for _, i := range tree.Match([]byte(topic), nil) {
			matching = append(matching, all[i])
		}
		all = matching
	}
	slices.SortFunc(all, func(a, b Binding) int {
		return cmp.Or(cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Queue, b.Queue))
	})
	return all
}
