package cluster

import "github.com/gmq/gmq/internal/journal"

// What this node alone has kept says where records lie now, under the queues and seqs that their messages have. An entry may give a message others: it goes to
// a dead-letter queue, or back. So whether such a record finds its message depends on which entries come before it. What it found when it was kept a restart
// has to find too, or it looks for the message's record where it was, in a segment that was given back.
//
// A restart takes an entry when the log says that it is committed. So who has told the log so must not hand on what lies behind before that entry: all entries
// that are known to be committed come first. The other way round nothing is lost: what did not find its message has moved nothing. Journal.note sees to it
// that a restart does not take an entry too late.

// An early is a batch that this node alone has kept, and that is to come behind entries which are on their way.
type early struct {
	batch *journal.Batch
	after uint64 // the last of them
}

// decided is the last entry that is known to be committed and that the log has told. All up to there will be applied, whatever others do.
func (g *group) decided() uint64 {
	if g.raw == nil {
		return 0
	}
	g.storage.mu.Lock()
	defer g.storage.mu.Unlock()
	return min(g.raw.BasicStatus().GetCommit(), g.storage.last())
}

// timely are the batches that wait for nothing any more.
func (g *group) timely() (items []item) {
	n := 0
	for n < len(g.early) && g.early[n].after <= g.given {
		items = append(items, item{batch: g.early[n].batch})
		n++
	}
	if g.early = g.early[n:]; len(g.early) == 0 {
		g.early = nil
	}
	return items
}

// handOn gives items to the shard, and then notes how many batches are still to come.
func (g *group) handOn(items []item) {
	g.give(items...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.locals = len(g.early)
}
