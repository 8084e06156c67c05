package queue

import (
	"slices"
	"time"
)

// tick lets time pass and does what the owner's loop does then.
func (h *history) tick(*mQueue) {
	h.checkNext()
	h.now += h.rnd.Int64N(20_000) * 1e6 // whole ms, as what is kept of a publish's time is
	if h.chance(60) {
		h.now += h.rnd.Int64N(30*60_000) * 1e6
	}
	if h.chance(400) { // longer than there is room for in a message
		h.now += int64(4 * 24 * time.Hour)
	}
	h.st.Due(h.now)
	h.dueAt(h.now)
	got := map[*Queue][]uint64{}
	h.st.Expired(h.now, func(q *Queue, seq uint64) { got[q] = append(got[q], seq) })
	for _, q := range h.sorted() {
		var want []uint64
		for _, m := range q.msgs {
			if m.state == leased && m.end != 0 && m.end <= h.now && !m.returning {
				want = append(want, m.seq)
				m.returning = true
			}
		}
		seqs := got[h.st.ids[q.id]]
		slices.Sort(seqs)
		if !slices.Equal(seqs, want) {
			h.Fatalf("%q: expired are %v, should be %v", q.name, seqs, want)
		}
		h.giveBack(q, seqs, "lease expired", int64(time.Second), true, false)
	}
	h.ends()
	waited := map[*mConsumer]bool{}
	h.st.Waited(h.now, func(c *Consumer) { waited[c.Tag.(*mConsumer)] = true })
	for _, c := range h.consumers {
		if over := c.listed && c.until != 0 && c.until <= h.now; over != waited[c] {
			h.Fatalf("%q: a receive has waited long enough: %v, should be %v", c.q.name, waited[c], over)
		} else if over {
			c.listed = false
			c.turn()
		}
	}
}

// checkNext: Next may be early, never late.
func (h *history) checkNext() {
	first := int64(0)
	see := func(t int64) {
		if first == 0 || t < first {
			first = t
		}
	}
	for _, q := range h.queues {
		for _, m := range q.msgs {
			if m.state == delayed {
				see(m.due)
			}
			if at := q.expiresAt(m); m.over {
				see(h.now)
			} else if at != 0 && m.state != leased && m.ending == 0 {
				see(max(at, m.retry))
			}
			if m.state == leased && m.end != 0 && !m.returning {
				see(m.end)
			}
		}
	}
	for _, c := range h.consumers {
		if c.listed && c.until != 0 {
			see(c.until)
		}
	}
	if next := h.st.Next(); first != 0 && (next == 0 || next > first) {
		h.Fatalf("Next is %d, and something is to be done at %d", next, first)
	}
}

// ends looks for what has outlived its time, and proposes its end.
func (h *history) ends() {
	got := map[*Queue][]uint64{}
	h.st.Outlived(h.now, func(q *Queue, seq uint64) { got[q] = append(got[q], seq) })
	h.looked = max(h.looked, h.now)
	for _, q := range h.sorted() {
		seqs := got[h.st.ids[q.id]]
		slices.Sort(seqs)
		want := h.outlived(q, h.now, seqs)
		if !slices.Equal(seqs, want) {
			h.Fatalf("%q: outlived are %v, should be %v", q.name, seqs, want)
		}
		for len(seqs) > 0 {
			some := seqs[:1+h.rnd.IntN(len(seqs))]
			seqs = seqs[len(some):]
			h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
				if n := h.expire(q, some); out.N != n {
					h.Fatalf("expire %v in %q: %d, should be %d", some, q.name, out.N, n)
				}
			}), AppendExpire(nil, q.id, h.stamp(), some))
			h.canBeLost(q.id, some, h.spare)
		}
	}
}
