package queue

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

func (h *history) publishN(q *mQueue, n int) {
	if len(q.msgs) > 250 { // the model is slow
		return
	}
	if h.chance(2) { // as the owner does where the queue is nearly full
		seqs := h.st.ids[q.id].Shield(n)
		h.propose(h.on(q.id, func(q *mQueue, _ Outcome) { q.shield = seqs }), AppendShield(nil, q.id, h.stamp(), seqs))
	}
	at, records, ms := h.stamp(), [][]byte{}, []*mMessage{}
	var asked []Publish
	for i := range n {
		p := h.options()
		p.Body, p.Headers, p.More = make([]byte, h.rnd.IntN(40)), bytes.Repeat([]byte("h"), h.rnd.IntN(2)*9), i < n-1
		rec := AppendPublish(nil, &p)
		Address(rec, q.id, at)
		records, asked = append(records, rec), append(asked, p)
		ms = append(ms, &mMessage{body: int64(len(p.Body)), priority: int(p.Priority), id: string(p.DedupID)})
	}
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		for i, m := range ms {
			s := spanOf(len(h.log)-n+i, records[i])
			m.ref, m.size, m.due = s.Ref, s.Size, asked[i].At
			if d := asked[i].Delay; d > 0 && m.due == 0 {
				m.due = h.clock + int64(d)
			}
			if d := asked[i].TTL; d > 0 {
				m.expires = h.clock + int64(d)
			}
		}
		seqs, known, ok := h.model.publish(q, ms)
		if !ok {
			if out.Refusal != Full {
				h.Fatalf("publish %d into the full %q: %+v", n, q.name, out)
			}
			return
		}
		if !slices.Contains(known, true) {
			known = nil
		}
		if out.Refusal != Done || out.N != n || out.Seq != seqs[0] || !slices.Equal(out.Known, known) || (out.Seqs == nil) != (known == nil) ||
			known != nil && !slices.Equal(out.Seqs, seqs) {
			h.Fatalf("publish %d to %q: %+v, seqs should be %v, known %v", n, q.name, out, seqs, known)
		}
	}), records...)
}

// options are what a publish asks for, mostly nothing.
func (h *history) options() Publish {
	p := Publish{Priority: DefaultPriority}
	if h.chance(3) {
		p.Priority = uint8(h.rnd.IntN(10))
	}
	if h.chance(6) {
		p.Delay = time.Duration(h.rnd.IntN(30_000)) * time.Millisecond
	}
	if h.chance(12) {
		p.At = h.now + (h.rnd.Int64N(70_000)-10_000)*1e6
	}
	if h.chance(6) {
		p.TTL = time.Duration(1+h.rnd.IntN(90_000)) * time.Millisecond
	}
	if h.chance(4) {
		p.DedupID = fmt.Appendf(nil, "id %d", h.rnd.IntN(60))
	}
	return p
}

// canBeLost says what becomes of messages where the newest proposal is lost and the process goes on.
func (h *history) canBeLost(id uint32, seqs []uint64, f func(q *mQueue, m *mMessage, again int64)) {
	h.pending[len(h.pending)-1].lost = func() {
		q, again := h.byID(id), h.now+int64(h.rnd.IntN(3000))*1e6
		if q == nil {
			return
		}
		for _, seq := range seqs {
			if m := q.find(seq); m != nil {
				f(q, m, again)
			}
		}
	}
}

// lose loses a proposal.
func (h *history) lose(*mQueue) {
	for i, p := range h.pending {
		if p.lost != nil && h.chance(2) {
			h.pending = slices.Delete(h.pending, i, i+1)
			p.lost()
			return
		}
	}
}

func (h *history) spare(q *mQueue, m *mMessage, again int64) {
	h.st.Spare(h.st.ids[q.id], m.seq, again)
	h.model.spare(q, m, again)
}

// hold picks a message for what ends or moves it; false where a consumer has it, or where it is no more.
func (h *history) hold(q *mQueue) (seq uint64, ok bool) {
	if len(q.msgs) == 0 {
		return 0, false
	}
	m := q.msgs[h.rnd.IntN(len(q.msgs))]
	if h.st.Hold(h.st.ids[q.id], m.seq) != (m.state != leased) {
		h.Fatalf("%q: message %d is %d, and Hold says otherwise", q.name, m.seq, m.state)
	}
	if m.state == leased {
		return 0, false
	}
	m.ending++
	return m.seq, true
}

func (h *history) cancel(q *mQueue) {
	seq, ok := h.hold(q)
	if !ok {
		return
	}
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.model.cancel(q, seq); out.N != n {
			h.Fatalf("cancel %d in %q: %d, should be %d", seq, q.name, out.N, n)
		}
	}), AppendCancel(nil, q.id, h.stamp(), seq))
	h.canBeLost(q.id, []uint64{seq}, h.spare)
}

func (h *history) move(q *mQueue) {
	seq, ok := h.hold(q)
	if !ok {
		return
	}
	due := h.now + (h.rnd.Int64N(5)-1)*5e9 // so that a message is moved to the same time again
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.moveTo(q, seq, due); out.N != n {
			h.Fatalf("move %d in %q: %d, should be %d", seq, q.name, out.N, n)
		}
	}), AppendMoveTo(nil, q.id, h.stamp(), seq, due))
	h.canBeLost(q.id, []uint64{seq}, h.spare)
	if h.chance(2) && len(h.pending) < 8 { // and once more while that is on its way
		if m := q.find(seq); m != nil && m.state != leased && h.st.Hold(h.st.ids[q.id], seq) {
			m.ending++
			h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
				if n := h.moveTo(q, seq, due+3e9); out.N != n {
					h.Fatalf("move %d in %q again: %d, should be %d", seq, q.name, out.N, n)
				}
			}), AppendMoveTo(nil, q.id, h.stamp(), seq, due+3e9))
			h.canBeLost(q.id, []uint64{seq}, h.spare)
		}
	}
}
