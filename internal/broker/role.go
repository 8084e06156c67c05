package broker

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A shard whose journal has replicas on other nodes is led on one node at a time. Only there are requests taken, leases given
// and things proposed because time has passed; the others apply what has been decided (follow.go).

// A seat is who leads a shard, as everybody may see it. It is the shard's to change.
type seat struct {
	leader atomic.Uint64 // twice the node's number, and one where it is this node, and the shard serves
	term   atomic.Uint64
	whole  atomic.Uint64 // the number of the lead in which it serves all storages; 0: it does not
}

// leader is the node that leads a shard, 0 where none is known. here says that it is this one, and that it has all that was
// decided under others.
func (b *Broker) leader(shard int) (node uint64, here bool) {
	v := b.seats[shard].leader.Load()
	return v >> 1, v&1 != 0
}

// term tells one leadership of a shard from another: a node that wins the lead again has another term, unless it had it all the time, and
// other groups of the shard came and went. 0 is a node alone's.
func (b *Broker) term(shard int) uint64 { return b.seats[shard].term.Load() }

// Leader is leader for the broker's owner.
func (b *Broker) Leader(shard int) (node uint64, here bool) { return b.leader(shard) }

// onRole has f called, in the shard's goroutine, when leader or term of a shard has changed. It must not wait. It is called before the first
// session is made.
func (b *Broker) onRole(f func(shard int)) { b.roleHooks = append(b.roleHooks, f) }

// OnRole is onRole for the broker's owner.
func (b *Broker) OnRole(f func(shard int)) { b.onRole(f) }

// errLapsed is the outcome of what was proposed by a leader that leads no more: nobody knows it yet, or ever.
var errLapsed = errors.New("the lead was lost before the outcome was known")

// notKept is the error for a request whose records a group has not taken, or may not have; nil where cause is something else.
func notKept(cause error) *wire.Error {
	switch {
	case errors.Is(cause, journal.ErrNotLeading), errors.Is(cause, journal.ErrOverruled):
		return errNotLeading
	case errors.Is(cause, errLapsed), errors.Is(cause, journal.ErrUnknown):
		return wire.Errorf(wire.CodeUnknownOutcome, "the node that led the queue has ceased to lead it before it was known whether a majority has this; it may be kept or not")
	}
	return nil
}

var errNotLeading = wire.Errorf(wire.CodeNoQuorum, "this node does not lead the queue, and nothing was stored")

// strange is the refusal of a request about a queue that this node does not lead; nil where it may go on. Ephemeral queues are their session's
// node's own, whoever leads.
func (sh *shard) strange(w *work, name []byte) *wire.Error {
	if len(name) > 0 && name[0] == '.' {
		return nil
	}
	if sh.leads && (w.term == 0 || w.term == sh.term) && (w.volley == 0 || w.volley > w.s.fences[sh.index]) && (sh.whole != 0 || sh.serves(name)) {
		return nil
	}
	if w.volley != 0 { // what was sent behind it must not be taken before it
		w.s.fences[sh.index] = max(w.s.fences[sh.index], w.volley)
	}
	return errNotLeading
}

// follows reports whether another node, or none, leads the store: nothing is delivered or proposed for time that has passed.
func (st *store) follows() bool { return st.replicas != nil && !st.leads }

// send proposes a batch.
func (st *store) send(b *journal.Batch) {
	if st.replicas != nil && !b.Local {
		st.sent = append(st.sent, b)
	}
	st.journal.Propose(b)
}

// returned notes that batches have come back. As a rule they come in the order in which they were proposed.
func (st *store) returned(batches []*journal.Batch) {
	n := 0
	for _, b := range batches {
		if n == len(st.sent) {
			break
		}
		if b.Local {
			continue
		}
		if st.sent[n] == b {
			n++
		} else if at := slices.Index(st.sent, b); at > n {
			st.sent = slices.Delete(st.sent, at, at+1)
		}
	}
	st.sent = slices.Delete(st.sent, 0, n)
}

// changeRole is told that another role holds from the batches on that have just come back: they have an outcome already.
func (sh *shard) changeRole(st *store, role journal.Role, back []*journal.Batch) {
	was := st.role
	st.role = role
	if was.Term != role.Term {
		st.reigns = 0
	}
	if began := was.Leading && was.Term == 0 && role.Leading; !began { // else it is the group of a node that was alone: nothing has changed hands
		sh.lapseAll(st, back)
		st.sent = slices.DeleteFunc(st.sent, func(b *journal.Batch) bool { return b.Owner == nil }) // they may never come
		if st.leads {
			sh.resign(st)
		}
	}
	sh.takeSeat()
}

// partly is how long a shard that is led on disks waits for its other groups before it serves without them, ns.
const partly = int64(time.Second)

// lead begins to lead what it can. The group of the first storage has to be led here; the others a while later at the latest, or the shard
// serves without them, and they are added when they are.
func (sh *shard) lead() {
	first, all := sh.primary(), sh.allLead()
	switch {
	case sh.whole != 0:
		return
	case !first.ready():
		sh.alone = 0
		return
	case !sh.leads && !all:
		if sh.alone == 0 {
			sh.alone = sh.now + partly
		}
		if sh.now < sh.alone {
			return
		}
	}
	sh.alone = 0
	for _, st := range sh.stores {
		if st.replicas != nil && !st.leads && st.ready() {
			st.era++
			st.state.Lead(st.reign())
			st.leads, sh.leads = true, true
			sh.account(st)
			sh.signal()
		}
	}
	if all {
		sh.makeWhole()
	}
	sh.takeSeat()
}

// makeWhole notes that all storages are served.
func (sh *shard) makeWhole() {
	sh.wholes++
	sh.whole = sh.wholes
	sh.b.seats[sh.index].whole.Store(sh.whole)
}

// primary is the storage whose group leads the shard: the first, as it outlives its nodes. Nil where none has a group.
func (sh *shard) primary() *store {
	for _, st := range sh.stores {
		if st.replicas != nil {
			return st
		}
	}
	return nil
}

// ready reports whether a group is led here, and nothing is on its way that was proposed before.
func (st *store) ready() bool { return st.role.Leading && len(st.sent) == 0 }

// serves reports whether it is known which storage has a queue of that name, and that one is led here. Of a name that is not known here another
// storage may have a queue.
func (sh *shard) serves(name []byte) bool {
	t, ok := sh.find(name)
	return ok && !t.store.follows()
}

// reign names this leadership in receipts: by the term, and, as the shard may lead again while this group has been led here all the time,
// by how often it has led in it. No other node has led this group in this term.
func (st *store) reign() uint32 {
	n := st.reigns
	st.reigns++
	return uint32(st.role.Term) + n<<24
}

func (sh *shard) allLead() bool {
	return !slices.ContainsFunc(sh.stores, func(st *store) bool { return st.replicas != nil && !st.ready() })
}

// setLeads lets it lead all, or nothing.
func (sh *shard) setLeads(leads bool) {
	sh.leads, sh.whole = leads, 0
	for _, st := range sh.stores {
		st.leads = leads
	}
	if leads {
		sh.makeWhole()
	} else {
		sh.b.seats[sh.index].whole.Store(0)
	}
}

// takeSeat lets others see who leads: whoever leads the group of the first storage, as the others' are led from there, or about to be.
func (sh *shard) takeSeat() {
	node, term := sh.b.opt.ID, uint64(0)
	if first := sh.primary(); first != nil {
		if term = first.role.Term; !first.role.Leading {
			node = first.role.Leader
		}
	}
	for _, st := range sh.stores {
		if st.replicas != nil && (!st.role.Leading || st.role.Term > 0) {
			sh.b.grouped.Store(true)
		}
	}
	sh.seatAt(node, term)
}

func (sh *shard) seatAt(node, term uint64) {
	s := &sh.b.seats[sh.index]
	v := node << 1
	if sh.leads {
		v |= 1
	}
	sh.term = term
	if s.leader.Load() == v && s.term.Load() == term {
		return
	}
	s.term.Store(term)
	s.leader.Store(v)
	for _, f := range sh.b.roleHooks {
		f(sh.index)
	}
}

// resign ends all that this node has begun as the shard's leader. What was not proposed is certainly not kept; of what was, nobody here will hear,
// also where it is another storage's group that has lost the lead.
func (sh *shard) resign(lost *store) {
	sh.setLeads(false)
	for _, st := range sh.stores {
		if ts := st.tasks; st.replicas != nil && ts != nil {
			st.tasks = nil
			sh.dropTasks(st, ts, journal.ErrNotLeading)
		}
	}
	for _, st := range sh.stores {
		if st != lost {
			sh.lapseAll(st, nil)
		}
	}
	for _, j := range slices.SortedFunc(maps.Values(sh.leaving), func(a, b *journey) int { return cmp.Compare(a.queue.ID, b.queue.ID) }) {
		j.failure = notKept(errLapsed)
		sh.endJourney(j) // its part may still come home
	}
	for _, name := range slices.Sorted(maps.Keys(sh.making)) {
		if m := sh.making[name]; m != nil && !queue.Ephemeral(name) {
			sh.turnAway(m.parked)
			m.parked = nil
			sh.made(m)
		}
	}
	sh.dismiss()
	clear(sh.updates)
	for q := range sh.condemned {
		if !queue.Ephemeral(q.Name) {
			delete(sh.condemned, q)
		}
	}
	for _, st := range sh.stores {
		if st.replicas != nil {
			st.era++
			st.owed = nil
			st.state.Follow()
			sh.account(st)
		} else {
			sh.abandon(st)
		}
	}
}

// turnAway ends controls that have waited for something that this node does not lead any more.
func (sh *shard) turnAway(works []*work) {
	for _, w := range works {
		sh.notLed(w, errNotLeading)
	}
}

// lapseAll lets what was proposed to a store have no outcome, but for what is back.
func (sh *shard) lapseAll(st *store, back []*journal.Batch) {
	for _, b := range st.sent {
		if b.Owner != nil && !slices.Contains(back, b) {
			sh.lapse(st, b)
		}
	}
}

// lapse answers what was proposed in a batch. When it comes back after all, it is as another node's.
func (sh *shard) lapse(st *store, b *journal.Batch) {
	failed := &journal.Batch{Err: errLapsed}
	switch owner := b.Owner.(type) {
	case *work:
		sh.lost(st, owner, errLapsed)
		for i := range owner.room {
			sh.unshield(st, &owner.room[i])
		}
		owner.room, owner.lapsed = nil, true // its bytes are the journal's
		sh.finish(owner)
	case *tasks:
		owner.batch.Err = nil
		sh.dropTasks(st, owner, errLapsed)
	case *journey:
		_ = sh.applyJourney(st, owner, failed) // applies nothing
	case *stage:
		_ = sh.applyStage(st, owner, failed)
	}
	b.Owner = nil
}

func (sh *shard) dropTasks(st *store, ts *tasks, cause error) {
	for i := range ts.list {
		sh.dropTask(st, ts, &ts.list[i], cause)
	}
}

// dismiss ends what sessions have of this shard's queues, but for the ephemeral ones. Their clients are not told: whoever serves them
// subscribes for them at the next leader, which may be this one again.
func (sh *shard) dismiss() {
	sessions := slices.SortedFunc(maps.Keys(sh.members), func(a, b *Session) int { return cmp.Compare(a.number, b.number) })
	for _, s := range sessions {
		m := sh.members[s]
		for _, wt := range m.waiters() {
			if q := wt.c.Queue; !queue.Ephemeral(q.Name) {
				sh.storeOf(q).state.Unsubscribe(wt.c)
				delete(m.waits, wt.c)
				sh.notLed(wt.work, errNotLeading)
			}
		}
		later := m.later
		m.later = nil
		for _, w := range later {
			if name := w.control.name; len(name) > 0 && name[0] == '.' {
				m.later = append(m.later, w)
			} else {
				sh.turnAway([]*work{w})
			}
		}
		var lost []uint64
		for _, sub := range slices.Sorted(maps.Keys(m.subs)) {
			if c := m.subs[sub]; !queue.Ephemeral(c.Queue.Name) {
				sh.storeOf(c.Queue).state.Unsubscribe(c)
				delete(m.subs, sub)
				lost = append(lost, sub)
			}
		}
		maps.DeleteFunc(m.holds, func(q *queue.Queue, _ *queue.Consumer) bool { return !queue.Ephemeral(q.Name) })
		if len(lost) > 0 && s.lost != nil {
			s.lost(sh.index, lost)
		} else if len(lost) > 0 && s.proxy != nil {
			sh.losses = append(sh.losses, loss{s.proxy, lost})
		}
	}
}

// abandon deletes the queues of a storage without replicas: they were their leader's alone.
func (sh *shard) abandon(st *store) {
	for _, q := range st.state.Queues() {
		if !queue.Ephemeral(q.Name) && !q.Deleting {
			sh.endEphemeral(st, q, task{})
		}
	}
	st.propose()
}

// setLeader stands in for a group's decision where there is none: for tests.
func (b *Broker) setLeader(index int, node, term uint64, here bool) {
	b.grouped.Store(true)
	b.shards[index].call(func(sh *shard) {
		if sh.leads {
			sh.resign(sh.stores[0])
		}
		sh.setLeads(here)
		sh.seatAt(node, term)
	})
}

// Begin makes a group of each shard that this node has had alone, with these first members, while it serves. What has one already is let be.
func (b *Broker) Begin(voters []uint64) error {
	return b.found(nil, func(j journal.Journal) error {
		if j, ok := j.(interface{ Begin(voters []uint64) error }); ok {
			return j.Begin(voters)
		}
		return nil
	})
}

// Grouped reports whether shards have groups, or are about to.
func (b *Broker) Grouped() bool { return b.grouped.Load() }

// Await makes each shard that has nothing yet wait for what its group has, in these storages. What has a group already is let be.
func (b *Broker) Await(storages ...string) error {
	return b.found(storages, func(j journal.Journal) error {
		if j, ok := j.(interface{ Await() error }); ok {
			return j.Await()
		}
		return nil
	})
}

// found changes what the shards' journals are. What belongs to several shards together has to be decided before: from then on they have no
// frame in common. No storages are all of them.
func (b *Broker) found(storages []string, f func(j journal.Journal) error) error {
	b.grouped.Store(true)
	for b.spreading.Load() > 0 {
		if s := b.opt.Scheduler; s != nil {
			s.Await(nil, drainTick)
		} else {
			<-time.After(drainTick)
		}
	}
	var err error
	b.each(func(sh *shard) {
		for _, st := range sh.stores {
			if st.replicas == nil || err != nil || len(storages) > 0 && !slices.Contains(storages, st.Name) {
				continue
			}
			err = f(st.journal)
			if role := st.replicas.Role(); role != st.role {
				sh.changeRole(st, role, nil)
			}
		}
		sh.lead()
	})
	return err
}

// joint begins a batch of several shards, in one frame of their common log where they have one, and says whether there may be one; it ends with jointOver.
func (b *Broker) joint(s *Storage) bool {
	if s.Spread == nil && !s.Replicated {
		return false
	}
	b.spreading.Add(1)
	if s.Replicated && b.grouped.Load() {
		b.spreading.Add(-1)
		return false
	}
	return true
}

func (b *Broker) jointOver() { b.spreading.Add(-1) }

// SetStoredOf says what confirms of one shard's storage stand for from now on, soon. It does not wait.
func (b *Broker) SetStoredOf(index int, storage, stored string) {
	w := b.shards[index].newWork()
	w.call = func(sh *shard) {
		if st := sh.byName[storage]; st != nil {
			st.Stored, st.gives = stored, given(stored)
		}
	}
	b.shards[index].post(w)
}

// Digests are over what has been decided in each shard's part of a storage with replicas, and nothing of where it lies: replicas that have
// applied the same have the same. Of when messages are due they have what is later than now.
func (b *Broker) Digests(storage string, now int64) (sums [Shards]uint64) {
	b.each(func(sh *shard) {
		if st := sh.byName[storage]; st != nil && st.replicas != nil {
			sums[sh.index] = st.state.Digest(now)
		}
	})
	return sums
}
