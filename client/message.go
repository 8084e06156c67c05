package gmq

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Message is one delivery of a message. Its fields are the reader's; they
// stay valid for as long as it is kept.
type Message struct {
	Seq         uint64 // the message's number in its queue
	Attempt     int    // which delivery this is, from 1 on
	Redelivered bool   // it may have been delivered before
	Published   time.Time
	Headers     map[string]string // nil where there are none
	Key         string
	Topic       string          // what it was published to, if not to the queue
	Dropped     uint64          // how many messages before it a subscription to a topic has lost, being too slow
	Body        json.RawMessage // byte for byte as it was published

	base64  bool
	auto    bool // settled on delivery
	receipt []byte
	q       *Queue
	link    uint64 // the connection that it came over
	at      *stay  // the subscription that it came by, until it is settled; nil: none. Guarded by Client.mu
	leased  time.Time
}

// newMessage copies what the reader is about to overwrite.
func newMessage(q *Queue, in *wire.Inbound, linkNo uint64, auto bool) *Message {
	keep := make([]byte, 0, len(in.Body)+len(in.Receipt))
	keep = append(keep, in.Body...)
	body := keep[:len(keep):len(keep)]
	keep = append(keep, in.Receipt...)
	m := &Message{
		Seq:         in.Seq,
		Attempt:     int(in.Attempt),
		Redelivered: in.Redelivered,
		Published:   in.Published,
		Key:         string(in.Key),
		Topic:       string(in.Topic),
		Dropped:     in.Dropped,
		Body:        body,
		base64:      in.Base64,
		auto:        auto,
		receipt:     keep[len(body):],
		q:           q,
		link:        linkNo,
		leased:      time.Now(),
	}
	if len(in.Headers) > 0 {
		// The server has checked that it is an object of strings.
		_ = json.Unmarshal(in.Headers, &m.Headers)
	}
	return m
}

// Queue is the name of the queue that the message came from.
func (m *Message) Queue() string { return m.q.name }

// Decode decodes the body, as [json.Unmarshal] does.
func (m *Message) Decode(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("gmq: body of message %d of %s: %w", m.Seq, m.q.name, err)
	}
	return nil
}

// Bytes gives the bytes that were sent as []byte, and of any other body its
// JSON text.
func (m *Message) Bytes() ([]byte, error) {
	if !m.base64 {
		return m.Body, nil
	}
	if len(m.Body) < 2 {
		return nil, fmt.Errorf("gmq: message %d of %s is no base64 string", m.Seq, m.q.name)
	}
	b, err := base64.StdEncoding.AppendDecode(nil, m.Body[1:len(m.Body)-1])
	if err != nil {
		// A string may also spell its characters as escapes.
		err = m.Decode(&b)
	}
	return b, err
}

// Text gives the string of a body that is one, the bytes of one sent as
// []byte, and of any other body its JSON text.
func (m *Message) Text() string {
	if m.base64 {
		if b, err := m.Bytes(); err == nil {
			return string(b)
		}
	}
	if len(m.Body) > 0 && m.Body[0] == '"' {
		var s string
		if json.Unmarshal(m.Body, &s) == nil {
			return s
		}
	}
	return string(m.Body)
}

// Nack gives the message back: it will be delivered again, after the queue's
// wait or the one that [Delay] says, or go to the dead-letter queue. That of a
// subscription to a [Topic] has none: [Dead] drops the message.
func (m *Message) Nack(ctx context.Context, opts ...NackOption) error {
	if m.auto {
		return nil
	}
	var o nackOptions
	for _, opt := range opts {
		opt.applyNack(&o)
	}
	if o.dead && m.q.link != 0 {
		return m.Ack(ctx) // an ephemeral queue has no dead-letter queue; given back, it would only come again
	}
	b := m.request("nack")
	if o.hasDelay {
		b = appendDuration(b, "delay", o.delay)
	}
	b = appendText(b, "reason", clip(o.reason, wire.MaxReason))
	if o.dead {
		b = append(b, `,"dead":true`...)
	}
	if o.noCount {
		b = append(b, `,"count":false`...)
	}
	err := m.ask(ctx, b, true)
	if err == nil {
		m.settle()
	}
	if ctx.Err() == nil && m.q.over(err) {
		return nil
	}
	return err
}

// came notes by what a message has come that is to be settled. Nobody else has it yet.
func (m *Message) came(at *stay) {
	if !m.auto {
		m.at = at
		at.out.Add(1)
		at.link.out.Add(1)
	}
}

// settle notes that nobody is to do anything about the message any more.
func (m *Message) settle() {
	m.q.c.mu.Lock()
	defer m.q.c.mu.Unlock()
	m.settled()
}

// settled is settle with Client.mu held.
func (m *Message) settled() {
	if m.at != nil {
		m.at.out.Add(-1)
		m.at.link.out.Add(-1)
		m.at = nil
	}
}

// Extend makes the lease end d from now.
func (m *Message) Extend(ctx context.Context, d time.Duration) error {
	if m.auto {
		return nil
	}
	return m.extend(ctx, d, true)
}

func (m *Message) extend(ctx context.Context, d time.Duration, keep bool) error {
	err := m.ask(ctx, appendDuration(m.request("extend"), "lease", d), keep)
	if ctx.Err() == nil && m.q.over(err) {
		return &Error{Code: wire.CodeLeaseLost, Message: "the ephemeral queue has ended with its connection"}
	}
	return err
}

// ask sends a request about this delivery and waits for the reply. With keep, it is asked again after a
// lost connection, unless that was the queue's end.
func (m *Message) ask(ctx context.Context, fields []byte, keep bool) error {
	return m.q.c.roundTrip(ctx, &call{link: m.q.link, from: m.link, q: m.q}, append(fields, "}\n"...), keep, admitSettle)
}

// request begins a request about this delivery.
func (m *Message) request(op string) []byte {
	b := appendInt(m.q.request(op), "seq", int64(m.Seq))
	if len(m.receipt) > 0 {
		b = appendText(b, "receipt", string(m.receipt))
	}
	return b
}

// giveBack returns messages for which nobody waits any more, at once and as if
// they had not been delivered.
func (c *Client) giveBack(ln *lane, q *Queue, msgs []wire.Inbound) {
	if len(msgs) == 0 {
		return
	}
	b := append(q.request("nack"), `,"seq":[`...)
	for i := range msgs {
		b = append(strconv.AppendUint(b, msgs[i].Seq, 10), ',')
	}
	b = append(b[:len(b)-1], `],"receipt":[`...)
	for i := range msgs {
		b = append(wire.AppendString(b, string(msgs[i].Receipt)), ',')
	}
	b = append(b[:len(b)-1], "],\"delay\":\"0s\",\"count\":false}\n"...)
	c.mu.Lock()
	c.enqueue(ln, &call{left: true}, b)
	c.mu.Unlock()
}

// clip cuts s to at most n bytes of whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
