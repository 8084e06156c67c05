package queue

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// reboot restarts. The state is the same but for what is the owner's, whichever way it was read.
func (h *history) reboot() {
	if h.chance(2) {
		h.pending = nil // they never came to be
	}
	h.commit()
	h.st.Due(h.now)
	before := h.st.AppendSnapshot(nil)
	h.restart(h.chance(2))
	if after := h.st.AppendSnapshot(nil); !bytes.Equal(before, after) {
		h.Fatal("after a restart the state is another")
	}
	h.reborn(h.now)
	h.consumers = nil
	h.ends()
}

func (h *history) compare(step int) {
	if len(h.st.names) != len(h.queues) {
		last, _ := Describe(h.log[len(h.log)-1])
		h.Fatalf("step %d: queues %v, should be %v, after %s", step, slices.Sorted(maps.Keys(h.st.names)), slices.Sorted(maps.Keys(h.queues)), last)
	}
	live := 0
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
		live += len(m.msgs)
		if len(m.msgs) > 0 {
			if at := m.msgs[0].at; at-q.Oldest() < 0 || at-q.Oldest() >= 1e6 {
				h.Fatalf("queue %q: the oldest is of %d, should be of %d", name, q.Oldest(), at)
			}
		} else if q.Oldest() != 0 {
			h.Fatalf("queue %q is empty, the oldest is of %d", name, q.Oldest())
		}
	}
	if len(h.live) != live {
		h.Fatalf("step %d: %d records are retained, should be %d", step, len(h.live), live)
	}
	if step%8 == 0 || step == historyActions-1 {
		h.compareMessages()
		if s := check(h.st); s != "" {
			h.Fatalf("step %d: %s", step, s)
		}
	}
}

func (h *history) compareMessages() {
	for name, q := range h.queues {
		slices.SortFunc(q.msgs, func(a, b *mMessage) int { return cmp.Compare(a.seq, b.seq) })
		i, real := 0, h.st.Queue(name)
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
			if i++; x.seq != seq || x.state != int(m.state) || x.attempts != int(m.attempts) || x.attempts != counted || h.live[x.ref] != x.size {
				h.Fatalf("queue %q: message %d is %+v, should be %+v", name, seq, *m, *x)
			}
			return true
		})
	}
}
