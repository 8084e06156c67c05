package broker

import (
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// maxRedrive is how many messages one redrive moves at most.
const maxRedrive = 100_000

// redrive moves messages out of a dead-letter queue.
func (sh *shard) redrive(w *work, c *control, t target) bool {
	q := t.queue
	if queue.DeadName(q.Name) != "" || queue.Ephemeral(q.Name) {
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeBadRequest, "queue %q is no dead-letter queue", q.Name))
		return true
	}
	if string(c.to) == q.Name {
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeBadRequest, "to: %q is the dead-letter queue itself", c.to))
		return true
	}
	to := uint32(0)
	if c.to != nil {
		dest, ok := sh.find(c.to)
		if !ok && shardOf(c.to) == sh.index {
			sh.fail(w.s, c.id, noDestination(c.to))
			return true
		}
		if !ok || dest.store != t.store {
			sh.emigrate(&journey{control: c, home: sh, store: t.store, queue: q, seqs: t.store.state.Redrivable(q, c.max, false)})
			return false
		}
		to = dest.id
	}
	seqs := t.store.state.Redrivable(q, c.max, to == 0)
	if len(seqs) == 0 {
		sh.answerMoved(c, 0)
		return true
	}
	t.store.record(task{op: c.op, s: w.s, control: c, queue: q}).write(func(dst []byte) []byte { return queue.AppendRedrive(dst, q.ID, sh.now, to, seqs) })
	return false
}

func noDestination(name []byte) *wire.Error {
	return wire.Errorf(wire.CodeNotFound, "to: queue %q does not exist", name)
}

func (sh *shard) answerMoved(c *control, n int) {
	if !c.quiet {
		r := sh.reply(c.work.s)
		r.b = append(appendNumber(wire.AppendOK(r.b, c.id), "moved", uint64(n)), "}\n"...)
	}
}

// A journey is messages' way from a dead-letter queue to a queue of another shard or storage. They are published there,
// a part at a time, and only then taken away here: whatever happens in between, they are in one of the two, or in both.
// It belongs to the shard that has it: home, then the one of the destination, then home again.
type journey struct {
	control *control
	home    *shard
	store   *store
	queue   *queue.Queue
	seqs    []uint64 // those that are still to go; kept from consumers
	moved   int
	begun   bool // the destination has been asked
	failure *wire.Error

	batch *journal.Batch // of the part under way: a new one each, as the journal may still look at the last
	part  []uint64
	sizes []int64 // of the part's bodies
	room  room
	kept  []uint64 // of the part, those that were stored
}

// journeyMessages and journeyBytes bound one part.
const journeyMessages, journeyBytes = 1000, 1 << 20

// emigrate sends the next part on its way, or ends the journey.
func (sh *shard) emigrate(j *journey) {
	j.batch, j.part, j.sizes, j.kept = &journal.Batch{Owner: j}, nil, nil, nil
	for len(j.seqs) > 0 && j.failure == nil && len(j.part) < journeyMessages && len(j.batch.Data) < journeyBytes {
		seq := j.seqs[0]
		j.seqs = j.seqs[1:]
		span, _, ok := j.queue.Place(seq)
		if !ok {
			continue
		}
		if err := sh.pack(j, seq, journal.Ref(span.Ref)); err != nil {
			sh.b.fail(err)
			return
		}
	}
	if len(j.part) == 0 && j.begun {
		sh.endJourney(j)
		return
	}
	j.begun = true
	w := sh.newWork()
	w.call = func(dest *shard) { dest.immigrate(j) }
	sh.b.shards[shardOf(j.control.to)].post(w)
}

// pack adds a message's record to the part.
func (sh *shard) pack(j *journey, seq uint64, ref journal.Ref) error {
	records, err := j.store.journal.Read([]journal.Ref{ref}, nil)
	if err != nil {
		return err
	}
	e, err := queue.ParseEnvelope(records[0])
	if err != nil {
		return err
	}
	start := len(j.batch.Data)
	j.batch.Data, err = queue.AppendAgain(journal.BeginRecord(j.batch.Data), records[0])
	journal.EndRecord(j.batch.Data, start)
	j.part = append(j.part, seq)
	j.sizes = append(j.sizes, int64(len(e.Body)))
	return err
}

// immigrate proposes as much of a part as fits into the destination.
func (sh *shard) immigrate(j *journey) {
	t, ok := sh.find(j.control.to)
	if !ok {
		j.failure = noDestination(j.control.to)
	} else if sh.b.draining.Load() {
		j.failure = errShuttingDown
	}
	if j.failure != nil {
		sh.sendHome(j)
		return
	}
	q, n, bytes := t.queue, 0, int64(0)
	for n < len(j.part) && q.Fits(q.Proposed+n+1, q.ProposedBytes+bytes+j.sizes[n]) { // nothing is pushed out
		bytes += j.sizes[n]
		n++
	}
	if n == 0 {
		sh.sendHome(j)
		return
	}
	j.room, _ = sh.shield(t.store, q, n, bytes)
	q.Promised += n
	j.room.promised = n
	off := 0
	for range n {
		payload, next := journal.NextRecord(j.batch.Data, off)
		queue.Address(payload, t.id, sh.now)
		off = next
	}
	j.batch.Data = j.batch.Data[:off]
	t.store.journal.Propose(j.batch)
}

// applyJourney notes which messages of a part have been stored.
func (sh *shard) applyJourney(st *store, j *journey) error {
	for i, off := 0, 0; off < len(j.batch.Data) && j.batch.Err == nil; i++ {
		out, next, err := st.apply(j.batch, off)
		if err != nil {
			return err
		}
		if off = next; out.Refusal == queue.Done {
			j.kept = append(j.kept, j.part[i])
		}
	}
	if j.batch.Err != nil {
		j.failure = st.full(j.batch.Err)
	}
	sh.unshield(st, &j.room)
	sh.sendHome(j)
	return nil
}

func (sh *shard) sendHome(j *journey) {
	w := sh.newWork()
	w.call = func(home *shard) { home.arrived(j) }
	j.home.post(w)
}

// arrived takes away what has been stored at the destination, and goes on with the next part.
func (sh *shard) arrived(j *journey) {
	for _, seq := range j.part {
		if !slices.Contains(j.kept, seq) {
			j.store.state.Spare(j.queue, seq, sh.now)
		}
	}
	full := len(j.kept) < len(j.part)
	j.moved += len(j.kept)
	if len(j.kept) > 0 {
		j.store.record(task{queue: j.queue, journey: j}).write(func(dst []byte) []byte {
			return queue.AppendRedriven(dst, j.queue.ID, sh.now, j.kept)
		})
	}
	if full || j.failure != nil {
		for _, seq := range j.seqs {
			j.store.state.Spare(j.queue, seq, sh.now)
		}
		j.seqs = nil
	}
	if len(j.kept) == 0 {
		sh.endJourney(j)
	}
}

// endJourney answers. What was moved before a failure is moved: that is the answer then.
func (sh *shard) endJourney(j *journey) {
	if j.failure != nil && j.moved == 0 {
		sh.fail(j.control.work.s, j.control.id, j.failure)
	} else {
		sh.answerMoved(j.control, j.moved)
	}
	sh.finish(j.control.work)
}
