package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/mysqljournal/tenure"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A common storage is what nodes have in turn: all records that have been kept there, by shard.
type common struct {
	mu   sync.Mutex // guards the following
	kept [Shards][]kindred
	down error
}

// A kindred record is where it lies and what it is.
type kindred struct {
	ref     journal.Ref
	payload []byte
}

func (c *common) set(down error) {
	c.mu.Lock()
	c.down = down
	c.mu.Unlock()
}

func (c *common) open(context.Context) (tenure.Tables, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return nil, c.down
	}
	return &turnAt{c}, nil
}

// A turnAt is a node's turn at it.
type turnAt struct{ c *common }

func (t *turnAt) Shard(i int, wake func()) journal.Journal {
	return &turnOf{Memory: journal.NewMemory(journal.NewBudget(0), wake), c: t.c, i: i}
}
func (t *turnAt) Spread(*journal.Batch) {}
func (t *turnAt) Share()                {}
func (t *turnAt) Failed() error         { return nil }
func (t *turnAt) Leave() error          { return nil }
func (t *turnAt) Close() error          { return nil }

// A turnOf is a shard of it. Places are counted from the first record that was ever kept.
type turnOf struct {
	*journal.Memory
	c    *common
	i    int
	done []*journal.Batch
}

func (t *turnOf) Replay(_ func([]byte) error, record func(journal.Ref, []byte) error) error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	for _, k := range t.c.kept[t.i] {
		if err := record(k.ref, k.payload); err != nil {
			return err
		}
	}
	return nil
}

func (t *turnOf) Propose(b *journal.Batch) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	base := journal.Ref(1 << 32)
	if n := len(t.c.kept[t.i]); n > 0 {
		last := t.c.kept[t.i][n-1]
		base = last.ref + journal.Ref(len(last.payload)+journal.HeaderBytes)
	}
	b.Base, b.Err = base, nil
	for off := 0; off < len(b.Data); {
		payload, next := journal.NextRecord(b.Data, off)
		t.c.kept[t.i] = append(t.c.kept[t.i], kindred{base + journal.Ref(off), slices.Clone(payload)})
		off = next
	}
	t.done = append(t.done, b)
}

func (t *turnOf) Committed(into []*journal.Batch) []*journal.Batch {
	into, t.done = append(into, t.done...), nil
	return into
}

func (t *turnOf) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	for _, ref := range refs {
		at := slices.IndexFunc(t.c.kept[t.i], func(k kindred) bool { return k.ref == ref })
		if at < 0 {
			return into, errors.New("no such record")
		}
		into = append(into, t.c.kept[t.i][at].payload)
	}
	return into, nil
}

func (t *turnOf) Retain([]journal.Span)       {}
func (t *turnOf) Release([]journal.Span)      {}
func (t *turnOf) Recycle(*journal.Batch) bool { return true }

// A turnNode is a broker with queues in files, of a group that the test leads, and in the common storage.
type turnNode struct {
	*peer
	h      *tenure.Holder
	groups []*groupStub
	id     uint64
}

func newTurnNode(t *testing.T, id uint64, c *common) *turnNode {
	n := &turnNode{id: id}
	n.h = tenure.New(tenure.Options{Shards: Shards, Node: id, Open: c.open, Lost: func(error) bool { return false }, Logf: t.Logf})
	n.h.Share()
	r := &rig{t: t}
	storages := []Storage{
		{Name: "file", Stored: "quorum", Replicated: true, Open: func(_ int, wake func()) journal.Journal {
			g := &groupStub{Memory: journal.NewMemory(journal.NewBudget(64<<20), wake), wake: wake}
			n.groups = append(n.groups, g)
			return g
		}},
		{Name: "mysql", Stored: "mysql", Remote: true, Replicated: true, Open: n.h.Shard},
	}
	var err error
	r.b, err = Start(Options{Version: "test", ID: id, Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err }, Storages: storages,
		Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true, Defaults: queue.Settings{
			Storage: "file", Lease: 30 * time.Second, MaxDeliveries: 3, RetryMin: time.Second, RetryMax: time.Minute, RetryFactor: 2,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.peer = &peer{r, r.b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
	return n
}

// led tells the node who leads; blind, for so long that it goes on without the storage where that cannot be had.
func (n *turnNode) led(by, term uint64, blind bool) {
	setRoles(n.groups, journal.Role{Leading: by == n.id, Leader: by, Term: term})
	ticks := 1
	if blind {
		ticks = 200
	}
	for range ticks {
		n.h.Tick(by, term, nil)
	}
	synctest.Wait()
}

func (n *turnNode) end() {
	n.s.Close()
	n.close()
	if err := n.h.Close(); err != nil {
		n.t.Error(err)
	}
}

// TestInTurn: a node that gets a storage that others had goes on with what is in it, and one that has lost it has nothing of it.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &common{}
		one, two := newTurnNode(t, 1, c), newTurnNode(t, 2, c)
		defer one.end()
		defer two.end()
		one.led(1, 5, false)
		two.led(1, 5, false)
		one.want(`{"op":"queue.create","id":1,"queue":"m","storage":"mysql"}`, "ok", true)
		one.want(`{"op":"queue.bind","id":2,"queue":"m","topic":"a.*"}`, "ok", true)
		one.want(`{"op":"publish","id":3,"queue":"m","messages":[{"body":1},{"body":2},{"body":3}]}`, "stored", "mysql")
		first := one.ask(`{"op":"receive","id":4,"queue":"m"}`)["messages"].([]any)[0].(map[string]any)["receipt"].(string)
		one.want(`{"op":"ack","id":5,"queue":"m","seq":1,"receipt":"`+first+`"}`, "settled", 1.0)
		two.want(`{"op":"publish","id":6,"queue":"m","body":4}`, "error.code", "no_quorum")

		one.led(2, 6, false)
		two.led(2, 6, false)
		one.want(`{"op":"publish","id":7,"queue":"m","body":4}`, "error.code", "no_quorum")
		if got := one.b.Queues(""); len(got) != 0 {
			t.Errorf("who has lost the storage still has %v", got)
		}
		two.want(`{"op":"publish","id":8,"queue":"m","body":4}`, "seq", 4.0)
		two.wantBodies("m", "2 3 4")
		two.want(`{"op":"publish","id":9,"topic":"a.b","body":5}`, "ok", true)

		two.led(1, 7, false)
		one.led(1, 7, false)
		one.want(`{"op":"ack","id":10,"queue":"m","seq":1,"receipt":"`+first+`"}`, "settled", 0.0)
		one.wantBodies("m", "5")
		one.want(`{"op":"publish","id":11,"topic":"a.b","body":6}`, "ok", true)
		one.wantBodies("m", "6")
	})
}

// TestLeadingWithout: a node that leads and cannot have the storage serves the others, and nothing that may be in that one.
func TestLeadingWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &common{}
		one := newTurnNode(t, 1, c)
		defer one.end()
		one.led(1, 5, false)
		one.want(`{"op":"queue.create","id":1,"queue":"m","storage":"mysql"}`, "ok", true)
		one.want(`{"op":"publish","id":2,"queue":"m","body":1}`, "stored", "mysql")
		one.want(`{"op":"publish","id":3,"queue":"f","body":1}`, "stored", "quorum")
		c.set(errors.New("it is away"))
		one.led(2, 6, false)
		one.led(1, 7, false)
		one.want(`{"op":"publish","id":4,"queue":"f","body":2}`, "error.code", "no_quorum")
		one.led(1, 7, true)
		one.want(`{"op":"publish","id":5,"queue":"f","body":2}`, "stored", "quorum")
		for _, line := range []string{
			`{"op":"publish","id":6,"queue":"m","body":2}`,
			`{"op":"publish","id":6,"queue":"unseen","body":2}`,
			`{"op":"receive","id":6,"queue":"m"}`,
			`{"op":"subscribe","id":6,"queue":"m","credit":1}`,
			`{"op":"queue.info","id":6,"queue":"m"}`,
			`{"op":"queue.create","id":6,"queue":"m","storage":"file"}`,
			`{"op":"queue.delete","id":6,"queue":"m"}`,
			`{"op":"ack","id":6,"queue":"m","seq":1}`,
		} {
			if got := one.ask(line); got["error"] == nil || got["error"].(map[string]any)["code"] != "overloaded" || !strings.Contains(line+got["error"].(map[string]any)["message"].(string), "away") {
				t.Errorf("%s: %v", line, got)
			}
		}
		if f := one.b.unsure(); f == nil {
			t.Error("a publish to a topic would go on")
		}
		one.wantBodies("f", "1 2")
		c.set(nil)
		<-time.After(2 * time.Second)
		synctest.Wait()
		one.want(`{"op":"publish","id":7,"queue":"m","body":2}`, "seq", 2.0)
		one.wantBodies("m", "1 2")
		one.want(`{"op":"publish","id":8,"queue":"unseen","body":2}`, "stored", "quorum")
	})
}
