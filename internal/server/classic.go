package server

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// The first protocol of 2015: one object without a newline is all that a connection carries;
// after one reply it is closed. An object is translated into a line of today's protocol and its reply back, so that
// everything in between is the same for both.

// The names at the top of an object that tell the two protocols apart. payload and auth
// are no fields of today's.
const (
	sawOp = 1 << iota
	sawOperation
	sawOther
)

// A glance looks for the end of an object, and for its names, in bytes that come in
// pieces. It does not check: an object that is none fails when it is read.
type glance struct {
	at     int // looked at so far
	from   int // where the latest string at the top began
	to     int // and ended, where it may be a name
	depth  int
	text   bool // inside of a string
	escape bool // behind a backslash in it
	saw    uint8
	end    int // behind the object's end; -1 where there is no object
}

// look goes on to the end of b, which begins with what was looked at before.
func (g *glance) look(b []byte) {
	for ; g.at < len(b) && g.end == 0; g.at++ {
		x := b[g.at]
		switch {
		case g.escape:
			g.escape = false
		case g.text:
			if g.escape = x == '\\'; x == '"' {
				g.text, g.to = false, g.at
			}
		case g.depth == 0 && x != '{':
			if x != ' ' && x != '\t' && x != '\r' {
				g.end = -1
			}
		case x == '"':
			g.text, g.from = true, g.at+1
		case x == ':' && g.depth == 1:
			g.name(b[g.from:g.to])
		case x == '{' || x == '[':
			g.depth++
		case x == '}' || x == ']':
			if g.depth--; g.depth == 0 {
				g.end = g.at + 1
			}
		}
	}
}

func (g *glance) name(name []byte) {
	switch string(name) {
	case "op":
		g.saw |= sawOp
	case "operation":
		g.saw |= sawOperation
	case "payload", "auth":
		g.saw |= sawOther
	}
}

// isOld reports whether b began with a whole object of the first protocol.
func (g *glance) isOld() bool { return g.end > 0 && g.saw&(sawOp|sawOperation) == sawOperation }

// looksOld reports the same of an object that is too long to be seen whole.
func (g *glance) looksOld() bool { return g.saw&sawOp == 0 && g.saw != 0 }

// isClassic reports whether text, a line or what there is of one, is for the first
// protocol. It has been answered then, and the connection ends.
func (c *conn) isClassic(g *glance, text []byte) bool {
	if !c.server.opt.Classic || c.modern {
		return false
	}
	g.look(text)
	switch limit := c.lineLimit(); {
	case g.isOld() && g.end <= limit:
		c.serveClassic(text[:g.end])
	case len(text) > limit && g.looksOld():
		c.refuseLongClassic()
	default:
		return false
	}
	return true
}

// A classicObject is a request, and its reply. What is only given back stays as it was sent.
type classicObject struct {
	Operation    json.RawMessage `json:"operation"`
	Queue        json.RawMessage `json:"queue"`
	Payload      json.RawMessage `json:"payload"`
	Auth         json.RawMessage `json:"auth,omitempty"`
	Confirmation string          `json:"confirmation"`
	Error        *string         `json:"error"`
}

// A classicRequest is what is understood of one.
type classicRequest struct {
	operation, queue, payload string
	user, password            []byte // nil where nobody says who he is
}

func (c *conn) refuseLongClassic() {
	var o classicObject
	because := "max_message_bytes and 64 KiB"
	if c.strange() {
		because = "before a login, which the object itself has to be"
	}
	c.classicReply(&o, "", wire.Errorf(wire.CodeLineTooLong, "the object is longer than %d bytes (%s)", c.lineLimit(), because))
}

// serveClassic carries out one object and replies; the connection ends with it.
func (c *conn) serveClassic(text []byte) {
	c.classic.Store(true)
	var o classicObject
	req, err := parseClassic(text, &o)
	payload := ""
	if err == nil {
		err = c.classicLogin(&req)
	}
	if err == nil {
		payload, err = c.carryOut(req)
	}
	c.classicReply(&o, payload, err)
}

// parseClassic reads one object. Unknown names are passed over and what is null
// is as if it were not there, as in the server of that time.
func parseClassic(text []byte, o *classicObject) (r classicRequest, err error) {
	var fields map[string]json.RawMessage // the names are exact, which a struct's are not
	if err := json.Unmarshal(text, &fields); err != nil {
		return r, wire.Errorf(wire.CodeBadJSON, "the object cannot be read: %v", err)
	}
	o.Operation, o.Queue, o.Payload, o.Auth = fields["operation"], fields["queue"], fields["payload"], fields["auth"]
	for _, f := range []struct {
		name string
		raw  json.RawMessage
		to   *string
	}{{"operation", o.Operation, &r.operation}, {"queue", o.Queue, &r.queue}, {"payload", o.Payload, &r.payload}} {
		if len(f.raw) > 0 && json.Unmarshal(f.raw, f.to) != nil {
			return r, wire.Errorf(wire.CodeBadRequest, "%s must be a string", f.name)
		}
	}
	err = parseClassicAuth(o.Auth, &r)
	return r, err
}

// parseClassicAuth reads who asks. What the old client sends is the text with the SHA-512 of nothing behind it, for
// that is how it used the function.
func parseClassicAuth(raw json.RawMessage, r *classicRequest) error {
	if len(raw) == 0 {
		return nil
	}
	var auth map[string]json.RawMessage
	if json.Unmarshal(raw, &auth) != nil {
		return wire.Errorf(wire.CodeBadRequest, "auth must be an object")
	}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"user", &r.user}, {"password", &r.password}} {
		var text string
		if len(auth[f.name]) > 0 && json.Unmarshal(auth[f.name], &text) != nil {
			return wire.Errorf(wire.CodeBadRequest, "auth.%s must be a string", f.name)
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			return wire.Errorf(wire.CodeBadRequest, "auth.%s must be hexadecimal", f.name)
		}
		*f.to = bytes.TrimSuffix(b, nothing[:])
	}
	return nil
}

var nothing = sha512.Sum512(nil)

// classicLogin logs the connection in where that is asked for; what it may do is decided as for any other.
func (c *conn) classicLogin(r *classicRequest) error {
	v := c.login.Visitor
	if v == nil || !c.server.opt.Auth.Required() {
		return nil // as in the server of that time
	}
	if v.Identity() != nil {
		return nil // by its certificate; what else it says of itself does not count
	}
	if len(r.user) == 0 {
		return wire.Errorf(wire.CodeUnauthenticated, "the object needs auth with user and password")
	}
	_, _, err := v.Login(&wire.Request{Op: wire.OpHello, Set: wire.FieldUser | wire.FieldPassword, User: r.user, Password: r.password})
	if err != nil {
		c.audit(wire.OpHello, v.Claimed(), err)
		return err
	}
	c.loggedIn()
	return nil
}

// carryOut does what was asked and gives the payload of the reply.
func (c *conn) carryOut(r classicRequest) (string, error) {
	line := wire.AppendString([]byte(`{"queue":`), r.queue)
	switch r.operation {
	case "P":
		line = append(line, `,"op":"publish","encoding":"base64","body":`...)
		line = wire.AppendString(line, r.payload)
	case "S":
		line = append(line, `,"op":"receive","ack":"auto"`...)
	case "L":
		line = append(line, `,"op":"queue.info"`...)
	default:
		return "", wire.Errorf(wire.CodeUnknownOp, "operation must be P, S or L, not %q", r.operation)
	}
	reply, err := c.ask(append(line, '}'))
	switch {
	case err != nil && r.operation == "L" && err.Code == wire.CodeNotFound && c.server.opt.Broker.Limits().AutoCreate:
		return "0", nil // P and S make it, so who only counts must not be told that it is missing
	case err != nil:
		return "", err
	case r.operation == "P":
		return r.payload, nil
	case r.operation == "L":
		return strconv.FormatUint(reply.Counts.Ready, 10), nil
	case len(reply.Messages) == 0:
		return "", nil
	}
	return reply.Messages[0].classic()
}

// A todaysReply is what matters of a line that the broker answers with.
type todaysReply struct {
	OK    bool `json:"ok"`
	Error struct {
		Code    wire.Code `json:"code"`
		Message string    `json:"message"`
	} `json:"error"`
	Messages []todaysMessage `json:"messages"`
	Counts   struct {
		Ready uint64 `json:"ready"`
	} `json:"counts"`
}

type todaysMessage struct {
	Encoding string          `json:"encoding"`
	Body     json.RawMessage `json:"body"`
}

// classic is the body as base64: as it was published, or that of the JSON text.
func (m *todaysMessage) classic() (text string, err error) {
	if m.Encoding != "base64" {
		return base64.StdEncoding.EncodeToString(m.Body), nil
	}
	err = json.Unmarshal(m.Body, &text)
	return text, err
}

// ask puts a line of today's protocol to the broker, in a session of its own, and waits.
func (c *conn) ask(line []byte) (*todaysReply, *wire.Error) {
	s := c.server.opt.Broker.NewSession(c.nc.RemoteAddr().String())
	defer s.Close()
	c.watch(s)
	d := c.desk
	if err := d.dec.Decode(line, &d.req); err != nil {
		s.Refuse(nil, err)
	} else {
		s.Intake.Handle(&d.req)
		s.Intake.Flush()
	}
	// What follows the object is for nobody; and no buffer is held while the disk is waited for.
	c.n = 0
	c.leaveDesk()
	reply := new(todaysReply)
	if err := json.Unmarshal(answer(s), reply); err != nil {
		return nil, wire.Errorf(wire.CodeInternal, "the reply cannot be read: %v", err)
	}
	if !reply.OK {
		return nil, &wire.Error{Code: reply.Error.Code, Message: reply.Error.Message}
	}
	return reply, nil
}

// answer is the line that comes out of a session that was asked one thing.
func answer(s *broker.Session) []byte {
	var text []byte
	for !bytes.HasSuffix(text, []byte("\n")) {
		out, ok := s.Outgoing(nil)
		if !ok {
			break
		}
		for _, b := range broker.Bytes(nil, out) {
			text = append(text, b...)
		}
		s.Sent(out)
	}
	return text
}

// classicReply gives the object back. It has no newline either: its end is that of the connection.
func (c *conn) classicReply(o *classicObject, payload string, err error) {
	o.Confirmation = "Y"
	if err != nil {
		text := err.Error()
		if coded, ok := errors.AsType[*wire.Error](err); ok {
			text = coded.Error()
		}
		o.Confirmation, o.Error = "N", &text
	} else {
		o.Payload, _ = json.Marshal(payload)
	}
	for _, raw := range []*json.RawMessage{&o.Operation, &o.Queue, &o.Payload} {
		if len(*raw) == 0 {
			*raw = json.RawMessage(`""`)
		}
	}
	text, err := json.Marshal(o)
	if err != nil { // the raw parts are valid, or they would not be there
		text = []byte(`{"confirmation":"N","error":"internal"}`)
	}
	c.session.Reply(func(dst []byte) []byte { return append(dst, text...) })
}
