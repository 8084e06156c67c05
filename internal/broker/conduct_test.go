package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// spread lets each node lead a third of the shards.
func (ns *nodes) spread(term uint64) {
	for shard := range Shards {
		ns.lead(shard, shard%len(ns.brokers), term)
	}
}

// queueAt is the name of a queue whose shard node i leads after spread.
func (ns *nodes) queueAt(i, n int) string {
	for k := 0; ; k++ {
		name := fmt.Sprintf("q%d-%d", n, k)
		if shardOf([]byte(name))%len(ns.brokers) == i {
			return name
		}
	}
}

func TestTopicsOverLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.spread(1)
		p, other := ns.peer(0), ns.peer(1)
		var names []string
		for i := range 3 {
			name := ns.queueAt(i, i)
			names = append(names, name)
			p.want(fmt.Sprintf(`{"op":"queue.create","id":1,"queue":"%s","max_messages":3}`, name), "ok", true)
			p.want(fmt.Sprintf(`{"op":"queue.bind","id":1,"queue":"%s","topic":"a.*"}`, name), "ok", true)
		}
		other.want(`{"op":"subscribe","id":1,"topic":"a.>","credit":10}`, "sub", 1.0)
		if got := p.ask(`{"op":"publish","id":2,"topic":"a.b","body":1,"dedup_id":"x"}`); got["queues"] != 4.0 || got["stored"] != "memory" || got["duplicate"] != nil {
			t.Fatal(got)
		}
		if got := other.take(); len(got) != 1 || !strings.Contains(got[0], `"topic":"a.b"`) {
			t.Fatal(got)
		}
		if got := p.ask(`{"op":"publish","id":2,"topic":"a.b","messages":[{"body":2},{"body":3}]}`); got["queues"] != 4.0 {
			t.Fatal(got)
		}
		if got := p.ask(`{"op":"publish","id":2,"topic":"b","body":1}`); got["queues"] != 0.0 || got["ok"] != true {
			t.Fatal(got)
		}
		p.want(fmt.Sprintf(`{"op":"queue.purge","id":2,"queue":"%s"}`, names[0]), "purged", 3.0)
		got := p.ask(`{"op":"publish","id":3,"topic":"a.b","body":4}`) // two are full: nobody takes it
		if e := got["error"].(map[string]any); e["code"] != "queue_full" {
			t.Fatal(got)
		}
		p.want(fmt.Sprintf(`{"op":"queue.info","queue":"%s"}`, names[0]), "counts.ready", 0.0)
		other.take()
		p.want(`{"op":"publish","id":4,"topic":"c","body":5}`, "queues", 0.0)
		if got := other.take(); got != nil {
			t.Fatal(got)
		}
		for i, b := range ns.brokers {
			for _, sh := range b.shards {
				sh.call(func(sh *shard) {
					for _, st := range sh.stores {
						for _, q := range st.state.Queues() {
							if q.Proposed != 0 || q.Promised != 0 {
								t.Errorf("node %d: room in %s is still claimed", i, q.Name)
							}
						}
					}
				})
			}
			if n := b.working.Load(); n != 0 {
				t.Errorf("node %d: %d requests are left", i, n)
			}
		}
		p.s.Close()
		other.s.Close()
	})
}

// TestTopicsKeepTheirOrder among publishes to queues of the same connection (R92).
func TestTopicsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.spread(1)
		p := ns.peer(0)
		for i := range 3 {
			p.want(fmt.Sprintf(`{"op":"queue.create","id":1,"queue":"%s"}`, ns.queueAt(i, i)), "ok", true)
			p.want(fmt.Sprintf(`{"op":"queue.bind","id":1,"queue":"%s","topic":"a"}`, ns.queueAt(i, i)), "ok", true)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; n < 30; n += 2 {
				p.send(fmt.Sprintf(`{"op":"publish","quiet":true,"topic":"a","body":%d}`, n))
				for i := range 3 {
					p.send(fmt.Sprintf(`{"op":"publish","quiet":true,"queue":"%s","body":%d}`, ns.queueAt(i, i), n+1))
				}
			}
		}()
		<-done
		synctest.Wait()
		for i := range 3 {
			got := p.ask(fmt.Sprintf(`{"op":"receive","id":1,"queue":"%s","max":100}`, ns.queueAt(i, i)))["messages"].([]any)
			if len(got) != 30 {
				t.Fatalf("%d messages", len(got))
			}
			for n, m := range got {
				if m.(map[string]any)["body"] != float64(n) {
					t.Fatalf("message %d is %v", n, m)
				}
			}
		}
		p.s.Close()
	})
}

func TestTopicsWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.spread(1)
		p := ns.peer(0)
		name := ns.queueAt(0, 0)
		p.want(fmt.Sprintf(`{"op":"queue.create","id":1,"queue":"%s"}`, name), "ok", true)
		p.want(fmt.Sprintf(`{"op":"queue.bind","id":1,"queue":"%s","topic":"a"}`, name), "ok", true)
		ns.disconnect(0, 2)
		p.send(`{"op":"publish","id":2,"topic":"a","body":1}`)
		pass(1900 * time.Millisecond)
		if got := p.take(); got != nil {
			t.Fatal(got)
		}
		pass(200 * time.Millisecond)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "no_quorum") {
			t.Fatal(got)
		}
		p.send(`{"op":"publish","id":3,"topic":"a","body":1}`)
		pass(500 * time.Millisecond)
		for shard := range Shards {
			if shard%3 == 2 {
				ns.lead(shard, 1, 2)
			}
		}
		pass(100 * time.Millisecond)
		if got := p.take(); len(got) != 1 || parse(t, got[0])["queues"] != 1.0 {
			t.Fatal(got)
		}
		p.s.Close()
	})
}

// TestTopicsLoseANode: what it has taken nobody knows.
func TestTopicsLoseANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.spread(1)
		p := ns.peer(0)
		name := ns.queueAt(2, 2)
		p.want(fmt.Sprintf(`{"op":"queue.create","id":1,"queue":"%s"}`, name), "ok", true)
		p.want(fmt.Sprintf(`{"op":"queue.bind","id":1,"queue":"%s","topic":"a"}`, name), "ok", true)
		ns.cables[[2]int{0, 2}].back.hold(true)
		p.send(`{"op":"publish","id":2,"topic":"a","body":1}`)
		synctest.Wait()
		back := ns.cables[[2]int{0, 2}].back
		back.mu.Lock()
		back.queue = back.queue[:0]
		back.mu.Unlock()
		ns.brokers[0].forward.caller(3).Receive(claimedBy(ns, 2)) // its claim is heard, and no word after it
		ns.disconnect(0, 2)
		synctest.Wait()
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "unknown_outcome") {
			t.Fatal(got)
		}
		p.s.Close()
	})
}

// claimedBy is what node i says of its claim for the one part that another waits for.
func claimedBy(ns *nodes, i int) []byte {
	c := ns.brokers[0].forward.caller(uint64(i + 1))
	c.mu.Lock()
	defer c.mu.Unlock()
	var leads uint64
	for shard := range Shards {
		if shard%3 == i {
			leads |= 1 << shard
		}
	}
	for number := range c.parts {
		m := appendUvarint(appendUvarint([]byte{sayClaimed}, number), leads)
		return appendRefusal(appendUvarint(m, 1), nil, "")
	}
	return nil
}
