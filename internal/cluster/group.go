package cluster

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A group is a shard's raft on this node. It belongs to the host's owner, but for what is guarded: the storage by its own
// lock, inbox and outbox by mu. Nobody holds both.
type group struct {
	host    *Host
	number  int
	log     Log
	journal *Journal
	storage storage
	live    bool          // log and journal are there, and the host's as far as they are
	raw     *raft.RawNode // nil until there is a group
	term    uint64        // what SoftState and HardState last said
	leader  uint64
	leading bool
	solo    bool   // it has only this node, which has led it alone so far and does on: it is elected any moment
	noop    uint64 // the first entry of the term in which this node led last, and that term
	noopIn  uint64

	stirred    atomic.Bool       // something was proposed or kept since the last turn that dealt with the group: set by anybody, before the host is woken
	due        bool              // this turn deals with the group
	leads      atomic.Bool       // as leading, for others than the host
	offered    map[uint64]uint64 // as leader: members that need an image, and the tick in which they have last been heard of
	installing *image            // takes the place of the log
	frozen     bool              // the owner has been told to change states
	alien      bool              // the state is of an epoch that is over: what it has under a seq may be something else
	life       atomic.Int64      // how often the group has begun anew
	lingers    uint64            // the first entry behind an image that somebody has got lately
	lingerTill uint64            // the tick
	confEntry  uint64            // as leader: the last change of members that was appended
	looked     uint64            // as leader: the last index when members were looked at last; 0: they were not
	heard      map[uint64]uint64 // as leader: the tick at which a member was heard of last
	pushed     []push            // as leader
	lasts      [oldTicks]uint64  // the last entry, as of the latest ticks

	seen     herald  // where this node is no member: who leads
	sealed   sealing // as leader: whether all voters know who they are
	appended uint64  // as leader: the last entry
	led      uint64  // the tick in which a leader has spoken last as to a member

	discreet discretion // as leader

	lacking uint64 // as leader: the first index that some member lacks; 0 where it is not known
	told    uint64 // as follower: what a leader has said of that last

	writes  []*write         // appended and not known to be kept, in order
	stuck   bool             // one was refused for want of space: all of them are appended anew
	waiting []*journal.Batch // too much is under way; to be proposed later
	sent    []own            // given to raft, no index yet
	own     []own            // proposed here, in the order of their indexes
	given   uint64           // the last entry that the shard was given
	early   []early          // kept by this node alone, and to come behind later entries than that

	mu     sync.Mutex
	inbox  []*journal.Batch
	outbox []item
	queued int64 // bytes in outbox
	locals int   // batches of this node alone that the log has told, and that are not in the outbox yet
}

// An own is an entry that was proposed here, and the batches that it holds: whatever was there together. A change of members holds none.
type own struct {
	batches     []*journal.Batch
	index, term uint64
}

// A write is what raft wants to be kept before it says something.
type write struct {
	batch    journal.Batch
	entries  []*raftpb.Entry
	slots    []slot            // ref and mark are offsets in the batch
	answers  []*raftpb.Message // to be said when it is kept
	void     bool              // it is of a group that has begun anew since
	origin   bool              // it begins the group, at this index
	index    uint64
	answered bool   // the log has told its outcome
	since    uint64 // the host's tick
}

// propose is called by the shard's goroutine.
func (g *group) propose(b *journal.Batch) {
	g.mu.Lock()
	g.inbox = append(g.inbox, b)
	first := len(g.inbox) == 1
	g.mu.Unlock()
	g.stirred.Store(true)
	if first {
		g.host.cfg.Wake()
	}
}

// taken is called by the shard's goroutine.
func (g *group) taken() []item {
	g.mu.Lock()
	defer g.mu.Unlock()
	items := g.outbox
	g.outbox, g.queued = nil, 0
	return items
}

// putBack is called by the shard's goroutine.
func (g *group) putBack(items []item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outbox = append(items[:len(items):len(items)], g.outbox...)
}

// stirs reports whether there may be something to do though no tick has passed and no message has come: most turns are about a few of the groups.
func (g *group) stirs() bool {
	return g.stirred.Load() && g.stirred.Swap(false) || len(g.waiting) > 0 || g.installing != nil
}

// idle reports whether nothing is on its way between shard, host and log.
func (g *group) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.inbox) == 0 && len(g.outbox) == 0 && g.locals == 0
}

// give hands something to the shard.
func (g *group) give(items ...item) {
	if len(items) == 0 {
		return
	}
	g.mu.Lock()
	for _, it := range items {
		if it.batch != nil {
			g.queued += int64(len(it.batch.Data))
		}
	}
	g.outbox = append(g.outbox, items...)
	g.mu.Unlock()
	g.journal.wake()
}

// post has f run by the host, in its next turn.
func (g *group) post(f func(*group)) { g.host.post(func() { f(g) }) }

// begin has the origin kept, then the group start. What is appended behind it is the group's.
func (g *group) begin(origin []byte, index uint64, solo bool) {
	w := &write{origin: true, index: index, batch: journal.Batch{Data: origin, Essential: true, Parts: []journal.Part{{Shard: g.number, End: len(origin), Mark: true}}}}
	w.batch.Owner = w
	g.post(func(g *group) {
		g.live = true
		g.write(w)
		g.solo = solo
		g.start(index, nil)
	})
}

// write has the log keep what is in w.
func (g *group) write(w *write) {
	w.since = g.host.now
	g.writes = append(g.writes, w)
	if w.answered = g.stuck; !g.stuck { // else it is appended with those before it
		g.log.Append(&w.batch)
	}
}

// start makes the raft of what the storage holds.
func (g *group) start(applied uint64, confs []confEntry) {
	g.live, g.given = true, applied
	c := &g.host.cfg
	raw, err := raft.NewRawNode(&raft.Config{
		ID: c.ID, ElectionTick: c.ElectionTicks, HeartbeatTick: c.HeartbeatTicks, Storage: &g.storage, Applied: applied,
		AsyncStorageWrites: true, MaxSizePerMsg: maxMessage, MaxCommittedSizePerReady: 4 * maxMessage,
		MaxUncommittedEntriesSize: uint64(c.UncommittedBytes), MaxInflightMsgs: maxInflight, MaxInflightBytes: uint64(c.InflightBytes),
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true,
		Logger: logger{g},
	})
	if err != nil {
		g.host.fail(fmt.Errorf("cluster: group %d: %w", g.number, err))
		return
	}
	g.raw = raw
	for _, c := range confs {
		g.applyConf(c)
	}
	g.term = raw.BasicStatus().GetTerm()
	if _, in := raw.Status().Config.Voters.IDs()[c.ID]; in && len(raw.Status().Config.Voters.IDs()) == 1 {
		_ = raw.Campaign() // nobody else could lead
	}
}

// step gives raft a message.
func (g *group) step(m *raftpb.Message) {
	if g.raw == nil {
		return // it will come again
	}
	if m.GetType() == raftpb.MsgAppResp && m.GetReject() {
		g.mayLack(m.GetFrom())
	}
	// What raft does not want to hear - of a node that is no member, or too late - it says here, and nothing has happened.
	_ = g.stepRaw(m)
	g.answers(m)
}

// stepRaw gives raft a message, and knows what raft reads entries for on hearing it.
func (g *group) stepRaw(m *raftpb.Message) error {
	if !g.storage.paced {
		return g.raw.Step(m)
	}
	g.storage.sending = g.sends(m)
	defer func() { g.storage.sending = false }()
	return g.raw.Step(m)
}

func (g *group) stepAll(ms []*raftpb.Message) {
	for _, m := range ms {
		g.step(m)
	}
}

// admit gives raft what was proposed.
func (g *group) admit() {
	g.mu.Lock()
	in := g.inbox
	g.inbox = nil
	g.mu.Unlock()
	g.waiting = append(g.waiting, in...)
	for g.raw != nil && !g.solo && len(g.waiting) > 0 {
		b := g.waiting[0]
		if !b.Essential && g.log.Unsure() {
			return // a tick later it is known; what raft has taken can no more be refused
		}
		if !b.Essential && g.log.Scarce() {
			g.refuse(g.waiting[:1], g.log.Full())
			g.waiting = g.waiting[1:]
			continue
		}
		n, data := g.gather()
		m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(g.host.cfg.ID), Entries: []*raftpb.Entry{{Data: data}}}
		if err := g.stepRaw(m); err == nil {
			g.sent = append(g.sent, own{batches: g.waiting[:n:n]})
		} else if st := g.raw.BasicStatus(); st.RaftState == raft.StateLeader && (st.LeadTransferee != 0 || len(g.sent)+len(g.own) > 0) {
			// Too much is under way, or another node is to lead: it goes on when that is over. What was proposed before it in the same term must
			// not be refused while what comes later is not.
			return
		} else {
			n = len(g.waiting)
			g.refuse(g.waiting, journal.ErrNotLeading)
		}
		g.waiting = g.waiting[n:]
	}
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
}

// gather is how many of the batches that wait become one entry, and its data. Raft's work is by the entry.
func (g *group) gather() (n int, data []byte) {
	size := 0
	for _, b := range g.waiting {
		if size += len(b.Data); n > 0 && (size > entryBytes || !b.Essential && (g.log.Scarce() || g.log.Unsure())) {
			break
		}
		n++
	}
	if n == 1 {
		return n, g.waiting[0].Data // raft makes a copy
	}
	data = make([]byte, 0, min(size, entryBytes))
	for _, b := range g.waiting[:n] {
		data = append(data, b.Data...)
	}
	return n, data
}

func (g *group) refuse(batches []*journal.Batch, err error) {
	items := make([]item, len(batches))
	for i, b := range batches {
		b.Base, b.Err = 0, err
		items[i] = item{batch: b}
	}
	g.give(items...)
}

// changeRole notes who leads. That this node does the owner learns later: when the first entry of its term is applied,
// everything before it is, too.
func (g *group) changeRole(s *raft.SoftState) {
	leading := s.RaftState == raft.StateLeader
	if g.leading && leading && s.Lead == g.leader {
		return
	}
	g.leading, g.leader, g.lacking, g.looked, g.offered, g.heard, g.pushed, g.sealed, g.discreet = leading, s.Lead, 0, 0, nil, nil, nil, sealing{}, discretion{}
	if leading {
		g.heard = map[uint64]uint64{}
		g.beDiscreet()
	}
	g.storage.paced = false
	g.leads.Store(leading)
	if g.solo = g.solo && !leading; g.solo {
		return
	}
	if !leading {
		g.giveRole(s.Lead)
	}
}

// index finds out which entry a batch that was proposed here has become: those of this node's term come in the order in which
// they were proposed, behind the empty one that begins the term.
func (g *group) index(e *raftpb.Entry) {
	st := g.raw.BasicStatus()
	if st.RaftState != raft.StateLeader || e.GetTerm() != st.GetTerm() {
		return
	}
	g.appended = e.GetIndex()
	if g.noopIn != e.GetTerm() {
		g.noop, g.noopIn = e.GetIndex(), e.GetTerm()
		return
	}
	if e.GetType() != raftpb.EntryNormal {
		g.confEntry = e.GetIndex()
		if len(e.GetData()) == 0 {
			return // nobody's proposal: raft leaves a joint configuration
		}
	}
	if len(g.sent) > 0 {
		if b := g.sent[0].batches; b != nil { // a change of members that raft has refused comes as an empty entry
			g.own = insertOwn(g.own, own{b, e.GetIndex(), e.GetTerm()})
		}
		g.sent = g.sent[1:]
	}
}

// insertOwn keeps them in the order of their indexes: an entry of an earlier term of ours that is not in this log any more may have
// a greater one. It is not lost for certain before something else is committed there.
func insertOwn(list []own, o own) []own {
	at := len(list)
	for at > 0 && list[at-1].index > o.index {
		at--
	}
	return slices.Insert(list, at, o)
}

// kept takes what the log has kept or refused.
func (g *group) kept() {
	g.mu.Lock()
	batches := g.log.Kept(nil)
	g.locals = len(g.early) + len(batches)
	g.mu.Unlock()
	if len(batches) == 0 {
		return
	}
	for _, b := range batches {
		w, ours := b.Owner.(*write)
		if !ours {
			g.early = append(g.early, early{b, g.decided()})
			continue
		}
		if w.void {
			continue
		}
		w.answered = true
		if b.Err != nil || g.stuck {
			g.stuck = true
			continue
		}
		g.keep(w)
	}
	g.handOn(g.timely())
}

// keep ends the oldest write.
func (g *group) keep(w *write) {
	if len(g.writes) == 0 || g.writes[0] != w {
		g.host.fail(fmt.Errorf("cluster: group %d: the log has told a batch out of its order", g.number))
		return
	}
	g.writes = g.writes[1:]
	if w.origin {
		g.give(item{index: w.index, end: w.batch.Base + journal.Ref(len(w.batch.Data))})
	}
	if len(w.entries) > 0 {
		st := &g.storage
		st.mu.Lock()
		for i, e := range w.entries {
			at := w.slots[i]
			at.ref += w.batch.Base
			at.mark += w.batch.Base
			st.append(e, at)
		}
		st.mu.Unlock()
	}
	g.answer(w.answers)
}

// answer says what had to wait until something was kept.
func (g *group) answer(ms []*raftpb.Message) {
	for _, m := range ms {
		if m.GetTo() == g.host.cfg.ID {
			g.step(m)
		} else {
			g.host.send(g.number, m)
		}
	}
}

// retry appends again what was refused for want of space, and all that came behind it: what of that was kept counts for nothing, as it
// stands in front of its predecessor.
func (g *group) retry() {
	if !g.stuck {
		return
	}
	for _, w := range g.writes {
		if !w.answered {
			return
		}
	}
	g.stuck = false
	for _, w := range g.writes {
		w.answered, w.batch.Base, w.batch.Err = false, 0, nil
		g.log.Append(&w.batch)
	}
}

// apply hands committed entries to the shard.
func (g *group) apply(m *raftpb.Message) {
	var items []item
	for _, e := range m.GetEntries() {
		items = append(items, g.commit(e)...)
		g.given = e.GetIndex()
		items = append(items, g.timely()...)
	}
	g.storage.mu.Lock()
	g.storage.evict(m.GetEntries()[len(m.GetEntries())-1].GetIndex())
	g.storage.mu.Unlock()
	g.mu.Lock()
	full := g.queued > maxQueued
	g.mu.Unlock()
	if full { // raft hands over no more until the shard has taken this
		items = append(items, item{acks: m.GetResponses(), life: g.life.Load()})
	} else {
		defer g.stepAll(m.GetResponses())
	}
	g.handOn(items)
}

// commit is what the shard is to know of a committed entry.
func (g *group) commit(e *raftpb.Entry) (items []item) {
	index := e.GetIndex()
	g.storage.mu.Lock()
	at := *g.storage.at(index)
	g.storage.mu.Unlock()
	it := item{index: index, end: at.ref + journal.Ref(at.size)}
	if e.GetType() != raftpb.EntryNormal {
		if cc, err := confChange(e); err != nil {
			g.host.fail(fmt.Errorf("cluster: group %d, entry %d: %w", g.number, index, err))
		} else {
			g.applyConf(confEntry{index, cc})
		}
		return append(items, it)
	}
	var ours []*journal.Batch
	for len(g.own) > 0 && g.own[0].index <= index {
		o := g.own[0]
		g.own = g.own[1:]
		if o.index == index && o.term == e.GetTerm() {
			ours = o.batches
			break
		}
		for _, b := range o.batches {
			b.Base, b.Err = 0, journal.ErrOverruled
			items = append(items, item{batch: b})
		}
	}
	if ours == nil && len(e.GetData()) > 0 {
		ours = []*journal.Batch{{Data: e.GetData()}}
	}
	for _, b := range ours {
		b.Base, b.Err = at.ref, nil
		at.ref += journal.Ref(len(b.Data))
		items = append(items, item{batch: b})
	}
	items = append(items, it)
	if g.leading && index == g.noop && e.GetTerm() == g.noopIn {
		items = append(items, item{role: &journal.Role{Leading: true, Leader: g.host.cfg.ID, Term: g.term}})
	}
	return items
}

// note finds out what members lack of the log. Where it is not known all is kept.
func (g *group) note() {
	needed := uint64(0)
	if !g.leading {
		needed = g.told
	} else {
		g.raw.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			if pr.RecentActive {
				g.heard[id] = g.host.now
			}
			if n := g.lacks(pr.Match + 1); n > 0 && (needed == 0 || n < needed) {
				needed = n
			}
		})
	}
	st := &g.storage
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.held > 0 {
		needed = min(needed, st.held)
	}
	if g.host.now < g.lingerTill {
		needed = min(needed, g.lingers)
	}
	if g.leading {
		g.lacking = needed
	}
	for st.trailFrom <= st.last() && st.trailFrom > st.base && g.log.Since(st.at(st.trailFrom).mark) > g.host.cfg.TrailBytes {
		st.trailed -= int64(st.at(st.trailFrom).size) + slotBytes // an idle group must not hold the log
		st.trailFrom++
	}
	st.needed = min(needed, st.trailFrom)
	first := max(st.needed, st.base+1)
	if at := st.at(first); at != nil {
		g.log.Hold(at.mark)
	} else {
		g.log.Hold(0)
	}
	// A backlog that only grows makes no garbage, and the index of its entries grows with it. Where a snapshot would let go of half of it,
	// there is to be one.
	if len(st.slots) > st.indexLimit && first-st.base > uint64(len(st.slots)/2) {
		g.log.Want()
	}
}
