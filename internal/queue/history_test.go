package queue

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A history is a run of random actions on a State and on the model of it,
// compared after each.
type history struct {
	*rig
	model
	temper
	rnd       *rand.Rand
	all       []func(*mQueue) // actions, each as often as it is likely
	consumers []*mConsumer
	pending   []proposal // proposed, not yet committed
	places    []Span     // of the records of the proposal that is being carried out
	receipts  []mReceipt
	copying   *copying // a snapshot, nil where there is none
	bodies    int      // how many there were

	deliver, inTurn, redriven, compacted, doubts int // how often it came to that
}

type proposal struct {
	records [][]byte
	at      int64
	expect  func(Outcome)
	each    func([]Outcome) // instead of expect, where every record has an outcome of its own
	lost    func()          // where it can be lost and the process go on
}

type mReceipt struct {
	q            *mQueue
	seq          uint64
	boot, number uint32
}

func (h *history) chance(n int) bool { return h.rnd.IntN(n) == 0 }

type action struct {
	weight int
	do     func(*mQueue)
}

func (h *history) actions() (all []func(*mQueue)) {
	for _, a := range []action{
		{22, h.publish}, {4, h.batch}, {4, h.publishTopic}, {6, h.subscribe}, {2, h.receive}, {2, h.unsubscribe}, {22, h.take}, {14, h.ack},
		{9, h.nack}, {2, h.nackAnything}, {3, h.extend}, {9, h.tick}, {3, h.block}, {4, h.relocate}, {3, h.pause},
		{2, h.update}, {1, h.purge}, {2, h.snap}, {4, h.cancel}, {6, h.move}, {4, h.lose}, {3, h.redrive}, {1, h.purgeState},
	} {
		all = append(all, slices.Repeat([]func(*mQueue){a.do}, a.weight)...)
	}
	return all
}

// sorted are the queues in order of their names; they have no others.
func (h *history) sorted() []*mQueue {
	qs := make([]*mQueue, 0, 8)
	for _, name := range [...]string{"a", "a.dlq", "b", "b.dlq", "c", "c.dlq", "d", "d.dlq"} {
		if q := h.queues[name]; q != nil {
			qs = append(qs, q)
		}
	}
	return qs
}

// act does one random thing.
func (h *history) act() {
	if len(h.queues) < 2 || h.chance(150) {
		h.create()
	}
	if qs := h.sorted(); len(qs) > 0 {
		q := qs[h.rnd.IntN(len(qs))]
		if h.all == nil {
			h.all = h.actions()
		}
		h.all[h.rnd.IntN(len(h.all))](q)
		if h.chance(250) {
			h.delete(q)
		}
		if h.chance(150) {
			h.reboot()
		}
	}
	if !h.chance(3) {
		h.commit()
	}
}

func (h *history) propose(expect func(Outcome), records ...[]byte) {
	h.pending = append(h.pending, proposal{records: records, at: h.at(records[0]), expect: expect})
}

func (h *history) at(record []byte) int64 { return (&reader{b: record[8:]}).int64() }

func (r *reader) int64() int64 { return int64(r.uint64()) }

// stamp is the time of a command: now, or a bit earlier, as clocks are.
func (h *history) stamp() int64 {
	if h.chance(20) {
		return h.now - h.rnd.Int64N(1000)*1e6
	}
	return h.now
}

// on is what a command on a queue leads to: NoQueue where that has gone meanwhile.
func (h *history) on(id uint32, f func(q *mQueue, out Outcome)) func(Outcome) {
	return func(out Outcome) {
		q := h.byID(id)
		if (q == nil) != (out.Refusal == NoQueue) {
			h.Fatalf("queue %d: there is %v, refusal %v", id, q != nil, out.Refusal)
		}
		if q != nil {
			f(q, out)
		}
	}
}

func (h *history) settings() Settings {
	s := testSettings()
	s.Lease = time.Duration(1+h.rnd.IntN(60)) * time.Second
	s.MaxDeliveries = h.rnd.Int64N(5)
	s.Overflow = Overflow(h.rnd.IntN(3))
	if h.chance(2) {
		s.MaxMessages = h.rnd.Int64N(90)
	}
	if h.chance(2) {
		s.MaxBytes = h.rnd.Int64N(40 * int64(h.body))
	}
	if h.chance(3) {
		s.TTL = time.Duration(1+h.rnd.IntN(120)) * time.Second
	}
	s.DedupWindow = time.Duration(h.rnd.IntN(4)*h.rnd.IntN(30)) * time.Second
	s.DeadLetterExpired = h.chance(2)
	return s
}

func (h *history) create() {
	name := string(rune('a' + h.rnd.IntN(4)))
	if h.chance(8) {
		name += DeadSuffix
	}
	id, s := h.st.NewID(), h.settings()
	h.propose(func(out Outcome) {
		if (h.queues[name] != nil) != (out.Refusal == Exists) {
			h.Fatalf("create %q: refusal %v", name, out.Refusal)
		}
		if out.Refusal == Done {
			h.queues[name] = &mQueue{id: id, name: name, s: s}
		}
	}, AppendCreate(nil, id, h.stamp(), name, &s))
}

func (h *history) update(q *mQueue) {
	s := h.settings()
	h.propose(h.on(q.id, func(q *mQueue, _ Outcome) { h.model.update(q, s) }), AppendUpdate(nil, q.id, h.stamp(), &s))
}

func (h *history) publish(q *mQueue) { h.publishN(q, 1) }
func (h *history) batch(q *mQueue)   { h.publishN(q, 1+h.rnd.IntN(100)) }

func (h *history) subscribe(q *mQueue) {
	c := &mConsumer{q: q, limit: 1 + h.rnd.IntN(8)*h.rnd.IntN(8), listed: true}
	h.join(c, h.chance(8))
}

func (h *history) receive(q *mQueue) {
	h.join(&mConsumer{q: q, limit: 1, listed: true, until: h.now + h.rnd.Int64N(20e9) + 1}, false)
}

func (h *history) join(c *mConsumer, auto bool) {
	c.real = &Consumer{Queue: h.st.ids[c.q.id], Tag: c, Limit: c.limit, Lease: c.q.s.Lease, Auto: auto, Until: c.until}
	if c.until == 0 { // a connection of its own, or that of another
		c.real.Crew = &Crew{}
		if other := h.someone(); other != nil && other.until == 0 && h.chance(2) {
			c.real.Crew, c.blocked = other.real.Crew, other.blocked
		}
	}
	h.st.Subscribe(c.real)
	h.consumers = append(h.consumers, c)
	c.turn()
}

func (h *history) someone() *mConsumer {
	if len(h.consumers) == 0 {
		return nil
	}
	return h.consumers[h.rnd.IntN(len(h.consumers))]
}

func (h *history) unsubscribe(*mQueue) {
	c := h.someone()
	if c == nil {
		return
	}
	seqs := h.st.Unsubscribe(c.real)
	var want []uint64
	if !c.q.gone {
		for _, m := range c.q.msgs {
			if m.holder == c && !m.returning {
				want = append(want, m.seq)
				m.returning = true
			}
		}
	}
	c.listed = false
	c.turn()
	h.consumers = slices.DeleteFunc(h.consumers, func(x *mConsumer) bool { return x == c })
	slices.Sort(seqs)
	if !slices.Equal(seqs, want) {
		h.Fatalf("unsubscribe from %q: returns %v, should be %v", c.q.name, seqs, want)
	}
	h.giveBack(c.q, seqs, "connection lost", 0, true, false)
}

func (h *history) giveBack(q *mQueue, seqs []uint64, reason string, delay int64, counted, dead bool) {
	if len(seqs) == 0 {
		return
	}
	rs := make([]Return, len(seqs))
	numbered := h.chance(2) // what is not ends any delivery
	for i, seq := range seqs {
		rs[i].Seq = seq
		if m := q.find(seq); numbered && m != nil {
			rs[i].Number = uint32(m.returns + 1)
		}
		if delay > 0 {
			rs[i].Due = h.now + delay*int64(i+1)
		}
	}
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.model.giveBack(q, rs, reason, counted, dead); n != out.N {
			h.Fatalf("return of %v to %q: %d, should be %d", seqs, q.name, out.N, n)
		}
	}), AppendReturn(nil, q.id, h.stamp(), rs, reason, counted, dead))
	h.canBeLost(q.id, seqs, func(q *mQueue, m *mMessage, again int64) {
		h.st.Rearm(h.st.ids[q.id], m.seq, again)
		if m.state == leased {
			m.returning, m.end = false, again
		}
	})
}

func (h *history) block(*mQueue) {
	one := h.someone()
	if one == nil || one.until != 0 {
		return
	}
	crew := one.real.Crew
	for _, c := range h.consumers {
		if c.real.Crew == crew {
			c.blocked = !c.blocked
		}
	}
	if one.blocked {
		h.st.Block(crew)
		return
	}
	back := slices.Clone(crew.aside)
	h.st.Unblock(crew)
	for _, real := range back { // in the order in which their turns came
		c := real.Tag.(*mConsumer)
		c.aside = false
		c.turn()
	}
}

// take takes a few deliveries, mostly all.
func (h *history) take(*mQueue) {
	n := 1 << 30
	if h.chance(2) {
		n = 1 + h.rnd.IntN(5)
	}
	for ; n > 0; n-- {
		d, ok := h.st.Take(h.now)
		for _, q := range h.queues {
			h.passedOver(q, ok && d.C.Tag.(*mConsumer).q == q)
			if !ok && len(q.ring) > 0 && q.firstReady() != nil {
				h.Fatalf("%q has something for somebody, and Take gives nothing", q.name)
			}
		}
		if !ok {
			return
		}
		c := d.C.Tag.(*mConsumer)
		if len(c.q.ring) == 0 || c.q.ring[0] != c {
			h.Fatalf("%q: it was another consumer's turn", c.q.name)
		}
		if c.until == 0 {
			h.delivered(c, d)
			continue
		}
		if d.Seq != 0 || c.q.firstReady() == nil {
			h.Fatalf("%q: a receive that waits: %+v", c.q.name, d)
		}
		c.listed = false
		c.turn()
		for range 1 + h.rnd.IntN(3) {
			m := c.q.firstReady()
			if d, ok = h.st.TakeFor(c.real, h.now); ok != (m != nil) {
				h.Fatalf("%q: TakeFor gives %v", c.q.name, ok)
			}
			if ok {
				h.delivered(c, d)
			}
		}
	}
}

// passedOver puts aside those whose turn it was while they were blocked: all in front of who gets something now, and where
// nobody does, those that the state has looked at.
func (h *history) passedOver(q *mQueue, delivers bool) {
	for len(q.ring) > 0 && (q.ring[0].real.aside || delivers && q.ring[0].blocked) {
		c := q.ring[0]
		if !c.blocked || !c.real.aside || q.firstReady() == nil {
			h.Fatalf("%q: a consumer is aside: %v; it is blocked: %v", q.name, c.real.aside, c.blocked)
		}
		c.aside = true
		c.turn()
	}
}

func (h *history) delivered(c *mConsumer, d Delivery) {
	q, m := c.q, c.q.firstReady()
	if m == nil {
		h.Fatalf("%q delivers message %d, nothing is ready%s", q.name, d.Seq, h.linesOf(q))
	}
	again := m.returns > 0 || m.restored
	if d.C != c.real || d.Seq != m.seq || d.Span != (Span{m.ref, m.size}) || d.Attempt != uint32(m.attempts+1) ||
		d.Number != uint32(m.returns+1) || d.Redelivered != again || (m.delivered && !again) {
		h.Fatalf("%q delivers %+v, should be %+v%s", q.name, d, *m, h.linesOf(q))
	}
	if (d.Dead == nil) != (m.dead == nil) || m.dead != nil && *d.Dead != *m.dead {
		h.Fatalf("%q: dead letter %+v, should be %+v", q.name, d.Dead, m.dead)
	}
	h.read(d, m)
	h.deliver++
	if m.key != "" {
		h.inTurn++
	}
	m.state, m.holder, m.delivered = leased, c, true
	c.leased++
	c.turn()
	if len(q.ring) > 0 && q.ring[0] == c {
		q.ring = append(q.ring[1:], c)
	}
	if c.real.Auto {
		h.settle(q, []uint64{m.seq})
	} else {
		m.end = h.now + int64(c.real.Lease)
	}
	h.receipts = append(h.receipts, mReceipt{q, d.Seq, h.boot, d.Number})
	if len(h.receipts) > 400 {
		h.receipts = h.receipts[200:]
	}
}

// linesOf says of each message that has a key where it stands.
func (h *history) linesOf(q *mQueue) string {
	var b strings.Builder
	for _, m := range q.msgs {
		if m.waitsInLine() {
			fmt.Fprintf(&b, "\n%q: message %d, state %d, returned %d times, ending %d", m.key, m.seq, m.state, m.returns, m.ending)
		}
	}
	return b.String()
}

// textOf is a body without the zeros that make it long.
func textOf(body []byte) string { return string(bytes.TrimRight(body, "\x00")) }

// read compares what a consumer is given with what was published.
func (h *history) read(d Delivery, m *mMessage) {
	e, err := ParseEnvelope(h.recordAt(d.Span.Ref))
	key, topic := e.Names()
	if err != nil || string(topic) != m.topic || textOf(e.Body) != m.text || int64(len(e.Body)) != m.body || string(key) != m.key || e.Published != m.sent {
		h.Fatalf("message %d reads as %.40q of key %q, published %d, %v; should be %.40q of key %q, published %d", d.Seq, e.Body, key, e.Published, err, m.text, m.key, m.sent)
	}
}

func (h *history) settle(q *mQueue, seqs []uint64) {
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.model.settle(q, seqs); out.N != n {
			h.Fatalf("settle %v in %q: %d, should be %d", seqs, q.name, out.N, n)
		}
	}), AppendSettle(nil, q.id, h.stamp(), seqs))
}

// leasedOf are some of the leased messages of q.
func (h *history) leasedOf(q *mQueue) (seqs []uint64) {
	for _, m := range q.msgs {
		if m.state == leased && !h.chance(3) {
			seqs = append(seqs, m.seq)
		}
	}
	return seqs
}

// ack settles with the receipts of some deliveries, or messages without.
func (h *history) ack(q *mQueue) {
	if h.chance(3) {
		h.settle(q, h.leasedOf(q))
		return
	}
	for range 1 + h.rnd.IntN(8) {
		if len(h.receipts) == 0 {
			return
		}
		x := h.receipts[h.rnd.IntN(len(h.receipts))]
		if x.q.gone || h.queues[x.q.name] != x.q {
			continue
		}
		if hold := h.holds(x); hold != Stale && hold != Settled {
			h.settle(x.q, []uint64{x.seq})
		}
	}
}

// holds compares what Holds says about a receipt with what happened.
func (h *history) holds(x mReceipt) Holding {
	got, want := h.st.Holds(h.st.ids[x.q.id], x.seq, Receipt{x.boot, x.q.id, x.number}), Stale
	switch m := x.q.find(x.seq); {
	case m == nil:
		want = Settled
	case m.state == leased && x.boot == h.boot && int(x.number) == m.returns+1:
		if want = Current; m.returning {
			want = Back
		}
	case m.state == leased:
	case int(x.number) == m.returns+1:
		want = Unleased
	case int(x.number) == m.returns:
		want = Back
	}
	if got != want {
		h.Fatalf("%q: receipt %+v holds %d, should be %d", x.q.name, x, got, want)
	}
	return got
}

func (h *history) nack(q *mQueue) {
	seqs := h.leasedOf(q)
	seqs = slices.DeleteFunc(seqs, func(seq uint64) bool {
		m := q.find(seq)
		first := h.st.Returning(h.st.ids[q.id], seq)
		if first == m.returning {
			h.Fatalf("%q: message %d is returning %v, and Returning says first: %v", q.name, seq, m.returning, first)
		}
		m.returning = true
		return !first
	})
	h.giveBack(q, seqs, "nack: bad", int64(h.rnd.IntN(3))*7e8, !h.chance(4), h.chance(6))
}

// nackAnything returns messages wherever they stand, as a nack does that crossed something else.
func (h *history) nackAnything(q *mQueue) {
	if len(q.msgs) > 0 {
		seqs := []uint64{}
		for range 1 + h.rnd.IntN(4) {
			seqs = append(seqs, q.msgs[h.rnd.IntN(len(q.msgs))].seq)
		}
		h.giveBack(q, seqs, "nack", h.rnd.Int64N(9e9), h.chance(2), h.chance(9))
	}
}

func (h *history) extend(q *mQueue) {
	for _, m := range q.msgs {
		if !h.chance(4) {
			continue
		}
		until := h.now + h.rnd.Int64N(90e9)
		ok := m.state == leased && !m.returning
		if h.st.Extend(h.st.ids[q.id], m.seq, until) != ok {
			h.Fatalf("%q: extending message %d should be %v", q.name, m.seq, ok)
		}
		if ok {
			m.end = until
		}
	}
}

func (h *history) relocate(q *mQueue) {
	if len(q.msgs) == 0 {
		return
	}
	m := q.msgs[h.rnd.IntN(len(q.msgs))]
	seq := m.seq
	rec, err := AppendRelocate(nil, q.id, seq, h.recordAt(m.ref))
	if err != nil {
		h.Fatal(err)
	}
	h.propose(h.on(q.id, func(q *mQueue, _ Outcome) {
		if m := q.find(seq); m != nil {
			m.ref, m.size, m.shares = h.places[0].Ref, h.places[0].Size, 0
		}
	}), rec)
	h.pending[len(h.pending)-1].at = 0 // it bears the message's time
}

func (h *history) pause(q *mQueue) {
	on := h.chance(4)
	h.propose(h.on(q.id, func(q *mQueue, _ Outcome) { q.paused = on }), AppendPause(nil, q.id, h.stamp(), on))
}

func (h *history) purge(q *mQueue) {
	h.propose(h.on(q.id, func(q *mQueue, out Outcome) {
		if n := h.model.purge(q); out.N != n {
			h.Fatalf("purge %q: %d, should be %d", q.name, out.N, n)
		}
	}), AppendPurge(nil, q.id, h.stamp()))
}

func (h *history) delete(q *mQueue) {
	h.propose(h.on(q.id, func(q *mQueue, _ Outcome) {
		h.remove(q)
		removed := map[*mConsumer]bool{}
		for _, c := range h.st.Removed() {
			removed[c.Tag.(*mConsumer)] = true
		}
		for _, c := range h.consumers {
			if removed[c] != (c.listed && c.q == q) {
				h.Fatalf("delete %q: a consumer is removed: %v", q.name, removed[c])
			}
			c.listed = c.listed && c.q != q
		}
	}), AppendDelete(nil, q.id, h.stamp()))
}
