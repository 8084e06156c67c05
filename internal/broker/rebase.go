package broker

import (
	"maps"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// Messages that came from a topic share one record, over all shards. When its segment is given up it is written anew
// once, with all of its copies: the first shard gathers what the others have found, and when it has heard of all of them it
// proposes batches of several shards, as a publish to a topic does.

// A gathering is what shards have found of shared records in sparse segments of one storage, in one round of its
// compaction. It belongs to shard 0.
type gathering struct {
	round  uint64
	heard  uint32 // bits of the shards
	order  []queue.Ref
	copies map[queue.Ref][]rebasing
}

// A rebasing is one copy that is to refer to another record.
type rebasing struct {
	shard int
	queue uint32
	seq   uint64
}

// handOver tells shard 0 what this shard has found.
func (sh *shard) handOver(st *store, c *compaction) {
	from, name := sh.index, st.Name
	w := sh.newWork()
	w.call = func(first *shard) { first.gather(first.byName[name], from, c) }
	sh.b.shards[0].post(w)
}

// gather adds what a shard has found. A round that a shard has left out is not finished: the next one finds the same.
func (sh *shard) gather(st *store, from int, c *compaction) {
	g := st.gathering
	if g == nil || g.round < c.round {
		g = &gathering{round: c.round, copies: map[queue.Ref][]rebasing{}}
		st.gathering = g
	}
	if g.round != c.round {
		return
	}
	for _, m := range c.shared {
		if g.copies[m.ref] == nil {
			g.order = append(g.order, m.ref)
		}
		g.copies[m.ref] = append(g.copies[m.ref], rebasing{from, m.queue.ID, m.seq})
	}
	g.heard |= 1 << from
	if g.heard == 1<<Shards-1 {
		st.gathering = nil
		st.gathered = append(st.gathered, g)
		maps.DeleteFunc(st.rebased, func(_ queue.Ref, round uint64) bool { return round+rebaseRounds < g.round })
	}
}

// rebaseRounds is for how many rounds it is remembered what was proposed anew: a shard may look, then see it, and tell later
// what it has found. Records that could not be kept are tried again then.
const rebaseRounds = 4

// rebase proposes some of the shared records anew, when all shards have been heard.
func (sh *shard) rebase(st *store) {
	if len(st.gathered) == 0 {
		return
	}
	g := st.gathered[0]
	r := &rebased{batch: journal.Batch{Essential: true, Local: true}}
	r.batch.Owner = r
	var shards [Shards][]rebaseAt
	for len(g.order) > 0 && len(r.batch.Data) < moveStep {
		ref := g.order[0]
		g.order = g.order[1:]
		if _, underWay := st.rebased[ref]; underWay { // some shard had not seen that yet when it looked
			continue
		}
		payloads, err := st.journal.Read([]journal.Ref{journal.Ref(ref)}, nil)
		if err != nil {
			continue // all copies were settled meanwhile, and the segment was given back; damage is found by who delivers it
		}
		if st.rebased == nil {
			st.rebased = map[queue.Ref]uint64{}
		}
		st.rebased[ref] = g.round
		start := len(r.batch.Data)
		r.batch.Data = append(journal.BeginRecord(r.batch.Data), payloads[0]...)
		journal.EndRecord(r.batch.Data, start)
		for _, c := range g.copies[ref] {
			shards[c.shard] = append(shards[c.shard], rebaseAt{c, start, len(r.batch.Data) - start, len(g.copies[ref])})
		}
	}
	if len(g.order) == 0 {
		st.gathered = st.gathered[1:]
	}
	if len(st.gathered) > 0 {
		sh.signal() // more in the next turn
	}
	if len(r.batch.Data) > 0 {
		r.write(&shards, sh.now)
		st.Spread(&r.batch)
	}
}

type rebaseAt struct {
	rebasing
	start, size, copies int
}

// rebased is a batch of shared records and of what refers to them.
type rebased struct {
	batch journal.Batch
	at    [Shards][]int // each shard's records
}

func (r *rebased) write(shards *[Shards][]rebaseAt, now int64) {
	data := r.batch.Data
	r.batch.Parts = append(r.batch.Parts, journal.Part{Shard: journal.Nobody, End: len(data)})
	for i := range shards {
		for _, c := range shards[i] {
			at := len(data)
			r.at[i] = append(r.at[i], at)
			data = queue.AppendRebase(journal.BeginRecord(data), c.queue, now, c.seq, at-c.start, c.size, c.copies)
			journal.EndRecord(data, at)
		}
		if len(shards[i]) > 0 {
			r.batch.Parts = append(r.batch.Parts, journal.Part{Shard: i, End: len(data)})
		}
	}
	r.batch.Data = data
}

// applyRebased lets this shard's copies refer to their new place.
func (sh *shard) applyRebased(st *store, r *rebased) error {
	if r.batch.Err != nil {
		return nil // the records stay where they are, until there is space
	}
	for _, at := range r.at[sh.index] {
		if _, _, err := st.apply(&r.batch, at); err != nil {
			return err
		}
		if err := sh.alsoMoved(st, &r.batch, at); err != nil {
			return err
		}
	}
	return nil
}
