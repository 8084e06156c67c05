package server

import (
	"bytes"
	"context"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// A caller asks one thing, by way of something that is no connection of the protocol, and is gone.
type caller struct {
	*auth.Visitor
	server *Server
	from   string
}

// Note implements broker.Guard.
func (c *caller) Note(op wire.Op, name []byte, err *wire.Error) {
	if a := c.server.opt.Audit; a != nil {
		who := ""
		if id := c.Identity(); id != nil {
			who = id.Name()
		}
		a.Note(who, c.from, op, string(name), err)
	}
}

// others carries out requests about users, and about the cluster, and returns the reply.
func (c *caller) others(r *wire.Request) []byte {
	name := r.User
	if len(name) == 0 {
		name = r.Name
	}
	var fields []byte
	err := c.Readable(r)
	if err == nil {
		fields, err = c.server.carrier(r.Op)(r, nil)
	}
	if changesUsers(r.Op) {
		c.Note(r.Op, name, err)
	}
	if err != nil {
		return wire.AppendError(nil, r.ID, err)
	}
	return append(append(wire.AppendOK(nil, r.ID), fields...), "}\n"...)
}

// changesUsers reports whether an operation that is not about queues changes anything.
func changesUsers(op wire.Op) bool {
	return op != wire.OpUserList && op != wire.OpTokenList && op != wire.OpAuthCheck && op != wire.OpClusterStatus
}

// Ask carries out one request, a line without its end, for a visitor from an address, and returns the line of the reply
// without its end. It passes the same gate as a connection's. What makes sense on a connection only, because it says who
// that is or takes messages for it, is refused. Where ctx ends before there is a reply, the outcome is unknown, and the
// reply says so.
func (s *Server) Ask(ctx context.Context, v *auth.Visitor, from string, line []byte) []byte {
	var r wire.Request
	if err := wire.NewDecoder(s.opt.Broker.Limits().MaxMessageBytes).Decode(line, &r); err != nil {
		return bytes.TrimSuffix(wire.AppendError(nil, r.ID, err), newline)
	}
	switch r.Op {
	case wire.OpHello, wire.OpReceive, wire.OpSubscribe, wire.OpUnsubscribe:
		err := wire.Errorf(wire.CodeBadRequest, "%s needs a connection of its own: it is not for HTTP", r.Op.String())
		return bytes.TrimSuffix(wire.AppendError(nil, r.ID, err), newline)
	}
	r.Quiet = false
	c := &caller{v, s, from}
	session := s.opt.Broker.NewSession(from)
	defer session.Close()
	if v.Metered() {
		session.SetGuard(c)
	}
	session.Others(func(r *wire.Request) {
		session.Reply(func(dst []byte) []byte { return append(dst, c.others(r)...) })
	})
	replies := make(chan []byte, 1)
	go func() { replies <- firstLine(session) }()
	session.Intake.Handle(&r)
	session.Intake.Flush()
	select {
	case reply := <-replies:
		if reply != nil {
			return reply
		}
	case <-ctx.Done():
	}
	err := wire.Errorf(wire.CodeUnknownOutcome, "%s was not answered in time, and may have been done or not", r.Op.String())
	return bytes.TrimSuffix(wire.AppendError(nil, nil, err), newline)
}

var newline = []byte{'\n'}

// firstLine takes what a session has to send up to its end, and returns the first line of it without its end; nil where
// there was none.
func firstLine(session *broker.Session) (line []byte) {
	var all []byte
	out, ok := session.Outgoing(nil)
	for ; ok && line == nil; out, ok = session.Outgoing(out[:0]) {
		for _, b := range broker.Bytes(nil, out) {
			all = append(all, b...)
		}
		session.Sent(out)
		clear(out)
		if before, _, whole := bytes.Cut(all, newline); whole {
			return before
		}
	}
	return line
}
