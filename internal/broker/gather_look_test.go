package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// What operators see is the same on every node: leases, consumers and deliveries are as the queue's leader knows them.
func TestLookOverLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		for shard := range Shards {
			ns.lead(shard, shard%3, 1)
		}
		p := ns.peer(0)
		for i := range 20 {
			p.want(fmt.Sprintf(`{"op":"publish","id":1,"queue":"q%02d","messages":[{"body":1},{"body":2},{"body":3}]}`, i), "stored", "memory")
			p.send(fmt.Sprintf(`{"op":"subscribe","id":2,"queue":"q%02d","credit":2}`, i))
			p.take()
		}
		synctest.Wait()
		elsewhere := 0
		for i := range 20 {
			name := fmt.Sprintf("q%02d", i)
			leader, here := ns.brokers[0].LeaderOf(name)
			if !here {
				elsewhere++
			}
			if consumers := ns.brokers[0].ConsumersOf(name, 10); len(consumers) != 1 || consumers[0].Credit != 2 || consumers[0].Leased != 2 || consumers[0].Auto || consumers[0].Waiting {
				t.Errorf("consumers of %s, led by %d: %+v", name, leader, consumers)
			}
		}
		if elsewhere == 0 {
			t.Fatal("node 0 leads all")
		}
		// In memory the nodes share nothing, so of what others lead there is nothing here to add to; it is given as a replica would have it.
		mine := ns.brokers[0].Queues("")
		for node := 1; node < 3; node++ {
			for _, q := range ns.brokers[node].Queues("") {
				known := q
				known.Counts.Ready, known.Counts.Leased, known.Consumers, known.Delivered = 3, 0, 0, 0
				all := append(append([]QueueStats(nil), QueueStats{Name: "a"}), known)
				g := Guest{b: ns.brokers[node]}
				ns.brokers[0].addTold(all, uint64(node+1), g.tellQueues())
				if got := all[1]; got.Counts.Ready != 1 || got.Counts.Leased != 2 || got.Consumers != 1 || got.Delivered != 2 {
					t.Errorf("%s, as node %d tells: %+v", q.Name, node, got)
				}
				ns.brokers[0].addTold(all[:1], uint64(node+1), g.tellQueues()) // new there, and not here yet
			}
		}
		if all := ns.brokers[0].Look(); len(all) != len(mine) {
			t.Errorf("%d queues, not %d", len(all), len(mine))
		}
		ns.disconnect(0, 1)
		ns.brokers[0].Look()
	})
}
