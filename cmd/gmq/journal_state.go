package main

import (
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// shardState is a shard's queues as they are replayed when no server runs. It is what the commands that look at a
// journal know of what records mean.
type shardState struct{ *queue.State }

func newShardState() *shardState { return &shardState{queue.New(0)} }

// Load implements filejournal.State.
func (s *shardState) Load(snapshot []byte) error { return s.LoadSnapshot(snapshot) }

// Apply implements filejournal.State.
func (s *shardState) Apply(ref journal.Ref, payload []byte) error {
	_, err := s.apply(ref, payload)
	return err
}

func (s *shardState) apply(ref journal.Ref, payload []byte) (queue.Outcome, error) {
	out, err := s.State.Apply(queue.Span{Ref: queue.Ref(ref), Size: uint32(len(payload) + journal.HeaderBytes)}, payload)
	s.Spans() // nobody counts them
	return out, err
}

// Refs implements filejournal.State.
func (s *shardState) Refs(fn func(journal.Span)) {
	s.snapshot(func(journal.Ref) bool { return true }, func(_ *queue.Queue, _ uint64, span queue.Span) {
		fn(journal.Span{Ref: journal.Ref(span.Ref), Size: span.Size})
	}, func(all []byte) []byte { return all[:0] })
}

// A memberState is a shardState of a directory that may be a cluster's node's: it has whatever entries the node has, as none of them
// says of itself that it is committed.
type memberState struct {
	*shardState
	reader *cluster.Reader
	found  cluster.Read // once all is read
}

func newMemberState() *memberState {
	s := &memberState{shardState: newShardState()}
	s.reader = cluster.NewReader(s.Apply)
	return s
}

// LoadMarked implements filejournal.Marked.
func (s *memberState) LoadMarked(pos journal.Ref, head, snapshot []byte) error {
	if err := s.reader.Snapshot(pos, head); err != nil {
		return err
	}
	return s.Load(snapshot)
}

// ApplyMarked implements filejournal.Marked.
func (s *memberState) ApplyMarked(ref journal.Ref, mark bool, payload []byte) error {
	return s.reader.Next(ref, mark, payload)
}

// Finish implements filejournal.Marked.
func (s *memberState) Finish() (err error) {
	s.found, err = s.reader.Finish()
	return err
}

// snapshotStep is about how much of a snapshot is made at a time.
const snapshotStep = 1 << 20

// snapshot goes through the state; keep is given the snapshot so far and says what to go on with.
func (s *shardState) snapshot(in func(journal.Ref) bool, found func(*queue.Queue, uint64, queue.Span), keep func([]byte) []byte) []byte {
	snap := s.BeginSnapshot(func(r queue.Ref) bool { return in(journal.Ref(r)) }, found)
	var data []byte
	for done := false; !done; {
		data, done = snap.Next(data, snapshotStep)
		data = keep(data)
	}
	return data
}
