package broker

import (
	"bytes"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A task is one record that a shard has proposed, and whom to tell. Most are acks, and there are many of those.
type task struct {
	op      wire.Op // OpNone: nobody is told
	quiet   bool
	id      span // in tasks.text; of an ack or nack: a control has its own
	s       *Session
	queue   *queue.Queue // whose messages are held or on their way back until the record is kept
	settled uint64       // the message that a delivery with ack auto settles
	work    *work        // of an ack or nack
	control *control
	ack     int32 // the number in work.acks, from 1 on; 0: it cannot be asked again
	*aside        // in a list never nil
}

// An aside is what few tasks have. Nothing is written to it once its task is in a list.
type aside struct {
	deleted  *queue.Queue // queue.delete
	updated  *queue.Queue // queue.update
	frozen   *queue.Queue // queue.purge: Purgeable's, until it is decided
	barrier  *work        // that goes on when all that was proposed before has been decided
	journey  *journey     // whose messages the record takes away
	stale    []uint64     // of an ack or nack
	held     []uint64     // what nobody has a lease of, and is kept from consumers until the record is
	made     *making      // queue.create
	document *kept
}

var nothingAside aside

// tasks is a batch of records that a shard itself wrote: everything but publishes.
type tasks struct {
	batch journal.Batch
	list  []task
	text  []byte
	until int64 // all are quiet acks, and may wait for company until then; unix ns, 0: they may not (quiet.go)
	quiet int   // messages that they ack
}

// idOf is the id of the request that t answers.
func (ts *tasks) idOf(t *task) []byte {
	if t.control != nil {
		return t.control.id
	}
	return ts.text[t.id.from:t.id.to]
}

// taskBytes is the size at which a batch of tasks is proposed though more may follow.
const taskBytes = 1 << 20

// record adds t to the batch that is being collected; its record must be written next.
func (st *store) record(t task) *tasks {
	if st.tasks != nil && len(st.tasks.batch.Data) >= taskBytes {
		st.propose()
	}
	if st.tasks == nil {
		st.tasks = st.newTasks()
	}
	if t.aside == nil {
		t.aside = &nothingAside
	}
	st.tasks.list, st.tasks.until = append(st.tasks.list, t), 0
	return st.tasks
}

// spareTasks is how many batches of tasks are kept to be used again.
const spareTasks = 8

func (st *store) newTasks() *tasks {
	ts := &tasks{}
	if n := len(st.spare); n > 0 {
		ts = st.spare[n-1]
		st.spare = st.spare[:n-1]
	}
	ts.batch = journal.Batch{Essential: true, Owner: ts, Data: ts.batch.Data}
	ts.until, ts.quiet = 0, 0
	return ts
}

// reuse keeps a batch that has been dealt with, if it is not too large for that.
func (st *store) reuse(ts *tasks) {
	if len(st.spare) == spareTasks || cap(ts.batch.Data)+cap(ts.text) > spareBytes || cap(ts.list) > spareBytes/64 {
		return
	}
	clear(ts.list)
	ts.list, ts.text, ts.batch.Data = ts.list[:0], ts.text[:0], ts.batch.Data[:0]
	st.spare = append(st.spare, ts)
}

func (ts *tasks) write(f func(dst []byte) []byte) {
	start := len(ts.batch.Data)
	ts.batch.Data = f(journal.BeginRecord(ts.batch.Data))
	journal.EndRecord(ts.batch.Data, start)
}

func (ts *tasks) put(b []byte) span {
	from := uint32(len(ts.text))
	ts.text = append(ts.text, b...)
	return span{from, uint32(len(ts.text))}
}

// propose hands the collected records to the journal.
func (st *store) propose() {
	if ts := st.tasks; ts != nil {
		st.tasks = nil
		st.send(&ts.batch)
	}
}

// admitAll turns works into proposals: in their order, but for acks, which go before
// the publishes that arrived with them, so that they make room.
func (sh *shard) admitAll(works []*work) {
	works = sh.sendPast(works)
	for len(works) > 0 {
		n := 0
		for n < len(works) && works[n].control == nil && works[n].call == nil && works[n].fan == nil {
			n++
		}
		sh.warm(works[:n])
		for _, w := range works[:n] {
			for i := range w.acks {
				sh.admitAck(w, i)
			}
		}
		for _, w := range works[:n] {
			sh.admitPubs(w)
		}
		works = works[n:]
		if len(works) == 0 {
			return
		}
		for _, st := range sh.stores {
			st.propose()
		}
		w := works[0]
		works = works[1:]
		if w.call != nil {
			w.call(sh)
			continue
		} else if w.fan != nil {
			sh.claimAll(w.fan)
		} else if !sh.admitControl(w) {
			continue // parked, or ends with its record
		}
		sh.finish(w)
	}
}

// admitPubs addresses the publishes of w and proposes them.
func (sh *shard) admitPubs(w *work) {
	if len(w.pubs) == 0 {
		sh.finish(w)
		return
	}
	live := 0
	var rest *work
	for i := 0; i < len(w.pubs); {
		name := w.str(w.pubs[i].name)
		end := i + 1
		for end < len(w.pubs) && w.pubs[end].create == w.pubs[i].create && bytes.Equal(w.str(w.pubs[end].name), name) {
			end++
		}
		to, err := target{}, sh.strange(w, name)
		if err == nil {
			to, err = sh.resolve(name, w.pubs[i].create)
		}
		if err == nil && w.store != nil && w.store != to.store {
			rest = sh.split(w, i) // for another journal, as a work of its own
			break
		}
		n, bytes := 0, int64(0)
		for ; i < end; i++ {
			p, refusal := &w.pubs[i], err
			if err == nil {
				refusal = to.store.unmet(p.demands, name)
			}
			if refusal == nil && p.only != 0 && p.only != to.id {
				refusal = wire.Errorf(wire.CodeNotFound, "queue %q is another one now", name)
			}
			if refusal == nil && to.queue != nil {
				refusal = promisedAway(to.queue, w, p, n, bytes)
			}
			if refusal != nil {
				sh.refuse(w, p, refusal)
			} else {
				bytes += sh.address(w, p, to.id)
				n += int(p.n)
				live++
			}
		}
		if err == nil {
			w.store = to.store
			if n > 0 && to.queue != nil {
				r, _ := sh.shield(to.store, to.queue, n, bytes)
				w.room = append(w.room, r)
			}
		}
	}
	if live == 0 {
		sh.finish(w)
	} else {
		w.batch.Owner = w
		w.store.propose() // the acks
		w.store.send(&w.batch)
	}
	if rest != nil {
		sh.admitPubs(rest)
	}
}

// split moves the publishes of w from number i on into a new work.
func (sh *shard) split(w *work, i int) *work {
	rest := sh.newWork()
	rest.s, rest.text = w.s, append(rest.text, w.text...)
	at := w.pubs[i].at
	rest.pubs = append(rest.pubs, w.pubs[i:]...)
	for k := range rest.pubs {
		rest.pubs[k].at -= at
	}
	rest.batch.Data = append(rest.batch.Data, w.batch.Data[at:]...)
	w.batch.Data, w.pubs = w.batch.Data[:at], w.pubs[:i]
	rest.requests = len(rest.pubs)
	w.requests -= rest.requests
	rest.cost = len(rest.batch.Data)
	w.cost -= rest.cost
	return rest
}

// address writes the queue and the time into the records of p, and returns their size.
func (sh *shard) address(w *work, p *pub, id uint32) int64 {
	off := int(p.at)
	for range p.n {
		payload, next := journal.NextRecord(w.batch.Data, off)
		queue.Address(payload, id, sh.now)
		off = next
	}
	return int64(off) - int64(p.at)
}

// refuse takes a publish out of its batch, where its bytes stay without meaning.
func (sh *shard) refuse(w *work, p *pub, err *wire.Error) {
	p.refused = true
	off := int(p.at)
	for range p.n {
		payload, next := journal.NextRecord(w.batch.Data, off)
		queue.Void(payload)
		off = next
	}
	sh.failPub(w, p, err)
}

// promisedAway refuses a publish to a queue whose last room is promised to messages from topics, which cannot be
// refused any more. n messages of bytes bytes go before it.
func promisedAway(q *queue.Queue, w *work, p *pub, n int, bytes int64) *wire.Error {
	if q.Promised == 0 || q.Settings.Overflow != queue.Reject {
		return nil
	}
	if q.Fits(q.Proposed+n+int(p.n), q.ProposedBytes+bytes+w.size(p)) {
		return nil
	}
	return queueFull(q, int(p.n))
}

// size is that of a publish's records, bytes.
func (w *work) size(p *pub) int64 {
	off := int(p.at)
	for range p.n {
		_, off = journal.NextRecord(w.batch.Data, off)
	}
	return int64(off) - int64(p.at)
}

// shield claims room for n messages that take that many bytes at most, and sees to it that what they push out is nothing that a
// consumer has, or gets while they are on their way. It is false where there is no room; unshield undoes it in any case.
func (sh *shard) shield(st *store, q *queue.Queue, n int, bytes int64) (room, bool) {
	r := room{queue: q, n: n, bytes: bytes, era: st.era}
	q.Proposed += n
	q.ProposedBytes += bytes
	if q.Fits(q.Proposed, q.ProposedBytes) {
		return r, true
	}
	if q.Settings.Overflow == queue.Reject {
		return r, false
	}
	if seqs := q.Shield(q.Proposed); len(seqs) > 0 || q.Shielded {
		q.Shielded = len(seqs) > 0
		st.record(task{}).write(func(dst []byte) []byte { return queue.AppendShield(dst, q.ID, sh.now, seqs) })
		st.propose()
	}
	return r, sh.condemn(st, q) || q.Yields(n, bytes)
}

// unshield undoes shield when it is decided what was pushed out.
func (sh *shard) unshield(st *store, r *room) {
	q := r.queue
	if q == nil || r.era != st.era {
		return
	}
	q.Proposed -= r.n
	q.ProposedBytes -= r.bytes
	q.Promised -= r.promised
	sh.condemn(st, q)
	*r = room{}
}

// condemn keeps from consumers what the messages on their way to q will push out of it: what that is changes with each of
// them that is stored. It is false where too little is there: what arrives meanwhile may be delivered and pushed out.
func (sh *shard) condemn(st *store, q *queue.Queue) bool {
	if len(sh.condemned) > 0 {
		for _, seq := range sh.condemned[q] {
			st.state.Spare(q, seq, sh.now)
		}
		delete(sh.condemned, q)
	}
	if q.Proposed == 0 || q.Settings.Overflow == queue.Reject || q.Gone() || q.Fits(q.Proposed, q.ProposedBytes) {
		return true
	}
	seqs := st.state.Condemn(q, q.Proposed, q.ProposedBytes)
	if len(seqs) > 0 {
		sh.condemned[q] = seqs
	}
	return len(seqs) > 0
}

// A target is where a queue is, or will be.
type target struct {
	store *store
	id    uint32
	queue *queue.Queue // nil while the queue is being made
}

// resolve finds the queue of that name, or has it made if create says so.
func (sh *shard) resolve(name []byte, create bool) (target, *wire.Error) {
	if sh.b.draining.Load() {
		return target{}, errShuttingDown
	}
	if t, ok := sh.find(name); ok {
		return t, nil
	}
	if m := sh.making[string(name)]; m != nil {
		return target{store: m.store, id: m.id}, nil
	}
	if err := sh.lacking(name); err != nil {
		return target{}, err
	}
	if !create || !sh.b.limits.Load().AutoCreate {
		return target{}, wire.Errorf(wire.CodeNotFound, "queue %q does not exist", name)
	}
	m, err := sh.create(string(name), sh.defaults(string(name)), task{})
	if err != nil {
		return target{}, err
	}
	return target{store: m.store, id: m.id}, nil
}

// relative is the storage of the queue that shares its messages with name: source
// and dead-letter queue are in one storage. It is def where there is none yet.
func (sh *shard) relative(name, def string) string {
	other, dead := queue.SourceName(name)
	if !dead {
		other = queue.DeadName(name)
	}
	if t, ok := sh.find([]byte(other)); ok {
		return t.store.Name
	}
	if m := sh.making[other]; m != nil {
		return m.store.Name
	}
	return def
}

// defaults are the settings of a new queue of that name of which nothing else is said.
func (sh *shard) defaults(name string) queue.Settings {
	s := sh.b.limits.Load().Defaults
	s.Storage = sh.relative(name, s.Storage)
	if queue.DeadName(name) == "" && s.Overflow == queue.DeadLetterIt {
		s.Overflow = queue.Reject // it has no dead-letter queue of its own
	}
	return s
}

// spareQueues is how many queues that do not count are let be in any case.
const spareQueues = 64

// create proposes the creation of a queue.
func (sh *shard) create(name string, settings queue.Settings, t task) (*making, *wire.Error) {
	if rel := sh.relative(name, settings.Storage); rel != settings.Storage {
		return nil, wire.Errorf(wire.CodeBadRequest, "storage of queue %q must be %s, as that of the queue it shares dead letters with; it is %s", name, rel, settings.Storage)
	}
	st := sh.storeFor(name, settings.Storage)
	if st == nil {
		return nil, wire.Errorf(wire.CodeBadRequest, "storage %s is not enabled on this server", settings.Storage)
	}
	m := &making{name: name, store: st, settings: settings}
	if source, dead := queue.SourceName(name); !queue.Ephemeral(name) && (!dead || st.state.Queue(source) == nil) {
		limit := int64(sh.b.limits.Load().MaxQueues)
		if n := sh.b.counted.Add(1); n > limit {
			sh.b.counted.Add(-1)
			return nil, wire.Errorf(wire.CodeTooManyQueues, "queue %q would be number %d; max_queues is %d", name, n, limit)
		}
		m.reserved = true
		// Dead-letter queues outlive the queues they were made for; there is an end to that, too.
		if all := sh.b.queues.Load(); all > 4*limit+spareQueues {
			sh.b.counted.Add(-1)
			return nil, wire.Errorf(wire.CodeTooManyQueues, "there are %d queues with those that hold dead letters of deleted queues; max_queues is %d", all, limit)
		}
	}
	m.id = st.state.NewID()
	sh.making[name] = m
	st.propose()
	if t.aside == nil {
		t.aside = new(aside)
	}
	t.made = m
	st.record(t).write(func(dst []byte) []byte { return queue.AppendCreate(dst, m.id, sh.now, name, &settings) })
	st.tasks.batch.Essential = false
	st.propose()
	return m, nil
}

var errShuttingDown = wire.Errorf(wire.CodeShuttingDown, "the server is shutting down and takes no new work")

// admitAck deals with an ack, nack or extend of a work.
func (sh *shard) admitAck(w *work, number int) {
	a := &w.acks[number]
	if err := sh.strange(w, w.str(a.name)); err != nil {
		sh.fail(w.s, w.str(a.id), err)
		return
	}
	t, ok := sh.find(w.str(a.name))
	if !ok {
		sh.fail(w.s, w.str(a.id), sh.notFound(w.str(a.name)))
		return
	}
	q, state := t.queue, t.store.state
	if a.dead && queue.DeadName(q.Name) == "" {
		sh.fail(w.s, w.str(a.id), wire.Errorf(wire.CodeBadRequest, "dead: queue %q has no dead-letter queue", q.Name))
		return
	}
	seqs := w.seqs[a.from:a.from] // those that will be recorded, in place
	var stale, held []uint64
	for i := a.from; i < a.to; i++ {
		seq, r := w.seqs[i], queue.Receipt{}
		if a.receipts {
			r = w.receipts[i]
		}
		switch h := state.Holds(q, seq, r); {
		case h == queue.Stale:
			stale = append(stale, seq)
		case sh.away(q, seq): // as good as settled
		case a.op == wire.OpExtend:
			if h != queue.Current || !state.Extend(q, seq, sh.now+a.delay) {
				stale = append(stale, seq)
			}
		case h == queue.Unleased && a.op == wire.OpNack: // nobody gets it meanwhile: the return would end that delivery
			state.Hold(q, seq)
			seqs, held = append(seqs, seq), append(held, seq)
		case h == queue.Current:
			seqs = append(seqs, seq)
		case h == queue.Unleased, h == queue.Back && a.op == wire.OpAck: // nor does anybody whose delivery would come after the ack is confirmed
			seqs = append(seqs, seq)
			if state.Hold(q, seq) {
				held = append(held, seq)
			}
		}
	}
	if len(seqs) == 0 {
		sh.answerAck(w.s, w.str(a.id), a.op, a.quiet, 0, stale, sh.now+a.delay)
		return
	}
	tk := task{op: a.op, s: w.s, quiet: a.quiet, queue: q, work: w}
	if len(seqs) == int(a.to-a.from) { // else its own are no longer what was asked for
		tk.ack = int32(number) + 1
	}
	if stale != nil || held != nil {
		tk.aside = &aside{stale: stale, held: held}
	}
	ts := sh.recordAck(t.store, a, tk, len(seqs))
	if a.op == wire.OpAck {
		ts.write(func(dst []byte) []byte { return queue.AppendSettle(dst, q.ID, sh.now, seqs) })
		return
	}
	if len(seqs) > 1 { // named twice, it is still one attempt
		seqs = slices.Compact(slices.Sorted(slices.Values(seqs)))
	}
	reason := "nack"
	if r := w.str(a.reason); len(r) > 0 {
		reason = "nack: " + string(r)
	}
	sh.writeReturn(t.store, ts, q, seqs, reason, a)
}

// recordAck is record for an ack, nack or extend of n messages.
func (sh *shard) recordAck(st *store, a *ack, t task, n int) *tasks {
	w := t.work
	w.acking++
	until := sh.quietUntil(st, a, &t, n)
	ts := st.record(t)
	ts.list[len(ts.list)-1].id = ts.put(w.str(a.id))
	ts.until, ts.quiet = until, ts.quiet+n
	return ts
}

// writeReturn writes the way back of seqs; a is the nack that wants it, nil where something else ended the delivery.
func (sh *shard) writeReturn(st *store, ts *tasks, q *queue.Queue, seqs []uint64, reason string, a *ack) {
	rs := make([]queue.Return, len(seqs))
	for i, seq := range seqs {
		counted, number := q.Attempts(seq)
		delay := int64(q.Settings.Backoff(counted+1, sh.random()))
		if a != nil && a.delayed {
			delay = a.delay
		}
		rs[i] = queue.Return{Seq: seq, Due: sh.now + delay, Number: number}
		st.state.Returning(q, seq)
	}
	counted, dead := a == nil || a.count, a != nil && a.dead
	ts.write(func(dst []byte) []byte { return queue.AppendReturn(dst, q.ID, sh.now, rs, reason, counted, dead) })
}

// giveBackNow proposes the return at once of what a consumer had that is no more.
func (sh *shard) giveBackNow(st *store, q *queue.Queue, seqs []uint64, reason string) {
	if len(seqs) > 0 {
		sh.writeReturn(st, st.record(task{queue: q}), q, seqs, reason, &ack{delayed: true, count: true})
	}
}

// ripen lets time pass for what nobody has: what is due is ready, and what has outlived its time goes. It comes before all
// requests: a receive must not be given what is over, though the shard was busy, or the clock moved, when its time came.
func (sh *shard) ripen(st *store) {
	if next := st.state.Next(); next == 0 || next > sh.now || st.follows() {
		return
	}
	st.state.Due(sh.now)
	st.state.Outlived(sh.now, func(q *queue.Queue, seq uint64) {
		st.record(task{queue: q}).write(func(dst []byte) []byte { return queue.AppendExpire(dst, q.ID, sh.now, []uint64{seq}) })
	})
}

// expire lets time pass for the others: leases that are over, receives that have waited long enough. It comes behind the
// acks that have come up.
func (sh *shard) expire(st *store) {
	if st.follows() {
		return
	}
	for len(st.owed) > 0 && st.owed[0].at <= sh.now {
		o := st.owed[0]
		st.owed = st.owed[1:]
		st.record(task{queue: o.queue, settled: o.seq}).write(func(dst []byte) []byte {
			return queue.AppendSettle(dst, o.queue.ID, sh.now, []uint64{o.seq})
		})
	}
	if next := st.state.Next(); next == 0 || next > sh.now {
		return
	}
	st.state.Expired(sh.now, func(q *queue.Queue, seq uint64) {
		sh.writeReturn(st, st.record(task{queue: q}), q, []uint64{seq}, "the lease ended without an ack", nil)
	})
	st.state.Waited(sh.now, func(c *queue.Consumer) { sh.answerWait(st, c) })
}
