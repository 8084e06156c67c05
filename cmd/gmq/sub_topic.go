package main

import (
	"context"
	"fmt"
	"io"
	"time"

	gmq "github.com/gmq/gmq/client"
)

// A feed is the supply of a topic: what is published to it, as it comes.
type feed struct {
	topic *gmq.Topic
	f     *subFlags
	told  io.Writer
	ch    chan heard // nil before the first receive
}

// heard is a message, or why there are no more.
type heard struct {
	m   *gmq.Message
	err error
}

func (s *feed) receive(taking context.Context, want int) ([]*gmq.Message, error) {
	if s.ch == nil {
		s.ch = make(chan heard, s.f.credit)
		go s.listen(taking)
	}
	var over <-chan time.Time // never, unless there is a wait
	if s.f.wait > 0 {
		t := time.NewTimer(s.f.wait)
		defer t.Stop()
		over = t.C
	}
	var ms []*gmq.Message
	select {
	case h := <-s.ch:
		if h.err != nil {
			return nil, explain(taking, h.err)
		}
		ms = append(ms, s.tell(h.m))
	case <-over:
		return nil, nil
	case <-taking.Done():
		return nil, context.Cause(taking)
	}
	for len(ms) < want {
		select {
		case h := <-s.ch:
			if h.err == nil {
				ms = append(ms, s.tell(h.m))
				continue
			}
			s.ch <- h // its turn comes with the next receive; nothing comes behind it
		default:
		}
		break
	}
	return ms, nil
}

// listen subscribes until taking ends.
func (s *feed) listen(taking context.Context) {
	opts := []gmq.ConsumeOption{gmq.Credit(s.f.credit)}
	if s.f.ack.value == "auto" {
		opts = append(opts, gmq.AutoAck())
	}
	for m, err := range s.topic.Messages(taking, opts...) {
		select {
		case s.ch <- heard{m, err}:
		case <-taking.Done():
			return
		}
	}
}

// tell says what was dropped before m.
func (s *feed) tell(m *gmq.Message) *gmq.Message {
	if m.Dropped > 0 {
		fmt.Fprintf(s.told, "gmq: %s dropped, as they were not read fast enough\n", plural(m.Dropped, "message"))
	}
	return m
}
