package gmq

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Peeked is a message as [Queue.Peek] shows it: it stays where it is, and
// whoever gets it later gets it as if nobody had looked.
type Peeked struct {
	Seq       uint64
	State     string    // ready, delayed, leased
	Until     time.Time // delayed: when it is due; leased: when the lease ends; zero where neither
	Attempts  int       // deliveries that have counted, the one that is out included
	Published time.Time
	Headers   map[string]string // nil where there are none
	Key       string
	Topic     string          // what it was published to, if not to the queue
	Body      json.RawMessage // byte for byte as it was published
	Base64    bool            // it was sent as []byte

	Raw json.RawMessage // all that the server shows, for what this version does not know

	queue string
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Peeked) UnmarshalJSON(raw []byte) error {
	var in struct {
		Queue     string            `json:"queue"`
		Seq       uint64            `json:"seq"`
		State     string            `json:"state"`
		Until     time.Time         `json:"until"`
		Attempt   int               `json:"attempt"`
		Published time.Time         `json:"published"`
		Headers   map[string]string `json:"headers"`
		Key       string            `json:"key"`
		Topic     string            `json:"topic"`
		Encoding  string            `json:"encoding"`
		Body      json.RawMessage   `json:"body"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	*p = Peeked{
		Seq: in.Seq, State: in.State, Until: in.Until, Attempts: in.Attempt, Published: in.Published,
		Headers: in.Headers, Key: in.Key, Topic: in.Topic, Body: in.Body, Base64: in.Encoding == "base64",
		Raw: bytes.Clone(raw), queue: in.Queue,
	}
	return nil
}

// message lends the message what is known about bodies.
func (p *Peeked) message() *Message {
	return &Message{Seq: p.Seq, Body: p.Body, base64: p.Base64, q: &Queue{name: p.queue}}
}

// Decode decodes the body, as [json.Unmarshal] does.
func (p *Peeked) Decode(v any) error { return p.message().Decode(v) }

// Bytes is as [Message.Bytes].
func (p *Peeked) Bytes() ([]byte, error) { return p.message().Bytes() }

// Text is as [Message.Text].
func (p *Peeked) Text() string { return p.message().Text() }

// Peek shows the messages of a queue in order of their seqs, and takes none:
// those in a state (ready, delayed, leased), or all where it is "", behind
// seq after, and at most limit of them unless it is 0. The server is asked for
// a page at a time, so what changes meanwhile may show or not. A failure comes
// last and ends the list.
func (q *Queue) Peek(ctx context.Context, state string, after uint64, limit int) iter.Seq2[*Peeked, error] {
	return func(yield func(*Peeked, error) bool) {
		after := after // each use of the iterator begins anew
		for left := limit; limit <= 0 || left > 0; {
			page, err := q.peekPage(ctx, state, after, left)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
				after = p.Seq
			}
			if len(page) == 0 {
				return
			}
			left -= len(page)
		}
	}
}

// peekPage asks for one reply's worth, which the server may cut before there are left.
func (q *Queue) peekPage(ctx context.Context, state string, after uint64, left int) ([]*Peeked, error) {
	if left <= 0 || left > wire.MaxLimit {
		left = wire.MaxLimit
	}
	b := appendText(q.request("queue.peek"), "state", state)
	if after > 0 {
		b = appendInt(b, "after", int64(after))
	}
	var page struct {
		Messages []*Peeked `json:"messages"`
	}
	err := q.ask(ctx, appendInt(b, "limit", int64(left)), true, &page)
	return page.Messages, err
}

// An Explanation is why a message is not being delivered.
type Explanation struct {
	State    string    `json:"state"`    // ready, delayed, leased, settled
	Because  string    `json:"because"`  // for people, in words that go behind "because"
	Until    time.Time `json:"until"`    // when that ends by itself; zero where it does not
	Lease    *Leased   `json:"lease"`    // who has it; nil where nobody does
	Attempts int       `json:"attempts"` // deliveries that have counted, the one that is out included
	History  []Event   `json:"history"`  // what the server remembers, the oldest first

	Raw json.RawMessage `json:"-"` // the whole reply, for what this version does not know
}

// Leased is who has a message.
type Leased struct {
	Consumer string    `json:"consumer"`
	Until    time.Time `json:"until"` // zero where the message is being settled
}

// An Event is something that happened to a message.
type Event struct {
	At       time.Time `json:"at"`
	Event    string    `json:"event"` // returned, acked, expired, dead, dropped, cancelled, redriven, …
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
}

// Explain tells why a message is not being delivered, or what became of it. Of
// one that the server has forgotten it is [ErrNotFound].
func (q *Queue) Explain(ctx context.Context, seq uint64) (Explanation, error) {
	var x Explanation
	if err := q.ask(ctx, appendInt(q.request("queue.explain"), "seq", int64(seq)), true, &x.Raw); err != nil {
		return Explanation{}, err
	}
	if err := json.Unmarshal(x.Raw, &x); err != nil {
		return Explanation{}, fmt.Errorf("gmq: the explanation of message %d of %s: %w", seq, q.name, err)
	}
	return x, nil
}

// Cancel takes back a message that nobody has leased. It is not asked twice:
// after a lost connection the outcome is unknown.
func (q *Queue) Cancel(ctx context.Context, seq uint64) error {
	return q.ask(ctx, appendInt(q.request("queue.cancel"), "seq", int64(seq)), false, nil)
}

// Reschedule lets a message that nobody has leased become ready at another
// time, which is [Delay] or [At]. A time that is over makes it ready now.
func (q *Queue) Reschedule(ctx context.Context, seq uint64, when DueOption) error {
	b := appendInt(q.request("queue.reschedule"), "seq", int64(seq))
	return q.ask(ctx, when.appendDue(b), true, nil)
}

// redriveMax is how many messages the server moves at one request.
const redriveMax = 100_000

// Redrive moves messages out of a dead-letter queue, the oldest first, each
// back to the queue it died in, and at most limit of them; 0 is as many as are
// there now, so that what dies again meanwhile is not moved for ever. There
// they are new: with another seq, at their first attempt. What cannot go back,
// as its queue is full or gone, stays. Redrive is not asked twice: after a lost
// connection the outcome is unknown, and moved is what had been moved before.
func (q *Queue) Redrive(ctx context.Context, limit int) (moved int, err error) {
	return q.redrive(ctx, "", limit)
}

// RedriveTo is as [Queue.Redrive], but moves all messages into one queue, which
// must be there and may be kept anywhere. What does not fit into it stays. A
// server that dies in between may leave a few messages in both queues, and
// never one in neither.
func (q *Queue) RedriveTo(ctx context.Context, to string, limit int) (moved int, err error) {
	return q.redrive(ctx, to, limit)
}

func (q *Queue) redrive(ctx context.Context, to string, limit int) (moved int, err error) {
	if limit <= 0 {
		info, err := q.c.QueueInfo(ctx, q.name)
		if err != nil {
			return 0, err
		}
		limit = int(max(info.Counts.Ready+info.Counts.Delayed, 1)) // the server says what is wrong with the queue, if anything is
	}
	for {
		n := min(limit-moved, redriveMax)
		var reply struct {
			Moved int `json:"moved"`
		}
		b := appendText(q.request("queue.redrive"), "to", to)
		if err := q.ask(ctx, appendInt(b, "max", int64(n)), false, &reply); err != nil {
			return moved, err
		}
		if moved += reply.Moved; reply.Moved == 0 || moved >= limit { // fewer than n: some of those that were looked at had to stay
			return moved, nil
		}
	}
}
