package queue

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// A letter is a message and what was asked for when it was published.
type letter struct {
	asked Publish
	m     *mMessage
}

// write writes n messages.
func (h *history) write(n int, at int64) (letters []letter) {
	for i := range n {
		p := h.options()
		h.bodies++
		p.Body, p.Headers, p.More = make([]byte, h.rnd.IntN(h.body)), bytes.Repeat([]byte("h"), h.rnd.IntN(2)*9), i < n-1
		copy(p.Body, fmt.Sprint(h.bodies))
		letters = append(letters, letter{p, &mMessage{body: int64(len(p.Body)), text: textOf(p.Body), sent: at,
			priority: int(p.Priority), key: string(p.Key), id: string(p.DedupID)}})
	}
	return letters
}

// kept is the message as it is when its record lies at span.
func (x *letter) kept(span Span, clock int64) *mMessage {
	m := *x.m
	m.ref, m.size, m.due = span.Ref, span.Size, x.asked.At
	if d := x.asked.Delay; d > 0 && m.due == 0 {
		m.due = clock + int64(d)
	}
	if d := x.asked.TTL; d > 0 {
		m.expires = clock + int64(d)
	}
	return &m
}

func (h *history) publishN(q *mQueue, n int) {
	if len(q.msgs) > 250 { // the model is slow
		return
	}
	at, records, size := h.stamp(), [][]byte{}, int64(0)
	letters := h.write(n, at)
	for _, x := range letters {
		rec := AppendPublish(nil, &x.asked)
		Address(rec, q.id, at)
		records, size = append(records, rec), size+x.m.body
	}
	condemned := h.makeWay(q, n, size)
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		h.published(q, out, letters, false)
		for _, seq := range condemned {
			if m := q.find(seq); m != nil {
				h.spare(q, m, h.now)
			}
		}
	}), records...)
	h.canBeLost(q.id, condemned, func(q *mQueue, m *mMessage, _ int64) { h.spare(q, m, h.now) })
}

// published compares what a queue has made of messages.
func (h *history) published(q *mQueue, out Outcome, letters []letter, promised bool) {
	var ms []*mMessage
	for i, x := range letters {
		ms = append(ms, x.kept(h.places[i], h.clock))
	}
	seqs, known, ok := h.model.publish(q, ms, promised)
	if !ok {
		if out.Refusal != Full {
			h.Fatalf("publish %d into the full %q: %+v", len(ms), q.name, out)
		}
		return
	}
	if !slices.Contains(known, true) {
		known = nil
	}
	if out.Refusal != Done || out.N != len(ms) || out.Seq != seqs[0] || !slices.Equal(out.Known, known) || (out.Seqs == nil) != (known == nil) ||
		known != nil && !slices.Equal(out.Seqs, seqs) {
		h.Fatalf("publish %d to %q: %+v, seqs should be %v, known %v", len(ms), q.name, out, seqs, known)
	}
}

// makeWay does what the owner does where a queue is nearly full: it says what is leased, and keeps from
// consumers what will be pushed out.
func (h *history) makeWay(q *mQueue, n int, bytes int64) (condemned []uint64) {
	if h.chance(2) {
		return nil
	}
	real := h.st.ids[q.id]
	seqs := real.Shield(n)
	h.propose(h.on(q.id, func(q *mQueue, _ Outcome) { q.shield = seqs }), AppendShield(nil, q.id, h.stamp(), seqs))
	if real.Fits(n, bytes) != q.fits(n, bytes) {
		h.Fatalf("%q: %d more fit: %v", q.name, n, real.Fits(n, bytes))
	}
	spared := func(m *mMessage) bool { return m.state == leased }
	if yields := q.fits(n, bytes) || q.victims(n, bytes, spared) != nil; real.Yields(n, bytes) != yields {
		h.Fatalf("%q: %d more fit when others have gone: %v", q.name, n, !yields)
	}
	if q.fits(n, bytes) {
		return nil
	}
	condemned = h.st.Condemn(real, n, bytes)
	var want []uint64
	for _, m := range q.victims(n, bytes, spared) {
		want = append(want, m.seq)
		m.ending++
	}
	if !slices.Equal(condemned, want) {
		h.Fatalf("%q: condemned are %v, should be %v", q.name, condemned, want)
	}
	return condemned
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
	if h.keys > 0 && h.chance(h.keyed) {
		p.Key = fmt.Appendf(nil, "key %d", h.rnd.IntN(h.keys))
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

// redrive moves some of a dead-letter queue's messages to where they came from, or to any queue.
func (h *history) redrive(*mQueue) {
	var dead []*mQueue
	for _, q := range h.sorted() {
		if _, is := SourceName(q.name); is {
			dead = append(dead, q)
		}
	}
	if len(dead) == 0 {
		return
	}
	d, limit, to := dead[h.rnd.IntN(len(dead))], 1+h.rnd.IntN(30), uint32(0)
	if h.chance(3) {
		qs := h.sorted()
		to = qs[h.rnd.IntN(len(qs))].id
	}
	seqs, want := h.st.Redrivable(h.st.ids[d.id], limit, to == 0), []uint64(nil)
	for _, m := range d.msgs {
		if len(want) < limit && m.state != leased && m.ending == 0 && (to != 0 || m.dead != nil) {
			want = append(want, m.seq)
			m.ending++
		}
	}
	if !slices.Equal(seqs, want) {
		h.Fatalf("%q: redrivable are %v, should be %v", d.name, seqs, want)
	}
	if len(seqs) == 0 {
		return
	}
	rec := AppendRedrive(nil, d.id, h.stamp(), to, seqs)
	out := h.chance(4)
	if out {
		rec = AppendRedriven(nil, d.id, h.stamp(), seqs)
	}
	h.propose(h.on(d.id, func(d *mQueue, o Outcome) {
		n := 0
		if out {
			n = h.model.redriven(d, seqs)
		} else {
			n = h.model.redrive(d, seqs, to)
		}
		if o.N != n {
			h.Fatalf("redrive %v of %q to %d, out %v: %d, should be %d", seqs, d.name, to, out, o.N, n)
		}
		h.redriven += n
	}), rec)
	h.canBeLost(d.id, seqs, h.spare)
}

// purgeState ends the messages that are in one state when it is asked for.
func (h *history) purgeState(q *mQueue) {
	real, state := h.st.ids[q.id], h.rnd.IntN(3)+ready
	p := h.st.Purgeable(real, stateNames[state])
	var seqs []uint64
	for _, m := range q.msgs {
		if (m.state == state) != p.But {
			seqs = append(seqs, m.seq)
		}
		if m.state == state && !p.But && m.state != leased {
			m.ending++
		}
	}
	if p.But != (state == ready) || p.upTo != q.last || !slices.Equal(p.seqs, seqs) {
		h.Fatalf("%q: purgeable is %+v, should be %v", q.name, *p, seqs)
	}
	thaw := func(q *mQueue) {
		if p.But && h.st.ids[q.id] == real {
			h.st.Thaw(real)
			q.frozen--
		}
	}
	if p.But {
		q.frozen++
	}
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.purgeSome(q, seqs, p.But, p.upTo); out.N != n {
			h.Fatalf("purge %+v of %q: %d, should be %d", *p, q.name, out.N, n)
		}
		thaw(q)
	}), AppendPurgeState(nil, q.id, h.stamp(), p))
	last := &h.pending[len(h.pending)-1]
	last.lost = func() {
		if q := h.byID(q.id); q != nil {
			thaw(q)
		}
	}
	if !p.But {
		h.canBeLost(q.id, seqs, h.spare)
	}
}
