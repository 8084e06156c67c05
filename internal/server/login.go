package server

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// What a connection may cost before it is known whose it is.
const (
	strangerLine  = 4 << 10         // bytes of a line, and of what is read at once
	strangerTime  = 5 * time.Second // from its beginning
	strangerLines = 16
	maxFailures   = 3 // failed logins of one connection
)

// whoFields are those of a hello that say who somebody is.
const whoFields = wire.FieldUser | wire.FieldPassword | wire.FieldToken | wire.FieldMechanism | wire.FieldData

// strangers is how many connections may be there that have not logged in: who fills them all keeps out nobody who is in.
func strangers(connections int64) int64 { return max(1, (connections+1)/2) }

// An Audit is told what is worth remembering: who did what, or tried to, from where. It must not wait.
type Audit interface {
	// Note is about an operation on a name; err is why it was refused, or nil.
	Note(who, from string, op wire.Op, name string, err *wire.Error)
}

// A login is what a connection has of authentication. It belongs to the reader, but for what says otherwise.
type login struct {
	*auth.Visitor             // nil where nobody is asked
	strange       atomic.Bool // it must say who it is, and has not: any goroutine may look
	lines         int
	failures      int
	end           *time.Timer // when its token, or certificate, ends
}

// visitor announces a connection to who counts them.
func (s *Server) visitor(nc net.Conn) (*auth.Visitor, *wire.Error) {
	if s.opt.Auth == nil {
		return nil, nil
	}
	return s.opt.Auth.Arrive(nc.RemoteAddr().String())
}

// arrive begins the time that a connection has to log in.
func (c *conn) arrive(v *auth.Visitor) {
	if v == nil {
		return
	}
	c.login.Visitor = v
	if s := c.server; s.opt.Auth.Required() {
		c.login.strange.Store(true)
		s.strange.Add(1)
		c.nc.SetReadDeadline(time.Now().Add(strangerTime))
	}
	c.session.Others(c.others)
	c.watch(c.session)
}

// watch has the connection's user decide what a session may do. Where there is nothing to decide, nothing is asked.
func (c *conn) watch(s *broker.Session) {
	if v := c.login.Visitor; v != nil && v.Metered() {
		s.SetGuard(guard{v, c})
	}
}

// leave gives back what the connection counted for. The reader has ended.
func (c *conn) leave() {
	if c.login.Visitor == nil {
		return
	}
	if c.login.strange.Swap(false) {
		c.server.strange.Add(-1)
	}
	if c.login.end != nil {
		c.login.end.Stop()
	}
	c.login.Leave()
}

// strange reports whether the connection has yet to say whose it is.
func (c *conn) strange() bool { return c.login.strange.Load() }

// room is where the next bytes go. Before a login there is little of it, though the desk is large.
func (c *conn) room() []byte {
	if c.strange() {
		return c.desk.buf[c.n : strangerLine+1]
	}
	return c.desk.buf[c.n:]
}

// tooSlow tells a client that its time to log in is over.
func (c *conn) tooSlow(err error) {
	if c.strange() && errors.Is(err, os.ErrDeadlineExceeded) && !c.dead.Load() {
		c.session.Refuse(nil, wire.Errorf(wire.CodeUnauthenticated, "there was no login within %v", strangerTime))
	}
}

// heard counts the lines before a login. It is false where there have been too many.
func (c *conn) heard() bool {
	if !c.strange() {
		return true
	}
	if c.login.lines++; c.login.lines > strangerLines {
		c.session.Refuse(nil, wire.Errorf(wire.CodeUnauthenticated, "there have been %d lines without a login", strangerLines))
		return false
	}
	return true
}

// secured is told that the connection is encrypted, and which names (SAN) stand in the certificate that the client has
// shown and that has been verified, and until when it is valid; none where it has shown none. It comes before anything is read.
func (c *conn) secured(names []string, until time.Time) bool {
	if c.login.Visitor == nil {
		return true
	}
	c.login.Visitor.Secured()
	if err := c.login.Certificate(names, until); err != nil {
		c.audit(wire.OpHello, "", err)
		c.session.Refuse(nil, err)
		return false
	}
	if c.login.Identity() != nil {
		c.loggedIn()
	}
	return true
}

// hello carries out a login. It is false where the connection ends.
func (c *conn) hello(r *wire.Request) bool {
	if r.Set&whoFields == 0 {
		c.greet(r, nil)
		return true
	}
	if c.login.Visitor == nil {
		c.session.Refuse(r.ID, wire.Errorf(wire.CodeBadRequest, "this server keeps no users; say hello without user, password and token"))
		return true
	}
	reply, done, err := c.login.Login(r)
	if err != nil {
		c.audit(wire.OpHello, c.login.Claimed(), err)
		c.session.Refuse(r.ID, err)
		if err.Code == wire.CodeUnauthenticated || err.Code == wire.CodeRateLimited {
			c.login.failures++
		}
		return c.login.failures < maxFailures && err.Code != wire.CodeTooManyConnections
	}
	data := func(dst []byte) []byte {
		if reply == "" {
			return dst
		}
		return wire.AppendString(append(dst, `,"data":`...), reply)
	}
	if !done { // a reply that is left out would leave nothing to go on with
		c.session.Reply(func(dst []byte) []byte { return append(data(wire.AppendOK(dst, r.ID)), "}\n"...) })
		return true
	}
	c.loggedIn()
	c.greet(r, data)
	return true
}

// greet answers the hello of a connection that has logged in, with what stands before the user.
func (c *conn) greet(r *wire.Request, before func(dst []byte) []byte) {
	who := c.login.Identity().Name()
	c.session.Hello(r, func(dst []byte) []byte {
		if before != nil {
			dst = before(dst)
		}
		return wire.AppendString(append(dst, `,"user":`...), who)
	})
}

// loggedIn lifts the limits of a connection that is known now.
func (c *conn) loggedIn() {
	id := c.login.Identity()
	c.audit(wire.OpHello, "", nil)
	if c.login.strange.Swap(false) {
		c.server.strange.Add(-1)
		c.nc.SetReadDeadline(time.Time{})
		if c.dead.Load() { // end was here just before, and set one
			c.nc.SetReadDeadline(time.Now())
		}
	}
	if at := id.Expires(); !at.IsZero() {
		c.login.end = time.AfterFunc(time.Until(at), c.expel)
	}
	if !id.Alive() { // it went meanwhile, and may not have been seen by who ends its connections
		c.expel()
	}
}

// expel ends a connection whose user is no more.
func (c *conn) expel() {
	if c.dead.Load() {
		return
	}
	c.session.Reply(func(dst []byte) []byte {
		return append(dst, "{\"op\":\"closing\",\"reason\":\"the user, the token or the certificate is no more\"}\n"...)
	})
	c.end()
}

// rightsChanged ends what nobody may do any more: connections, and consuming. It does not wait.
func (s *Server) rightsChanged() {
	for _, c := range s.all() {
		if id := c.identity(); id != nil && !id.Alive() {
			c.expel()
		}
	}
	s.opt.Broker.Recheck()
}

func (c *conn) identity() *auth.Identity {
	if c.login.Visitor == nil {
		return nil
	}
	return c.login.Identity()
}

// others carries out requests about users, and about the cluster.
func (c *conn) others(r *wire.Request) {
	name := string(r.User)
	if name == "" {
		name = string(r.Name)
	}
	var fields []byte
	err := c.login.Readable(r)
	if do := c.server.carrier(r.Op); err == nil {
		fields, err = do(r, nil)
	}
	if changesUsers(r.Op) {
		c.audit(r.Op, name, err)
	}
	if err != nil {
		c.session.Refuse(r.ID, err)
		return
	}
	if !r.Quiet {
		c.session.Reply(func(dst []byte) []byte { return append(append(wire.AppendOK(dst, r.ID), fields...), "}\n"...) })
	}
}

// audit writes down what the connection's user did. It may be called from any goroutine.
func (c *conn) audit(op wire.Op, name string, err *wire.Error) {
	if a := c.server.opt.Audit; a != nil {
		who := ""
		if id := c.identity(); id != nil {
			who = id.Name()
		}
		a.Note(who, c.nc.RemoteAddr().String(), op, name, err)
	}
}

// A guard decides over a connection's requests.
type guard struct {
	*auth.Visitor
	c *conn
}

// Note implements broker.Guard.
func (g guard) Note(op wire.Op, name []byte, err *wire.Error) { g.c.audit(op, string(name), err) }
