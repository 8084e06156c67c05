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
}

func (g *groupStub) Propose(b *journal.Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
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

// twoGroups is a broker of which each shard has two groups, and their stubs by storage.
func twoGroups(t *testing.T) (*rig, map[string][]*groupStub) {
	r, stubs := &rig{t: t}, map[string][]*groupStub{}
	lead := journal.Role{Leading: true, Leader: 1, Term: 1}
	storage := func(name, stored string) Storage {
		return Storage{Name: name, Stored: stored, Replicated: true, Open: func(_ int, wake func()) journal.Journal {
			g := &groupStub{Memory: journal.NewMemory(journal.NewBudget(64<<20), wake), wake: wake, role: lead, told: lead}
			stubs[name] = append(stubs[name], g)
			return g
		}}
	}
	var err error
	r.b, err = Start(Options{Version: "test", ID: 1, Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err },
		Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true, Defaults: queue.Settings{
			Storage: "file", Lease: 30 * time.Second, MaxDeliveries: 3, RetryMin: time.Second, RetryMax: time.Minute, RetryFactor: 2,
		}},
		Storages: []Storage{storage("file", "quorum"), storage("memory", "memory_quorum")},
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
