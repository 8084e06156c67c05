package broker

import (
	"math/bits"
	"time"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// An fsync for a single quiet ack costs as much as one for a publish, and the next publish is likely to be on its way. So a batch of nothing but quiet
// acks waits for it, where that keeps nobody from anything: see docs/decisions/0035. Whatever else is to be recorded goes with it at once.

// quietTime is how long quiet acks may wait, ns; fewQuiet is how many messages they settle at the most.
const quietTime, fewQuiet = int64(5 * time.Millisecond), 64

// quietUntil is until when t, an ack of n messages, may wait together with what is collected already; 0: it may not.
func (sh *shard) quietUntil(st *store, a *ack, t *task, n int) int64 {
	ts := st.tasks
	switch {
	case !st.Syncs, !a.quiet, a.op != wire.OpAck, t.aside != nil, n > fewQuiet, sh.stopped, sh.b.draining.Load():
		return 0
	case ts == nil:
		return sh.now + quietTime
	case ts.quiet+n > fewQuiet:
		return 0
	}
	return ts.until
}

// proposeDue hands the collected records to the journal, unless they may wait. It is asked at the end of each part of a turn: what somebody waits for
// may have come up since.
func (sh *shard) proposeDue(st *store) {
	if ts := st.tasks; ts != nil && !sh.mayWait(ts) {
		st.propose()
	}
}

// mayWait reports whether nobody waits for any of ts.
func (sh *shard) mayWait(ts *tasks) bool {
	if ts.until <= sh.now || ts.until > sh.now+quietTime { // or the clock was set back
		return false
	}
	if !sh.holding {
		sh.holding = true
		sh.b.holding.Or(1 << sh.index) // first: whoever is short of leases from here on has the shard woken
	}
	if sh.b.stalled.Load() != 0 {
		return false
	}
	for i := range ts.list {
		if sh.awaited(ts.list[i].queue) {
			return false
		}
	}
	return true
}

// awaited reports whether somebody may wait for a message of q to be settled: for the consumer's credit, or for room. Who publishes to the queue itself
// waits for nothing, as that is decided behind the acks.
func (sh *shard) awaited(q *queue.Queue) bool {
	return q.Counts.Ready > 0 || q.Promised > 0 || sh.bounds[q] != nil || !q.Fits(q.Counts.Live(), q.Bytes)
}

// held notes, at the end of a turn, whether anything waits.
func (sh *shard) held() {
	if !sh.holding {
		return
	}
	for _, st := range sh.stores {
		if st.tasks != nil {
			return
		}
	}
	sh.holding = false
	sh.b.holding.And(^uint32(1 << sh.index))
}

// hurry wakes the shards that have something waiting, as it may free leases.
func (b *Broker) hurry() {
	for mask := b.holding.Load(); mask != 0; mask &= mask - 1 {
		b.shards[bits.TrailingZeros32(mask)].signal()
	}
}
