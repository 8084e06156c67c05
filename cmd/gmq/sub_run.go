package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// A subscriber takes messages and prints them, a batch at a time.
type subscriber struct {
	g    *globals
	f    *subFlags
	from supply
	out  *deliveryWriter
	told io.Writer

	acks []gmq.Acking // of the batch before
	lost int          // printed, and acked too late
}

// A supply gives the next messages, at most want; none where there are none.
type supply interface {
	receive(taking context.Context, want int) ([]*gmq.Message, error)
}

// errPipe says that nobody reads any more.
var errPipe = errors.New("nobody reads any more")

func (s *subscriber) run(ctx context.Context) error {
	taking, release := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer release()
	context.AfterFunc(taking, release) // a second signal ends the process
	// Acks outlive the taking, but not for ever.
	acking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(taking, func() { time.AfterFunc(s.g.timeout, func() { cancel(s.g.noAnswer()) }) })
	defer stop()

	err := s.take(taking, acking)
	if ackErr := s.confirm(acking); err == nil || errors.Is(err, errPipe) {
		err = ackErr
	}
	if err == nil && s.lost > 0 {
		err = fmt.Errorf("%s printed too late, and will be delivered again", plural(s.lost, "message"))
	}
	return err
}

// take goes on until there is no more to take, or nobody who takes it.
func (s *subscriber) take(taking, acking context.Context) error {
	for left := s.f.n; ; {
		want := s.f.credit
		if s.f.n > 0 {
			want = min(want, left)
		}
		ms, err := s.from.receive(taking, want)
		if err != nil && taking.Err() != nil && context.Cause(acking) == nil {
			return nil // a signal
		}
		if err != nil {
			return err
		}
		if len(ms) == 0 {
			if s.f.follow {
				continue
			}
			return nil
		}
		if err := s.print(acking, ms); err != nil {
			return err
		}
		if err := s.confirm(acking); err != nil {
			return err
		}
		for _, m := range ms {
			s.acks = append(s.acks, m.AckAsync())
		}
		if left -= len(ms); s.f.n > 0 && left <= 0 {
			return nil
		}
	}
}

// A taker is the supply of a queue.
type taker struct {
	g      *globals
	f      *subFlags
	q      *gmq.Queue
	told   io.Writer
	paused bool // that nothing comes has been told
}

func (s *taker) receive(taking context.Context, want int) ([]*gmq.Message, error) {
	opts := []gmq.ConsumeOption{gmq.Lease(subLease)}
	if s.f.ack.value == "auto" {
		opts = append(opts, gmq.AutoAck())
	}
	if !s.f.follow {
		ctx, cancel := context.WithTimeoutCause(taking, s.f.wait+s.g.timeout, s.g.noAnswer())
		defer cancel()
		ms, err := s.q.Receive(ctx, want, s.f.wait, opts...)
		return ms, explain(ctx, err)
	}
	ms, err := s.q.Receive(taking, want, s.f.wait, opts...)
	if err == nil || taking.Err() != nil || !gmq.IsRetryable(err) {
		s.paused = s.paused && len(ms) == 0
		return ms, explain(taking, err)
	}
	if !s.paused {
		s.paused = true
		fmt.Fprintf(s.told, "gmq: %v; waiting\n", inWords(err))
	}
	select {
	case <-time.After(time.Second):
	case <-taking.Done():
	}
	return nil, nil
}

// subLease is how long a message is ours; it is extended while stdout is slow.
const subLease = 30 * time.Second

// print writes a batch, and keeps its leases for as long as that takes: whoever reads
// stdout may take his time.
func (s *subscriber) print(ctx context.Context, ms []*gmq.Message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slow := time.AfterFunc(subLease/3, func() { extend(ctx, ms) })
	defer slow.Stop()
	return s.out.print(ms)
}

// extend extends leases until ctx ends. What has been lost all the same, the ack will tell.
func extend(ctx context.Context, ms []*gmq.Message) {
	tick := time.NewTicker(subLease / 3)
	defer tick.Stop()
	for {
		for _, m := range ms {
			_ = m.Extend(ctx, subLease)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// confirm waits for the acks of the batch before.
func (s *subscriber) confirm(acking context.Context) error {
	for _, a := range s.acks {
		switch err := a.Wait(acking); {
		case err == nil:
		case errors.Is(err, gmq.ErrLeaseLost):
			s.lost++
		default:
			s.acks = nil
			return explain(acking, err)
		}
	}
	s.acks = s.acks[:0]
	return nil
}

// A deliveryWriter prints messages in one of three forms.
type deliveryWriter struct {
	w    *bufio.Writer
	json bool
	raw  bool
	line []byte
}

func newDeliveryWriter(w io.Writer, asJSON, raw bool) *deliveryWriter {
	return &deliveryWriter{w: bufio.NewWriterSize(w, 64<<10), json: asJSON, raw: raw}
}

// print writes a batch; it is at the reader's when print returns nil.
func (d *deliveryWriter) print(ms []*gmq.Message) error {
	var err error
	for _, m := range ms {
		if err == nil {
			_, err = d.w.Write(d.form(m))
		}
	}
	if err == nil {
		err = d.w.Flush()
	}
	if errors.Is(err, syscall.EPIPE) {
		return errPipe
	}
	return err
}

func (d *deliveryWriter) form(m *gmq.Message) []byte {
	switch isString := len(m.Body) > 0 && m.Body[0] == '"'; {
	case d.json:
		d.line = appendDelivery(d.line[:0], m)
	case d.raw:
		return append(d.line[:0], m.Text()...)
	case isString && !isBase64(m):
		d.line = append(d.line[:0], m.Text()...)
	case isString:
		d.line = append(d.line[:0], m.Body[1:len(m.Body)-1]...)
	default:
		d.line = append(d.line[:0], m.Body...)
	}
	d.line = append(d.line, '\n')
	return d.line
}

// isBase64 goes by what decoding does: it always makes the body shorter.
func isBase64(m *gmq.Message) bool {
	b, err := m.Bytes()
	return err != nil || len(b) != len(m.Body)
}

// appendDelivery writes a delivery as the protocol does, with the body byte for byte.
func appendDelivery(b []byte, m *gmq.Message) []byte {
	b = wire.AppendString(append(b, `{"queue":`...), m.Queue())
	b = strconv.AppendUint(append(b, `,"seq":`...), m.Seq, 10)
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(m.Attempt), 10)
	if m.Redelivered {
		b = append(b, `,"redelivered":true`...)
	}
	b = wire.AppendTime(append(b, `,"published":`...), m.Published.UnixNano())
	if len(m.Headers) > 0 {
		if headers, err := json.Marshal(m.Headers); err == nil { // strings always can be
			b = append(append(b, `,"headers":`...), headers...)
		}
	}
	if m.Key != "" {
		b = wire.AppendString(append(b, `,"key":`...), m.Key)
	}
	if m.Topic != "" {
		b = wire.AppendString(append(b, `,"topic":`...), m.Topic)
	}
	if m.Dropped > 0 {
		b = strconv.AppendUint(append(b, `,"dropped":`...), m.Dropped, 10)
	}
	if isBase64(m) {
		b = append(b, `,"encoding":"base64"`...)
	}
	return append(append(append(b, `,"body":`...), m.Body...), '}')
}
