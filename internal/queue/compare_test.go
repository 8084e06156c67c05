package queue

import (
	"cmp"
	"maps"
	"slices"
)

func (h *history) compare(step int) {
	if len(h.st.names) != len(h.queues) {
		last, _ := Describe(h.newest, true)
		h.Fatalf("step %d: queues %v, should be %v, after %s", step, slices.Sorted(maps.Keys(h.st.names)), slices.Sorted(maps.Keys(h.queues)), last)
	}
	for name, m := range h.queues {
		q := h.st.Queue(name)
		if q == nil || q.ID != m.id || q.Settings != m.s || q.Paused != m.paused {
			h.Fatalf("queue %q is %+v, should be %+v", name, q, *m)
		}
		want := m.n
		want.Ready, want.Delayed, want.Leased = m.count(ready), m.count(delayed), m.count(leased)
		if q.Counts != want || q.Bytes != m.bytes() {
			h.Fatalf("step %d: queue %q: %+v and %d bytes, should be %+v and %d bytes", step, name, q.Counts, q.Bytes, want, m.bytes())
		}
	}
	if step%16 == 0 || step == historyActions-1 {
		h.compareMessages()
		h.compareViews()
		if s := check(h.st); s != "" {
			h.Fatalf("step %d: %s", step, s)
		}
	}
}

func (h *history) compareMessages() {
	retained := map[Ref]uint32{}
	for name, q := range h.queues {
		slices.SortFunc(q.msgs, func(a, b *mMessage) int { return cmp.Compare(a.seq, b.seq) })
		i, real := 0, h.st.Queue(name)
		oldest := int64(0)
		if len(q.msgs) > 0 {
			oldest = q.msgs[0].at
		}
		if d := oldest - real.Oldest(); d < 0 || d >= 1e6 {
			h.Fatalf("queue %q: the oldest is of %d, should be of %d", name, real.Oldest(), oldest)
		}
		if len(real.dedup.seqs) != len(q.ids) {
			h.Fatalf("queue %q: %d ids are known, should be %d", name, len(real.dedup.seqs), len(q.ids))
		}
		for _, x := range q.ids {
			if real.dedup.seqs[x.id] != x.seq {
				h.Fatalf("queue %q: %q is message %d, should be %d", name, x.id, real.dedup.seqs[x.id], x.seq)
			}
		}
		real.each(func(seq uint64, c *chunk, m *msg) bool {
			x := q.msgs[i]
			counted, _ := real.Attempts(seq)
			if m.priority() != x.priority || (m.flags&msgEnding != 0) != (x.ending > 0) || m.state == delayed && c.due(seq).at != x.due {
				h.Fatalf("queue %q: message %d is %+v, due %d, should be %+v", name, seq, *m, c.due(seq).at, *x)
			}
			if i++; x.seq != seq || x.state != seen(m) || x.attempts != int(m.attempts) || x.attempts != counted {
				h.Fatalf("queue %q: message %d is %+v, should be %+v", name, seq, *m, *x)
			}
			retained[x.ref] += max(x.size>>x.shares, 1)
			return true
		})
	}
	if !maps.Equal(h.live, retained) {
		h.Fatalf("retained is %v, should be %v", h.live, retained)
	}
}

// compareViews compares what a person is shown: of one queue a few messages, and why one of them is not delivered.
func (h *history) compareViews() {
	qs := h.sorted()
	if len(qs) == 0 {
		return
	}
	q := qs[h.rnd.IntN(len(qs))]
	real, turns := h.st.ids[q.id], q.turns()
	state, after, limit := [...]string{"", "ready", "delayed", "leased"}[h.rnd.IntN(4)], uint64(h.rnd.Int64N(int64(q.last)+1)), 1+h.rnd.IntN(20)
	views := h.st.Peek(real, state, after, limit)
	for _, m := range q.msgs {
		if m.seq <= after || state != "" && state != stateNames[m.state] || limit == 0 {
			continue
		}
		limit--
		want := View{Seq: m.seq, Span: Span{m.ref, m.size}, State: stateNames[m.state], Attempt: uint32(m.attempts)}
		switch m.state {
		case leased:
			want.Until, want.Attempt = m.end, want.Attempt+1
		case delayed:
			want.Until = m.due
		}
		if len(views) == 0 || views[0].Dead == nil != (m.dead == nil) || m.dead != nil && *views[0].Dead != *m.dead {
			h.Fatalf("queue %q: peek behind %d shows %+v, and not message %d", q.name, after, views, m.seq)
		}
		if want.Dead = views[0].Dead; views[0] != want {
			h.Fatalf("queue %q: peek shows %+v, should be %+v", q.name, views[0], want)
		}
		views = views[1:]
		first := turns[m.key]
		waits := m.state == ready && m.ending == 0 && m.waitsInLine() && first != m
		if x := h.st.Explain(real, m.seq); (x.Reason == BehindKey) != waits || waits && x.Ahead != first.seq ||
			m.state == delayed && (x.Reason != Delayed && m.returns == 0 || x.Reason != Retrying && m.returns > 0) || x.Until != want.Until {
			h.Fatalf("queue %q: message %d is explained as %+v, should be behind its key %v%s", q.name, m.seq, x, waits, h.linesOf(q))
		}
	}
	if len(views) > 0 {
		h.Fatalf("queue %q: peek shows %+v as well", q.name, views)
	}
}

// seen is a message's state as the model has it, which looks for itself who is first of a key.
func seen(m *msg) int {
	if m.state == behind {
		return ready
	}
	return int(m.state)
}
