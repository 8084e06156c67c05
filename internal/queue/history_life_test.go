package queue

import (
	"bytes"
	"slices"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
)

// reboot restarts. The state is the same but for what is the owner's, whichever way it was read.
func (h *history) reboot() {
	again := h.storage != "memory" && h.chance(3)
	if h.chance(2) {
		h.pending = nil // they never came to be
	}
	if again { // the process lives on: it has lost the lead over its replicas, and won it again
		h.commit()
		h.leadAgain()
		return
	}
	h.copying = nil // with the process
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

// leadAgain comes to the same as a restart, but that nothing is read.
func (h *history) leadAgain() {
	h.st.Due(h.now)
	before := h.st.AppendSnapshot(nil)
	h.st.Follow()
	if f := check(h.st); f != "" {
		h.Fatal("as a follower: " + f)
	}
	h.boot++
	h.st.Lead(h.boot)
	h.consumers = nil
	retries := map[*mMessage]int64{} // what could not be recorded is tried again when it would have been
	for _, q := range h.queues {
		for _, m := range q.msgs {
			if m.ending == 0 && m.state != leased && !m.over {
				retries[m] = m.retry
			}
		}
	}
	h.reborn(h.now)
	for m, retry := range retries {
		m.retry = retry
	}
	if !bytes.Equal(before, h.st.AppendSnapshot(nil)) {
		h.Fatal("when it leads again the state is another")
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
