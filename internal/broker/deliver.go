package broker

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// pumpMessages and pumpBytes bound what is read back and encoded in one go.
const pumpMessages, pumpBytes = 256, 1 << 20

// lineOverhead is about what a delivery's line has besides headers and body, bytes.
const lineOverhead = 192

// pump delivers what there is to deliver, and reports whether there was anything.
func (sh *shard) pump(st *store) bool {
	if st.follows() {
		return false
	}
	some := false
	for sh.readable(st) && sh.takeBatch(st) {
		some = true
		if err := sh.encodeBatch(st); err != nil {
			sh.b.fail(err)
			return false
		}
	}
	return some
}

// takeBatch fills sh.batch with the next deliveries. Receives that wait are answered in passing.
func (sh *shard) takeBatch(st *store) bool {
	sh.batch = sh.batch[:0]
	bytes, some := 0, false
	sh.reportLeases()
	for len(sh.batch) < pumpMessages && bytes < pumpBytes && sh.mayLease(st) {
		d, ok := st.state.Take(sh.now)
		if !ok {
			break
		}
		some = true
		if d.Seq == 0 {
			if err := sh.encodeBatch(st); err != nil { // what cannot be read yet comes first, when it can
				sh.b.fail(err)
				return false
			}
			sh.batch = sh.batch[:0]
			sh.answerWait(st, d.C)
			if st.fetching.ref != 0 {
				break
			}
			continue
		}
		sh.batch = append(sh.batch, d)
		size := int(d.Span.Size) + lineOverhead
		bytes += size
		sh.promise(d.C.Tag.(*tag).s, size)
	}
	return some
}

// mayLease reports whether one more message may be leased. Where it may not, the shard is
// woken when it may.
func (sh *shard) mayLease(st *store) bool {
	limit := int64(sh.b.limits.Load().MaxInFlight)
	if sh.b.draining.Load() {
		return false
	}
	if sh.inFlight() < limit {
		return true
	}
	if sh.b.stalled.Or(1<<sh.index)&(1<<sh.index) == 0 {
		sh.b.hurry()
	}
	if sh.inFlight() < limit { // it fell just now, perhaps before the bit was seen
		sh.signal()
	}
	return false
}

// inFlight is the broker's count with what this turn has changed.
func (sh *shard) inFlight() int64 {
	n := -sh.leased
	for _, st := range sh.stores {
		n += st.state.Leased()
	}
	return sh.b.inFlight.Load() + int64(n)
}

// promise notes that size bytes will be appended for s, and stops all deliveries of this shard to a session that has
// enough to carry.
func (sh *shard) promise(s *Session, size int) {
	sh.reply(s).promised += size
	if !sh.crowded(s) {
		return
	}
	m := sh.member(s)
	if !m.blocked {
		sh.block(m)
	}
	sh.awaitRoom(s)
}

// crowded reports whether s has enough to carry.
func (sh *shard) crowded(s *Session) bool {
	n := s.pending.Load()
	if c := s.open[sh.index]; c != nil {
		n += int64(c.ahead + len(c.b) + c.promised)
	}
	return n >= s.limit
}

// awaitRoom has resume called when s has room again.
func (sh *shard) awaitRoom(s *Session) {
	s.blocked.Or(1 << sh.index)
	if s.pending.Load() == 0 && !sh.crowded(s) { // it was sent just now, and nothing is left that would tell
		sh.unblock(s)
	}
}

// encodeBatch reads the bodies of sh.batch and appends the deliveries to their sessions' chunks.
func (sh *shard) encodeBatch(st *store) error {
	if len(sh.batch) == 0 {
		return nil
	}
	if err := sh.read(st); err != nil {
		return err
	}
	for i := range sh.batch {
		d := &sh.batch[i]
		t := d.C.Tag.(*tag)
		c := sh.replyOf(t.s, int(d.Span.Size)+1024)
		if err := sh.describe(st, d, sh.bodies[i]); err != nil {
			return err
		}
		sh.delivery.Pushed, sh.delivery.Sub = true, t.sub
		sh.delivery.Dropped = sh.dropped(t, d.Queue)
		c.b = append(wire.AppendDelivery(c.b, &sh.delivery), '\n')
		c.promised -= int(d.Span.Size) + lineOverhead
		if d.C.Auto {
			sh.settle(st, d)
		}
	}
	clear(sh.bodies)
	return nil
}

// read fills sh.bodies with the records of sh.batch.
func (sh *shard) read(st *store) error {
	sh.refs = sh.refs[:0]
	for i := range sh.batch {
		sh.refs = append(sh.refs, journal.Ref(sh.batch[i].Span.Ref))
	}
	var err error
	if sh.bodies, err = st.journal.Read(sh.refs, sh.bodies[:0]); unread(err) {
		err = sh.readSome(st)
	}
	if err != nil {
		return sh.blame(st, err)
	}
	return nil
}

// describe makes sh.delivery what a client is told of d.
func (sh *shard) describe(st *store, d *queue.Delivery, record []byte) error {
	e, err := queue.ParseEnvelope(record)
	if err != nil {
		return fmt.Errorf("queue %q, message %d: %w", d.Queue.Name, d.Seq, err)
	}
	sh.scratch = queue.AppendReceipt(sh.scratch[:0], st.state.Receipt(d.Queue, d.Number))
	w := &sh.delivery
	w.Queue, w.Seq, w.Attempt, w.Receipt, w.Published = d.Queue.Name, d.Seq, d.Attempt, sh.scratch, e.Published
	w.Redelivered, w.Headers, w.Base64, w.Body = d.Redelivered, e.Headers, e.Base64, e.Body
	w.Key, w.Topic = e.Names()
	w.Pushed, w.Sub, w.Dropped, w.State, w.Until, w.Dead = false, 0, 0, "", 0, nil
	if d.Dead != nil {
		sh.dead = deadInfo(d.Dead)
		sh.delivery.Dead = &sh.dead
	}
	return nil
}

func deadInfo(d *queue.Dead) wire.DeadInfo {
	return wire.DeadInfo{Queue: d.Queue, Seq: d.Seq, Attempts: d.Attempts, Reason: []byte(d.Reason)}
}

// settle records that a message was settled by its delivery.
func (sh *shard) settle(st *store, d *queue.Delivery) {
	q := d.Queue
	st.record(task{queue: q, settled: d.Seq}).write(func(dst []byte) []byte {
		return queue.AppendSettle(dst, q.ID, sh.now, []uint64{d.Seq})
	})
}

// spareHolds is how many of a session's holds may be kept although nothing is leased by them.
const spareHolds = 32

// receive answers a receive, now or, where nothing is there and it may wait, or its session has enough to
// carry, later (false).
func (sh *shard) receive(w *work, c *control, t target) bool {
	q := t.queue
	if q.Paused {
		sh.fail(w.s, c.id, wire.Errorf(wire.CodePaused, "queue %q is paused", q.Name))
		return true
	}
	m := sh.member(w.s)
	if sh.crowded(w.s) && !w.s.gone.Load() {
		m.later = append(m.later, w)
		sh.awaitRoom(w.s)
		return false
	}
	wt := &waiter{s: w.s, id: c.id, max: c.max, work: w}
	wt.c = &queue.Consumer{Queue: q, Tag: wt, Limit: 1, Lease: c.leaseOf(q), Auto: c.auto, Until: sh.now + int64(c.wait)}
	if c.wait == 0 || sh.b.draining.Load() || w.s.gone.Load() || t.store.state.Deliverable(q) && sh.mayLease(t.store) {
		return sh.answerReceive(t.store, wt)
	}
	sh.waited++
	wt.n = sh.waited
	m.waits[wt.c] = struct{}{}
	t.store.state.Subscribe(wt.c)
	return false
}

// holder is the consumer that has what a session receives from a queue.
func (sh *shard) holder(s *Session, q *queue.Queue) *queue.Consumer {
	m := sh.member(s)
	hold := m.holds[q]
	if hold == nil {
		if len(m.holds) >= spareHolds {
			maps.DeleteFunc(m.holds, func(_ *queue.Queue, c *queue.Consumer) bool { return c.Leased() == 0 })
		}
		hold = &queue.Consumer{Queue: q, Tag: &tag{s: s}, Limit: 1 << 30}
		m.holds[q] = hold
	}
	return hold
}

// answerWait ends a receive that waited; the state has unsubscribed it already.
func (sh *shard) answerWait(st *store, c *queue.Consumer) {
	wt := c.Tag.(*waiter)
	if m := sh.member(wt.s); sh.crowded(wt.s) && !wt.s.gone.Load() {
		delete(m.waits, c)
		wt.work.control.wait = time.Duration(max(c.Until-sh.now, 0))
		m.later = append(m.later, wt.work)
		sh.awaitRoom(wt.s)
		return
	}
	if sh.answerReceive(st, wt) {
		sh.drop(wt)
	} else {
		delete(sh.member(wt.s).waits, c)
	}
}

// drop forgets a waiter.
func (sh *shard) drop(wt *waiter) {
	if m := sh.members[wt.s]; m != nil {
		delete(m.waits, wt.c)
	}
	sh.finish(wt.work)
}

// answerReceive takes up to max messages for a receive and replies, with none where there are none. It is false where the
// receive has been put aside.
func (sh *shard) answerReceive(st *store, wt *waiter) bool {
	r := sh.reply(wt.s)
	start := len(r.b)
	r.b = append(wire.AppendOK(r.b, wt.id), `,"messages":[`...)
	hold := sh.holder(wt.s, wt.c.Queue)
	hold.Lease, hold.Auto = wt.c.Lease, wt.c.Auto
	got := sh.took[:0]
	for n := 0; n < wt.max && len(r.b)-start < OutLimit; n++ {
		if !sh.mayLease(st) {
			if n == 0 && wt.c.Queue.Counts.Ready > 0 && !sh.b.draining.Load() {
				r.b = r.b[:start]
				sh.fail(wt.s, wt.id, wire.Errorf(wire.CodeOverloaded, "%d messages are leased; max_in_flight is %d", sh.inFlight(), sh.b.limits.Load().MaxInFlight))
				return true
			}
			break
		}
		d, ok := st.state.TakeFor(hold, sh.now)
		if !ok {
			break
		}
		got = append(got, d)
		err := sh.appendReceived(st, r, &got[n], n > 0)
		if errors.Is(err, journal.ErrNotYet) {
			r.b = r.b[:start]
			sh.took = got
			sh.putAside(st, wt, hold)
			return false
		} else if errors.Is(err, journal.ErrUnavailable) {
			st.state.Untake(&got[n])
			got[n] = queue.Delivery{}
			if got = got[:n]; n > 0 {
				break // what can be had
			}
			r.b = r.b[:start]
			sh.took = got
			sh.fail(wt.s, wt.id, st.unavailable(err))
			return true
		} else if err != nil {
			sh.b.fail(err)
			return true
		}
	}
	r.b = append(r.b, "]}\n"...)
	for i := range got {
		if hold.Auto {
			sh.settle(st, &got[i])
		}
		got[i] = queue.Delivery{}
	}
	sh.took = got
	return true
}

func (sh *shard) appendReceived(st *store, r *chunk, d *queue.Delivery, comma bool) error {
	sh.refs = append(sh.refs[:0], journal.Ref(d.Span.Ref))
	var err error
	if sh.bodies, err = st.journal.Read(sh.refs, sh.bodies[:0]); unread(err) {
		return err
	} else if err != nil {
		return unreadable(d.Queue, d.Seq, err)
	}
	if err = sh.describe(st, d, sh.bodies[0]); err != nil {
		return err
	}
	if comma {
		r.b = append(r.b, ',')
	}
	r.b = wire.AppendDelivery(r.b, &sh.delivery)
	return nil
}
