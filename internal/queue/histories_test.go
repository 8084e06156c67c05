package queue

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

var (
	oneSeed  = flag.Uint64("seed", 0, "run TestHistories with this seed alone")
	newSeeds = flag.Int("new-seeds", 0, "run TestHistories with so many seeds that nobody has tried")
)

const (
	historyActions = 2000
	histories      = 255
)

// TestHistories: half a million random actions, three fifths of them on the State alone, the others on the
// State above each journal. The same ones each time, so that a failure is about what has changed;
// -new-seeds looks for others, and -seed replays the one that a failure names.
func TestHistories(t *testing.T) {
	t.Parallel()
	n, first := histories, uint64(1)
	if testing.Short() {
		n = 20
	}
	if *newSeeds != 0 {
		n, first = *newSeeds, uint64(rand.Uint32())
	}
	if *oneSeed != 0 {
		n, first = 1, *oneSeed
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // much is made, little is kept
	all := make([]history, n)
	t.Run("seed", func(t *testing.T) {
		for i := range all {
			seed := first + uint64(i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { all[i].run(t, seed) })
			})
		}
	})
	var sum history
	for i := range all {
		sum.deliver += all[i].deliver
		sum.inTurn += all[i].inTurn
		sum.redriven += all[i].redriven
		sum.compacted += all[i].compacted
		sum.doubts += all[i].doubts
	}
	t.Logf("%d actions: %d deliveries, %d of them of a key; %d redriven, %d compactions, %d power cuts in the middle of a batch",
		n*historyActions, sum.deliver, sum.inTurn, sum.redriven, sum.compacted, sum.doubts)
	if n > 1 && min(sum.deliver, sum.inTurn, sum.redriven, sum.compacted, sum.doubts) == 0 && !t.Failed() {
		t.Error("that is too little")
	}
}

func newHistory(t *testing.T, rnd *rand.Rand, is temper) history {
	return history{rig: newRig(t), rnd: rnd, model: model{queues: map[string]*mQueue{}}, temper: is}
}

// run is one history, in a bubble of its own: there the goroutines of a journal are done when Wait says so.
func (h *history) run(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	*h = newHistory(t, rnd, temperOf(seed, rnd))
	defer func() {
		p := recover()
		if p != nil || t.Failed() {
			t.Logf("again: go test ./internal/queue -run TestHistories -seed=%d", seed)
		}
		if h.j != nil {
			h.j.end()
		}
		*h = history{deliver: h.deliver, inTurn: h.inTurn, redriven: h.redriven, compacted: h.compacted, doubts: h.doubts}
		if p != nil {
			panic(p)
		}
	}()
	if h.storage != "" {
		h.j = newStorage(t, rnd, h.storage)
	}
	for step := range historyActions {
		h.act()
		h.compare(step)
	}
	if h.deliver == 0 {
		t.Error("nothing was delivered in the whole history")
	}
}

// A temper is what a history is like; its seed decides.
type temper struct {
	storage string
	keys    int // how many there are, 0: none
	keyed   int // one message in so many has one
	body    int // bytes, at most
}

func temperOf(seed uint64, rnd *rand.Rand) temper {
	t := temper{storage: [...]string{"", "", "", "memory", "file"}[seed%5], body: 40}
	t.keys = [...]int{0, 1, 2, 3, 5, 9, 60}[rnd.IntN(7)]
	t.keyed = 1 + rnd.IntN(3)
	if t.storage == "memory" { // which compacts only what is worth it
		t.body = 5000
	}
	return t
}

// commit keeps what is pending, a few proposals in one batch, and carries it out.
func (h *history) commit() {
	for len(h.pending) > 0 {
		n := 1 + h.rnd.IntN(len(h.pending))
		some := h.pending[:n]
		spans := h.keep(recordsOf(some))
		h.pending = h.pending[n:]
		for _, p := range some {
			outs := make([]Outcome, len(p.records))
			for i, record := range p.records {
				outs[i] = h.carryOut(spans[i], record)
			}
			h.expected(p, spans[:len(outs)], outs)
			spans = spans[len(outs):]
		}
	}
	h.compact()
}

func recordsOf(ps []proposal) (records [][]byte) {
	for _, p := range ps {
		records = append(records, p.records...)
	}
	return records
}

// expected compares what has become of a proposal with what becomes of it in the model.
func (h *history) expected(p proposal, spans []Span, outs []Outcome) {
	h.places, h.clock = spans, max(h.clock, p.at)
	if p.each != nil {
		p.each(outs)
		return
	}
	for i, out := range outs {
		if out.Pending != (i < len(outs)-1) {
			h.Fatalf("record %d of %d: %+v", i, len(outs), out)
		}
	}
	p.expect(outs[len(outs)-1])
}
