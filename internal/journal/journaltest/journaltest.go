// Package journaltest is the one suite that every journal passes.
//
// It knows the contract in package journal, and no journal.
package journaltest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// A Harness is an open storage with the journals of some shards.
type Harness struct {
	// Shards is how many there are, at least 4.
	Shards int
	// Journal is shard i's. It is asked for once.
	Journal func(i int, wake func()) journal.Journal
	// Close closes the storage, after the journals.
	Close func() error
	// Reopen opens it again after Close; nil where nothing outlives it.
	Reopen func(t *testing.T) *Harness
	// Bodiless says that a replay gives zeros for the bodies of what was added.
	Bodiless bool
	// Away takes the storage out of reach, and gives it back; nil where that cannot be.
	Away func(away bool)
}

// Run runs the suite. Open makes a new, empty storage, which wishes for a
// compaction after a few MiB of garbage.
func Run(t *testing.T, open func(t *testing.T) *Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Harness)
	}{
		{"verbatim", testVerbatim},
		{"order", testOrder},
		{"concurrent shards", testConcurrent},
		{"read many", testReadMany},
		{"held payloads", testHeld},
		{"compaction", testCompaction},
		{"replay", testReplay},
		{"unknown ref", testUnknownRef},
		{"close again", testCloseAgain},
		{"away", testAway},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func payloads() [][]byte {
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	return [][]byte{{}, {0}, {0xFF}, []byte("hello"), big, bytes.Repeat([]byte{0xFF, 0xFE}, 3000), {}, []byte("end")}
}

func testVerbatim(t *testing.T, h *Harness) {
	o := openOwner(t, h, 0)
	want := payloads()
	o.propose(want...)
	for _, p := range want {
		o.propose(p)
	}
	want = append(want, want...)
	refs := o.settle()
	equal(t, o.read(refs), want)
	for i, ref := range refs {
		equal(t, o.read([]journal.Ref{ref}), want[i:i+1])
	}
	shut(t, h, o)
}

func testOrder(t *testing.T, h *Harness) {
	o := openOwner(t, h, 1)
	var want [][]byte
	for i := range 3000 {
		var batch [][]byte
		for k := range i % 4 {
			batch = append(batch, fmt.Appendf(nil, "record %d of batch %d", k, i))
		}
		o.propose(batch...)
		want = append(want, batch...)
	}
	refs := o.settle()
	for i := 1; i < len(refs); i++ {
		if refs[i] <= refs[i-1] {
			t.Fatalf("ref %d is %d, after %d", i, refs[i], refs[i-1])
		}
	}
	equal(t, o.read(refs), want)
	shut(t, h, o)
}

func testConcurrent(t *testing.T, h *Harness) {
	owners := make([]*Owner, h.Shards)
	var wg sync.WaitGroup
	for i := range owners {
		owners[i] = openOwner(t, h, i)
		wg.Go(func() {
			o := owners[i]
			var want [][]byte
			var refs []journal.Ref
			for round := range 50 {
				for k := range 1 + (round+i)%8 {
					p := fmt.Appendf(nil, "shard %d round %d batch %d", i, round, k)
					o.propose(p, p)
					want = append(want, p, p)
				}
				refs = append(refs, o.settle()...)
			}
			equal(t, o.read(refs), want)
		})
	}
	wg.Wait()
	shut(t, h, owners...)
}

func testReadMany(t *testing.T, h *Harness) {
	o, other := openOwner(t, h, 0), openOwner(t, h, 2)
	var want [][]byte
	var refs []journal.Ref
	for i := range 2000 {
		p := bytes.Repeat([]byte{byte(i)}, i%3000)
		o.propose(p)
		other.propose([]byte("between"))
		want = append(want, p)
		if i%100 == 99 {
			refs = append(refs, o.settle()...)
			other.settle()
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	rnd.Shuffle(len(refs), func(a, b int) {
		refs[a], refs[b] = refs[b], refs[a]
		want[a], want[b] = want[b], want[a]
	})
	equal(t, o.read(refs), want)
	shut(t, h, o, other)
}

// fewer is how often to do something whose bytes the race detector, which looks at each of them, need not see so often.
func fewer(n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

// Payloads stay what they are as long as they are held.
func testHeld(t *testing.T, h *Harness) {
	o := openOwner(t, h, 0)
	o.propose([]byte("first"), []byte("second"))
	refs := o.settle()
	got := o.read(refs)
	spans := []journal.Span{{Ref: refs[0], Size: 5 + journal.HeaderBytes}, {Ref: refs[1], Size: 6 + journal.HeaderBytes}}
	o.j.Retain(spans)
	o.j.Release(spans)
	for range fewer(300) {
		o.propose(make([]byte, 64<<10))
		o.settle()
	}
	equal(t, got, [][]byte{[]byte("first"), []byte("second")})
	shut(t, h, o)
}

func testUnknownRef(t *testing.T, h *Harness) {
	o := openOwner(t, h, 0)
	o.propose([]byte("x"))
	refs := o.settle()
	for _, ref := range []journal.Ref{1, refs[0] + 1<<40, 1<<63 + 5} {
		if got, err := o.tryRead([]journal.Ref{ref}); err == nil {
			t.Errorf("ref %d: got %q, want an error", ref, got)
		}
	}
	shut(t, h, o)
}

func testCloseAgain(t *testing.T, h *Harness) {
	o := openOwner(t, h, 0)
	o.propose([]byte("x"))
	for range 2 {
		if err := o.j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// A compaction gives back what is garbage, and what is retained stays.
func testCompaction(t *testing.T, h *Harness) {
	var models []*Model
	for i := range h.Shards {
		models = append(models, NewModel(newOwner(t, h, i)))
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	m, written, compactions := models[0], 0, 0
	for compactions < 3 && written < 256<<20 {
		sizes := make([]int, 20)
		for i := range sizes {
			sizes[i] = rnd.IntN(20000)
			written += sizes[i]
		}
		m.Add(rnd, sizes...)
		m.Drop(19, rnd)
		for _, m := range models {
			m.Settle()
		}
		if m.Compactions > compactions {
			compactions = m.Compactions
			m.Verify(t)
		}
	}
	if compactions < 3 {
		t.Fatalf("%d compactions after %d bytes", compactions, written)
	}
	total, live := m.o.j.Used()
	if live < m.Bytes() || total < live {
		t.Errorf("used %d, live %d, of which %d are this shard's", total, live, m.Bytes())
	}
	closeModels(t, h, models)
}

// What is replayed after a restart is the state there was.
func testReplay(t *testing.T, h *Harness) {
	if h.Reopen == nil {
		t.Skip("nothing outlives this storage")
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	states := make([]map[uint64]entry, h.Shards)
	for restart := range 6 {
		var models []*Model
		for i := range h.Shards {
			m := NewModel(newOwner(t, h, i))
			if h.Bodiless {
				m.Forget()
			}
			m.MustEqual(t, states[i])
			m.Verify(t)
			models = append(models, m)
		}
		for range fewer(40) {
			for i, m := range models {
				if i == 3 {
					continue // idle: it must hold nothing up
				}
				m.Add(rnd, rnd.IntN(30000))
				m.Add(rnd, rnd.IntN(300), 0)
				m.Drop(rnd.IntN(3), rnd)
			}
			for _, m := range models {
				m.Settle()
			}
			if rnd.IntN(20) == 0 {
				models[rnd.IntN(len(models))].Snapshot()
			}
		}
		for i, m := range models {
			m.Verify(t)
			states[i] = m.state
		}
		closeModels(t, h, models)
		if restart < 5 {
			h = h.Reopen(t)
		}
	}
}

func closeModels(t *testing.T, h *Harness, models []*Model) {
	t.Helper()
	var owners []*Owner
	for _, m := range models {
		owners = append(owners, m.o)
	}
	shut(t, h, owners...)
}

func shut(t *testing.T, h *Harness, owners ...*Owner) {
	t.Helper()
	for _, o := range owners {
		if err := o.j.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func equal(t *testing.T, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d payloads, want %d", len(got), len(want))
		return
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("payload %d: %d bytes, want %d: %.20q", i, len(got[i]), len(want[i]), got[i])
			return
		}
	}
}

// Snapshot hands a state over in two pieces.
func Snapshot(j journal.Journal, data []byte) {
	w := j.Snapshot()
	w.Write(data[:len(data)/2])
	w.Write(data[len(data)/2:])
	w.Commit()
}
