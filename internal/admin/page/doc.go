// Package page is the admin page: the files of which it is made, and the JSON under /api/ that it, and everybody else,
// gets its numbers from.
//
// It knows HTTP, cookies and what a browser can be made to do by others. It does not know the broker, nor who may do what:
// every request is one of the protocol's, and goes through the same gate as those of connections (Door). While nobody
// looks it does nothing at all.
package page

import (
	"context"
	"net/http"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/wire"
)

// A Source is what there is to see. Its methods are called from many goroutines.
type Source interface {
	// Stats is how things stand now; the queues are in order of their names.
	Stats() admin.Stats
	// Ready is nil where the server takes work, else the reason why not.
	Ready() error
	// Consumers are those of a queue, as many as most.
	Consumers(queue string, most int) []Consumer
	// Bindings are those of all queues, in order of their patterns; with a topic only those that match it.
	Bindings(topic string) []Binding
}

// A Consumer is one look at a consumer of a queue.
type Consumer struct {
	Client       string `json:"client"`                 // what it calls itself, and where it is
	Subscription uint64 `json:"subscription,omitempty"` // its number on its connection
	Waiting      bool   `json:"waiting"`                // it is a receive that waits, and no subscription
	Credit       int    `json:"credit"`
	Leased       int    `json:"leased"`
	Ack          string `json:"ack"` // manual or auto
}

// A Binding is a queue with a pattern of topics of which it gets the messages.
type Binding struct {
	Pattern string `json:"pattern"`
	Queue   string `json:"queue"`
}

// A Door lets people in. Its methods are called from many goroutines.
type Door interface {
	// Required reports whether everybody has to say who he is.
	Required() bool
	// Enter says who has sent a request, by his cookie, or by HTTP Basic or Bearer. Leave must follow.
	Enter(r *http.Request) (Visitor, *wire.Error)
	// Login says who somebody is by user and password, or by a token, and returns the text by which he is known
	// from then on.
	Login(r *http.Request, user, password, token string) (text string, err *wire.Error)
	// Logout ends what Login began.
	Logout(text string)
}

// A Visitor is somebody with his rights, as they are whenever it is asked.
type Visitor interface {
	// Name is who it is; "" where nobody is asked.
	Name() string
	// Alive is false where he is no more.
	Alive() bool
	// May reports whether he has one of the rights on a name; "" is everything.
	May(verbs wire.Verb, name string) bool
	// Generation changes whenever May may answer otherwise than before.
	Generation() uint64
	// Ask carries out one request of the protocol, and returns the reply: a line without its end.
	Ask(ctx context.Context, line []byte) []byte
	// Leave is the end.
	Leave()
}

// CookieName is the name of the cookie that Login's text is shown in. Browsers send cookies to every port of a machine, so
// the port is in the name: several servers on one machine do not end each other's logins. Over TLS it has the prefix
// which makes browsers take it from this very host only.
func CookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-gmq"
	}
	return "gmq-" + port(r)
}
