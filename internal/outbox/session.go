package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// Session is a Publisher that is a client of the broker, without a socket.
type Session struct {
	s       *broker.Session
	dec     *wire.Decoder
	replies chan reply
	over    chan struct{}
}

type reply struct {
	id int
	Reply
}

// NewSession makes a session.
func NewSession(b *broker.Broker) *Session {
	s := &Session{s: b.NewSession("the outbox"), dec: wire.NewDecoder(b.Limits().MaxMessageBytes), replies: make(chan reply, batchRows), over: make(chan struct{})}
	go s.read()
	return s
}

// read takes what the broker says.
func (s *Session) read() {
	defer close(s.over)
	var rest []byte
	out, ok := s.s.Outgoing(nil)
	for ; ok; out, ok = s.s.Outgoing(out[:0]) {
		for _, b := range broker.Bytes(nil, out) {
			rest = append(rest, b...)
		}
		s.s.Sent(out)
		clear(out)
		for {
			line, after, whole := bytes.Cut(rest, []byte{'\n'})
			if !whole {
				break
			}
			s.take(line)
			rest = append(rest[:0], after...)
		}
	}
}

// take takes one line: a reply, or news that mean nothing here.
func (s *Session) take(line []byte) {
	var l struct {
		ID    *int
		OK    bool
		Error struct {
			Code, Message string
			Retryable     bool
		}
	}
	if err := json.Unmarshal(line, &l); err == nil && l.ID != nil {
		s.replies <- reply{*l.ID, Reply{OK: l.OK, Code: l.Error.Code, Message: l.Error.Message, Retryable: l.Error.Retryable}}
	}
}

// Publish implements Publisher.
func (s *Session) Publish(ctx context.Context, lines [][]byte) ([]Reply, error) {
	got := make([]Reply, len(lines))
	waiting := 0
	var r wire.Request
	for i, line := range lines {
		line = append(append(line[:len(line)-1:len(line)-1], `,"id":`...), strconv.Itoa(i)+"}"...)
		if err := s.dec.Decode(line, &r); err != nil {
			got[i] = Reply{Code: string(err.Code), Message: err.Message}
			continue
		}
		s.s.Await()
		s.s.Intake.Handle(&r)
		s.s.Intake.Flush()
		waiting++
	}
	for ; waiting > 0; waiting-- {
		select {
		case r := <-s.replies:
			if r.id < 0 || r.id >= len(got) {
				return nil, fmt.Errorf("outbox: a reply to request %d, which was never sent", r.id)
			}
			got[r.id] = r.Reply
		case <-s.over:
			return nil, errors.New("outbox: the broker has ended")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return got, nil
}

// Close implements Publisher.
func (s *Session) Close() { s.s.Close() }
