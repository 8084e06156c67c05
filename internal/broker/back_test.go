package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// withGroups is a net of two nodes that have groups; the first leads them, in term 1. stubs are the groups in files of each.
func withGroups(t *testing.T, f func(ns *nodes, stubs [2][]*groupStub, p *peer)) {
	synctest.Test(t, func(t *testing.T) {
		var stubs [2][]*groupStub
		n := 0
		ns := newNodes(t, 2, func(o *Options) {
			storages, all := stubbed(1)
			o.Storages, o.Limits.Defaults.Storage = storages[:1], "file"
			o.Storages[0].Stored = "quorum"
			at := n
			open := o.Storages[0].Open
			o.Storages[0].Open = func(shard int, wake func()) journal.Journal {
				j := open(shard, wake)
				stubs[at] = all["file"]
				return j
			}
			n++
		})
		defer ns.close()
		for _, b := range ns.brokers {
			b.OnRole(func(shard int) {
				if ns.changed != nil {
					ns.changed(shard)
				}
			})
		}
		setRoles(stubs[1], journal.Role{Leader: 1, Term: 1})
		p := ns.peer(0)
		f(ns, stubs, p)
		p.s.Close()
	})
}

// wants takes replies, which must be these, by id, in whatever order the shards give them; publishes are into one queue and keep
// their order.
func (p *peer) wants(ids ...float64) {
	p.t.Helper()
	lines, last, before := p.take(), 0.0, 0.0
	got := map[float64]bool{}
	for _, line := range lines {
		m := parse(p.t, line)
		if m["ok"] != true {
			p.t.Errorf("refused: %s", line)
		}
		id := m["id"].(float64)
		got[id] = true
		if seq, is := m["seq"].(float64); is {
			if seq <= last || id <= before {
				p.t.Errorf("message %v with seq %v comes behind %v with %v: %q", id, seq, before, last, lines)
			}
			last, before = seq, id
		}
	}
	for _, id := range ids {
		if !got[id] {
			p.t.Errorf("no reply to %v: %q", id, lines)
		}
	}
	if len(lines) != len(ids) {
		p.t.Errorf("%d replies, want %d: %q", len(lines), len(ids), lines)
	}
}

// TestRefusedHereGoesOn: a client of the node that leads is told nothing of it when that is over and nothing of what was asked for has been kept: it is
// carried out when the node leads again, in order, acks, waiting receives and what changes queues included.
func TestRefusedHereGoesOn(t *testing.T) {
	withGroups(t, func(ns *nodes, stubs [2][]*groupStub, p *peer) {
		files := stubs[0]
		p.want(`{"op":"publish","id":1,"queue":"q","messages":[{"body":1},{"body":2}]}`, "stored", "quorum")
		out := p.ask(`{"op":"receive","id":2,"queue":"q","max":2}`)["messages"].([]any)
		receipt := func(i int) any { return out[i].(map[string]any)["receipt"] }
		p.want(`{"op":"queue.create","id":3,"queue":"e"}`, "ok", true)

		shelve(files, true)
		p.send(`{"op":"receive","id":10,"queue":"e","wait":"1m"}`, `{"op":"publish","id":11,"queue":"q","body":3}`, `{"op":"publish","id":12,"queue":"q","body":4}`,
			fmt.Sprintf(`{"op":"ack","id":13,"queue":"q","seq":[2,1],"receipt":["%s","%s"]}`, receipt(1), receipt(0)), `{"op":"queue.create","id":14,"queue":"new"}`)
		p.send(`{"op":"publish","id":15,"queue":"q","body":5}`)
		if got := p.take(); got != nil {
			t.Fatalf("before anything is kept: %q", got)
		}
		shelve(files, false)
		setRoles(files, journal.Role{Term: 2})
		p.send(`{"op":"publish","id":16,"queue":"q","body":6}`)
		pass(100 * time.Millisecond)
		if got := p.take(); got != nil {
			t.Fatalf("while nobody leads: %q", got)
		}
		setRoles(files, journal.Role{Leading: true, Leader: 1, Term: 3})
		pass(100 * time.Millisecond)
		p.wants(11, 12, 13, 14, 15, 16)
		p.want(`{"op":"queue.info","id":17,"queue":"q"}`, "counts.ready", 4.0)
		p.send(`{"op":"publish","id":18,"queue":"e","body":1}`)
		p.wants(10, 18)
	})
}

// TestOrderOverATermHere: what a session has posted for an earlier leadership of this node goes before what it posts for the next one.
func TestOrderOverATermHere(t *testing.T) {
	withGroups(t, func(ns *nodes, stubs [2][]*groupStub, p *peer) {
		p.want(`{"op":"publish","id":1,"queue":"q","body":1}`, "seq", 1.0)
		at := shardOf([]byte("q"))
		sh, free := ns.brokers[0].shards[at], make(chan struct{})
		go sh.call(func(*shard) { <-free })
		synctest.Wait()
		p.send(`{"op":"publish","id":2,"queue":"q","body":2}`)
		p.send(`{"op":"publish","id":3,"queue":"q","body":3}`)
		ns.changed = func(shard int) {
			if _, term, here := ns.brokers[0].leadership(at); shard == at && here && term == 3 { // the shard has not come to its inbox yet
				ns.changed = nil
				p.send(`{"op":"publish","id":4,"queue":"q","body":4}`)
			}
		}
		setRoles(stubs[0][at:at+1], journal.Role{Leading: true, Leader: 1, Term: 3})
		close(free)
		synctest.Wait()
		for id := 5; id < 8; id++ {
			p.send(fmt.Sprintf(`{"op":"publish","id":%d,"queue":"q","body":%d}`, id, id))
		}
		pass(100 * time.Millisecond)
		p.wants(2, 3, 4, 5, 6, 7)
	})
}

// TestRefusedHereGoesElsewhere: the next leader is another node.
func TestRefusedHereGoesElsewhere(t *testing.T) {
	withGroups(t, func(ns *nodes, stubs [2][]*groupStub, p *peer) {
		p.want(`{"op":"publish","id":1,"queue":"q","body":1}`, "seq", 1.0)
		shelve(stubs[0], true)
		p.send(`{"op":"publish","id":2,"queue":"q","body":2}`)
		p.send(`{"op":"publish","id":3,"queue":"q","body":3}`, `{"op":"receive","id":4,"queue":"empty","wait":"2s"}`)
		synctest.Wait()
		shelve(stubs[0], false)
		setRoles(stubs[0], journal.Role{Leader: 2, Term: 2})
		p.send(`{"op":"publish","id":5,"queue":"q","body":4}`)
		setRoles(stubs[1], journal.Role{Leading: true, Leader: 2, Term: 2})
		pass(100 * time.Millisecond)
		p.wants(2, 3, 5)
		pass(2 * time.Second)
		p.wants(4)
		if q := ns.brokers[1].shards[shardOf([]byte("q"))].stores[0].state.Queue("q"); q == nil || q.Counts.Ready != 3 {
			t.Errorf("the other node has %+v", q)
		}
	})
}

// shelve has what is proposed wait; then it is refused.
func shelve(all []*groupStub, on bool) {
	for _, g := range all {
		g.mu.Lock()
		g.shelved = on
		for _, b := range g.shelf {
			b.Err = journal.ErrNotLeading
		}
		g.no, g.shelf = append(g.no, g.shelf...), nil
		if !on {
			g.role.Leading = false
		}
		g.mu.Unlock()
		g.wake()
	}
}
