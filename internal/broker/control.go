package broker

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A control is a request other than publish, ack, nack and extend, copied out of its line.
type control struct {
	op       wire.Op
	id       []byte
	name     []byte
	quiet    bool
	create   bool
	auto     bool
	max      int
	wait     time.Duration
	lease    time.Duration // 0: the queue's
	sub      uint64
	seq      uint64       // of cancel and reschedule
	due      time.Time    // of reschedule; zero: after wait
	state    string       // of peek and purge; "": any
	settled  *queue.Queue // purge: the one it is meant for, when what was proposed before it has been decided
	after    uint64       // of peek
	to       []byte       // of redrive; nil: where the messages came from
	topic    []byte       // a pattern: of bind, unbind and subscribe
	set      wire.Field
	settings wire.Settings
	work     *work
	silent   bool // nobody is told: a subscription is made again (route.go)
	done     bool // answered by another node
	living   bool // unsubscribe: the client has not been told of the subscription's end
	drain    bool // unsubscribe: what is leased stays so
}

// A tag is what a consumer's Tag holds for a subscription and for a session's receives (sub 0).
type tag struct {
	s    *Session
	sub  uint64
	told uint64 // how many messages an ephemeral queue has dropped, as the client knows
}

// An update is what queue.update has made of a queue's settings when all that is proposed is kept.
type update struct {
	settings queue.Settings
	proposed int
}

// A waiter is a receive that waits.
type waiter struct {
	s    *Session
	id   []byte
	max  int
	c    *queue.Consumer
	work *work
	n    uint64 // the how-manieth of its shard
}

// maxSubs is how many subscriptions one connection may have.
const maxSubs = 10_000

func clone(b []byte) []byte { return append([]byte(nil), b...) }

func (in *Intake) control(r *wire.Request) {
	c := &control{
		op: r.Op, name: clone(r.Queue), quiet: r.Quiet, create: r.Create, auto: r.AutoAck,
		max: int(r.Max), wait: r.Wait, sub: r.Sub, set: r.Set, settings: r.Settings,
	}
	if len(r.ID) > 0 {
		c.id = clone(r.ID)
	}
	if len(r.Topic) > 0 {
		c.topic = clone(r.Topic)
	}
	if r.Set.Has(wire.FieldLease) {
		c.lease = r.Lease
	}
	c.settings.Storage, c.settings.Overflow = clone(c.settings.Storage), clone(c.settings.Overflow)
	shard := in.shardOf(r.Queue)
	switch r.Op {
	case wire.OpQueueCancel, wire.OpQueueReschedule:
		c.seq, c.due, c.wait = r.Seqs[0], r.At, r.Delay
	case wire.OpQueueExplain:
		c.seq = r.Seqs[0]
	case wire.OpQueuePurge:
		c.state = string(r.State)
	case wire.OpQueuePeek:
		c.state, c.after, c.max = string(r.State), r.AfterSeq, int(r.Limit)
	case wire.OpQueueRedrive:
		if c.to = clone(r.To); !r.Set.Has(wire.FieldMax) || r.Max > maxRedrive {
			c.max = maxRedrive
		}
	case wire.OpSubscribe:
		c.max = int(r.Credit)
		if len(in.subs) >= maxSubs {
			in.s.Refuse(r.ID, wire.Errorf(wire.CodeOverloaded, "this connection has had %d subscriptions that it did not end, as many as it may", maxSubs))
			return
		}
		in.lastSub++
		c.sub = in.lastSub
		if c.topic != nil {
			if in.topical >= maxOwnEphemeral {
				in.s.Refuse(r.ID, wire.Errorf(wire.CodeOverloaded, "this connection has had %d subscriptions to topics that it did not end, as many as it may", maxOwnEphemeral))
				return
			}
			in.topical++
			c.name = in.s.ephemeralName(c.sub)
			shard = shardOf(c.name)
		}
		if in.subs == nil {
			in.subs = map[uint64]home{}
		}
		in.subs[c.sub] = home{shard, c.topic != nil}
		if in.s.route != nil && c.topic == nil {
			in.s.route.asked(shard, c)
		}
	case wire.OpUnsubscribe:
		at, ok := in.subs[r.Sub]
		if !ok {
			in.s.Refuse(r.ID, wire.Errorf(wire.CodeNotFound, "sub %d is no subscription of this connection", r.Sub))
			return
		}
		shard, c.drain = at.shard, r.Drain
		in.unsubscribe(c, at)
	}
	in.alone(shard, c)
}

// admitControl carries out a control request. It is false where the request ends later.
func (sh *shard) admitControl(w *work) bool {
	c := w.control
	c.work = w
	if w.s.detached.Load()&(1<<sh.index) != 0 && (c.op == wire.OpSubscribe || c.op == wire.OpReceive) {
		// It waited for a queue that was deleted before it was made; nobody would end what it begins.
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeNotFound, "queue %q has been deleted", c.name))
		return true
	}
	if err := w.withdrawn(c); err != nil {
		sh.fail(w.s, c.id, err)
		return true
	}
	if c.op == wire.OpUnsubscribe {
		return sh.unsubscribe(w, c)
	}
	if c.op == wire.OpSubscribe && c.topic != nil {
		return sh.subscribeTopic(w, c)
	}
	if sh.past(w) && sh.sendBack(w) {
		return false
	}
	if err := sh.strange(w, c.name); err != nil {
		sh.fail(w.s, c.id, err)
		return true
	}
	if m := sh.making[string(c.name)]; m != nil {
		switch {
		case c.op == wire.OpQueuePurge && c.state != "": // needs the queue
		case c.op == wire.OpQueueUpdate || c.op == wire.OpQueueDelete || c.op == wire.OpQueuePurge || c.op == wire.OpQueuePause || c.op == wire.OpQueueResume:
			return sh.changeQueue(w, c, m.store, m.id, string(c.name), &m.settings) // so that what comes behind it stays behind it
		}
		m.parked = append(m.parked, w)
		return false
	}
	t, ok := sh.find(c.name)
	switch {
	case c.op == wire.OpQueueCreate:
		if err := sh.lacking(c.name); err != nil && !ok {
			sh.fail(w.s, c.id, err)
			return true
		}
		return sh.createQueue(w, c, t, ok)
	case ok:
	case c.op == wire.OpSubscribe || c.op == wire.OpReceive:
		if _, err := sh.resolve(c.name, c.create); err != nil {
			sh.fail(w.s, c.id, err)
			return true
		}
		m := sh.making[string(c.name)]
		m.parked = append(m.parked, w)
		return false
	default:
		sh.fail(w.s, c.id, sh.notFound(c.name))
		return true
	}
	return sh.control(w, c, t)
}

// control carries out a control request about a queue that is there. It is false where the request ends later.
func (sh *shard) control(w *work, c *control, t target) bool {
	if j := sh.leaving[t.queue]; j != nil && (c.op == wire.OpQueuePurge || c.op == wire.OpQueueDelete || c.op == wire.OpQueueRedrive) {
		j.parked = append(j.parked, w) // the messages under way are no longer its to end
		return false
	}
	switch c.op {
	case wire.OpSubscribe:
		sh.subscribe(w, c, t)
	case wire.OpReceive:
		return sh.receive(w, c, t)
	case wire.OpQueueInfo:
		if !c.quiet {
			r := sh.reply(w.s)
			r.b = append(sh.appendInfo(wire.AppendOK(r.b, c.id), t.queue), "}\n"...)
		}
	case wire.OpQueuePeek:
		return sh.peek(w, c, t)
	case wire.OpQueueExplain:
		sh.explain(w, c, t)
	case wire.OpQueueRedrive:
		return sh.redrive(w, c, t)
	case wire.OpQueueCancel, wire.OpQueueReschedule:
		return sh.changeMessage(w, c, t)
	case wire.OpQueueBind, wire.OpQueueUnbind:
		return sh.bind(w, c, t)
	case wire.OpQueuePurge:
		if c.settled != nil && c.settled != t.queue {
			sh.fail(w.s, c.id, wire.Errorf(wire.CodeNotFound, "queue %q has been deleted", c.name))
			return true
		}
		if c.state != "" && c.settled == nil { // what was published before is to be there when the messages are chosen
			c.settled = t.queue
			t.store.record(task{aside: &aside{barrier: w}}).write(queue.AppendNoop)
			t.store.propose()
			return false
		}
		return sh.changeQueue(w, c, t.store, t.id, t.queue.Name, &t.queue.Settings)
	default:
		settings := t.queue.Settings
		if u := sh.updates[t.queue]; u != nil {
			settings = u.settings
		}
		return sh.changeQueue(w, c, t.store, t.id, t.queue.Name, &settings)
	}
	return true
}

// changeMessage proposes the end, or another time, of a message that nobody has.
func (sh *shard) changeMessage(w *work, c *control, t target) bool {
	q := t.queue
	if t.store.state.Holds(q, c.seq, queue.Receipt{}) == queue.Settled || sh.away(q, c.seq) {
		sh.fail(w.s, c.id, noMessage(c))
		return true
	}
	if !t.store.state.Hold(q, c.seq) {
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeBadRequest, "seq %d of queue %q is leased; its consumer settles it", c.seq, q.Name))
		return true
	}
	due := c.due.UnixNano()
	if c.due.IsZero() {
		due = sh.now + int64(c.wait)
	}
	t.store.record(task{op: c.op, s: w.s, control: c, queue: q}).write(func(dst []byte) []byte {
		if c.op == wire.OpQueueCancel {
			return queue.AppendCancel(dst, q.ID, sh.now, c.seq)
		}
		return queue.AppendMoveTo(dst, q.ID, sh.now, c.seq, due)
	})
	return false
}

// changeQueue proposes what changes a queue; the reply comes when it is kept. settings are
// those in force when everything proposed so far is kept, and are brought up to date.
func (sh *shard) changeQueue(w *work, c *control, st *store, id uint32, name string, settings *queue.Settings) bool {
	var updated *queue.Queue
	if c.op == wire.OpQueueUpdate {
		now := *settings
		err := merge(&now, c)
		if err == nil && now.Storage != settings.Storage {
			err = wire.Errorf(wire.CodeBadRequest, "storage of queue %q is %s and cannot change", name, settings.Storage)
		}
		if err == nil {
			err = checkDead(name, &now)
		}
		if err != nil {
			sh.fail(w.s, c.id, err)
			return true
		}
		*settings = now
		if q := st.state.Queue(name); q != nil && q.ID == id {
			u := sh.updates[q]
			if u == nil {
				u = &update{}
				sh.updates[q] = u
			}
			u.settings = now
			u.proposed++
			updated = q
		}
	}
	t := task{op: c.op, s: w.s, control: c, aside: &aside{updated: updated}}
	if c.op == wire.OpQueueDelete { // from here on, the name is free for a new queue
		if delete(sh.making, name); st.state.Queue(name) != nil {
			t.deleted = st.state.Queue(name)
			t.deleted.Deleting = true
		}
	}
	var purge *queue.Purge
	if q := st.state.Queue(name); c.op == wire.OpQueuePurge && c.state != "" {
		if t.queue, purge = q, st.state.Purgeable(q, c.state); purge.But {
			t.frozen = q
		}
	}
	st.record(t).write(func(dst []byte) []byte {
		switch c.op {
		case wire.OpQueueUpdate:
			return queue.AppendUpdate(dst, id, sh.now, settings)
		case wire.OpQueueDelete:
			return queue.AppendDelete(dst, id, sh.now)
		case wire.OpQueuePurge:
			if purge == nil {
				return queue.AppendPurge(dst, id, sh.now)
			}
			return queue.AppendPurgeState(dst, id, sh.now, purge)
		}
		return queue.AppendPause(dst, id, sh.now, c.op == wire.OpQueuePause)
	})
	st.propose()
	return false
}

func (sh *shard) createQueue(w *work, c *control, t target, exists bool) bool {
	if exists {
		settings := t.queue.Settings
		if err := merge(&settings, c); err != nil {
			sh.fail(w.s, c.id, err)
		} else if settings != t.queue.Settings {
			sh.fail(w.s, c.id, existsOtherwise(c.name, &t.queue.Settings, &settings))
		} else if !c.quiet {
			r := sh.reply(w.s)
			r.b = append(appendSettings(wire.AppendOK(r.b, c.id), &settings), "}\n"...)
		}
		return true
	}
	settings := sh.defaults(string(c.name))
	err := merge(&settings, c)
	if err == nil {
		err = checkDead(string(c.name), &settings)
	}
	if err == nil && sh.b.draining.Load() {
		err = errShuttingDown
	}
	if err == nil {
		_, err = sh.create(string(c.name), settings, task{op: c.op, s: w.s, control: c})
	}
	if err != nil {
		sh.fail(w.s, c.id, err)
		return true
	}
	return false
}

// checkDead: a dead-letter queue can have none of its own.
func checkDead(name string, s *queue.Settings) *wire.Error {
	if queue.DeadName(name) == "" && s.Overflow == queue.DeadLetterIt {
		return wire.Errorf(wire.CodeBadRequest, "overflow dead_letter: %q is a dead-letter queue and has none of its own", name)
	}
	return nil
}

// overflows are the policies' names on the wire, by queue.Overflow.
var overflows = [...]string{queue.Reject: "reject", queue.DropOldest: "drop_oldest", queue.DeadLetterIt: "dead_letter"}

// merge puts the settings that a request names into s.
func merge(s *queue.Settings, c *control) *wire.Error {
	has, in := c.set.Has, &c.settings
	if has(wire.FieldStorage) {
		s.Storage = string(in.Storage)
	}
	if has(wire.FieldMaxMessages) {
		s.MaxMessages = in.MaxMessages
	}
	if has(wire.FieldMaxBytes) {
		s.MaxBytes = in.MaxBytes
	}
	if has(wire.FieldOverflow) {
		for i, name := range overflows {
			if name == string(in.Overflow) {
				s.Overflow = queue.Overflow(i)
			}
		}
	}
	if has(wire.FieldLease) {
		s.Lease = in.Lease
	}
	if has(wire.FieldMaxDeliveries) {
		s.MaxDeliveries = in.MaxDeliveries
	}
	if has(wire.FieldRetryMin) {
		s.RetryMin = in.RetryMin
	}
	if has(wire.FieldRetryMax) {
		s.RetryMax = in.RetryMax
	}
	if has(wire.FieldRetryFactor) {
		s.RetryFactor = in.RetryFactor
	}
	if has(wire.FieldRetryJitter) {
		s.RetryJitter = in.RetryJitter
	}
	if has(wire.FieldTTL) {
		s.TTL = in.TTL
	}
	if has(wire.FieldDedupWindow) {
		s.DedupWindow = in.DedupWindow
	}
	if has(wire.FieldDeadLetterExpired) {
		s.DeadLetterExpired = in.DeadLetterExpired
	}
	if s.RetryMin > s.RetryMax {
		return wire.Errorf(wire.CodeBadRequest, "retry: min %s is more than max %s", s.RetryMin, s.RetryMax)
	}
	return nil
}

func (sh *shard) member(s *Session) *member {
	m := sh.members[s]
	if m == nil {
		m = &member{subs: map[uint64]*queue.Consumer{}, holds: map[*queue.Queue]*queue.Consumer{}, waits: map[*queue.Consumer]struct{}{}}
		sh.members[s] = m
	}
	return m
}

func (c *control) leaseOf(q *queue.Queue) time.Duration {
	if c.lease != 0 {
		return c.lease
	}
	return q.Settings.Lease
}

func (sh *shard) subscribe(w *work, c *control, t target) {
	if old := sh.member(w.s).subs[c.sub]; old != nil { // whoever makes it again has not known that it is there
		sh.storeOf(old.Queue).state.Unsubscribe(old)
	}
	cons := &queue.Consumer{Queue: t.queue, Tag: &tag{s: w.s, sub: c.sub}, Limit: c.max, Lease: c.leaseOf(t.queue), Auto: c.auto}
	m := sh.member(w.s)
	m.subs[c.sub] = cons
	cons.Crew = sh.crew(m, t.store)
	if w.s.route != nil {
		w.s.route.made(c.sub, sh.b.term(sh.index))
	}
	if !c.quiet && !c.silent {
		r := sh.reply(w.s)
		r.b = append(appendUint(append(wire.AppendOK(r.b, c.id), `,"sub":`...), c.sub), "}\n"...)
	}
	t.store.state.Subscribe(cons)
}

func (sh *shard) unsubscribe(w *work, c *control) bool {
	m := sh.members[w.s]
	var cons *queue.Consumer
	if m != nil {
		cons = m.subs[c.sub]
	}
	if cons == nil {
		if mk := sh.makingFor(w.s, c.sub); mk != nil {
			mk.parked = append(mk.parked, w)
			return false
		}
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeNotFound, "sub %d is no subscription of this connection", c.sub))
		return true
	}
	st := sh.storeOf(cons.Queue)
	if c.drain {
		sh.drain(w, c, st, cons)
		return true
	}
	delete(m.subs, c.sub)
	if q := cons.Queue; queue.Ephemeral(q.Name) {
		st.state.Unsubscribe(cons)
		sh.endEphemeral(st, q, task{op: c.op, s: w.s, control: c})
		return false
	}
	if seqs := st.state.Unsubscribe(cons); len(seqs) > 0 { // the reply says that they are back
		ts := st.record(task{op: c.op, s: w.s, control: c, queue: cons.Queue})
		sh.writeReturn(st, ts, cons.Queue, seqs, "unsubscribed", &ack{delayed: true, count: true})
		return false
	}
	if !c.quiet {
		r := sh.reply(w.s)
		r.b = wire.AppendDone(r.b, c.id)
	}
	return true
}

// makingFor is the making for which the subscription waits; nil where none does.
func (sh *shard) makingFor(s *Session, sub uint64) *making {
	for _, m := range sh.making {
		for _, w := range m.parked {
			if c := w.control; w.s == s && c.op == wire.OpSubscribe && c.sub == sub {
				return m
			}
		}
	}
	return nil
}

func (sh *shard) storeOf(q *queue.Queue) *store { return sh.storeFor(q.Name, q.Settings.Storage) }

// storeFor is where a queue of that name is kept whose settings say storage; nil where that is not enabled.
func (sh *shard) storeFor(name, storage string) *store {
	if queue.Ephemeral(name) {
		return sh.passing
	}
	return sh.byName[storage]
}

// release ends a consumer and lets what it had return at once.
func (sh *shard) release(c *queue.Consumer, reason string) {
	st := sh.storeOf(c.Queue)
	if queue.Ephemeral(c.Queue.Name) {
		st.state.Unsubscribe(c)
		sh.endEphemeral(st, c.Queue, task{})
		return
	}
	sh.giveBackNow(st, c.Queue, st.state.Unsubscribe(c), reason)
}

// asideFor is where sessions are noted that end while a receive or subscription of theirs is parked; nil where none is.
func (sh *shard) asideFor(s *Session) *[]*Session {
	begins := func(w *work) bool {
		return w.s == s && (w.control.op == wire.OpReceive || w.control.op == wire.OpSubscribe)
	}
	for _, m := range sh.making {
		if slices.ContainsFunc(m.parked, begins) {
			return &m.leaving
		}
	}
	for _, st := range sh.stores {
		if slices.ContainsFunc(st.fetching.parked, begins) {
			return &st.fetching.leaving
		}
	}
	return nil
}

// detach ends everything that a session has in this shard, behind what it asked for before.
func (sh *shard) detach(s *Session) {
	if aside := sh.asideFor(s); aside != nil {
		*aside = append(*aside, s)
		return
	}
	s.detached.Or(1 << sh.index)
	m := sh.members[s]
	delete(sh.members, s)
	if m == nil {
		return
	}
	for _, wt := range m.waiters() {
		sh.storeOf(wt.c.Queue).state.Unsubscribe(wt.c)
		sh.finish(wt.work)
	}
	for _, w := range m.later {
		sh.finish(w)
	}
	if sh.b.draining.Load() { // a lease that ends with the server does not count
		for _, c := range m.subs {
			sh.storeOf(c.Queue).state.Unsubscribe(c)
		}
		return
	}
	for _, sub := range slices.Sorted(maps.Keys(m.subs)) {
		sh.release(m.subs[sub], "the consumer's connection was lost")
	}
	holds := slices.Collect(maps.Values(m.holds))
	slices.SortFunc(holds, func(a, b *queue.Consumer) int { return cmp.Compare(a.Queue.ID, b.Queue.ID) })
	for _, c := range holds {
		sh.release(c, "the consumer's connection was lost")
	}
}
