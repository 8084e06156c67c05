package gmq

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gmq/gmq/wire"
)

// A Queue is a queue of the server, by name. Making one costs nothing and asks
// nobody.
type Queue struct {
	c    *Client
	name string
	head []byte    // how every publish to it begins
	link uint64    // the connection with which an ephemeral queue ends; 0 for all others
	open *ackBatch // gathers acks; guarded by Client.mu
	// place is where it is led, once that has mattered. Guarded by Client.mu.
	place *place
}

// A target is what is published to.
type target struct {
	q    *Queue // nil: a topic
	head []byte // how the request begins
	// apart says of a topic that nothing else goes where its messages go, so that they keep no order among others.
	apart bool
}

func (t *target) call(kind callKind) call {
	return call{kind: kind, q: t.q, topical: t.q == nil && !t.apart}
}

func (q *Queue) target() target { return target{q: q, head: q.head} }

// Queue gives the queue of that name. The server creates it when it is first
// used, if it is configured so.
func (c *Client) Queue(name string) *Queue {
	q := &Queue{c: c, name: name}
	q.head = q.request("publish")
	return q
}

// Name gives the queue's name.
func (q *Queue) Name() string { return q.name }

// request begins a request that names the queue, behind the id.
func (q *Queue) request(op string) []byte {
	b := append([]byte(nil), `,"op":"`...)
	b = append(b, op...)
	return appendText(append(b, '"'), "queue", q.name)
}

// Published is what the server says of a message that it has taken.
type Published struct {
	Seq       uint64 // the message's number in its queue; 0 of a publish to a topic
	Stored    string // what the confirm stands for: memory, written, disk, mysql, memory_quorum, quorum
	Duplicate bool   // it was there already, under this Seq
	Queues    int    // of a publish to a topic: how many queues took it
}

// A Future is a publish on its way.
type Future struct {
	call call
}

// Wait waits for the server's word, or until ctx ends; then Wait may be called
// again. Any number of goroutines may wait.
func (f *Future) Wait(ctx context.Context) (Published, error) {
	if err := f.call.await(ctx); err != nil {
		return Published{}, f.call.unanswered(err)
	}
	return f.call.published, f.call.err
}

// Send publishes a message and waits until the server has stored it. The
// package comment says what becomes of the body.
func (q *Queue) Send(ctx context.Context, body any, opts ...PublishOption) (Published, error) {
	return q.c.send(ctx, q.target(), body, opts)
}

// send publishes a message.
func (c *Client) send(ctx context.Context, to target, body any, opts []PublishOption) (Published, error) {
	e := getEncoder()
	defer e.release()
	if err := e.publish(to.head, body, opts); err != nil {
		return Published{}, err
	}
	cl := to.call(callPublish)
	err := c.roundTrip(ctx, &cl, e.buf, e.opts.retry, admitOpen)
	if err != nil {
		return Published{}, publishError(err, &cl)
	}
	return cl.published, nil
}

// SendAsync publishes a message and does not wait for the server's word: the
// Future does. It waits only where there is no connection, or no room in
// flight, and gives up when ctx ends. Messages that one goroutine sends to one
// queue are stored in the order of its calls. In a cluster what is refused as nobody leads the queue is asked again, by which it
// may come behind later ones.
func (q *Queue) SendAsync(ctx context.Context, body any, opts ...PublishOption) *Future {
	return q.c.sendAsync(ctx, q.target(), body, opts)
}

func (c *Client) sendAsync(ctx context.Context, to target, body any, opts []PublishOption) *Future {
	f := &Future{call: to.call(callPublish)}
	e := getEncoder()
	defer e.release()
	err := e.publish(to.head, body, opts)
	if err == nil {
		// In a cluster what was certainly not stored is asked again, too, as Send does.
		f.call.once = !e.opts.retry
		err = c.submit(ctx, &f.call, e.buf, e.opts.retry || c.cluster.Load(), admitOpen)
	}
	if err != nil {
		f.call.fail(err)
	}
	return f
}

// publishError marks a publish as unknown whose caller stopped waiting, also
// where it may still be sent again: both mean that nobody can tell.
func publishError(err error, cl *call) error {
	if cl.id == 0 || errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return unknownOutcome(err)
	}
	return err
}

// A Msg is one message of a batch.
type Msg struct {
	Body    any
	Options []PublishOption
}

// SendBatch publishes messages in one request: all of them are stored, or
// none. It gives their numbers. The options apply to every message; those of a
// single message come after them.
func (q *Queue) SendBatch(ctx context.Context, msgs []Msg, opts ...PublishOption) ([]uint64, error) {
	cl, err := q.c.sendBatch(ctx, q.target(), msgs, opts)
	return cl.seqs, err
}

func (c *Client) sendBatch(ctx context.Context, to target, msgs []Msg, opts []PublishOption) (*call, error) {
	batch := to.call(callBatch)
	cl := &batch
	if len(msgs) == 0 {
		return cl, nil
	}
	e := getEncoder()
	defer e.release()
	e.buf = append(append(e.buf, to.head...), `,"messages":[`...)
	retry := false
	for i, m := range msgs {
		sep := byte('{')
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.opts = publishOptions{}
		for _, o := range slices.Concat(opts, m.Options) {
			o.applyPublish(&e.opts)
		}
		retry = retry || e.opts.retry
		start := len(e.buf)
		if err := e.message(m.Body); err != nil {
			return cl, fmt.Errorf("message %d: %w", i, err)
		}
		e.buf[start] = sep // message begins with a comma
		e.buf = append(e.buf, '}')
	}
	e.buf = append(e.buf, "]}\n"...)
	if err := c.roundTrip(ctx, cl, e.buf, retry, admitOpen); err != nil {
		return &call{}, publishError(err, cl)
	}
	return cl, nil
}

// An encoder is the memory of one publish; a pool keeps them.
type encoder struct {
	buf  []byte
	opts publishOptions
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 512)} }}

func getEncoder() *encoder { return encoders.Get().(*encoder) }

func (e *encoder) release() {
	if cap(e.buf) > 64<<10 {
		return
	}
	e.buf = e.buf[:0]
	e.opts = publishOptions{}
	encoders.Put(e)
}

func (e *encoder) publish(head []byte, body any, opts []PublishOption) error {
	for _, o := range opts {
		o.applyPublish(&e.opts)
	}
	e.buf = append(e.buf, head...)
	if err := e.message(body); err != nil {
		return err
	}
	e.buf = append(e.buf, "}\n"...)
	return nil
}

// message appends the fields of one message, each with a comma before it.
func (e *encoder) message(body any) error {
	if err := e.options(); err != nil {
		return err
	}
	switch b := body.(type) {
	case nil:
		e.buf = append(e.buf, `,"body":null`...)
	case []byte:
		e.buf = append(e.buf, `,"encoding":"base64","body":"`...)
		e.buf = base64.StdEncoding.AppendEncode(e.buf, b)
		e.buf = append(e.buf, '"')
	case string:
		if !utf8.ValidString(b) {
			return errors.New("gmq: the body is a string that is not UTF-8; send it as []byte")
		}
		e.buf = wire.AppendString(append(e.buf, `,"body":`...), b)
	case json.RawMessage:
		return e.raw(b)
	default:
		e.buf = append(e.buf, `,"body":`...)
		w := bytes.NewBuffer(e.buf)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(body); err != nil {
			return fmt.Errorf("gmq: body: %w", err)
		}
		e.buf = bytes.TrimSuffix(w.Bytes(), []byte("\n"))
	}
	return nil
}

// raw appends a body that is JSON already. What is no JSON would become part
// of the request around it, so it is checked.
func (e *encoder) raw(b json.RawMessage) error {
	if !json.Valid(b) {
		return errors.New("gmq: the body is a json.RawMessage that is not JSON")
	}
	e.buf = append(e.buf, `,"body":`...)
	start := len(e.buf)
	e.buf = append(e.buf, b...)
	for i, c := range e.buf[start:] {
		if c == '\n' || c == '\r' { // in JSON, these stand between tokens only
			e.buf[start+i] = ' '
		}
	}
	return nil
}

type publishOptions struct {
	headers  map[string]string
	delay    time.Duration
	at       time.Time
	ttl      time.Duration
	priority int // plus one; 0 is none
	key      string
	dedupID  string
	stored   string
	retry    bool
	replyTo  string
}

func (e *encoder) options() error {
	o := &e.opts
	if o.replyTo != "" {
		o.headers = maps.Clone(o.headers)
		if o.headers == nil {
			o.headers = make(map[string]string, 1)
		}
		o.headers[ReplyTo] = o.replyTo
	}
	if len(o.headers) > 0 {
		e.buf = append(e.buf, `,"headers":`...)
		sep := byte('{')
		for _, name := range slices.Sorted(maps.Keys(o.headers)) {
			if value := o.headers[name]; !utf8.ValidString(name) || !utf8.ValidString(value) {
				return fmt.Errorf("gmq: the header %q is not UTF-8", name)
			}
			e.buf = wire.AppendString(append(e.buf, sep), name)
			e.buf = wire.AppendString(append(e.buf, ':'), o.headers[name])
			sep = ','
		}
		e.buf = append(e.buf, '}')
	}
	if !utf8.ValidString(o.key) || !utf8.ValidString(o.dedupID) {
		return errors.New("gmq: a key or dedup id is not UTF-8")
	}
	e.buf = appendText(e.buf, "key", o.key)
	e.buf = appendText(e.buf, "dedup_id", o.dedupID)
	e.buf = appendText(e.buf, "stored", o.stored)
	if o.priority > 0 {
		e.buf = appendInt(e.buf, "priority", int64(o.priority-1))
	}
	if o.delay > 0 {
		e.buf = appendDuration(e.buf, "delay", o.delay)
	}
	if !o.at.IsZero() {
		e.buf = appendText(e.buf, "at", o.at.UTC().Format(time.RFC3339Nano))
	}
	if o.ttl > 0 {
		e.buf = appendDuration(e.buf, "ttl", o.ttl)
	}
	return nil
}
