package queue

import (
	"bytes"
	"slices"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
)

// reboot restarts. The state is the same but for what is the owner's, whichever way it was read.
func (h *history) reboot() {
	h.copying = nil // with the process
	if h.chance(2) {
		h.pending = nil // they never came to be
	}
	var onTheirWay []proposal
	if n := len(h.pending); h.storage == "file" && n > 0 && h.chance(2) {
		n = h.rnd.IntN(n)
		h.pending, onTheirWay = h.pending[:n:n], h.pending[n:]
	}
	h.commit()
	h.st.Due(h.now)
	before := h.st.AppendSnapshot(nil)
	if len(onTheirWay) > 0 {
		h.doubts++
		h.j.breakOff(recordsOf(onTheirWay))
	}
	if h.j == nil {
		h.restart(!h.chance(4))
	} else if h.restartStorage(onTheirWay) {
		before = nil
	}
	h.consumers = nil
	h.reborn(h.now)
	if h.storage == "memory" {
		before = New(1).AppendSnapshot(nil)
		h.model = model{queues: map[string]*mQueue{}}
	}
	if after := h.st.AppendSnapshot(nil); before != nil && !bytes.Equal(before, after) {
		h.Fatal("after a restart the state is another")
	}
	h.compareMessages()
	h.ends()
}

// restartStorage says whether what was on its way when the power failed was kept.
func (h *history) restartStorage(onTheirWay []proposal) bool {
	h.j.end()
	h.boot++
	h.st = New(h.boot)
	clear(h.live)
	clear(h.parts)
	found := h.j.begin(h.st, h.retain)
	records := recordsOf(onTheirWay)
	same := func(a late, b []byte) bool { return bytes.Equal(a.record, b) }
	if len(found) > 0 && !slices.EqualFunc(found, records, same) {
		h.Fatalf("of a batch of %d records %d are kept, or others", len(records), len(found))
	}
	h.consumers = nil
	for _, p := range onTheirWay {
		if len(found) == 0 {
			break
		}
		var spans []Span
		var outs []Outcome
		for _, f := range found[:len(p.records)] {
			spans, outs = append(spans, f.span), append(outs, f.out)
			h.j.last = f.span.Ref
		}
		found = found[len(outs):]
		h.expected(p, spans, outs)
	}
	h.st.Due(h.now)
	return len(onTheirWay) > 0
}

// A copying is a snapshot that is being written while the history goes on, and what is to be moved then.
type copying struct {
	state *Snapshot
	data  []byte
	upTo  int              // how many records of the log it has
	to    journal.Snapshot // nil where there is no journal
	moves []moving
}

type moving struct {
	q   *Queue
	seq uint64
	ref Ref
}

// snap begins a snapshot that nobody has asked for.
func (h *history) snap(*mQueue) {
	if h.copying == nil {
		h.copyState(nil)
	}
}

func (h *history) copyState(sparse func(Ref) bool) {
	c := &copying{upTo: len(h.log)}
	c.state = h.st.BeginSnapshot(sparse, func(q *Queue, seq uint64, s Span) { c.moves = append(c.moves, moving{q, seq, s.Ref}) })
	if h.j != nil {
		c.to = h.j.j.Snapshot()
	}
	h.copying = c
}

// compact goes on with a snapshot, and begins the one that a journal wishes for. When that is, is the journal's own affair, and
// must not change what happens next: there is no chance in it.
func (h *history) compact() {
	if h.j != nil && h.copying == nil {
		if want, ok := h.j.j.Compact(); ok {
			h.compacted++
			h.copyState(func(r Ref) bool { return want.Sparse(journal.Ref(r)) })
		}
	}
	c := h.copying
	if c == nil {
		return
	}
	if h.st.snap != c.state { // there was another
		h.copying = nil
		return
	}
	piece, done := c.state.Next(nil, 700)
	if c.to != nil {
		c.to.Write(piece)
	} else {
		c.data = append(c.data, piece...)
	}
	if !done {
		return
	}
	h.copying = nil
	if c.to == nil {
		h.rig.snap, h.snapAt = c.data, c.upTo
		return
	}
	c.to.Commit()
	synctest.Wait()
	for _, m := range c.moves {
		h.renew(m)
	}
}

// renew writes a record once more that lies in a sparse segment.
func (h *history) renew(m moving) {
	if _, now := m.q.find(m.seq); now == nil || now.ref != m.ref {
		return // it has gone meanwhile
	}
	rec, err := AppendRelocate(nil, m.q.ID, m.seq, h.recordAt(m.ref))
	if err != nil {
		h.Fatal(err)
	}
	span := h.keep([][]byte{rec})[0]
	h.carryOut(span, rec)
	x := h.byID(m.q.ID).find(m.seq)
	x.ref, x.size, x.shares = span.Ref, span.Size, 0
}
