package broker

import (
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// What one turn does at most for a compaction: whatever the size of the state, others wait no longer than this takes.
const (
	snapshotStep   = 16 << 10 // bytes of the snapshot: some thousand messages of a packed backlog
	moveStep       = 64 << 10 // bytes of messages proposed anew
	snapshotUnsent = 4 << 20  // bytes that may wait for the disk
)

// A compaction is a snapshot that is being written, and the moving of what is left of sparse segments to
// the log's end.
type compaction struct {
	round  uint64
	state  *queue.Snapshot // nil when it is whole
	to     journal.Snapshot
	pieces int // of the snapshot, so far
	moves  []move
	shared []move // of moves, those whose record messages of other shards may share
	batch  journal.Batch
}

// A move is a message whose record lies in a sparse segment.
type move struct {
	queue *queue.Queue
	seq   uint64
	ref   queue.Ref
}

// compact goes on with a compaction when the journal has asked for one.
func (sh *shard) compact(st *store) {
	c := st.compaction
	if c == nil {
		if st.taking != nil {
			return // its new state is what a snapshot is to be made of
		}
		want, ok := st.journal.Compact()
		if !ok {
			return
		}
		c = &compaction{round: want.Round}
		st.compaction = c
		c.state = st.state.BeginSnapshot(func(r queue.Ref) bool { return want.Sparse(journal.Ref(r)) },
			func(q *queue.Queue, seq uint64, s queue.Span) { c.moves = append(c.moves, move{q, seq, s.Ref}) })
		c.to = st.journal.Snapshot()
	}
	if c.state != nil {
		if c.to.Backlog() > snapshotUnsent {
			return // the journal wakes the shard
		}
		room := snapshotStep + snapshotStep/4
		if c.pieces++; c.pieces == 1 {
			room = 1 << 10 // most shards have little: then this is all
		}
		piece, done := c.state.Next(make([]byte, 0, room), snapshotStep)
		c.to.Write(piece)
		if done {
			c.to.Commit()
			c.state = nil
		}
	}
	if err := sh.moveSome(st, c); err != nil {
		sh.b.fail(err)
		return
	}
	if c.state == nil && len(c.moves) == 0 {
		st.compaction = nil
		sh.signal() // there may have been another wish meanwhile
		switch {
		case st.Spread == nil:
		case st.replicas != nil && len(c.shared) > 0:
			sh.noteShared(st, c)
		default:
			sh.handOver(st, c)
		}
		return
	}
	sh.signal() // more in the next turn
}

// noteShared has something kept on this node before others say where messages of this shard lie now: so it is noted in front of that, as in front of all that
// this node alone keeps, how far entries are applied that may have moved the messages to where they are said to be.
func (sh *shard) noteShared(st *store, c *compaction) {
	c.batch = journal.Batch{Local: true, Essential: true, Owner: c}
	c.batch.Data = queue.AppendNoop(journal.BeginRecord(nil))
	journal.EndRecord(c.batch.Data, 0)
	st.journal.Propose(&c.batch)
}

// sharedNoted: without space for the note the messages stay where they are.
func (sh *shard) sharedNoted(st *store, c *compaction) {
	if c.batch.Err != nil {
		c.shared = nil
	}
	sh.handOver(st, c)
}

// moveSome proposes some of the messages anew that lie in sparse segments.
func (sh *shard) moveSome(st *store, c *compaction) error {
	to := &moved{batch: journal.Batch{Essential: true, Local: true}}
	for bytes := 0; len(c.moves) > 0 && bytes < moveStep; {
		m := c.moves[0]
		c.moves = c.moves[1:]
		span, shared, ok := m.queue.Place(m.seq)
		if !ok || span.Ref != m.ref {
			continue // settled, or moved, meanwhile
		}
		if shared && st.Spread != nil {
			c.shared = append(c.shared, m)
			continue
		}
		payloads, err := st.journal.Read([]journal.Ref{journal.Ref(m.ref)}, nil)
		if err != nil {
			return err
		}
		bytes += len(payloads[0])
		start := len(to.batch.Data)
		if to.batch.Data, err = queue.AppendRelocate(journal.BeginRecord(to.batch.Data), m.queue.ID, m.seq, payloads[0]); err != nil {
			return err
		}
		journal.EndRecord(to.batch.Data, start)
	}
	if len(to.batch.Data) > 0 {
		to.batch.Owner = to
		st.journal.Propose(&to.batch)
	}
	return nil
}

// moved is a batch of messages that lie somewhere else from now on: here, and on no other node.
type moved struct{ batch journal.Batch }

// applyMoved lets messages refer to their new places.
func (sh *shard) applyMoved(st *store, m *moved) error {
	for off := 0; off < len(m.batch.Data) && m.batch.Err == nil; {
		_, next, err := st.apply(&m.batch, off)
		if err == nil {
			err = sh.alsoMoved(st, &m.batch, off)
		}
		if err != nil {
			return err
		}
		off = next
	}
	return nil // without space they stay where they are
}
