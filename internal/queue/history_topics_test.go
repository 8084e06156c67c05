package queue

import (
	"slices"

	"github.com/gmq/gmq/internal/journal"
)

// publishTopic publishes to a topic: messages that are written once, and their copies in some queues.
func (h *history) publishTopic(*mQueue) {
	qs := slices.DeleteFunc(h.sorted(), func(q *mQueue) bool { return len(q.msgs) > 250 || h.chance(2) })
	if len(qs) == 0 {
		return
	}
	at, records, sources := h.stamp(), [][]byte{}, []Source{}
	letters := h.write(1+h.rnd.IntN(3)*h.rnd.IntN(3), at)
	for i := range letters {
		x := &letters[i]
		x.asked.Topic, x.asked.More = []byte("some.topic"), false
		x.m.topic, x.m.shares = "some.topic", sharesOf(len(qs))
		rec := AppendPublish(nil, &x.asked)
		Address(rec, 0, at)
		source, err := ParseSource(rec, len(rec)+journal.HeaderBytes)
		if err != nil || int64(source.BodyBytes()) != x.m.body {
			h.Fatalf("a body of %d bytes has %d: %v", x.m.body, source.BodyBytes(), err)
		}
		records, sources = append(records, rec), append(sources, source)
	}
	n := len(letters)
	var ids []uint32
	for _, q := range qs {
		ids = append(ids, q.id)
		h.freshFor(q, sources, letters)
		for i := range n {
			records = append(records, AppendCopy(nil, q.id, at, &sources[i], h.distance(records[i:]), len(qs), i < n-1))
		}
	}
	h.propose(nil, records...)
	h.pending[len(h.pending)-1].each = func(outs []Outcome) {
		for _, out := range outs[:n] {
			if out.Queue != nil || out.Pending || out.Refusal != Done {
				h.Fatalf("the record that copies refer to: %+v", out)
			}
		}
		for i, id := range ids {
			out := outs[n+i*n+n-1]
			h.on(id, func(q *mQueue, out Outcome) { h.published(q, out, letters, true) })(out)
		}
	}
}

// sharesOf is the power of two that is nearest to so many copies.
func sharesOf(copies int) (power int) {
	for 2*copies > 3<<power {
		power++
	}
	return power
}

// freshFor compares what a queue says that it does not know yet.
func (h *history) freshFor(q *mQueue, sources []Source, letters []letter) {
	n, ids, bytes := 0, 0, int64(0)
	seen := map[string]bool{}
	for _, x := range letters {
		id := x.m.id
		if id != "" && q.s.DedupWindow > 0 {
			if known := q.known(id); seen[id] || known != nil && known.expires > h.now {
				continue
			}
			seen[id] = true
			ids++
		}
		n, bytes = n+1, bytes+x.m.body
	}
	if gotN, gotBytes, gotIDs := h.st.ids[q.id].Fresh(sources, h.now); gotN != n || gotBytes != bytes || gotIDs != ids {
		h.Fatalf("%q: %d of %d bytes are fresh, %d with ids; should be %d of %d bytes, %d with ids", q.name, gotN, gotBytes, gotIDs, n, bytes, ids)
	}
}

// distance is how far behind the first of records the next one will be.
func (r *rig) distance(records [][]byte) int {
	if r.j == nil {
		return len(records) << 6
	}
	n := 0
	for _, record := range records {
		n += len(record) + journal.HeaderBytes
	}
	return n
}
