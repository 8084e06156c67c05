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
	b       *broker.Broker
	s       *broker.Session
	dec     *wire.Decoder
	longest int // the message that dec lets through
	replies chan reply
	over    chan struct{}
}

// window is how many bytes of requests may be on their way. The broker would let a session wait that has more, where nothing could
// end that.
const window = 512 << 10

type reply struct {
	id int
	Reply
}

// NewSession makes a session.
func NewSession(b *broker.Broker) *Session {
	s := &Session{b: b, s: b.NewSession("the outbox"), replies: make(chan reply, batchRows), over: make(chan struct{})}
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
	if n := s.b.Limits().MaxMessageBytes; n != s.longest { // it can change while the broker runs
		s.dec, s.longest = wire.NewDecoder(n), n
	}
	got := make([]Reply, len(lines))
	waiting, bytes := 0, 0
	var r wire.Request
	for i, line := range lines {
		for ; waiting > 0 && bytes+len(line) > window; waiting-- {
			k, err := s.reply(ctx, got)
			if err != nil {
				return nil, err
			}
			bytes -= len(lines[k])
		}
		line = append(append(line[:len(line)-1:len(line)-1], `,"id":`...), strconv.Itoa(i)+"}"...)
		if err := s.dec.Decode(line, &r); err != nil {
			got[i] = Reply{Code: string(err.Code), Message: err.Message}
			continue
		}
		s.s.Intake.Handle(&r)
		s.s.Intake.Flush()
		waiting++
		bytes += len(lines[i])
	}
	for ; waiting > 0; waiting-- {
		if _, err := s.reply(ctx, got); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// reply waits for a reply, and says to which line it is.
func (s *Session) reply(ctx context.Context, got []Reply) (int, error) {
	select {
	case r := <-s.replies:
		if r.id < 0 || r.id >= len(got) {
			return 0, fmt.Errorf("outbox: a reply to request %d, which was never sent", r.id)
		}
		got[r.id] = r.Reply
		return r.id, nil
	case <-s.over:
		return 0, errors.New("outbox: the broker has ended")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Close implements Publisher.
func (s *Session) Close() { s.s.Close() }
