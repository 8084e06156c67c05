package broker

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A Guard says what the user of a session may do. Its methods are called from any goroutine and do not wait.
type Guard interface {
	// Generation changes whenever May may answer otherwise than before.
	Generation() uint64
	// Known reports whether the user has said who he is, or need not.
	Known() bool
	// May reports whether one of the verbs is allowed on a name, or on all that a pattern matches; without a name, on everything.
	May(verbs wire.Verb, name []byte) bool
	// Take says why n more requests are too many for now, or nil.
	Take(n int) *wire.Error
	// Note is told of what was refused, and of what was allowed beyond publishing and consuming.
	Note(op wire.Op, name []byte, err *wire.Error)
}

// guarded is a Guard where it can be swapped.
type guarded struct{ Guard }

// SetGuard has g decide over the session's requests from the next one on.
func (s *Session) SetGuard(g Guard) { s.guard.Store(&guarded{g}) }

// Others has f carry out requests that are not about queues, in the goroutine that calls Handle; f replies by itself. It is
// called before the first request.
func (s *Session) Others(f func(*wire.Request)) { s.others = f }

// A permit is what a guard has allowed lately.
type permit struct {
	name       []byte
	generation uint64
	verbs      wire.Verb // that are allowed on the name; 0: the permit is void
}

// admit is the one gate that every request passes.
func (in *Intake) admit(r *wire.Request) *wire.Error {
	if err := in.s.b.unsupported(r); err != nil {
		return err
	}
	g := in.s.guard.Load()
	if g == nil {
		return nil
	}
	return in.authorize(g, r)
}

// authorize asks the guard, unless it has allowed the same just before.
func (in *Intake) authorize(g *guarded, r *wire.Request) *wire.Error {
	switch r.Op {
	case wire.OpPublish:
		if err := g.Take(max(len(r.Messages), 1)); err != nil {
			return err
		}
		name := r.Queue
		if len(r.Topic) > 0 {
			name = r.Topic
		}
		if !in.permitted(g, &in.permits[0], wire.VerbPublish, name) {
			return in.refused(g, r.Op, wire.VerbPublish, name)
		}
		return in.replyTopics(g, r)
	case wire.OpAck, wire.OpNack, wire.OpExtend: // settling is never slowed down: it makes room
		if len(r.Queue) > 0 && r.Queue[0] == '.' && g.Known() { // its own, or not found
			return nil
		}
		if !in.permitted(g, &in.permits[1], wire.VerbConsume, r.Queue) {
			return in.refused(g, r.Op, wire.VerbConsume, r.Queue)
		}
		return nil
	}
	needs, open, known := wire.Needs(r.Op)
	if open {
		return nil
	}
	if !known {
		return in.refused(g, r.Op, wire.AnyVerb, nil)
	}
	if !g.Known() {
		return unauthenticated(r.Op)
	}
	if err := g.Take(1); err != nil {
		return err
	}
	for _, n := range needs {
		name, there := named(r, n.Field)
		if !there || n.Verbs == 0 {
			continue
		}
		p := &permit{}
		if r.Op == wire.OpReceive {
			p = &in.permits[1]
		}
		if !in.permitted(g, p, n.Verbs, name) {
			return in.refused(g, r.Op, n.Verbs, name)
		}
	}
	note(g, r)
	return nil
}

// note tells of what somebody was allowed to change.
func note(g *guarded, r *wire.Request) {
	switch r.Op {
	case wire.OpQueueCreate, wire.OpQueueUpdate, wire.OpQueueDelete, wire.OpQueuePurge, wire.OpQueuePause, wire.OpQueueResume,
		wire.OpQueueCancel, wire.OpQueueReschedule, wire.OpQueueRedrive, wire.OpQueueBind, wire.OpQueueUnbind:
		g.Note(r.Op, r.Queue, nil)
	}
}

// named is the name in a field that needs to be allowed; false where the request has none. No field is everything.
func named(r *wire.Request, f wire.Field) ([]byte, bool) {
	switch f {
	case 0:
		return nil, true
	case wire.FieldQueue:
		return r.Queue, r.Set.Has(f)
	case wire.FieldTopic:
		return r.Topic, r.Set.Has(f)
	case wire.FieldTo:
		if r.Set.Has(f) {
			return r.To, true
		}
		source, dead := queue.SourceName(string(r.Queue)) // each message goes back to where it died
		return []byte(source), dead
	}
	return nil, true // a field that nobody has thought of: everything
}

// permitted reports whether one of the verbs is allowed on a name, and remembers it in p.
func (in *Intake) permitted(g *guarded, p *permit, verbs wire.Verb, name []byte) bool {
	generation := g.Generation()
	if p.verbs&verbs != 0 && p.generation == generation && bytes.Equal(p.name, name) {
		return true
	}
	if p.verbs = 0; !g.Known() || !g.May(verbs, name) {
		return false
	}
	p.name, p.generation = append(p.name[:0], name...), generation
	if verbs&(verbs-1) == 0 { // of several it is not known which
		p.verbs = verbs
	}
	return true
}

// replyTopics sees to it that nobody has others publish where he could not listen himself: who deals with a message
// publishes to what its header reply_to says, with his own rights.
func (in *Intake) replyTopics(g *guarded, r *wire.Request) *wire.Error {
	for i := range r.Messages {
		h := r.Messages[i].Headers
		if len(h) == 0 || !bytes.Contains(h, replyTo) && bytes.IndexByte(h, '\\') < 0 {
			continue
		}
		var room [wire.MaxName + 1]byte
		to, ok := wire.Header(h, string(replyTo), room[:0])
		if !ok || !wire.ValidTopic(to) && !wire.ValidQueueName(to) { // nothing can be published there
			continue
		}
		if !g.May(wire.VerbConsume, to) {
			err := wire.Errorf(wire.CodeForbidden, "the header reply_to needs the right consume on %q, as whoever replies publishes there", to)
			g.Note(r.Op, to, err)
			return err
		}
	}
	return nil
}

var replyTo = []byte("reply_to")

func unauthenticated(op wire.Op) *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "%s needs a login: say hello with user and password, token, or mechanism first", op.String())
}

// refused is the answer where the guard allows none of the verbs. It says nothing of whether the name is there.
func (in *Intake) refused(g *guarded, op wire.Op, verbs wire.Verb, name []byte) *wire.Error {
	if !g.Known() {
		return unauthenticated(op)
	}
	err := wire.Errorf(wire.CodeForbidden, "%s on %q needs the right %s", op.String(), name, verbs.String())
	if len(name) == 0 {
		err = wire.Errorf(wire.CodeForbidden, "%s needs the right %s on everything (%s:>)", op.String(), verbs.String(), verbs.String())
	}
	g.Note(op, name, err)
	return err
}

// other hands on a request that is not about queues.
func (in *Intake) other(r *wire.Request) {
	in.Flush()
	in.s.Await()
	if in.s.others == nil {
		in.s.Refuse(r.ID, wire.Errorf(wire.CodeBadRequest, "%s: this server keeps no users", r.Op.String()))
		return
	}
	in.s.others(r)
}

// sees reports whether a session is shown a queue in lists: whether its user may do anything with it.
func (s *Session) sees(name string) bool {
	g := s.guard.Load()
	return g == nil || g.May(wire.AnyVerb, []byte(name))
}

// withdrawn is the answer to one who would consume for longer whose user may no longer consume; nil where he may. It is asked again in the shard:
// between the gate and here the right may have gone, and with it whoever would have ended the consumer.
func (w *work) withdrawn(c *control) *wire.Error {
	g := w.s.guard.Load()
	if g == nil || c.op != wire.OpSubscribe && (c.op != wire.OpReceive || c.wait == 0) {
		return nil
	}
	name := c.name
	if c.topic != nil {
		name = c.topic
	}
	if g.Known() && g.May(wire.VerbConsume, name) {
		return nil
	}
	return wire.Errorf(wire.CodeForbidden, "%s on %q needs the right consume", c.op.String(), name)
}

// Recheck ends what users consume and may no longer consume. It does not wait; what has been consumed returns.
func (b *Broker) Recheck() {
	for _, sh := range b.shards {
		w := sh.newWork()
		w.call = (*shard).recheck
		sh.post(w)
	}
	if b.forward != nil {
		b.forward.recheck()
	}
}

// recheck ends the consumers of this shard whose users may no longer consume, and tells them.
func (sh *shard) recheck() {
	sessions := slices.SortedFunc(maps.Keys(sh.members), func(a, b *Session) int { return cmp.Compare(a.number, b.number) })
	for _, s := range sessions {
		if g := s.guard.Load(); g != nil {
			sh.recheckMember(s, sh.members[s], func(q *queue.Queue) bool { return g.Known() && mayConsume(g, q) })
		}
	}
}

// recheckMember ends what a session consumes and may not consume.
func (sh *shard) recheckMember(s *Session, m *member, may func(q *queue.Queue) bool) {
	for _, sub := range slices.Sorted(maps.Keys(m.subs)) {
		c := m.subs[sub]
		if may(c.Queue) {
			continue
		}
		delete(m.subs, sub)
		sh.release(c, "the user may no longer consume")
		sh.tellEnded(s, sub, "the right to consume has been withdrawn")
	}
	for _, wt := range m.waiters() {
		if q := wt.c.Queue; !may(q) {
			sh.storeOf(q).state.Unsubscribe(wt.c)
			sh.drop(wt)
			sh.fail(s, wt.id, wire.Errorf(wire.CodeForbidden, "receive on %q needs the right consume, which has been withdrawn", q.Name))
		}
	}
}

// tellEnded tells a client that a subscription of its is over.
func (sh *shard) tellEnded(s *Session, sub uint64, reason string) {
	if s.route != nil {
		s.route.ended(sub)
	}
	r := sh.reply(s)
	r.b = appendUint(append(r.b, `{"op":"unsubscribed","sub":`...), sub)
	r.b = append(appendText(r.b, "reason", reason), "}\n"...)
}

// mayConsume is May for a queue that is there; of an ephemeral one the patterns count.
func mayConsume(g *guarded, q *queue.Queue) bool {
	if !queue.Ephemeral(q.Name) {
		return g.May(wire.VerbConsume, []byte(q.Name))
	}
	for _, pattern := range q.Bindings {
		if !g.May(wire.VerbConsume, []byte(pattern)) {
			return false
		}
	}
	return true
}
