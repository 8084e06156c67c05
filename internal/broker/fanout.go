package broker

import (
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A publish to a topic goes to many queues, all or none, wherever they are. Its way:
//
//  1. The session finds the queues and asks their shards for room (claim). Whatever can be refused is refused
//     here: a queue in which room was claimed does not give it to anybody else.
//  2. The shard that is asked last writes the copies, and proposes them: of a storage in which all shards share a
//     log as one batch, of others to each shard (stage). Storages go one after another, those that can refuse first.
//  3. The shard that applies the last copy answers (answerFanout).
//
// The session posts nothing more before the copies have been proposed: so what it sends keeps its order in every queue.

// A fanout is what one session publishes to topics in one go. It belongs to whoever has it: the session, then each of its
// shards its own goals, then the shard that came last.
type fanout struct {
	s      *Session
	units  []unit
	sheets []queue.Source // messages
	at     []int32        // where their records are in bodies
	goals  []goal
	parts  [Shards][]int32 // indices of goals, by shard
	bodies []byte          // records, one behind the other
	text   []byte          // ids
	cost   int
	copies int
	shards uint32       // bits of those that have goals
	stores uint32       // bits of the storages whose copies are still to be proposed
	left   atomic.Int32 // shards that have not made room yet; then those that have not applied the stage under way
	freed  bool         // the session may post again

	// Of one that is a node's part of a conduct (conduct.go).
	by      conductor       // told instead of the session, which is nil; nil: the fanout is all there is
	leads   uint32          // bits of the shards that this node led, in all storages, when the queues were found
	terms   *[Shards]uint64 // and the numbers of those leads
	dropped atomic.Int32    // 1: all shards have claimed, or the room is to be given back; 2: both
}

// A unit is one publish request: stored in all of its goals or in none.
type unit struct {
	id       span
	from, n  int32 // its sheets
	bytes    int64 // of their bodies
	ids      int   // how many of them have a dedup_id
	quiet    bool
	demands  uint8
	refusal  atomic.Pointer[wire.Error] // the first of them
	took     atomic.Int32               // queues
	repeated atomic.Int32               // those that knew all of it already
	goals    int
	by       atomic.Pointer[string] // the queue that refused it
}

// A goal is a queue to which a unit goes.
type goal struct {
	unit int32
	to   *bound
	void bool  // the queue is gone, or an ephemeral one has no room
	miss bool  // it has no room, which its subscriber is told
	at   int32 // of its copies in the stage's data; 0 while there are none
	room room
}

func (u *unit) refuse(err *wire.Error) { u.refusal.CompareAndSwap(nil, err) }

// publishTopic takes in a publish to a topic.
func (in *Intake) publishTopic(r *wire.Request) {
	if in.s.b.forward != nil && in.s.b.grouped.Load() {
		in.publishAll(r)
		return
	}
	in.s.awaitBindings()
	goals := in.match(r.Topic)
	if len(goals) == 0 {
		in.s.refuseOrDone(r)
		return
	}
	if n := len(goals) * len(r.Messages); n > maxCopies {
		in.s.Refuse(r.ID, wire.Errorf(wire.CodeBadRequest, "%d messages to %d queues would be %d copies; one request makes %d at most", len(r.Messages), len(goals), n, maxCopies))
		return
	}
	if to := goals[0]; len(goals) == 1 && !to.ephemeral {
		in.publishInto(r, to.shard, to.name, to.id)
		return
	}
	if in.fan == nil {
		for i := range in.open {
			in.post(i) // what was sent before goes before
		}
		in.fan = &fanout{s: in.s}
	}
	f := in.fan
	f.units = append(f.units, unit{from: int32(len(f.at)), n: int32(len(r.Messages)), quiet: r.Quiet})
	u := &f.units[len(f.units)-1]
	u.id = span{uint32(len(f.text)), uint32(len(f.text) + len(r.ID))}
	f.text = append(f.text, r.ID...)
	for i := range r.Messages {
		m := &r.Messages[i]
		start := len(f.bodies)
		f.bodies = appendMessage(f.bodies, m, r.Topic, false, false)
		f.at = append(f.at, int32(start))
		u.bytes += int64(len(m.Body))
		if len(m.DedupID) > 0 {
			u.ids++
		}
		u.demands |= demand(m.Stored)
	}
	for _, b := range goals {
		f.parts[b.shard] = append(f.parts[b.shard], int32(len(f.goals)))
		f.goals = append(f.goals, goal{unit: int32(len(f.units) - 1), to: b})
		f.shards |= 1 << b.shard
		f.stores |= 1 << b.store
	}
	if f.copies += len(goals) * len(r.Messages); len(f.bodies) >= workBytes || f.copies >= fanCopies {
		in.postFan()
	}
}

// maxCopies is how many copies one request may make, and fanCopies how many a fanout has before it is posted though more may follow.
const maxCopies, fanCopies = 200_000, 10_000

// refuseOrDone answers a publish to a topic that nobody is bound to.
func (s *Session) refuseOrDone(r *wire.Request) {
	if s.b.draining.Load() {
		s.Refuse(r.ID, errShuttingDown)
	} else if !r.Quiet {
		s.Reply(func(dst []byte) []byte { return appendNoQueues(dst, r.ID) })
	}
}

// postFan hands over the publishes to topics that were taken in so far.
func (in *Intake) postFan() {
	if c := in.conduct; c != nil {
		in.s.awaitLaunched()
		in.conduct = nil
		c.post()
		return
	}
	f := in.fan
	if f == nil {
		return
	}
	in.s.awaitLaunched()
	in.fan = nil
	for _, at := range f.at {
		payload, next := journal.NextRecord(f.bodies, int(at))
		s, _ := queue.ParseSource(payload, next-int(at)) // written just now
		f.sheets = append(f.sheets, s)
	}
	f.cost = len(f.bodies) + len(f.text) + 64*len(f.units) + 64*len(f.goals) + 48*f.copies
	in.s.working.Add(int64(f.cost))
	in.s.b.working.Add(int64(len(f.units)))
	in.s.launching.Add(1)
	f.left.Store(int32(bits.OnesCount32(f.shards)))
	for i, sh := range in.s.b.shards {
		if f.shards&(1<<i) != 0 {
			w := sh.newWork()
			w.fan = f
			sh.post(w)
		}
	}
}

// claimAll claims room for the copies that go to this shard's queues; the last shard to do so goes on.
func (sh *shard) claimAll(f *fanout) {
	for _, i := range f.parts[sh.index] {
		g := &f.goals[i]
		u := &f.units[g.unit]
		if u.refusal.Load() != nil {
			g.void = true
		} else if err := sh.claim(f, g, u); err != nil {
			g.void = true
			u.refuse(err)
		}
	}
	if f.left.Add(-1) > 0 {
		return
	}
	if f.by != nil {
		f.allClaimed(sh.b)
	} else {
		sh.advance(f)
	}
}

// claim makes sure that the copies of u find room in one queue.
func (sh *shard) claim(f *fanout, g *goal, u *unit) *wire.Error {
	q, st := g.to.queue, sh.stores[g.to.store]
	if sh.b.draining.Load() {
		return errShuttingDown
	}
	if f.by != nil && !g.to.ephemeral {
		if sh.whole == 0 || sh.whole != f.terms[sh.index] {
			return errNoQuorum
		}
	}
	if q.Gone() || q.Deleting {
		g.void = true
		return nil
	}
	full := st.Room != nil && !st.Room(u.bytes)
	switch {
	case full && g.to.ephemeral:
		g.void, g.miss = true, true
		return nil
	case full:
		return st.full(journal.ErrMemoryFull)
	case !g.to.ephemeral:
		if err := st.unmet(u.demands, []byte(q.Name)); err != nil {
			return f.about(u, q, err)
		}
	}
	n, bytes := int(u.n), u.bytes
	if u.ids > 0 {
		ids := 0
		if n, bytes, ids = q.Fresh(f.sources(u), sh.now); !q.MayRemember(ids, sh.now) {
			return f.about(u, q, tooManyIDs(q))
		}
	}
	room, ok := sh.shield(st, q, n, bytes)
	if ok || n == 0 {
		q.Promised += n
		room.promised = n
		g.room = room
		return nil
	}
	sh.unshield(st, &room)
	if g.to.ephemeral {
		g.void, g.miss = true, true
		return nil
	}
	return f.about(u, q, queueFull(q, n))
}

// about is the refusal of a topic's publish by a queue. Who may not see the queue learns neither its name nor what is in it.
func (f *fanout) about(u *unit, q *queue.Queue, err *wire.Error) *wire.Error {
	if f.by != nil { // it is for the conductor to say who may see what
		u.by.CompareAndSwap(nil, &q.Name)
		return err
	}
	if f.s.sees(q.Name) {
		return err
	}
	return discreet(err)
}

// discreet is the refusal by a queue for somebody who may not see it.
func discreet(err *wire.Error) *wire.Error {
	why := "is full"
	switch err.Code {
	case wire.CodeOverloaded:
		why = "remembers as many dedup_ids as it can"
	case wire.CodeNotStored:
		why = "gives less than was demanded of stored"
	}
	return wire.Errorf(err.Code, "a queue that is bound to the topic %s; nothing was stored", why)
}

// sources are the messages of a unit.
func (f *fanout) sources(u *unit) []queue.Source { return f.sheets[u.from : u.from+u.n] }

// advance proposes the copies of the next storage, or answers when there is none.
func (sh *shard) advance(f *fanout) {
	for _, k := range sh.b.order {
		if f.stores&(1<<k) == 0 {
			continue
		}
		f.stores &^= 1 << k
		st := f.compose(k, sh.now)
		if st == nil {
			continue
		}
		s, by, free := f.s, f.by, f.stores == 0
		f.freed = free
		f.left.Store(int32(len(st.shards)))
		sh.launch(k, st) // from here on f is others'
		if free {
			launched(s, by, f)
		}
		return
	}
	if !f.freed {
		launched(f.s, f.by, f)
	}
	sh.answerFanout(f)
}

// launched tells that all copies have been proposed.
func launched(s *Session, by conductor, f *fanout) {
	if by != nil {
		by.fanLaunched(f)
	} else {
		s.launched()
	}
}

// A stage is the copies of one storage.
type stage struct {
	f      *fanout
	store  int
	shards []int
	batch  journal.Batch
	joint  bool // in one frame of a log that the shards share
}

// compose writes the copies that go to storage k; nil where there are none.
func (f *fanout) compose(k int, now int64) *stage {
	copies := make([]int32, len(f.units))
	any := false
	for i := range f.goals {
		if g := &f.goals[i]; f.goes(g, k) {
			copies[g.unit]++
			any = true
		}
	}
	if !any {
		return nil
	}
	st := &stage{f: f, store: k}
	data, at := f.bodiesFor(copies)
	for _, off := range at {
		if off >= 0 {
			payload, _ := journal.NextRecord(data, int(off))
			queue.Address(payload, 0, now)
		}
	}
	st.batch.Parts = append(st.batch.Parts, journal.Part{Shard: journal.Nobody, End: len(data)})
	for shard := range f.parts {
		before := len(data)
		for _, i := range f.parts[shard] {
			if g := &f.goals[i]; f.goes(g, k) {
				g.at = int32(len(data))
				data = f.appendCopies(data, at, g, int(copies[g.unit]), now)
			}
		}
		if len(data) > before {
			st.shards = append(st.shards, shard)
			st.batch.Parts = append(st.batch.Parts, journal.Part{Shard: shard, End: len(data)})
		}
	}
	st.batch.Data, st.batch.Owner = data, st
	return st
}

// goes reports whether the copies of a goal go to storage k.
func (f *fanout) goes(g *goal, k int) bool {
	return g.to.store == k && !g.void && f.units[g.unit].refusal.Load() == nil
}

// bodiesFor are the records of the messages of which there are copies, and where each is; -1 where it is not among them.
func (f *fanout) bodiesFor(copies []int32) (data []byte, at []int32) {
	if f.stores == 0 && !slices.Contains(copies, 0) { // nobody else needs them, and all are needed
		return f.bodies, f.at
	}
	data, at = make([]byte, 0, 2*len(f.bodies)), make([]int32, len(f.at))
	for i := range f.units {
		for k := f.units[i].from; k < f.units[i].from+f.units[i].n; k++ {
			if at[k] = -1; copies[i] > 0 {
				_, end := journal.NextRecord(f.bodies, int(f.at[k]))
				at[k] = int32(len(data))
				data = append(data, f.bodies[f.at[k]:end]...)
			}
		}
	}
	return data, at
}

func (f *fanout) appendCopies(data []byte, at []int32, g *goal, copies int, now int64) []byte {
	u := &f.units[g.unit]
	for i := u.from; i < u.from+u.n; i++ {
		start := len(data)
		data = queue.AppendCopy(journal.BeginRecord(data), g.to.id, now, &f.sheets[i], start-int(at[i]), copies, i+1 < u.from+u.n)
		journal.EndRecord(data, start)
	}
	return data
}

// launch proposes a stage.
func (sh *shard) launch(k int, st *stage) {
	s := &sh.b.opt.Storages[k]
	alone := sh.b.joint(s)
	if st.joint = alone; alone && s.Spread != nil {
		s.Spread(&st.batch)
		return
	}
	shards, f := st.shards, st.f
	batches := make([]*journal.Batch, len(shards))
	for n, i := range shards {
		b := &journal.Batch{Data: st.batch.Data, Sharers: len(shards), Essential: true, Owner: st} // it has been asked for room
		if s.Replicated && !alone {                                                                // each shard has a log of its own, on nodes of its own
			end := 0
			b.Data, end = f.composeFor(k, i, sh.now)
			if b.Sharers = 0; sh.stores[k].turns != nil { // which keeps apart what several messages share
				b.Parts = []journal.Part{{Shard: journal.Nobody, End: end}, {Shard: i, End: len(b.Data)}}
			}
		}
		batches[n] = b
	}
	for n, i := range shards { // from here on f is others'
		b := batches[n]
		if i == sh.index {
			sh.stores[k].send(b)
			continue
		}
		w := sh.newWork()
		w.call = func(other *shard) { other.stores[k].send(b) }
		sh.b.shards[i].post(w)
	}
}

// applyStage applies this shard's copies; the last shard to do so goes on.
func (sh *shard) applyStage(st *store, g *stage, b *journal.Batch) error {
	f := g.f
	for _, i := range f.parts[sh.index] {
		goal := &f.goals[i]
		if goal.to.store != g.store || goal.at == 0 {
			continue // not in this stage
		}
		u := &f.units[goal.unit]
		if b.Err != nil {
			err := st.full(b.Err)
			if u.refuse(err); err.Code == wire.CodeUnknownOutcome { // which outweighs that another shard has certainly not taken it
				u.refusal.Store(err)
			}
		}
		off := int(goal.at)
		for n := u.n; n > 0 && b.Err == nil; n-- {
			out, next, err := st.apply(b, off)
			if err != nil {
				return err
			}
			if off = next; n == 1 && out.Queue != nil {
				u.took.Add(1)
				if repeated(out) {
					u.repeated.Add(1)
				}
			}
		}
		sh.unshield(st, &goal.room)
	}
	if f.left.Add(-1) == 0 {
		if g.joint {
			sh.b.jointOver()
		}
		sh.advance(f)
	}
	return nil
}

// repeated reports whether all messages of a publish were known already.
func repeated(out queue.Outcome) bool {
	for _, known := range out.Known {
		if !known {
			return false
		}
	}
	return len(out.Known) > 0
}

// answerFanout tells what has become of all units, and gives back what was claimed for those that were refused.
func (sh *shard) answerFanout(f *fanout) {
	weakest := sh.weakest(f)
	if f.by != nil {
		f.by.fanPublished(f, weakest)
		sh.missed(f)
		sh.unclaim(f)
		return
	}
	for i := range f.units {
		u := &f.units[i]
		id := f.text[u.id.from:u.id.to]
		if err := u.refusal.Load(); err != nil {
			sh.fail(f.s, id, err)
		} else if !u.quiet {
			c := sh.reply(f.s)
			c.b = appendNumber(wire.AppendOK(c.b, id), "queues", uint64(u.took.Load()))
			if weakest[i] != nil {
				c.b = appendText(c.b, "stored", weakest[i].Stored)
			}
			if n := u.took.Load(); n > 0 && n == u.repeated.Load() {
				c.b = append(c.b, `,"duplicate":true`...)
			}
			c.b = append(c.b, "}\n"...)
		}
	}
	sh.missed(f)
	sh.unclaim(f)
	w := sh.newWork()
	w.s, w.cost, w.requests = f.s, f.cost, len(f.units)
	sh.finish(w)
}

// missed counts what ephemeral queues had no room for.
func (sh *shard) missed(f *fanout) {
	for i := range f.goals {
		if g := &f.goals[i]; g.miss && f.units[g.unit].refusal.Load() == nil {
			g.to.missed.Add(uint64(f.units[g.unit].n))
		}
	}
}

// weakest is, for each unit, the storage that gives least of those that took it; nil where only ephemeral queues did.
func (sh *shard) weakest(f *fanout) []*store {
	least := make([]*store, len(f.units))
	for i := range f.goals {
		g := &f.goals[i]
		if g.at == 0 || g.to.ephemeral {
			continue
		}
		if st := sh.stores[g.to.store]; least[g.unit] == nil || bits.OnesCount8(st.gives) < bits.OnesCount8(least[g.unit].gives) {
			least[g.unit] = st
		}
	}
	return least
}

// unclaim gives back the room for copies that never came to be.
func (sh *shard) unclaim(f *fanout) {
	var shards uint32
	for i := range f.goals {
		if g := &f.goals[i]; g.at == 0 && !g.void {
			shards |= 1 << g.to.shard
		}
	}
	for i, other := range sh.b.shards {
		if shards&(1<<i) != 0 {
			w := sh.newWork()
			w.call = func(sh *shard) {
				for _, k := range f.parts[sh.index] {
					if g := &f.goals[k]; g.at == 0 && !g.void {
						sh.unshield(sh.stores[g.to.store], &g.room)
					}
				}
			}
			other.post(w)
		}
	}
}
