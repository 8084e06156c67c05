package broker

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A groupStub is a journal with replicas whose role the test sets, and which gives back what it has kept when the test lets it.
type groupStub struct {
	*journal.Memory
	wake func()

	mu   sync.Mutex // guards the following
	role journal.Role
	told journal.Role // when something was given back last
	held bool
	no   []*journal.Batch

	shelved bool // what is proposed waits, and is refused then
	shelf   []*journal.Batch
}

func (g *groupStub) Propose(b *journal.Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shelved {
		g.shelf = append(g.shelf, b)
		return
	}
	if g.role.Leading {
		g.Memory.Propose(b)
		return
	}
	b.Err = journal.ErrNotLeading
	g.no = append(g.no, b)
	g.wake()
}

func (g *groupStub) Committed(into []*journal.Batch) []*journal.Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.told = g.role; g.held {
		return into
	}
	into, g.no = append(into, g.no...), nil
	return g.Memory.Committed(into)
}

func (g *groupStub) Role() journal.Role {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

func (g *groupStub) Image() journal.Image { return nil }

// stubbed are two storages of which each shard has a group, led by a node, and the groups' stubs by storage.
func stubbed(node uint64) ([]Storage, map[string][]*groupStub) {
	stubs, lead := map[string][]*groupStub{}, journal.Role{Leading: true, Leader: node, Term: 1}
	storage := func(name, stored string) Storage {
		return Storage{Name: name, Stored: stored, Replicated: true, Open: func(_ int, wake func()) journal.Journal {
			g := &groupStub{Memory: journal.NewMemory(journal.NewBudget(64<<20), wake), wake: wake, role: lead, told: lead}
			stubs[name] = append(stubs[name], g)
			return g
		}}
	}
	return []Storage{storage("file", "quorum"), storage("memory", "memory_quorum")}, stubs
}

// twoGroups is a broker of which each shard has two groups.
func twoGroups(t *testing.T) (*rig, map[string][]*groupStub) {
	r := &rig{t: t}
	storages, stubs := stubbed(1)
	var err error
	r.b, err = Start(Options{Version: "test", ID: 1, Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err },
		Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true, Defaults: queue.Settings{
			Storage: "file", Lease: 30 * time.Second, MaxDeliveries: 3, RetryMin: time.Second, RetryMax: time.Minute, RetryFactor: 2,
		}},
		Storages: storages,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, stubs
}

func setRoles(all []*groupStub, role journal.Role) {
	for _, g := range all {
		g.mu.Lock()
		g.role = role
		g.mu.Unlock()
		g.wake()
	}
	synctest.Wait()
}

func hold(all []*groupStub, held bool) {
	for _, g := range all {
		g.mu.Lock()
		g.held = held
		g.mu.Unlock()
		g.wake()
	}
	synctest.Wait()
}

// TestTwoGroupsOfAShard: a shard serves where both of its groups are led, and begins anew when one of them has been lost for a moment.
func TestTwoGroupsOfAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stubs := twoGroups(t)
		defer r.close()
		p := &peer{r, r.b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
		defer p.s.Close()
		lost := func(term uint64) { setRoles(stubs["memory"], journal.Role{Leader: 2, Term: term}) }
		won := func(term uint64) { setRoles(stubs["memory"], journal.Role{Leading: true, Leader: 1, Term: term}) }
		p.want(`{"op":"publish","id":1,"queue":"f","body":1}`, "stored", "quorum")
		p.want(`{"op":"queue.create","id":2,"queue":"m","storage":"memory"}`, "ok", true)
		p.want(`{"op":"publish","id":3,"queue":"m","body":1}`, "stored", "memory_quorum")
		receipt := func(id string) string {
			m := p.ask(`{"op":"receive","id":` + id + `,"queue":"f"}`)
			return m["messages"].([]any)[0].(map[string]any)["receipt"].(string)
		}
		first := receipt("4")

		lost(2)
		for _, name := range []string{"f", "m"} {
			p.want(`{"op":"publish","id":5,"queue":"`+name+`","body":2}`, "error.code", "no_quorum")
		}
		won(3)
		second := receipt("6")

		hold(stubs["file"], true)
		p.send(`{"op":"publish","id":7,"queue":"f","body":2}`)
		synctest.Wait()
		lost(4)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "unknown_outcome") {
			t.Fatal(got)
		}
		won(5)
		p.want(`{"op":"publish","id":8,"queue":"f","body":3}`, "error.code", "no_quorum") // what was proposed before is not back yet
		hold(stubs["file"], false)
		p.want(`{"op":"publish","id":9,"queue":"f","body":3}`, "seq", 3.0)
		if third := receipt("10"); first == second || second == third || third == first {
			t.Errorf("three leaderships give the receipts %s, %s, %s", first, second, third)
		}
	})
}

// TestServesWithoutMemory: where a shard's group in memory is led nowhere, the shard goes on with its files a second later, and with all when that
// group is there again. Of names that it does not know another storage may have a queue.
func TestServesWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stubs := twoGroups(t)
		defer r.close()
		p := &peer{r, r.b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
		defer p.s.Close()
		p.want(`{"op":"publish","id":1,"queue":"f","body":1}`, "stored", "quorum")
		p.want(`{"op":"queue.create","id":2,"queue":"m","storage":"memory"}`, "ok", true)
		p.want(`{"op":"publish","id":3,"queue":"m","body":1}`, "stored", "memory_quorum")

		setRoles(stubs["memory"], journal.Role{Term: 2})
		p.want(`{"op":"publish","id":4,"queue":"f","body":2}`, "error.code", "no_quorum")
		pass(time.Duration(partly))
		synctest.Wait()
		p.want(`{"op":"publish","id":5,"queue":"f","body":3}`, "seq", 2.0)
		for _, op := range []string{`"publish","body":1`, `"subscribe"`, `"receive"`, `"queue.info"`, `"queue.delete"`} {
			p.want(`{"op":`+op+`,"id":6,"queue":"m"}`, "error.code", "no_quorum")
			p.want(`{"op":`+op+`,"id":7,"queue":"unknown"}`, "error.code", "no_quorum")
		}
		p.want(`{"op":"queue.create","id":8,"queue":"unknown","storage":"file"}`, "error.code", "no_quorum")
		setRoles(stubs["memory"], journal.Role{Leader: 2, Term: 3}) // no concern of the files'
		hold(stubs["file"], true)
		p.send(`{"op":"publish","id":9,"queue":"f","body":4}`)
		setRoles(stubs["memory"], journal.Role{Leading: true, Leader: 1, Term: 4})
		hold(stubs["file"], false)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"seq":3`) {
			t.Fatal(got)
		}
		p.want(`{"op":"publish","id":10,"queue":"m","body":2}`, "seq", 2.0)
		p.want(`{"op":"publish","id":11,"queue":"unknown","body":2}`, "seq", 1.0)

		setRoles(stubs["file"], journal.Role{Leader: 2, Term: 2})
		pass(time.Duration(partly))
		synctest.Wait()
		for _, name := range []string{"f", "m"} {
			p.want(`{"op":"publish","id":12,"queue":"`+name+`","body":2}`, "error.code", "no_quorum")
		}
	})
}

// TestSubscriptionsOfAShardThatPauses: where the leader stays the same, and its shard has not served for a moment, clients at other nodes have their
// subscriptions, also those in storages that are served later.
func TestSubscriptionsOfAShardThatPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stubs map[string][]*groupStub
		ns := newNodes(t, 2, func(o *Options) {
			if o.ID == 2 {
				o.Storages, stubs = stubbed(2)
			}
		})
		defer ns.close()
		for shard := range Shards {
			ns.brokers[0].setLeader(shard, 2, 1, false)
		}
		p, at := ns.peer(0), ns.peer(1)
		defer p.s.Close()
		defer at.s.Close()
		for i, name := range []string{"file", "memory"} {
			at.want(`{"op":"queue.create","id":1,"queue":"`+name+`","storage":"`+name+`"}`, "ok", true)
			p.want(`{"op":"subscribe","id":2,"credit":9,"queue":"`+name+`"}`, "sub", float64(i+1))
		}
		arrives := func(name string, sub float64) {
			t.Helper()
			at.want(`{"op":"publish","id":3,"queue":"`+name+`","body":1}`, "ok", true)
			if got := p.take(); len(got) != 1 || parse(t, got[0])["sub"] != sub {
				t.Fatalf("%s: %q", name, got)
			}
		}
		arrives("file", 1)
		arrives("memory", 2)
		setRoles(stubs["memory"], journal.Role{Term: 1})
		pass(time.Duration(partly) + 2*restless)
		synctest.Wait()
		p.take() // what was leased comes again
		arrives("file", 1)
		setRoles(stubs["memory"], journal.Role{Leading: true, Leader: 2, Term: 2})
		pass(2 * restless)
		synctest.Wait()
		p.take()
		arrives("file", 1)
		arrives("memory", 2)
	})
}

// TestEphemeralStorage: the queues of subscriptions to topics are in a storage of their own, of which nobody sees anything.
func TestEphemeralStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t}
		open := func(_ int, wake func()) journal.Journal { return journal.NewMemory(journal.NewBudget(0), wake) }
		var err error
		r.b, err = Start(Options{Version: "test", Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err },
			Limits:   Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true, Defaults: queue.Settings{Storage: "memory", Lease: time.Minute}},
			Storages: []Storage{{Name: "memory", Stored: "memory", Open: open}, {Name: "ephemeral", Stored: "memory", Ephemeral: true, Open: open}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		p := &peer{r, r.b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
		p.want(`{"op":"subscribe","id":1,"topic":"a.*"}`, "ok", true)
		p.send(`{"op":"publish","id":2,"topic":"a.b","body":7}`)
		synctest.Wait()
		if got := strings.Join(p.take(), ""); !strings.Contains(got, `"body":7`) || !strings.Contains(got, `"id":2,"ok":true`) {
			t.Error(got)
		}
		for _, sh := range r.b.shards {
			sh.call(func(sh *shard) {
				if n := len(sh.byName["memory"].state.Queues()); n != 0 {
					t.Errorf("%d ephemeral queues are in memory", n)
				}
			})
		}
		info := p.ask(`{"op":"server.info","id":4}`)
		if usage := info["usage"].(map[string]any); len(info["storages"].([]any)) != 1 || len(usage) != 1 || usage["memory"] == nil {
			t.Errorf("storages %v, usage %v", info["storages"], usage)
		}
		p.s.Close()
	})
}
