// Package rows tells the journal in MySQL what the records of queues mean for its tables. It knows the core and that
// journal, and decides nothing.
package rows

import (
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/mysqljournal"
	"github.com/gmq/gmq/internal/queue"
)

// Format is how the records of queues are kept.
func Format() mysqljournal.Format {
	return mysqljournal.Format{
		NewFollower: func() mysqljournal.Follower { return &follower{rows: queue.NewRows()} },
		NewStubs:    func() mysqljournal.Stubs { return &queue.Stubs{} },
		Parts:       queue.Parts,
	}
}

// follower is a shard's.
type follower struct {
	rows    *queue.Rows
	changes []mysqljournal.Change
}

func (f *follower) LoadSnapshot(data []byte) error { return f.rows.LoadSnapshot(data) }

var ops = [...]mysqljournal.Op{queue.RowInsert: mysqljournal.Insert, queue.RowUpdate: mysqljournal.Update, queue.RowDelete: mysqljournal.Delete}

func (f *follower) Apply(ref journal.Ref, size uint32, payload []byte) ([]mysqljournal.Change, error) {
	changes, err := f.rows.Apply(queue.Span{Ref: queue.Ref(ref), Size: size}, payload)
	f.changes = f.changes[:0]
	for i := range changes {
		c := &changes[i]
		f.changes = append(f.changes, mysqljournal.Change{
			Op: ops[c.Op], Ref: journal.Ref(c.Ref), Own: journal.Ref(c.Own), Queue: c.Queue, Seq: c.Seq,
			FromQueue: c.FromQueue, FromSeq: c.FromSeq, Published: c.Published, Due: c.Due, Attempts: c.Attempts,
		})
	}
	return f.changes, err
}
