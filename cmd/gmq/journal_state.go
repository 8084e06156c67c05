package main

import (
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
