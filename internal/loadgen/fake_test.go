package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// A fakeServer speaks as much of the protocol as a run needs, over pipes, and makes the mistakes that it is told to. It
// has one queue.
type fakeServer struct {
	publish func(n int) (refusal string, copies []int) // what becomes of the publish n, from 0: a code, or how far each copy is put behind others; nil: confirmed and delivered once
	stall   func(n int) time.Duration                  // how long the publish n holds up all that come after it
	deaf    bool                                       // acks are answered and settle nothing
	acks    []string                                   // the codes with which the first acks are refused

	// A mutex would keep the time of a bubble from going on.
	turn      chan struct{} // holds a token while one connection uses the following
	published int
	ready     []string // bodies
	leased    int
	consumers []*fakeConn
	requests  []string // control's
}

type fakeConn struct {
	out chan []byte
}

func (s *fakeServer) dial(context.Context) (net.Conn, error) {
	if s.turn == nil { // control is the first, and alone
		s.turn = make(chan struct{}, 1)
	}
	ours, theirs := net.Pipe()
	c := &fakeConn{out: make(chan []byte, 100_000)}
	over := make(chan struct{})
	go func() {
		for {
			select {
			case b := <-c.out:
				ours.Write(b)
			case <-over:
				return
			}
		}
	}()
	go func() {
		defer close(over)
		defer ours.Close()
		lines := bufio.NewScanner(ours)
		for lines.Scan() {
			s.line(c, lines.Bytes())
		}
	}()
	return theirs, nil
}

func (s *fakeServer) line(c *fakeConn, line []byte) {
	var r struct {
		Op    string
		ID    json.RawMessage
		Queue string
		Body  json.RawMessage
		Seq   []int
	}
	if err := json.Unmarshal(line, &r); err != nil {
		c.say(`{"ok":false,"error":{"code":"bad_json","message":%q,"retryable":false}}`, err.Error())
		return
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	switch r.Op {
	case "publish":
		s.take(c, string(r.ID), string(r.Body))
	case "subscribe":
		s.consumers = append(s.consumers, c)
		c.say(`{"id":%s,"ok":true,"sub":1}`, r.ID)
	case "ack":
		settled := len(r.Seq)
		if s.deaf {
			settled = 0
		}
		s.leased -= settled
		if len(s.acks) > 0 { // somebody else has had the first message since; or all of them, later
			code := s.acks[0]
			s.acks = s.acks[1:]
			c.say(`{"id":%s,"ok":false,"error":{"code":"%s","message":"no","retryable":%t,"seqs":[%d]}}`, r.ID, code, code == "no_quorum", r.Seq[0])
			return
		}
		c.say(`{"ok":true,"settled":%d}`, settled)
	case "hello":
		c.say(`{"id":%s,"ok":true,"version":"v2","node":"n1","max_message_bytes":1048576}`, r.ID)
	case "queue.info":
		if len(s.requests) == 0 {
			c.say(`{"id":%s,"ok":false,"error":{"code":"not_found","message":"","retryable":false}}`, r.ID)
			return
		}
		c.say(`{"id":%s,"ok":true,"counts":{"ready":%d,"leased":%d}}`, r.ID, len(s.ready), s.leased)
	default:
		s.requests = append(s.requests, r.Op)
		c.say(`{"id":%s,"ok":true}`, r.ID)
	}
}

func (s *fakeServer) take(c *fakeConn, id, body string) {
	n := s.published
	s.published++
	if s.stall != nil {
		<-time.After(s.stall(n)) // of a bubble: nobody waits
	}
	copies := []int{0}
	if s.publish != nil {
		refusal, behind := "", []int(nil)
		if refusal, behind = s.publish(n); refusal != "" {
			c.say(`{"id":%s,"ok":false,"error":{"code":"%s","message":"no","retryable":%t}}`, id, refusal, refusal == "queue_full")
		}
		copies = behind
		if refusal == "" {
			c.say(`{"id":%s,"ok":true,"seq":%d,"stored":"memory"}`, id, n+1)
		}
	} else {
		c.say(`{"id":%s,"ok":true,"seq":%d,"stored":"memory"}`, id, n+1)
	}
	for _, behind := range copies {
		at := max(0, len(s.ready)-behind)
		s.ready = append(s.ready[:at], append([]string{body}, s.ready[at:]...)...)
	}
	// A few are kept until later ones have come, so that there is something to be put in front of.
	for keep := 5; len(s.consumers) > 0 && len(s.ready) > 0 && (len(s.ready) > keep || s.publish == nil || n%100 == 99); {
		s.leased++
		s.consumers[0].say(`{"op":"message","sub":1,"queue":"q","seq":%d,"attempt":1,"receipt":"r","published":"2026-01-02T03:04:05.000000Z","body":%s}`, n+1, s.ready[0])
		s.ready = s.ready[1:]
	}
}

func (c *fakeConn) say(format string, args ...any) { c.out <- fmt.Appendf(nil, format+"\n", args...) }
