package cluster

import (
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// ready does what raft wants to be done.
func (g *group) ready() {
	for g.raw != nil && g.raw.HasReady() {
		rd := g.raw.Ready()
		if !raft.IsEmptyHardState(rd.HardState) {
			g.term = rd.HardState.GetTerm()
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				g.append(m)
			case raft.LocalApplyThread:
				g.apply(m)
			default:
				if len(g.discreet.nodes) > 0 {
					g.veil(m)
				}
				if !g.again(m) {
					g.host.flies(g, m)
					g.host.send(g.number, m)
				}
			}
		}
		if rd.SoftState != nil {
			g.changeRole(rd.SoftState)
		}
		if len(g.sent) > 0 { // raft has dropped them again: nothing of them was written or sent, as nothing is stepped in between
			for _, o := range g.sent {
				g.refuse(o.batches, journal.ErrOverruled)
			}
			g.sent = nil
		}
	}
}

// again reports whether a message need not be sent, as its member has had it.
//
// One without entries says how far is committed, or asks a member for a sign of life; the next message with entries does both, and the next heartbeat
// does if there is none. Under load they would be half of all messages, and each of them would be answered: there is one in a tick.
//
// One with entries comes again with each heartbeat's answer as long as raft does not know how far the member is. A member that comes back and lacks much
// would have the same megabyte from each group in each tick, and be the slower to answer for it: it comes again after an election's time, or when it is
// known that it, or what was sent behind it, was lost.
func (g *group) again(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp {
		return false
	}
	p := g.push(m.GetTo())
	if len(m.GetEntries()) == 0 {
		had := p.empty == g.host.now
		p.empty = g.host.now
		return had
	}
	if p.sent != 0 && p.prev == m.GetIndex() && g.host.now-p.sent < uint64(g.host.cfg.ElectionTicks) {
		return true
	}
	p.prev, p.sent = m.GetIndex(), g.host.now
	return false
}

// A push is what a member has had last, of this leader.
type push struct {
	to    uint64
	empty uint64 // the tick of a message without entries; the greatest number: of none
	sent  uint64 // the tick of one with entries; 0: it may have been lost
	prev  uint64 // the index before these

	late     bool            // it lacks an old entry
	probed   bool            // and raft does not know how far it is
	answer   *raftpb.Message // to the last heartbeat, while the group is paced
	answered uint64          // the tick of that
}

func (g *group) push(to uint64) *push {
	for i := range g.pushed {
		if p := &g.pushed[i]; p.to == to {
			return p
		}
	}
	g.pushed = append(g.pushed, push{to: to, empty: ^uint64(0)})
	return &g.pushed[len(g.pushed)-1]
}

// mayLack notes that what a member was sent last may not have arrived.
func (g *group) mayLack(member uint64) {
	for i := range g.pushed {
		if g.pushed[i].to == member {
			g.pushed[i].sent = 0
		}
	}
}

// append has the log keep entries and the term and the vote. Nothing that m answers is said before.
func (g *group) append(m *raftpb.Message) {
	w := &write{answers: m.GetResponses()}
	hard := &g.storage.hard
	if s := m.GetSnapshot(); s != nil { // its state is kept already
		g.storage.replace(s.GetMetadata())
	}
	if m.Term != nil && (m.GetTerm() != hard.GetTerm() || m.GetVote() != hard.GetVote()) {
		g.storage.mu.Lock()
		hard.Term, hard.Vote = new(m.GetTerm()), new(m.GetVote())
		g.storage.mu.Unlock()
		w.mark(g.number, &mark{kind: markState, term: m.GetTerm(), vote: m.GetVote(), commit: hard.GetCommit()})
	}
	if m.Commit != nil && m.GetCommit() > hard.GetCommit() {
		hard.Commit = new(m.GetCommit()) // goes with the next entry
	}
	g.host.pace.load(m.GetEntries(), g.host.now)
	w.room(m.GetEntries())
	for _, e := range m.GetEntries() {
		g.index(e)
		w.entry(g.number, e, hard.GetCommit())
	}
	if len(w.batch.Data) == 0 && len(g.writes) > 0 {
		last := g.writes[len(g.writes)-1]
		last.answers = append(last.answers, w.answers...)
		return
	}
	if len(w.batch.Data) == 0 {
		g.answer(w.answers)
		return
	}
	w.batch.Essential = true // refusing comes before raft (admit)
	w.batch.Owner = w
	g.write(w)
}

// room makes room for entries.
func (w *write) room(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	size := len(w.batch.Data)
	for _, e := range entries {
		size += len(e.GetData()) + messageRoom
	}
	w.batch.Data = slices.Grow(w.batch.Data, size)
	w.batch.Parts = slices.Grow(w.batch.Parts, 2*len(entries)+1)
	w.entries, w.slots = make([]*raftpb.Entry, 0, len(entries)), make([]slot, 0, len(entries))
}

// mark adds a mark to what is kept.
func (w *write) mark(shard int, m *mark) {
	w.batch.Data = m.record(w.batch.Data)
	w.batch.Parts = append(w.batch.Parts, journal.Part{Shard: shard, End: len(w.batch.Data), Mark: true})
}

func (w *write) entry(shard int, e *raftpb.Entry, commit uint64) {
	m := mark{kind: markEntry, entry: e.GetType(), term: e.GetTerm(), index: e.GetIndex(), commit: commit}
	data := e.GetData()
	if e.GetType() != raftpb.EntryNormal {
		m.data, data = data, nil
	}
	m.size = len(data)
	start := len(w.batch.Data)
	w.mark(shard, &m)
	w.entries = append(w.entries, e)
	w.slots = append(w.slots, slot{mark: journal.Ref(start), ref: journal.Ref(len(w.batch.Data)), size: uint32(len(data))})
	if len(data) > 0 {
		w.batch.Data = append(w.batch.Data, data...)
		w.batch.Parts = append(w.batch.Parts, journal.Part{Shard: shard, End: len(w.batch.Data)})
	}
}
