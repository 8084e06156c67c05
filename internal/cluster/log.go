package cluster

import "github.com/gmq/gmq/internal/journal"

// A Log is a shard's part of the node's own log, as filejournal.Replica: what survives this process, and no more. One fsync
// serves all groups. Replay, Read, Retain, Release, Compact, Used, Close and what says so are called by the shard's goroutine, the rest by the
// host's.
type Log interface {
	journal.Journal

	// ReplayMarked is Replay, and tells marks from records, and what SnapshotAt was given from the state. The shard's.
	ReplayMarked(snapshot func(pos journal.Ref, head, data []byte) error, record func(ref journal.Ref, mark bool, payload []byte) error) error
	// Settle says that the owner retains what its state refers to. The shard's.
	Settle()
	// Whole says that the state has all again that it had before the last restart. Until then it may refer to what is gone. The shard's.
	Whole()
	// SnapshotAt begins a snapshot of a state that has all before pos, and may have some of what lies behind. The head is
	// kept with it. Told, where it is not nil, is called when the snapshot is the newest that is kept, or has been given up. The shard's.
	SnapshotAt(pos journal.Ref, head []byte, told func(kept bool)) journal.Snapshot
	// End is a place such that Kept has told all of this shard's batches before it; false where it has not. The shard's.
	End() (journal.Ref, bool)
	// Scarce reports whether there is room only for what frees more than it takes. Anybody's.
	Scarce() bool
	// Full is the outcome of what is refused then. Anybody's.
	Full() error
	// Unsure reports that it is not known yet whether it is scarce: what could be refused waits. Anybody's.
	Unsure() bool

	// Hold says that what lies from ref on is kept for other nodes, so that no compaction gives it back; 0: nothing is. Want asks for a
	// snapshot, which comes as a wish for a compaction. The host's.
	Hold(ref journal.Ref)
	Want()

	// Notify has kept called, in place of what the log wakes its owner with, when Kept has something new. It comes before the first batch.
	Notify(kept func())
	// Append keeps a batch, whose Parts say which records are marks. The outcome comes through Kept, in the order of appending.
	Append(b *journal.Batch)
	Kept(into []*journal.Batch) []*journal.Batch
	// ReadRun reads n bytes of records, as they were appended.
	ReadRun(ref journal.Ref, n int) ([]byte, error)
	// Since is about how much of the log lies behind a place. Anybody's.
	Since(ref journal.Ref) int64

	// Behind says that the owner's state refers to what is not there, and to no more of that than later batches release. The shard's.
	Behind()
	// Here reports whether the log has the segment of a record. The shard's.
	Here(ref journal.Ref) bool
	// Newest opens the newest snapshot that is kept. Pin sees to it that what there is now stays until release, held whether it has so far. Records reads
	// records; nil for those that are gone. The three are Images'.
	Newest() (journal.Stored, error)
	Pin() (held func() bool, release func())
	Records(refs []journal.Ref) ([][]byte, error)
}
