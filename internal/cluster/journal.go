package cluster

import (
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A Journal is a shard's journal on this node. Alone, without a group, it is the node's log and nothing else. It belongs to the shard's
// goroutine, but for what g.mu guards.
type Journal struct {
	g    *group
	log  Log
	wake func()

	replicated atomic.Bool // the host has it; set once, by Begin or Replay
	role       journal.Role
	applied    uint64        // the last entry that Committed has returned
	taken      atomic.Uint64 // the same, for others
	noted      uint64        // the last that note has put down
	end        journal.Ref   // the state has all before it: behind that entry
	floor      journal.Ref   // where the newest snapshot begins
	founded    bool          // the group's beginning is behind end: entries follow

	image      atomic.Pointer[image]           // to be taken; Images'
	installing *image                          // the owner has put its state in the place of the old one; it is not kept yet
	wished     atomic.Pointer[func(kept bool)] // somebody wants a snapshot
	told       func(kept bool)                 // who wants the next one that is made
	again      atomic.Bool                     // the snapshot of an image could not be kept
}

var _ journal.Replicated = (*Journal)(nil)

// An item is what the host has for the shard: a batch, or a role, or that raft wants to know when it was taken.
type item struct {
	batch     *journal.Batch
	index     uint64 // an entry ends, and where, if that is not 0
	end       journal.Ref
	image     *image // it takes the place of all before
	installed bool   // the one that did is kept
	role      *journal.Role
	acks      []*raftpb.Message
	life      int64 // of the group that wants them
	renewed   bool  // with a role: the group has begun anew
}

// Replay implements journal.Journal. Where the log holds a group it takes part in it from here on.
func (j *Journal) Replay(snapshot func(data []byte) error, record func(ref journal.Ref, payload []byte) error) error {
	st := &j.g.storage
	p := &replayer{st: st, record: record}
	st.mu.Lock()
	defer st.mu.Unlock()
	err := j.log.ReplayMarked(func(pos journal.Ref, head, data []byte) error {
		j.floor = pos
		if err := p.snapshot(pos, head); err != nil {
			return err
		}
		return snapshot(data)
	}, p.next)
	if err == nil {
		err = p.finish()
	}
	j.end, j.founded, j.applied = p.end, p.founded, p.applied
	if err != nil || !p.founded {
		return err
	}
	if at := st.at(j.applied); at != nil {
		j.end = at.ref + journal.Ref(at.size)
	}
	j.replicated.Store(true)
	j.g.post(func(g *group) { g.start(p.applied, p.confs) })
	return nil
}

// Begin makes a group of a shard that this node has had alone: what its state is now is the group's beginning. The owner
// has replayed; it may have proposed. What has a group already is let be. From here on every member must have begun with the same voters, and, but for this node, with an empty state.
func (j *Journal) Begin(voters []uint64) error {
	if j.replicated.Load() {
		return nil
	}
	if j.g.host.cfg.Memory { // it is another member in each of its lives
		voters = []uint64{j.g.host.cfg.ID}
	}
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: voters})
	if err != nil {
		return err
	}
	j.log.Settle()
	st := &j.g.storage
	st.mu.Lock()
	st.base, st.baseTerm = originIndex, originTerm
	st.setConf(originIndex, &raftpb.ConfState{Voters: voters})
	st.hard.Term, st.hard.Commit = new(uint64(originTerm)), new(uint64(originIndex))
	st.mu.Unlock()
	j.replicated.Store(true)
	solo := len(voters) == 1 && voters[0] == j.g.host.cfg.ID
	if solo {
		j.role = j.alone()
	}
	m := mark{kind: markOrigin, term: originTerm, index: originIndex, data: conf}
	j.g.begin(m.record(nil), originIndex, solo)
	return nil
}

// A group begins at these, as if all before were its first entry.
const originIndex, originTerm = 1, 1

// Propose implements journal.Journal. A batch of another node's shard is refused with journal.ErrNotLeading.
func (j *Journal) Propose(b *journal.Batch) {
	switch {
	case !j.replicated.Load():
		j.log.Propose(b)
	case b.Local:
		j.log.Settle()
		j.note()
		j.log.Append(b)
	default:
		j.g.propose(b)
	}
}

// note puts down how far is applied, in front of what says where things lie now. A message may have come to where it is by an entry that moved it,
// with its record in an old segment: a restart has to take that entry before it hears that the record lies elsewhere, since the old segment may be gone.
func (j *Journal) note() {
	if j.applied <= j.noted {
		return
	}
	j.noted = j.applied
	w := &write{void: true} // nobody waits for it
	w.mark(j.g.number, &mark{kind: markState, commit: j.applied})
	w.batch.Essential, w.batch.Owner = true, w
	j.log.Append(&w.batch)
}

// Committed implements journal.Journal. It returns no batch of a later role than the one before it, so Role is right for all.
func (j *Journal) Committed(into []*journal.Batch) []*journal.Batch {
	if !j.replicated.Load() {
		n := len(into)
		into = j.log.Committed(into)
		j.passed(into[n:])
		return into
	}
	j.log.Settle()
	items := j.g.taken()
	var acks []*raftpb.Message
	returned, life := false, int64(0)
	for n, it := range items {
		switch {
		case it.role != nil:
			if returned {
				j.g.putBack(items[n:])
				items = items[:n]
				j.wake()
			} else {
				j.role = *it.role
				if it.renewed {
					j.installing, j.applied, j.noted = nil, 0, 0
				}
			}
			if j.role.Leading { // so all is applied that this node has ever applied
				j.log.Whole()
			}
		case it.batch != nil:
			into, returned = append(into, it.batch), true
			if !j.founded { // from before the group began
				j.passed(into[len(into)-1:])
			}
		case it.image != nil && it.image.over.Load(): // the group has begun anew
		case it.image != nil:
			if returned {
				j.g.putBack(items[n:])
				items = items[:n]
				j.wake()
			} else {
				j.changeStates(it.image)
			}
		case it.installed:
			j.installing = nil
		case it.end > 0: // an entry ends, maybe one of which the owner sees nothing
			j.applied, j.end, j.founded = it.index, it.end, true
		}
		if n >= len(items) {
			break
		}
		if len(it.acks) > 0 && it.life != life {
			acks, life = nil, it.life
		}
		acks = append(acks, it.acks...)
	}
	j.taken.Store(j.applied)
	if len(acks) > 0 {
		j.g.post(func(g *group) {
			if g.life.Load() == life {
				g.stepAll(acks)
			}
		})
	}
	return into
}

// passed notes how far the node's own records were returned.
func (j *Journal) passed(batches []*journal.Batch) {
	for _, b := range batches {
		if b.Err == nil {
			j.end = max(j.end, b.Base+journal.Ref(len(b.Data)))
		}
	}
}

// Role implements journal.Replicated. A node alone leads without a term; so does one whose group has only it, from Begin until it is elected.
func (j *Journal) Role() journal.Role {
	if !j.replicated.Load() {
		return j.alone()
	}
	return j.role
}

func (j *Journal) alone() journal.Role { return journal.Role{Leading: true, Leader: j.g.host.cfg.ID} }

// Recycle implements journal.Journal: raft has a copy of what was proposed here.
func (j *Journal) Recycle(b *journal.Batch) bool { return b.Owner != nil && j.log.Recycle(b) }

// Read implements journal.Journal.
func (j *Journal) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	return j.log.Read(refs, into)
}

// Retain implements journal.Journal.
func (j *Journal) Retain(spans []journal.Span) { j.log.Retain(spans) }

// Release implements journal.Journal.
func (j *Journal) Release(spans []journal.Span) { j.log.Release(spans) }

// Compact implements journal.Journal.
func (j *Journal) Compact() (journal.Compaction, bool) {
	if c, ok := j.wish(); ok || j.installing != nil {
		return c, ok
	}
	return j.log.Compact()
}

// Failed implements journal.Journal.
func (j *Journal) Failed() error {
	if err := j.g.host.Failed(); err != nil {
		return err
	}
	return j.log.Failed()
}

// Used implements journal.Journal.
func (j *Journal) Used() (total, live int64) { return j.log.Used() }

// Close implements journal.Journal. What was proposed to a group and is not committed has no outcome.
func (j *Journal) Close() error { return j.log.Close() }

// Snapshot implements journal.Journal. It begins where the first entry lies that a member lacks, or behind the last one that
// was returned: so the log keeps what members lack, and a restart finds it.
func (j *Journal) Snapshot() journal.Snapshot {
	if !j.founded {
		end, told := j.log.End()
		if told && !j.replicated.Load() {
			j.end = max(j.end, end) // all of it was returned
		}
		j.floor = max(j.floor, j.end)
		return j.log.SnapshotAt(j.floor, nil, nil)
	}
	told := j.told
	j.told = nil
	if t := j.installing; t != nil {
		h, pos := j.installHead()
		j.floor, j.end = pos, pos
		return j.log.SnapshotAt(pos, h.append(nil), func(kept bool) { j.kept(t, kept) })
	}
	h, pos := j.place()
	j.floor = pos
	return &snapshot{Snapshot: j.log.SnapshotAt(pos, h.append(nil), told), storage: &j.g.storage, base: h.base}
}

// place is where a snapshot of the state as it is begins, and what goes in front of it.
func (j *Journal) place() (h head, pos journal.Ref) {
	st := &j.g.storage
	end, told := j.log.End() // first: what it has told is with the host by now, or beyond
	idle := j.g.idle()
	st.mu.Lock()
	defer st.mu.Unlock()
	h = head{applied: j.applied, commit: j.applied, term: st.hard.GetTerm(), vote: st.hard.GetVote()}
	h.conf = marshalConf(st.conf(j.applied))
	h.base, pos = j.applied, j.end
	needed := st.needed
	if st.held > 0 {
		needed = min(needed, st.held)
	}
	switch first := max(needed, st.base+1); {
	case first <= j.applied:
		h.base, pos = first-1, st.at(first).mark
	case idle && told && st.last() == j.applied:
		pos = end // so that an idle shard does not hold the log
	}
	pos = max(pos, j.floor)
	h.baseTerm = st.baseTerm
	if h.base > st.base {
		h.baseTerm = st.at(h.base).term
	}
	return h, pos
}

func marshalConf(cs *raftpb.ConfState) []byte {
	b, _ := proto.Marshal(cs) // of our own making: it cannot fail
	return b
}

// A snapshot is one that also lets go of the entries that it makes superfluous.
type snapshot struct {
	journal.Snapshot
	storage *storage
	base    uint64
}

// Commit implements journal.Snapshot.
func (s *snapshot) Commit() {
	s.Snapshot.Commit()
	s.storage.mu.Lock()
	defer s.storage.mu.Unlock()
	s.storage.compact(s.base)
}
