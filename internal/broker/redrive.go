package broker

import (
	"slices"
	"sync/atomic"

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
			sh.fail(w.s, c.id, sh.noDestination(c.to))
			return true
		}
		if !ok || dest.store != t.store {
			sh.depart(w, c, t)
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

func (sh *shard) noDestination(name []byte) *wire.Error {
	if err := sh.lacking(name); err != nil {
		return err
	}
	return wire.Errorf(wire.CodeNotFound, "to: queue %q does not exist", name)
}

func (sh *shard) answerMoved(c *control, n int) {
	if !c.quiet {
		r := sh.reply(c.work.s)
		r.b = append(appendNumber(wire.AppendOK(r.b, c.id), "moved", uint64(n)), "}\n"...)
	}
}

// A journey is messages' way from a dead-letter queue to a queue of another shard or storage, a part at a time. Where both are in
// one log, a part is one batch of both shards: published there and taken away here, or neither. Else it is published there
// and only then taken away here: a crash forgets what is in memory, so that a message stands twice only where both storages
// outlive it. The journey belongs to the shard that has it: home, then the one of the destination, then home again.
type journey struct {
	control *control
	home    *shard
	store   *store
	queue   *queue.Queue
	left    int // how many more may go
	moved   int
	begun   bool // the destination has been asked
	failure *wire.Error
	over    bool    // answered
	reply   func()  // at the destination of a journey from another node: tells it what has become of the part
	parked  []*work // what would change the messages under way: it goes on behind the part

	// Of the part under way. The batch is a new one each, as the journal may still look at the last.
	batch  *journal.Batch
	part   []uint64
	sizes  []int64 // of the bodies
	ends   []int   // of the records in the batch
	room   room
	fits   int          // how many of the part the destination takes
	joint  bool         // the batch takes away, too
	homeAt int          // of the record that does
	awaits atomic.Int32 // shards that have not applied a joint batch yet
	kept   []uint64     // those that were stored
}

// journeyMessages and journeyBytes bound one part.
const journeyMessages, journeyBytes = 1000, 1 << 20

// depart begins a journey; no other has messages of the queue under way.
func (sh *shard) depart(w *work, c *control, t target) {
	j := &journey{control: c, home: sh, store: t.store, queue: t.queue, left: c.max}
	sh.leaving[t.queue] = j
	sh.emigrate(j)
}

// away reports whether a message is on a journey: it is as good as settled here.
func (sh *shard) away(q *queue.Queue, seq uint64) bool {
	j := sh.leaving[q]
	if j == nil {
		return false
	}
	_, found := slices.BinarySearch(j.part, seq)
	return found
}

// emigrate sends the next part on its way, or ends the journey.
func (sh *shard) emigrate(j *journey) {
	j.batch, j.part, j.sizes, j.ends, j.kept, j.joint = &journal.Batch{Owner: j}, nil, nil, nil, nil, false
	if j.failure == nil && j.left > 0 {
		waits := false
		for _, seq := range j.store.state.Redrivable(j.queue, min(j.left, journeyMessages), false) {
			if len(j.batch.Data) >= journeyBytes || waits {
				j.store.state.Spare(j.queue, seq, sh.now)
				continue
			}
			err := sh.pack(j, seq)
			if waits = unread(err); waits {
				j.store.state.Spare(j.queue, seq, sh.now)
			} else if err != nil {
				sh.b.fail(err)
				return
			}
		}
		if waits && len(j.part) == 0 {
			j.store.fetching.again = append(j.store.fetching.again, func() { sh.emigrate(j) })
			return
		}
	}
	if len(j.part) == 0 && j.begun {
		sh.endJourney(j)
		return
	}
	j.begun = true
	if sh.sendAbroad(j) {
		return
	}
	w := sh.newWork()
	w.call = func(dest *shard) { dest.immigrate(j) }
	sh.b.shards[shardOf(j.control.to)].post(w)
}

// pack adds a message's record to the part.
func (sh *shard) pack(j *journey, seq uint64) error {
	span, _, _ := j.queue.Place(seq)
	records, err := j.store.journal.Read([]journal.Ref{journal.Ref(span.Ref)}, nil)
	if unread(err) {
		j.store.fetching.await(journal.Ref(span.Ref))
	}
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
	j.ends = append(j.ends, len(j.batch.Data))
	return err
}

// immigrate proposes as much of a part as fits into the destination.
func (sh *shard) immigrate(j *journey) {
	t, ok := sh.find(j.control.to)
	if !ok {
		j.failure = sh.noDestination(j.control.to)
	} else if sh.b.draining.Load() {
		j.failure = errShuttingDown
	}
	if !sh.leads || ok && t.store.follows() {
		j.failure = errNotLeading
	}
	if j.failure != nil {
		sh.sendHome(j)
		return
	}
	q, bytes := t.queue, int64(0)
	for j.fits = 0; j.fits < len(j.part) && q.Fits(q.Proposed+j.fits+1, q.ProposedBytes+bytes+j.sizes[j.fits]); j.fits++ { // nothing is pushed out
		bytes += j.sizes[j.fits]
	}
	if j.fits == 0 {
		sh.sendHome(j)
		return
	}
	j.room, _ = sh.shield(t.store, q, j.fits, bytes)
	q.Promised += j.fits
	j.room.promised = j.fits
	j.batch.Data = j.batch.Data[:j.ends[j.fits-1]]
	off := 0
	for range j.fits {
		payload, next := journal.NextRecord(j.batch.Data, off)
		queue.Address(payload, t.id, sh.now)
		off = next
	}
	if j.reply != nil || t.store.Name != j.store.Name || t.store.Spread == nil || !sh.b.joint(&t.store.Storage) {
		t.store.send(j.batch)
		return
	}
	j.joint, j.homeAt = true, off
	j.awaits.Store(2)
	j.batch.Data = queue.AppendRedriven(journal.BeginRecord(j.batch.Data), j.queue.ID, sh.now, j.part[:j.fits])
	journal.EndRecord(j.batch.Data, off)
	j.batch.Parts = []journal.Part{{Shard: sh.index, End: off}, {Shard: j.home.index, End: len(j.batch.Data)}}
	t.store.Spread(j.batch)
}

// applyJourney carries out this shard's records of a part: what arrives at the destination, and, of a joint batch, what leaves home.
func (sh *shard) applyJourney(st *store, j *journey, b *journal.Batch) error {
	if j.joint && sh == j.home {
		if b.Err == nil {
			if _, _, err := st.apply(b, j.homeAt); err != nil {
				return err
			}
		}
	} else {
		for i, off := 0, 0; i < j.fits && b.Err == nil; i++ {
			out, next, err := st.apply(b, off)
			if err != nil {
				return err
			}
			if off = next; out.Refusal == queue.Done {
				j.kept = append(j.kept, j.part[i])
			}
		}
		if b.Err != nil {
			j.failure = st.full(b.Err)
		}
		sh.unshield(st, &j.room)
	}
	if !j.joint {
		sh.sendHome(j)
	} else if j.awaits.Add(-1) == 0 {
		sh.b.jointOver()
		sh.sendHome(j)
	}
	return nil
}

func (sh *shard) sendHome(j *journey) {
	if j.reply != nil {
		j.reply()
		return
	}
	w := sh.newWork()
	w.call = func(home *shard) { home.arrived(j) }
	j.home.post(w)
}

// arrived sees to it that what has been stored at the destination is taken away, and goes on with the next part.
func (sh *shard) arrived(j *journey) {
	if j.over {
		return
	}
	for _, seq := range j.part {
		if !slices.Contains(j.kept, seq) {
			j.store.state.Spare(j.queue, seq, sh.now)
		}
	}
	n := len(j.kept)
	if j.moved += n; n < len(j.part) {
		j.left = 0
	} else {
		j.left -= n
	}
	if n > 0 && !j.joint {
		j.store.record(task{queue: j.queue, aside: &aside{journey: j}}).write(func(dst []byte) []byte {
			return queue.AppendRedriven(dst, j.queue.ID, sh.now, j.kept)
		})
		return
	}
	sh.emigrate(j)
}

// endJourney answers. What was moved before a failure is moved: that is the answer then.
func (sh *shard) endJourney(j *journey) {
	delete(sh.leaving, j.queue)
	j.over = true
	if j.failure != nil && j.moved == 0 {
		sh.fail(j.control.work.s, j.control.id, j.failure)
	} else {
		sh.answerMoved(j.control, j.moved)
	}
	sh.finish(j.control.work)
	for _, w := range j.parked {
		sh.goOn(w)
	}
}
