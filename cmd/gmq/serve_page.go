package main

import (
	"context"
	"net/http"
	"runtime/metrics"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/admin/page"
	"github.com/gmq/gmq/internal/audit"
	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/wire"
)

// nodeName is what the server is called.
func (in *instance) nodeName() string { return in.node.member.Name() }

// page makes the admin page.
func (in *instance) page() *page.Page {
	door := &pageDoor{auth: in.auth, audit: in.audit, server: in.server, logins: auth.NewLogins(nil)}
	return page.New(pageSource{in}, door, func() int { return in.broker.Limits().MaxMessageBytes })
}

// A pageSource is what the page shows.
type pageSource struct{ *instance }

// Stats implements page.Source.
func (s pageSource) Stats() admin.Stats {
	is := s.stats(s.broker.Look())
	is.Cluster = s.clusterStats()
	return is
}

// Consumers implements page.Source.
func (s pageSource) Consumers(queue string, most int) []page.Consumer {
	var all []page.Consumer
	for _, c := range s.broker.ConsumersOf(queue, most) {
		ack := "manual"
		if c.Auto {
			ack = "auto"
		}
		all = append(all, page.Consumer{Client: c.Client, Subscription: c.Sub, Waiting: c.Waiting, Credit: c.Credit, Leased: c.Leased, Ack: ack})
	}
	return all
}

// Bindings implements page.Source.
func (s pageSource) Bindings(topic string) []page.Binding {
	var all []page.Binding
	for _, b := range s.broker.Bindings(topic) {
		all = append(all, page.Binding{Pattern: b.Pattern, Queue: b.Queue})
	}
	return all
}

// processBytes is how much memory the process has of the machine, as the runtime knows it.
func processBytes() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// A pageDoor lets the users of the client address in to the page.
type pageDoor struct {
	auth   *auth.Service
	audit  *audit.Log // may be nil
	server *server.Server
	logins *auth.Logins
}

// Required implements page.Door.
func (d *pageDoor) Required() bool { return d.auth.Required() }

// Enter implements page.Door.
func (d *pageDoor) Enter(r *http.Request) (page.Visitor, *wire.Error) {
	v, err := arrive(d.auth, r)
	if err != nil {
		return nil, err
	}
	if d.auth.Required() {
		err = d.recognize(v, r)
	}
	if err != nil {
		v.Leave()
		return nil, err
	}
	return &pageVisitor{v, d.server, r.RemoteAddr}, nil
}

func (d *pageDoor) recognize(v *auth.Visitor, r *http.Request) *wire.Error {
	if r.Header.Get("Authorization") != "" {
		err := loginByHeader(v, r)
		if err != nil {
			d.note(v, r, err)
		}
		return err
	}
	c, err := r.Cookie(page.CookieName(r))
	if err != nil {
		return wire.Errorf(wire.CodeUnauthenticated, "this needs a login: the page's, HTTP Basic, or a token as Authorization: Bearer")
	}
	id := d.logins.Find(c.Value)
	if id == nil {
		return wire.Errorf(wire.CodeUnauthenticated, "the login is over; log in again")
	}
	v.Resume(id)
	return nil
}

// Login implements page.Door.
func (d *pageDoor) Login(r *http.Request, user, password, token string) (string, *wire.Error) {
	v, err := arrive(d.auth, r)
	if err != nil {
		return "", err
	}
	defer v.Leave()
	hello := wire.Request{Op: wire.OpHello}
	if token != "" {
		hello.Set, hello.Token = wire.FieldToken, []byte(token)
	} else {
		hello.Set, hello.User, hello.Password = wire.FieldUser|wire.FieldPassword, []byte(user), []byte(password)
	}
	err = loginBy(v, &hello)
	d.note(v, r, err)
	if err != nil {
		return "", err
	}
	return d.logins.Begin(v.Identity()), nil
}

// Logout implements page.Door.
func (d *pageDoor) Logout(text string) { d.logins.End(text) }

// note writes down who came in, or wanted to.
func (d *pageDoor) note(v *auth.Visitor, r *http.Request, err *wire.Error) {
	if d.audit == nil {
		return
	}
	who := ""
	if id := v.Identity(); id != nil {
		who = id.Name()
	}
	d.audit.Note(who, r.RemoteAddr, wire.OpHello, v.Claimed(), err)
}

// A pageVisitor is somebody who looks at the page.
type pageVisitor struct {
	*auth.Visitor
	server *server.Server
	from   string
}

// Name implements page.Visitor.
func (v *pageVisitor) Name() string {
	if id := v.Identity(); id != nil {
		return id.Name()
	}
	return ""
}

// Alive implements page.Visitor.
func (v *pageVisitor) Alive() bool {
	id := v.Identity()
	return id == nil || id.Alive()
}

// May implements page.Visitor.
func (v *pageVisitor) May(verbs wire.Verb, name string) bool {
	return v.Visitor.May(verbs, []byte(name))
}

// Ask implements page.Visitor.
func (v *pageVisitor) Ask(ctx context.Context, line []byte) []byte {
	return v.server.Ask(ctx, v.Visitor, v.from, line)
}
