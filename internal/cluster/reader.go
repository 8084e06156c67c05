package cluster

import "github.com/gmq/gmq/internal/journal"

// A Reader goes through a shard's part of a log as a Journal's Replay does, and takes part in nothing: for whoever looks at the
// directory of a node that does not run. It belongs to one goroutine.
type Reader struct {
	st storage
	p  replayer
}

// NewReader makes one. Record is given what counts, in order: what this node had before there was a group, and the records of entries. The
// payload is valid during the call.
func NewReader(record func(ref journal.Ref, payload []byte) error) *Reader {
	r := &Reader{}
	r.p = replayer{st: &r.st, record: record}
	return r
}

// Snapshot is told of the shard's snapshot, and what the group has put in front of it: before all records behind pos.
func (r *Reader) Snapshot(pos journal.Ref, head []byte) error { return r.p.snapshot(pos, head) }

// Next takes the next record, or mark.
func (r *Reader) Next(ref journal.Ref, mark bool, payload []byte) error {
	return r.p.next(ref, mark, payload)
}

// A Read is what a log says of a group.
type Read struct {
	Group bool   // there is one
	Term  uint64 // the last of which this node knows
	Last  uint64 // its last entry on this node
	Known uint64 // the last entry of which this node's log says that it is committed
}

// Finish ends the log. All entries count then, as with End: of the last ones the log does not say yet that they are committed. In a cluster
// that stood still before it was stopped they are, and all nodes have the same.
func (r *Reader) Finish() (Read, error) {
	out := Read{Group: r.p.founded, Term: r.st.hard.GetTerm(), Last: r.st.last(), Known: r.p.applied}
	if !r.p.founded {
		return out, nil
	}
	if err := r.p.finish(); err != nil {
		return out, err
	}
	r.p.commit = r.st.last()
	return out, r.p.handOn()
}
