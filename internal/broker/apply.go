package broker

import (
	"errors"
	"fmt"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// collect applies what the journal has kept since the last time, and reports whether there was anything.
func (sh *shard) collect(st *store) bool {
	batches := st.journal.Committed(sh.committed[:0])
	changed := false
	if st.replicas != nil {
		if role := st.replicas.Role(); role != st.role {
			sh.changeRole(st, role, batches)
			changed = true
		}
		st.returned(batches)
	}
	for _, b := range batches {
		var err error
		switch owner := b.Owner.(type) {
		case nil:
			err = sh.follow(st, b)
		case *work:
			err = sh.applyPubs(st, owner)
		case *tasks:
			err = sh.applyTasks(st, owner)
		case *journey:
			err = sh.applyJourney(st, owner, b)
		case *moved:
			err = sh.applyMoved(st, owner)
		case *compaction:
			sh.sharedNoted(st, owner)
		case *taking:
			err = sh.applyTaken(st, owner)
		case *rebased:
			err = sh.applyRebased(st, owner)
		case *stage:
			err = sh.applyStage(st, owner, b)
		}
		if err != nil { // the journal holds what the core cannot read: our own fault
			sh.b.fail(fmt.Errorf("storage %s, shard %d: %w", st.Name, sh.index, err))
		}
		sh.account(st)
	}
	for _, b := range batches {
		switch owner := b.Owner.(type) {
		case *work:
			if !st.journal.Recycle(b) {
				owner.batch.Data = nil
			}
			sh.finish(owner)
		case *tasks:
			if !st.journal.Recycle(b) {
				owner.batch.Data = nil
			}
			st.reuse(owner)
		}
	}
	if st.replicas != nil && sh.whole == 0 {
		sh.lead()
	}
	some := len(batches) > 0 || changed
	clear(batches)
	sh.committed = batches[:0]
	return some
}

// apply carries out the record at offset off of b.
func (st *store) apply(b *journal.Batch, off int) (queue.Outcome, int, error) {
	payload, next := journal.NextRecord(b.Data, off)
	out, err := st.state.Apply(queue.Span{Ref: queue.Ref(b.Base) + queue.Ref(off), Size: uint32(next - off)}, payload)
	return out, next, err
}

func (sh *shard) applyPubs(st *store, w *work) error {
	defer func() {
		for i := range w.room {
			sh.unshield(st, &w.room[i])
		}
		w.room = w.room[:0]
	}()
	if w.batch.Err != nil {
		sh.lost(st, w, w.batch.Err)
		return nil
	}
	c := sh.reply(w.s)
	off := 0
	for i := range w.pubs {
		p := &w.pubs[i]
		start := off
		var out queue.Outcome
		for range p.n {
			var err error
			if out, off, err = st.apply(&w.batch, off); err != nil {
				return err
			}
		}
		switch {
		case p.refused:
		case out.Refusal == queue.NoQueue && p.create && !p.again:
			sh.publishAgain(w, p, start, off)
		case out.Refusal != queue.Done:
			sh.failPub(w, p, refusal(out, w.str(p.name), int(p.n)))
		case p.quiet:
		case p.only != 0:
			c.b = st.appendTaken(c.b, w.str(p.id), out)
		case p.array:
			c.b = appendSeqs(c.b, w.str(p.id), out, st.Stored)
		default:
			c.b = wire.AppendPublished(c.b, w.str(p.id), out.Seq, st.Stored, out.Seqs != nil)
		}
	}
	return nil
}

// publishAgain proposes a publish anew whose queue went, or turned out to be another, while it was on
// its way: whoever wants the queue to be created does not care.
func (sh *shard) publishAgain(w *work, p *pub, from, to int) {
	a := sh.newWork()
	a.s, a.requests, a.cost = w.s, 1, to-from
	w.requests--
	w.cost -= a.cost
	a.batch.Data = append(a.batch.Data, w.batch.Data[from:to]...)
	again := *p
	again.id, again.name, again.at, again.again = a.put(w.str(p.id)), a.put(w.str(p.name)), 0, true
	a.pubs = append(a.pubs, again)
	sh.admitPubs(a)
}

func refusal(out queue.Outcome, name []byte, n int) *wire.Error {
	if out.Refusal == queue.NoQueue {
		return wire.Errorf(wire.CodeNotFound, "queue %q has been deleted", name)
	}
	q := out.Queue
	if out.Refusal == queue.TooManyIDs {
		return tooManyIDs(q)
	}
	return queueFull(q, n)
}

func tooManyIDs(q *queue.Queue) *wire.Error {
	return wire.Errorf(wire.CodeOverloaded, "queue %q remembers %d dedup_ids, as many as it can; dedup_window is %s", q.Name, queue.MaxDedupIDs, q.Settings.DedupWindow)
}

func queueFull(q *queue.Queue, n int) *wire.Error {
	return wire.Errorf(wire.CodeQueueFull, "queue %q holds %d messages of %d bytes and cannot take %d more; max_messages is %d, max_bytes is %d (0: no limit)",
		q.Name, q.Counts.Live(), q.Bytes, n, q.Settings.MaxMessages, q.Settings.MaxBytes)
}

func appendSeqs(dst, id []byte, out queue.Outcome, stored string) []byte {
	dst = append(wire.AppendOK(dst, id), `,"seqs":[`...)
	for i := range out.N {
		if i > 0 {
			dst = append(dst, ',')
		}
		if out.Seqs != nil {
			dst = appendUint(dst, out.Seqs[i])
		} else {
			dst = appendUint(dst, out.Seq+uint64(i))
		}
	}
	dst = append(append(append(dst, `],"stored":"`...), stored...), '"')
	if out.Seqs != nil {
		sep := byte('[')
		dst = append(dst, `,"duplicates":`...)
		for i, known := range out.Known {
			if known {
				dst = appendUint(append(dst, sep), out.Seqs[i])
				sep = ','
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, "}\n"...)
}

func noMessage(c *control) *wire.Error {
	return wire.Errorf(wire.CodeNotFound, "queue %q has no message %d", c.name, c.seq)
}

// lost answers the publishes of a batch that the journal did not take.
func (sh *shard) lost(st *store, w *work, cause error) {
	if sh.pubsBack(w, cause) {
		return
	}
	for i := range w.pubs {
		if !w.pubs[i].refused {
			sh.failPub(w, &w.pubs[i], st.full(cause))
		}
	}
}

// full tells a client why a journal took nothing.
func (st *store) full(cause error) *wire.Error {
	if err := notKept(cause); err != nil {
		return err
	}
	if errors.Is(cause, journal.ErrMemoryFull) {
		return wire.Errorf(wire.CodeOverloaded, "limits.memory is used up by the messages of memory queues; nothing was stored")
	}
	if errors.Is(cause, journal.ErrUnavailable) {
		return wire.Errorf(wire.CodeOverloaded, "storage %s: %v; nothing was stored", st.Name, cause)
	}
	return wire.Errorf(wire.CodeDiskFull, "there is no space for storage %s; nothing was stored", st.Name)
}

func (sh *shard) applyTasks(st *store, ts *tasks) error {
	off := 0
	for i := range ts.list {
		t := &ts.list[i]
		if ts.batch.Err != nil {
			sh.dropTask(st, ts, t, ts.batch.Err)
			continue
		}
		out, next, err := st.apply(&ts.batch, off)
		if err != nil {
			return err
		}
		off = next
		sh.answerTask(st, ts, t, out)
	}
	if ts.batch.Err != nil {
		sh.rearm(st, ts)
	}
	return nil
}

// dropTask answers a task whose record was not kept.
func (sh *shard) dropTask(st *store, ts *tasks, t *task, cause error) {
	if t.deleted != nil {
		t.deleted.Deleting = false
	}
	if t.settled != 0 {
		st.owed = append(st.owed, owed{t.queue, t.settled, sh.now + retryAfter})
	}
	sh.updateKept(t)
	sh.spare(st, t)
	if t.frozen != nil {
		st.state.Thaw(t.frozen)
	}
	if t.barrier != nil {
		sh.goOn(t.barrier)
	}
	if j := t.journey; j != nil { // the messages are in both queues: rather than in none
		j.failure = st.full(cause)
		sh.endJourney(j)
	}
	if m := t.made; m != nil {
		for _, w := range m.parked {
			sh.notLed(w, st.full(cause))
		}
		m.parked = nil
		sh.made(m)
	}
	if t.document != nil {
		t.document.done(st.full(cause))
	}
	switch {
	case t.op == wire.OpNone || t.ackBack(cause):
	case t.control != nil:
		sh.notLed(t.control.work, st.full(cause))
	default:
		sh.fail(t.s, ts.idOf(t), st.full(cause))
	}
	sh.acked(t.work)
}

// retryAfter is how long the return of a message waits that could not be recorded, ns.
const retryAfter = int64(1e9)

// rearm sees to it that returns that were not kept are tried again.
func (sh *shard) rearm(st *store, ts *tasks) {
	off := 0
	for i := range ts.list {
		payload, next := journal.NextRecord(ts.batch.Data, off)
		off = next
		if q := ts.list[i].queue; q != nil {
			for _, seq := range queue.ReturnedSeqs(payload) {
				if ts.list[i].op == wire.OpNack { // refused: the lease goes on as if nothing had been said
					st.state.Unreturn(q, seq)
				} else {
					st.state.Rearm(q, seq, sh.now+retryAfter)
				}
			}
			for _, seq := range queue.HeldSeqs(payload) {
				if notKept(ts.batch.Err) != nil { // that the lead is lost may come in the next turn
					st.state.Retry(q, seq, sh.now+retryAfter)
				} else {
					st.state.Spare(q, seq, sh.now+retryAfter)
				}
			}
		}
	}
}

// answerTask tells what has become of a record.
func (sh *shard) answerTask(st *store, ts *tasks, t *task, out queue.Outcome) {
	id := ts.idOf(t)
	sh.updateKept(t)
	sh.spare(st, t)
	switch {
	case t.document != nil:
		sh.documentKept(st, t.document, out)
		return
	case t.barrier != nil:
		sh.goOn(t.barrier)
		return
	case t.journey != nil:
		sh.emigrate(t.journey)
		return
	case t.made != nil:
		sh.made(t.made)
	case t.op == wire.OpAck || t.op == wire.OpNack:
		sh.answerAck(t.s, id, t.op, t.quiet, out.N, t.stale, 0)
		sh.acked(t.work)
		return
	case t.frozen != nil:
		st.state.Thaw(t.frozen)
	case t.deleted != nil:
		sh.unindex(t.deleted)
		sh.deleted(st)
	case t.op == wire.OpQueueDelete:
		sh.deleted(st)
	case t.op == wire.OpQueueBind || t.op == wire.OpQueueUnbind || t.op == wire.OpSubscribe:
		if !sh.bindingKept(st, t, out) {
			return
		}
	case (t.op == wire.OpQueueCancel || t.op == wire.OpQueueReschedule) && out.N == 0:
		sh.fail(t.s, id, noMessage(t.control))
		sh.finish(t.control.work)
		return
	}
	if c := t.control; c != nil {
		if t.made != nil && out.Refusal == queue.Exists && out.Queue.Settings != t.made.settings {
			sh.fail(t.s, c.id, existsOtherwise(c.name, &out.Queue.Settings, &t.made.settings))
			sh.finish(c.work)
			return
		}
		if t.op == wire.OpQueueRedrive {
			sh.answerMoved(c, out.N)
		} else if t.op == wire.OpQueuePurge && !c.quiet {
			r := sh.reply(t.s)
			r.b = append(appendNumber(wire.AppendOK(r.b, c.id), "purged", uint64(out.N)), "}\n"...)
		} else if !c.quiet {
			r := sh.reply(t.s)
			if t.made != nil && out.Queue != nil {
				r.b = appendSettings(wire.AppendOK(r.b, c.id), &out.Queue.Settings)
				r.b = append(r.b, "}\n"...)
			} else {
				r.b = wire.AppendDone(r.b, c.id)
			}
		}
		sh.finish(c.work)
	}
}

// answerAck answers an ack, nack or extend of which n messages took effect and some were stale.
func (sh *shard) answerAck(s *Session, id []byte, op wire.Op, quiet bool, n int, stale []uint64, until int64) {
	if s == nil {
		return
	}
	if len(stale) > 0 {
		err := wire.Errorf(wire.CodeLeaseLost, "%d of the messages are no longer held by this delivery; the others were dealt with", len(stale))
		err.Seqs = stale
		sh.fail(s, id, err)
		return
	}
	if quiet {
		return
	}
	c := sh.reply(s)
	c.b = wire.AppendOK(c.b, id)
	if op == wire.OpExtend {
		c.b = wire.AppendTime(append(c.b, `,"until":`...), until)
	} else {
		c.b = appendUint(append(c.b, `,"settled":`...), uint64(n))
	}
	c.b = append(c.b, "}\n"...)
}

// spare lets consumers have what was kept from them for a nack, or an ack that was not kept.
func (sh *shard) spare(st *store, t *task) {
	for _, seq := range t.held {
		st.state.Spare(t.queue, seq, sh.now)
	}
}

// updateKept notes that one of the proposed changes of a queue's settings has been decided.
func (sh *shard) updateKept(t *task) {
	if u := sh.updates[t.updated]; u != nil {
		if u.proposed--; u.proposed == 0 {
			delete(sh.updates, t.updated)
		}
	}
}

// made ends the waiting for a queue whose creation has been decided.
func (sh *shard) made(m *making) {
	if sh.making[m.name] == m {
		delete(sh.making, m.name)
	}
	if m.reserved {
		sh.b.counted.Add(-1)
	}
	sh.countQueues()
	for _, w := range m.parked {
		sh.goOn(w)
	}
	for _, s := range m.leaving {
		sh.detach(s)
	}
}

// goOn carries out a control that had to wait.
func (sh *shard) goOn(w *work) {
	if sh.admitControl(w) {
		sh.finish(w)
	}
}

// deleted tells the consumers of a queue that is no more.
func (sh *shard) deleted(st *store) {
	sh.countQueues()
	for _, c := range st.state.Removed() {
		if h, ok := c.Tag.(*waiter); ok {
			sh.drop(h)
			sh.fail(h.s, h.id, wire.Errorf(wire.CodeNotFound, "queue %q has been deleted", c.Queue.Name))
			continue
		}
		t := c.Tag.(*tag)
		if m := sh.members[t.s]; m != nil && m.subs[t.sub] == c {
			delete(m.subs, t.sub)
			sh.tellEnded(t.s, t.sub, "the queue has been deleted")
		}
	}
}
