package gmq

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/gmq/gmq/wire"
)

// Bounds of one line of acks: far below any line limit of a server.
const (
	ackMax      = 512
	ackMaxBytes = 48 << 10
)

// An ackBatch gathers acks of one queue until the writer comes by. Under
// Client.mu until it is flushed; then it is a call like any other, which may be
// asked again, for an ack names the message and not the connection.
type ackBatch struct {
	call     call
	lane     *lane // that it goes over
	q        *Queue
	n        int
	seqs     []byte // JSON, each with a comma behind it
	receipts []byte
}

// An Acking is an ack on its way.
type Acking struct {
	batch *ackBatch
	seq   uint64
	err   error // where there is no batch
}

// Wait waits for the server's word on this message: nil, [ErrLeaseLost] where
// it has been delivered again in the meantime, or another error.
func (a Acking) Wait(ctx context.Context) error {
	if a.batch == nil {
		return a.err
	}
	if err := a.batch.call.await(ctx); err != nil {
		return err
	}
	err := a.batch.call.err
	if a.batch.q.over(err) {
		return nil
	}
	if e, ok := err.(*Error); ok && e.Code == wire.CodeLeaseLost && len(e.Seqs) > 0 {
		if !slices.Contains(e.Seqs, a.seq) {
			return nil // the stale ones were others
		}
	}
	return err
}

// over reports whether err says no more than that an ephemeral queue has ended with its connection. Its
// messages are nobody's then, as if they had been settled elsewhere.
func (q *Queue) over(err error) bool {
	return q.link != 0 && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnknownOutcome))
}

// Ack settles the message for good and waits until that is as durable as the
// queue makes a publish. It survives a lost connection; where a subscription to a
// topic has lost its queue with the connection, there is nothing left to settle, and Ack succeeds.
func (m *Message) Ack(ctx context.Context) error { return m.AckAsync().Wait(ctx) }

// AckAsync settles the message without waiting. What is acked while the
// connection is busy goes in one request, so many acks cost little more than one.
func (m *Message) AckAsync() Acking {
	if m.auto {
		return Acking{}
	}
	c := m.q.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Acking{err: ErrClosed}
	}
	m.settled()
	ln := c.laneWith(m.link)
	if ln == nil {
		if m.q.link != 0 {
			return Acking{}
		}
		ln = c.leads(m.q)
	}
	b := m.q.open
	if b == nil || b.lane != ln {
		b = &ackBatch{q: m.q, lane: ln, call: call{kind: callSettle, link: m.q.link, place: c.placeOf(m.q, false)}}
		m.q.open = b
		ln.acks = append(ln.acks, b)
		if ln.link != nil {
			ln.link.kick()
		}
	}
	b.seqs = append(strconv.AppendUint(b.seqs, m.Seq, 10), ',')
	b.receipts = append(wire.AppendString(b.receipts, string(m.receipt)), ',')
	if b.n++; b.n >= ackMax || len(b.seqs)+len(b.receipts) >= ackMaxBytes {
		m.q.open = nil
	}
	return Acking{batch: b, seq: m.Seq}
}

// flushAcks turns the gathered acks into lines. c.mu is held.
func (c *Client) flushAcks(ln *lane) {
	for i, b := range ln.acks {
		tail := append(b.q.request("ack"), `,"seq":[`...)
		tail = append(tail, b.seqs[:len(b.seqs)-1]...)
		tail = append(tail, `],"receipt":[`...)
		tail = append(tail, b.receipts[:len(b.receipts)-1]...)
		b.call.tail = append(tail, "]}\n"...)
		if b.q.open == b {
			b.q.open = nil
		}
		b.seqs, b.receipts = nil, nil
		c.enqueue(ln, &b.call, b.call.tail)
		ln.acks[i] = nil
	}
	ln.acks = ln.acks[:0]
}
