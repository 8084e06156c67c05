package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// TestLeaders: who leads is told as the node knows it, and the group of a queue as all nodes do.
func TestLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, func(o *Options) {
			o.Clients = func(yield func(uint64, string) bool) {
				for _, node := range []uint64{1, 2} { // clients cannot reach the third
					if !yield(node, fmt.Sprintf("host-%d:4567", node)) {
						return
					}
				}
			}
		})
		defer ns.close()
		p := ns.peer(0)
		group := shardOf([]byte("q"))
		for term, at := range []string{"host-1:4567", "host-2:4567", ""} {
			ns.lead(group, term, uint64(term+1))
			for _, line := range []string{`{"op":"cluster.leaders","id":1}`, `{"op":"cluster.leaders","id":1,"queue":"q"}`, `{"op":"cluster.leaders","id":1,"queue":"q.dlq"}`} {
				got := p.ask(line)
				all, _ := got["leaders"].([]any)
				if len(all) != Shards || all[group] != at {
					t.Errorf("%s says %v, want %q", line, got, at)
				}
				if g, there := got["group"]; there != strings.Contains(line, "queue") || there && g != float64(group) {
					t.Errorf("%s says %v, want group %d", line, got, group)
				}
			}
		}
		p.send(`{"op":"cluster.leaders","id":1,"quiet":true}`)
		if got := p.take(); got != nil {
			t.Error(got)
		}
		p.s.Close()
	})
}

// TestDrainOverNodes: what is on its way to a subscription that is drained comes before the reply, wherever its queue is led; another leader
// does not take it up again, and its end returns what it has.
func TestDrainOverNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		for i, at := range []int{1, 0} { // another node, and the session's own
			ns.leadAll(at, uint64(3*i+1))
			p, other := ns.peer(0), ns.peer(2)
			p.want(`{"op":"subscribe","id":1,"queue":"q","credit":9}`, "sub", 1.0)
			other.want(`{"op":"publish","id":1,"queue":"q","messages":[{"body":1},{"body":2}]}`, "ok", true)
			cable := ns.cables[[2]int{0, 1}]
			cable.back.hold(true)
			other.want(`{"op":"publish","id":1,"queue":"q","body":3}`, "ok", true)
			p.send(`{"op":"unsubscribe","id":2,"sub":1,"drain":true}`)
			synctest.Wait()
			cable.back.hold(false)
			got := p.take()
			if len(got) != 4 || !strings.Contains(got[2], `"seq":3,`) || got[3] != `{"id":2,"ok":true}` {
				t.Fatalf("led by node %d: %q", at, got)
			}
			other.want(`{"op":"publish","id":1,"queue":"q","body":4}`, "ok", true)
			p.want(`{"op":"ack","id":3,"queue":"q","seq":1}`, "settled", 1.0)
			p.want(`{"op":"extend","id":3,"queue":"q","seq":2,"lease":"1h"}`, "ok", true)
			other.want(`{"op":"queue.info","id":1,"queue":"q"}`, "counts.leased", 2.0)
			p.want(`{"op":"unsubscribe","id":4,"sub":1}`, "ok", true)
			other.want(`{"op":"queue.info","id":1,"queue":"q"}`, "counts.leased", 0.0)
			p.want(`{"op":"unsubscribe","id":4,"sub":1}`, "error.code", "not_found")

			p.want(`{"op":"subscribe","id":5,"queue":"r"}`, "sub", 2.0)
			p.want(`{"op":"unsubscribe","id":6,"sub":2,"drain":true}`, "ok", true)
			for term, at := range []int{2, 0} {
				ns.leadAll(at, uint64(3*i+2+term))
				other.want(`{"op":"publish","id":1,"queue":"r","body":1}`, "ok", true)
				if got := p.take(); got != nil {
					t.Errorf("node %d has taken it up: %q", at, got)
				}
			}
			p.want(`{"op":"unsubscribe","id":7,"sub":2}`, "error.code", "not_found")
			p.s.Close()
			other.s.Close()
			synctest.Wait()
		}
	})
}

// TestDrainOfALostLeader: a subscription that is lost with its leader before the answer is drained at the next one.
func TestDrainOfALostLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p, other := ns.peer(0), ns.peer(2)
		p.want(`{"op":"subscribe","id":1,"queue":"q"}`, "sub", 1.0)
		ns.cables[[2]int{0, 1}].back.hold(true)
		p.send(`{"op":"unsubscribe","id":2,"sub":1,"drain":true}`)
		synctest.Wait()
		ns.leadAll(2, 2)
		ns.disconnect(0, 1)
		pass(restless * 10)
		if got := p.take(); !slices.Equal(got, []string{`{"id":2,"ok":true}`}) {
			t.Fatalf("%q", got)
		}
		other.want(`{"op":"publish","id":1,"queue":"q","body":1}`, "ok", true)
		if got := p.take(); got != nil {
			t.Errorf("%q", got)
		}
		other.want(`{"op":"queue.info","id":1,"queue":"q"}`, "consumers", 0.0)
		p.s.Close()
		other.s.Close()
	})
}
