package queue

import (
	"fmt"
	"slices"
)

// check compares what the state keeps twice: counts, links, heaps and flags. It says what is
// wrong first, "" where nothing is.
func check(st *State) string {
	leasedN, delayedN, liveN := 0, 0, 0
	for _, q := range st.Queues() {
		for _, f := range []func(*State, *Queue) string{checkChunks, checkMessages, checkReturned, checkConsumers, checkOptions, checkDedup, checkLines} {
			if s := f(st, q); s != "" {
				return fmt.Sprintf("queue %q: %s", q.Name, s)
			}
		}
		if st.ids[q.ID] != q || q.gone {
			return fmt.Sprintf("queue %q: not under its id, or gone", q.Name)
		}
		leasedN += q.Counts.Leased
		delayedN += q.Counts.Delayed
		liveN += q.Counts.Live()
	}
	if len(st.ids) != len(st.names) || leasedN != st.leasedN || delayedN != st.delayedN {
		return fmt.Sprintf("%d ids, %d names; leased %d, counted %d; delayed %d, counted %d",
			len(st.ids), len(st.names), leasedN, st.leasedN, delayedN, st.delayedN)
	}
	if liveN != st.liveN {
		return fmt.Sprintf("%d messages, counted %d", liveN, st.liveN)
	}
	for at, n := range st.held {
		q := st.ids[at.queue]
		if q == nil || n <= 0 {
			return fmt.Sprintf("message %d of queue %d is held %d times more", at.seq, at.queue, n)
		}
		if _, m := q.find(at.seq); m == nil || m.flags&msgEnding == 0 {
			return fmt.Sprintf("message %d of queue %q is held and free", at.seq, q.Name)
		}
	}
	for _, m := range slices.Concat(st.pool.msgs, st.pool.littles) {
		if slices.ContainsFunc(m, func(m msg) bool { return m != msg{} }) {
			return fmt.Sprintf("spare messages are not gone: %+v", m)
		}
	}
	if s := checkTimers(st); s != "" {
		return s
	}
	return checkEnds(st)
}

func checkChunks(st *State, q *Queue) string {
	var before *chunk
	n, hit, from := 0, q.hit == nil, q.from == nil
	for c := q.head; c != nil; before, c = c, c.next {
		n++
		live, leasedN := 0, 0
		var tmp [chunkLen]msg
		for i, ms := 0, c.look(&tmp); i < chunkLen; i++ {
			m := &ms[i]
			if m.state == gone {
				if *m != (msg{}) {
					return fmt.Sprintf("message %d is gone and holds %+v", c.key<<chunkBits+uint64(i), *m)
				}
				continue
			}
			live++
			if m.state == leased {
				leasedN++
			}
		}
		switch {
		case q.byKey[c.key] != c || c.prev != before || before != nil && before.key >= c.key:
			return fmt.Sprintf("chunk %d is misplaced", c.key)
		case len(c.m) != chunkLen && (len(c.m) != littleLen && len(c.packed) == 0 || c.m != nil && c.packed != nil) || len(c.m) == chunkLen && c.low != 0:
			return fmt.Sprintf("chunk %d has room for %d messages from its %d. on, and %d bytes are packed", c.key, len(c.m), c.low, len(c.packed))
		case live != int(c.live) || leasedN != int(c.leased) || (c.few != nil || c.all != nil) != (leasedN > 0) || c.few != nil && (c.all != nil || c.few.n != leasedN):
			return fmt.Sprintf("chunk %d: live %d counted %d, leased %d counted %d", c.key, live, c.live, leasedN, c.leased)
		case live == 0 && c.next != nil:
			return fmt.Sprintf("chunk %d is empty and not the last", c.key)
		case slices.Contains(st.pool.chunks, c) || slices.Contains(st.pool.late, c):
			return fmt.Sprintf("chunk %d is in use and spare", c.key)
		}
		hit, from = hit || q.hit == c, from || q.from == c
	}
	if before != q.tail || n != len(q.byKey) || !hit || !from || (q.head != nil && q.from == nil) {
		return fmt.Sprintf("%d chunks, %d by key, hit %v, from %v", n, len(q.byKey), hit, from)
	}
	return ""
}

func checkMessages(_ *State, q *Queue) string {
	var n [5]int
	bytes, dead, fail := int64(0), 0, ""
	q.each(func(seq uint64, c *chunk, m *msg) bool {
		n[m.state]++
		bytes += m.body()
		if m.flags&msgDead != 0 {
			if dead++; q.dead[seq] == nil {
				fail = fmt.Sprintf("message %d is a dead letter of nowhere", seq)
			}
		}
		if m.state == ready && m.flags&msgEnding == 0 && seq >= q.cursor && c.key < q.from.key {
			fail = fmt.Sprintf("message %d is ready, and the cursor %d in chunk %d misses it", seq, q.cursor, q.from.key)
		}
		if m.state == ready && seq < q.cursor && m.flags&(msgInHeap|msgEnding) == 0 {
			fail = fmt.Sprintf("message %d is ready, behind the cursor %d and not in the heap", seq, q.cursor)
		}
		if seq == 0 || seq > q.last {
			fail = fmt.Sprintf("message %d, the last is %d", seq, q.last)
		}
		return fail == ""
	})
	c := &q.Counts
	sum := uint64(c.Live()) + c.Acked + c.Expired + c.Dead + c.Dropped + c.Cancelled + c.Purged + c.Redriven
	switch {
	case fail != "":
		return fail
	case n[ready]+n[behind] != c.Ready || n[leased] != c.Leased || n[delayed] != c.Delayed || bytes != q.Bytes || dead != len(q.dead):
		return fmt.Sprintf("states %v, %d bytes, %d dead letters; counted %+v, %d bytes, %d dead letters", n, bytes, dead, *c, q.Bytes, len(q.dead))
	case c.Published != sum:
		return fmt.Sprintf("published %d is not the sum %d of %+v", c.Published, sum, *c)
	}
	return ""
}

// checkReturned: a message has the flag if, and only if, it is in the heap, and it is there once.
func checkReturned(_ *State, q *Queue) string {
	in := map[uint64]int{}
	for p, heap := range q.returned {
		if len(heap) > 0 && q.heaps&(1<<p) == 0 {
			return fmt.Sprintf("the heap of priority %d is not known to hold something", p)
		}
		for i, seq := range heap {
			in[seq]++
			if i > 0 && heap[(i-1)/2] > seq {
				return "the heap of returned messages is none"
			}
			if _, m := q.find(seq); m != nil && m.priority() != p {
				return fmt.Sprintf("message %d of priority %d is in the heap of priority %d", seq, m.priority(), p)
			}
		}
	}
	fail := ""
	q.each(func(seq uint64, _ *chunk, m *msg) bool {
		if want := int(m.flags & msgInHeap); in[seq] != want {
			fail = fmt.Sprintf("message %d is in the heap %d times, flag %d", seq, in[seq], want)
		}
		if in[seq] > 0 && seq >= q.cursor && m.priority() == DefaultPriority {
			fail = fmt.Sprintf("message %d is in the heap and before the cursor %d", seq, q.cursor)
		}
		return fail == ""
	})
	return fail
}

func checkConsumers(st *State, q *Queue) string {
	ring := map[*Consumer]bool{}
	if c := q.ring; c != nil {
		for {
			if ring[c] || c.next.prev != c || c.prev.next != c {
				return "the ring is none"
			}
			ring[c] = true
			if c = c.next; c == q.ring {
				break
			}
		}
	}
	subs := 0
	for i, c := range q.subs {
		able := c.listed && !c.aside && c.Leased() < c.Limit
		if c.aside && (!c.held() || !slices.Contains(c.Crew.aside, c)) {
			return fmt.Sprintf("consumer %d is put aside, and nobody knows for whom", i)
		}
		if c.index != i || !c.listed || c.Queue != q || ring[c] != able {
			return fmt.Sprintf("consumer %d: index %d, listed %v, in the ring %v, should be %v", i, c.index, c.listed, ring[c], able)
		}
		if c.Until == 0 {
			subs++
		}
		delete(ring, c)
	}
	if len(ring) > 0 || subs != q.Consumers {
		return fmt.Sprintf("%d in the ring are not listed; %d subscriptions, counted %d", len(ring), subs, q.Consumers)
	}
	free := 0
	q.each(func(_ uint64, _ *chunk, m *msg) bool {
		if m.state == ready && m.flags&msgEnding == 0 {
			free++
		}
		return true
	})
	if q.dirty != slices.Contains(st.dirty, q) || (!q.dirty && q.ring != nil && free > 0 && !q.idle()) {
		return fmt.Sprintf("dirty is %v, listed %v", q.dirty, slices.Contains(st.dirty, q))
	}
	return checkLeases(q)
}

// checkLeases follows the list of each consumer that has something.
func checkLeases(q *Queue) string {
	held := map[uint64]*Consumer{}
	firsts := map[*Consumer]bool{}
	q.each(func(seq uint64, c *chunk, m *msg) bool {
		if m.state == leased {
			l := c.lease(seq)
			held[seq], firsts[l.c] = l.c, true
		}
		return true
	})
	for c := range firsts {
		n, before := 0, uint64(0)
		for seq := c.leases; seq != 0; n++ {
			ck, m := q.find(seq)
			if m == nil || m.state != leased || held[seq] != c {
				return fmt.Sprintf("the list of a consumer holds message %d, which it has not, or twice", seq)
			}
			l := ck.lease(seq)
			if l.c != c || l.prev != before {
				return fmt.Sprintf("the lease of message %d is linked to %d, not %d", seq, l.prev, before)
			}
			delete(held, seq)
			before, seq = seq, l.next
		}
		if n != c.Leased() {
			return fmt.Sprintf("a consumer has %d, counted %d", n, c.leased)
		}
	}
	if len(held) > 0 {
		return fmt.Sprintf("leased and in no list: %v", held)
	}
	return ""
}

func checkTimers(st *State) string {
	for _, t := range []*timers{&st.leaseEnds.timers, &st.delays, &st.waits, &st.ends} {
		for i := range t.heap {
			if i > 0 && t.heap[(i-1)/2].at > t.heap[i].at {
				return "a heap of timers is none"
			}
		}
	}
	delays, ends := map[place]int{}, map[place]int{}
	for _, t := range st.delays.heap {
		if st.isDelayed(t) {
			delays[place{t.queue, t.seq}]++
		}
	}
	over, places := 0, map[uint32]bool{}
	for _, t := range st.leaseEnds.heap {
		if places[t.about] = true; st.leaseEnds.over[t.about] {
			over++
			continue
		}
		ends[place{t.queue, t.seq}]++
		c, m := st.ids[t.queue].find(t.seq)
		if m == nil || m.state != leased || c.lease(t.seq).timer != t.about+1 || c.lease(t.seq).at != t.at {
			return fmt.Sprintf("queue %d: a timer waits for message %d, which is not leased until then", t.queue, t.seq)
		}
	}
	for _, i := range st.leaseEnds.unused {
		places[i] = true
	}
	if e := &st.leaseEnds; over != e.overN || len(places) != len(e.over) || len(e.heap)+len(e.unused) != len(e.over) {
		return fmt.Sprintf("of %d timers of leases, with %d places of which %d are unused, %d are over, counted %d", len(e.heap), len(e.over), len(e.unused), over, e.overN)
	}
	fail := ""
	for _, q := range st.Queues() {
		q.each(func(seq uint64, c *chunk, m *msg) bool {
			at := place{q.ID, seq}
			if n := delays[at]; m.state == delayed && n != 1 {
				fail = fmt.Sprintf("queue %q: message %d is delayed and has %d timers", q.Name, seq, n)
			}
			if m.state == leased {
				l := c.lease(seq)
				if n := ends[at]; l.at != 0 && !l.returning && n != 1 || n > 1 {
					fail = fmt.Sprintf("queue %q: message %d is leased and its lease has %d timers", q.Name, seq, n)
				}
			}
			return fail == ""
		})
	}
	return fail
}

// checkOptions: extras and late have an entry for a message if, and only if, it says so.
func checkOptions(_ *State, q *Queue) string {
	extras, late, fail := 0, 0, ""
	q.each(func(seq uint64, _ *chunk, m *msg) bool {
		_, has := q.extras[seq]
		if has != (m.flags&msgExtra != 0) {
			fail = fmt.Sprintf("message %d has more: %v, and says otherwise", seq, has)
		} else if has {
			extras++
		}
		if m.age() == tooOld {
			late++
		}
		if p := m.priority(); p < 0 || p > 9 {
			fail = fmt.Sprintf("message %d has the priority %d", seq, p)
		}
		return fail == ""
	})
	if fail == "" && (extras != len(q.extras) || late != len(q.late)) {
		return fmt.Sprintf("%d messages have more and %d are late, kept are %d and %d", extras, late, len(q.extras), len(q.late))
	}
	return fail
}

// checkDedup: what is known, and the order in which it will be forgotten, are the same ids.
func checkDedup(_ *State, q *Queue) string {
	d, before := &q.dedup, int64(0)
	if len(d.order)-d.first != len(d.seqs) {
		return fmt.Sprintf("%d ids are known, and %d to be forgotten", len(d.seqs), len(d.order)-d.first)
	}
	for i, x := range d.order {
		if i < d.first {
			continue
		}
		if _, known := d.seqs[x.id]; !known || x.expires < before {
			return fmt.Sprintf("id %q: known %v, until %d, behind one until %d", x.id, known, x.expires, before)
		}
		before = x.expires
	}
	return ""
}

// checkEnds: whatever will end by time has a timer, if it is not leased and has not been told to the owner.
func checkEnds(st *State) string {
	has := map[place]bool{}
	for _, t := range st.ends.heap {
		if q, _ := st.outlived(t); q != nil && t.about != endsNow {
			has[place{t.queue, t.seq}] = true
		}
	}
	fail := ""
	for _, q := range st.Queues() {
		q.each(func(seq uint64, c *chunk, m *msg) bool {
			if q.expiresAt(seq, c, m) != 0 && m.state != leased && m.flags&msgEnding == 0 && !has[place{q.ID, seq}] {
				fail = fmt.Sprintf("queue %q: message %d ends by time and has no timer", q.Name, seq)
			}
			return fail == ""
		})
	}
	return fail
}
