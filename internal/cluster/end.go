package cluster

import "github.com/gmq/gmq/internal/journal"

// An Ended is what was found of a group that was to end.
type Ended struct {
	Group   bool   // there is one
	Empty   bool   // this node is a member that has not been given anything yet
	Last    uint64 // its last entry on this node
	Unknown uint64 // entries up to there of which nothing here says that they were committed
}

// Ending says what End would do. The journal was replayed, and nothing else of the node runs.
func (j *Journal) Ending() Ended {
	if !j.founded {
		return Ended{}
	}
	st := &j.g.storage
	st.mu.Lock()
	defer st.mu.Unlock()
	return Ended{Group: true, Empty: st.last() == 0, Last: st.last(), Unknown: st.last() - j.applied}
}

// End ends the journal's group for good, without asking any other member: for when a majority of them is lost. Whatever entries this node has count
// from then on, also those that were never committed: who has proposed them was told nothing, or that they are kept. Then
// the node is alone, and what it has can be the beginning of another group. Woken tells when the log has something new.
func (j *Journal) End(woken <-chan struct{}) error {
	e := j.Ending()
	if !e.Group {
		return nil
	}
	m := mark{kind: markEnd, index: e.Last}
	b := &journal.Batch{Data: m.record(nil), Essential: true}
	b.Parts = []journal.Part{{Shard: j.g.number, End: len(b.Data), Mark: true}}
	j.log.Notify(j.wake) // no host runs
	j.log.Append(b)
	for {
		for _, got := range j.log.Kept(nil) {
			if got == b {
				return b.Err
			}
		}
		if err := j.log.Failed(); err != nil {
			return err
		}
		<-woken
	}
}
