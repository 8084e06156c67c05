package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
)

// mendedState is a shard's queues as they are made of a journal with gaps.
//
// A message's number is how many were published before it. Behind a gap, in which publishes may be lost, an ack may therefore
// mean another message than the one that has its number now. So of the queues that were there before the gap only messages
// published before it are acked; those behind it come again. No publish is refused for want of room: the acks that made
// room may be among what is not done.
type mendedState struct {
	*shardState
	latest int64 // when the newest message was published, unix ns
	gapped bool

	certain map[uint32]uint64         // by id: in these queues only the numbers up to here are certain
	doubted map[string]bool           // the names of such queues, of now and before
	lifted  map[uint32]queue.Settings // by id: the settings of queues whose limits do not hold meanwhile
	queues  map[uint32]*queue.Queue   // by id, as far as they were looked up; nil: there is none
	ignored map[string]int            // by name: records that were not applied as their messages are not certain
	unknown int                       // records of queues that are not there
}

// A letter is a message that a state refers to.
type letter struct {
	id    uint32
	queue string
	seq   uint64
}

func newMendedState() *mendedState {
	return &mendedState{
		shardState: newShardState(), certain: map[uint32]uint64{}, lifted: map[uint32]queue.Settings{},
		doubted: map[string]bool{}, queues: map[uint32]*queue.Queue{}, ignored: map[string]int{},
	}
}

// A reading is what Describe says of a record.
type reading struct {
	kind string
	id   uint32
	seqs []uint64 // the numbers of messages that it has, or seems to have
}

var (
	aboutQueue = regexp.MustCompile(`^([a-z ]+) queue=(\d+)`)
	aboutSeqs  = regexp.MustCompile(`(?:seq|up to)=(\d+)|seqs=\[([\d ]*)\]`)
	// numberless are the kinds of records that mean no message by its number, numbered those that do.
	numberless = []string{"noop", "create", "update", "delete", "pause", "publish", "body", "copy", "bind", "unbind", document}
	numbered   = []string{"purge", "settle", "shield", "expire", "redrive", "rebase", "cancel", "move to", "return", "relocate"}
)

// document is the kind of a record that is about no queue.
const document = "document"

// purgeBut is a purge of all messages but some.
const purgeBut = "purge but"

func read(payload []byte) (reading, error) {
	text, err := queue.Describe(payload, false)
	if err != nil || text == "noop" {
		return reading{kind: text}, err
	}
	m := aboutQueue.FindStringSubmatch(text)
	if m == nil || !slices.Contains(numberless, m[1]) && !slices.Contains(numbered, m[1]) {
		return reading{}, fmt.Errorf("a record that is not understood: %.100s", text)
	}
	id, err := strconv.ParseUint(m[2], 10, 32)
	r := reading{kind: m[1], id: uint32(id)}
	if err != nil || slices.Contains(numberless, r.kind) {
		return r, err
	}
	if r.kind == "return" {
		r.seqs = queue.ReturnedSeqs(payload)
		return r, nil
	}
	if r.kind == "purge" && strings.Contains(text, " only=false ") {
		r.kind = purgeBut
	}
	text, _, _ = strings.Cut(text, " published=") // behind it is what a client wrote
	for _, found := range aboutSeqs.FindAllStringSubmatch(text, -1) {
		for _, n := range strings.Fields(found[1] + " " + found[2]) {
			seq, err := strconv.ParseUint(n, 10, 64)
			if err != nil {
				return r, err
			}
			r.seqs = append(r.seqs, seq)
		}
	}
	return r, nil
}

// find is the queue with that id, nil where there is none.
func (s *mendedState) find(id uint32) *queue.Queue {
	q, looked := s.queues[id]
	if q != nil && !q.Gone() || q == nil && looked && id&1 == 0 { // dead-letter queues come by themselves
		return q
	}
	clear(s.queues)
	for _, q := range s.Queues() {
		s.queues[q.ID] = q
	}
	q = s.queues[id]
	s.queues[id] = q // also that there is none
	return q
}

// Apply implements filejournal.State.
func (s *mendedState) Apply(ref journal.Ref, payload []byte) error {
	if !s.gapped {
		_, err := s.do(ref, payload)
		return err
	}
	r, err := read(payload)
	if err != nil {
		return err
	}
	if r.kind == "noop" || r.kind == "body" || r.kind == document || r.kind == "create" {
		if r.kind == "create" {
			clear(s.queues)
		}
		_, err := s.do(ref, payload)
		return err
	}
	q := s.find(r.id)
	_, uncertain := s.limit(q)
	if r.kind == "redrive" && (q == nil || uncertain) {
		s.doubt() // the numbers that dead letters get where they go back to depend on which of them do
	}
	if q == nil {
		s.unknown++
		return filejournal.ErrLeftOut
	}
	if uncertain && (r.kind == "delete" || r.kind == "purge" && len(r.seqs) == 0) && !queue.Ephemeral(q.Name) {
		if queue.DeadName(q.Name) == "" {
			s.ignored[q.Name]++
			return nil
		}
		s.bury(q)
	}
	if uncertain && !s.means(q, r) {
		s.ignored[q.Name]++
		part := s.certainOf(q, r)
		if r.kind != "settle" || len(part) == 0 {
			return nil
		}
		payload = queue.AppendSettle(nil, q.ID, s.latest, part)
	}
	out, err := s.do(ref, payload)
	if err == nil && uncertain && r.kind == "update" {
		s.lift(q)
	}
	if err == nil && out.Refusal == queue.TooManyIDs {
		s.unknown++
		return filejournal.ErrLeftOut
	}
	return err
}

func (s *mendedState) do(ref journal.Ref, payload []byte) (queue.Outcome, error) {
	if e, err := queue.ParseEnvelope(payload); err == nil {
		s.latest = max(s.latest, e.Published)
	}
	return s.apply(ref, payload)
}

// limit is the greatest number in q that is certain; false where all are.
func (s *mendedState) limit(q *queue.Queue) (uint64, bool) {
	if q == nil {
		return 0, false
	}
	if limit, uncertain := s.certain[q.ID]; uncertain {
		return limit, true
	}
	// Which dead letters there are depends on what became of the messages of their source.
	source, dead := queue.SourceName(q.Name)
	return 0, dead && s.doubted[source]
}

// means reports whether a record of an uncertain queue means the messages that have these numbers here.
func (s *mendedState) means(q *queue.Queue, r reading) bool {
	// What a purge leaves does not say what was there.
	return r.kind != purgeBut && len(s.certainOf(q, r)) == len(r.seqs)
}

func (s *mendedState) certainOf(q *queue.Queue, r reading) []uint64 {
	limit, _ := s.limit(q)
	return slices.DeleteFunc(slices.Clone(r.seqs), func(seq uint64) bool { return seq > limit })
}

// bury moves all messages of a queue that is to end, or to be emptied, into its dead-letter queue: some of them may have
// been there already, or come from there, and must not end with the queue that they are in here.
func (s *mendedState) bury(q *queue.Queue) {
	var all []queue.Return
	s.snapshot(func(journal.Ref) bool { return true }, func(in *queue.Queue, seq uint64, _ queue.Span) {
		if in == q {
			all = append(all, queue.Return{Seq: seq})
		}
	}, func(data []byte) []byte { return data[:0] })
	if len(all) > 0 {
		_, _ = s.apply(0, queue.AppendReturn(nil, q.ID, 0, all, "repair: what was done to the message is not known", true, true)) // it can be read
	}
}

// doubt says that from here on a message may have another number than it had.
func (s *mendedState) doubt() {
	for _, q := range s.Queues() {
		if limit, already := s.limit(q); already {
			s.certain[q.ID] = limit
		} else {
			s.certain[q.ID] = q.Counts.Published
			s.lift(q)
		}
	}
	for _, q := range s.Queues() { // only now: its dead-letter queue was certain up to here as well
		s.doubted[q.Name] = true
	}
}

// lift puts a queue's limits out of force.
func (s *mendedState) lift(q *queue.Queue) {
	if q.Settings.MaxMessages == 0 && q.Settings.MaxBytes == 0 {
		delete(s.lifted, q.ID)
		return
	}
	s.lifted[q.ID] = q.Settings
	free := q.Settings
	free.MaxMessages, free.MaxBytes = 0, 0
	s.set(q.ID, &free)
}

// set changes a queue's settings. A queue that is gone has none.
func (s *mendedState) set(id uint32, to *queue.Settings) {
	_, _ = s.apply(0, queue.AppendUpdate(nil, id, 0, to)) // what is appended can be read
}

// Gap implements filejournal.Mender.
func (s *mendedState) Gap() {
	s.gapped = true
	// A batch of which the end is lost must not go on behind the gap.
	_, _ = s.apply(0, queue.AppendNoop(nil)) // which does nothing else
	s.doubt()
}

// plausible is how far the time of a damaged record may lie before and behind that of the one before it.
const (
	plausibleBefore = int64(60e9)
	plausibleBehind = int64(366 * 24 * 3600e9)
)

// Guess implements filejournal.Mender. What counts of a message stands at the beginning of its record, the time
// last: where that makes sense and the queue is there, what is damaged is the body.
func (s *mendedState) Guess(ref journal.Ref, payload []byte) bool {
	r, err := read(payload)
	if err != nil || r.kind != "publish" || s.latest == 0 || s.find(r.id) == nil {
		return false
	}
	e, err := queue.ParseEnvelope(payload)
	if err != nil {
		return false
	}
	if age := e.Published - s.latest; age < -plausibleBefore || age > plausibleBehind {
		return false
	}
	_, err = s.do(ref, payload)
	return err == nil
}

// Snapshot implements filejournal.Mender.
func (s *mendedState) Snapshot(in func(journal.Ref) bool) (data []byte, kept []filejournal.Kept) {
	for id, settings := range s.lifted {
		s.set(id, &settings)
	}
	data = s.snapshot(in, func(q *queue.Queue, seq uint64, span queue.Span) {
		kept = append(kept, filejournal.Kept{Span: journal.Span{Ref: journal.Ref(span.Ref), Size: span.Size}, Owner: letter{q.ID, q.Name, seq}})
	}, func(all []byte) []byte { return all })
	return data, kept
}

// Move implements filejournal.Mender.
func (s *mendedState) Move(dst []byte, k filejournal.Kept, payload []byte) ([]byte, error) {
	l := k.Owner.(letter)
	return queue.AppendRelocate(dst, l.id, l.seq, payload)
}

// Drop implements filejournal.Mender.
func (s *mendedState) Drop(dst []byte, k filejournal.Kept) []byte {
	l := k.Owner.(letter)
	return queue.AppendCancel(dst, l.id, 0, l.seq)
}
