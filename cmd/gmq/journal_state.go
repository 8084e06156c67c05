package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
)

// shardState is a shard's queues as they are replayed when no server runs. It is what the commands that look at a
// journal know of what records mean.
type shardState struct {
	*queue.State
	latest int64              // when the newest message was published, unix ns
	beyond map[string]*beyond // by queue: what a repair leaves out
	others int                // records left out of queues that are not there
}

// beyond is what a repair leaves out of one queue.
type beyond struct {
	messages int
	first    uint64 // the seq of the first one, had nothing been lost before it
	others   int    // acks and everything else
}

// A letter is a message that a state refers to.
type letter struct {
	id    uint32
	queue string
	seq   uint64
}

func newShardState() *shardState {
	return &shardState{State: queue.New(0), beyond: map[string]*beyond{}}
}

// Load implements filejournal.State.
func (s *shardState) Load(snapshot []byte) error { return s.LoadSnapshot(snapshot) }

// Apply implements filejournal.State.
func (s *shardState) Apply(ref journal.Ref, payload []byte) error {
	_, err := s.apply(ref, payload)
	return err
}

func (s *shardState) apply(ref journal.Ref, payload []byte) (queue.Outcome, error) {
	if e, err := queue.ParseEnvelope(payload); err == nil {
		s.latest = max(s.latest, e.Published)
	}
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

// plausible is how far the time of a damaged record may lie before and behind that of the one before it.
const (
	plausibleBefore = int64(60e9)
	plausibleBehind = int64(366 * 24 * 3600e9)
)

// Guess implements filejournal.Mender. What counts of a message stands at the beginning of its record, the time
// last: where that makes sense and the queue is there, what is damaged is the body.
func (s *shardState) Guess(ref journal.Ref, payload []byte) bool {
	e, err := queue.ParseEnvelope(payload)
	text, terr := queue.Describe(payload)
	if err != nil || terr != nil || !strings.HasPrefix(text, "publish ") || s.latest == 0 {
		return false
	}
	var id uint32
	if n, err := fmt.Sscanf(text, "publish queue=%d", &id); err != nil || n != 1 {
		return false
	}
	known := slices.ContainsFunc(s.Queues(), func(q *queue.Queue) bool { return q.ID == id })
	if age := e.Published - s.latest; !known || age < -plausibleBefore || age > plausibleBehind {
		return false
	}
	_, err = s.apply(ref, payload)
	return err == nil
}

// Snapshot implements filejournal.Mender.
func (s *shardState) Snapshot(in func(journal.Ref) bool) (data []byte, kept []filejournal.Kept) {
	data = s.snapshot(in, func(q *queue.Queue, seq uint64, span queue.Span) {
		kept = append(kept, filejournal.Kept{Span: journal.Span{Ref: journal.Ref(span.Ref), Size: span.Size}, Owner: letter{q.ID, q.Name, seq}})
	}, func(all []byte) []byte { return all })
	return data, kept
}

// Move implements filejournal.Mender.
func (s *shardState) Move(dst []byte, k filejournal.Kept, payload []byte) ([]byte, error) {
	l := k.Owner.(letter)
	return queue.AppendRelocate(dst, l.id, l.seq, payload)
}

// Drop implements filejournal.Mender.
func (s *shardState) Drop(dst []byte, k filejournal.Kept) []byte {
	l := k.Owner.(letter)
	return queue.AppendCancel(dst, l.id, 0, l.seq)
}

// Beyond implements filejournal.Mender. To say what is left out it is applied, as if nothing were missing.
func (s *shardState) Beyond(ref journal.Ref, payload []byte) {
	out, err := s.apply(ref, payload)
	if err != nil || out.Queue == nil {
		if !out.Pending {
			s.others++
		}
		return
	}
	b := s.beyond[out.Queue.Name]
	if b == nil {
		b = &beyond{}
		s.beyond[out.Queue.Name] = b
	}
	if out.Seq == 0 {
		b.others++
		return
	}
	if b.messages == 0 {
		b.first = out.Seq
	}
	b.messages += out.N
}
