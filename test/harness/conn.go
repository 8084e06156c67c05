package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Conn is a connection on which a test sends and reads lines.
type Conn struct {
	net.Conn
	t      testing.TB
	r      *bufio.Reader
	pushes []Line // read while something else was waited for
	pings  int
}

// Dial connects; the connection ends with the test.
func (s *Server) Dial(t testing.TB) *Conn {
	t.Helper()
	return s.dial(t, 64<<10)
}

// DialSmall is Dial for thousands of connections, on which little is said.
func (s *Server) DialSmall(t testing.TB) *Conn {
	t.Helper()
	return s.dial(t, 256)
}

func (s *Server) dial(t testing.TB, buffer int) *Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return newConn(t, nc, buffer)
}

func newConn(t testing.TB, nc net.Conn, buffer int) *Conn {
	return &Conn{Conn: nc, t: t, r: bufio.NewReaderSize(nc, buffer)}
}

// Send writes lines, each with its newline.
func (c *Conn) Send(lines ...string) {
	c.t.Helper()
	c.SendRaw([]byte(strings.Join(lines, "\n") + "\n"))
}

// Sendf is Send with a format.
func (c *Conn) Sendf(format string, args ...any) {
	c.t.Helper()
	c.Send(fmt.Sprintf(format, args...))
}

// SendRaw writes bytes as they are.
func (c *Conn) SendRaw(b []byte) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// Next reads the next line, whatever it is.
func (c *Conn) Next() Line {
	c.t.Helper()
	l, err := c.next()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return l
}

func (c *Conn) next() (Line, error) {
	c.SetReadDeadline(time.Now().Add(Patience))
	raw, err := c.r.ReadString('\n')
	if err != nil {
		return Line{}, fmt.Errorf("%w after %q", err, raw)
	}
	return Parse(strings.TrimSuffix(raw, "\n"))
}

// Ended reads to the end of the connection and gives the lines that came before it.
func (c *Conn) Ended() []Line {
	c.t.Helper()
	var lines []Line
	for {
		c.SetReadDeadline(time.Now().Add(Patience))
		raw, err := c.r.ReadString('\n')
		if err == nil {
			l, err := Parse(strings.TrimSuffix(raw, "\n"))
			if err != nil {
				c.t.Fatal(err)
			}
			lines = append(lines, l)
			continue
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Fatal("the connection was not closed")
		}
		return lines
	}
}

// Reply reads up to the next reply; what is pushed before it is kept for Push.
func (c *Conn) Reply() Line {
	c.t.Helper()
	for {
		l := c.Next()
		if l.Has("ok") {
			return l
		}
		c.pushes = append(c.pushes, l)
	}
}

// Push gives the next line that the server sent unasked.
func (c *Conn) Push() Line {
	c.t.Helper()
	if len(c.pushes) > 0 {
		l := c.pushes[0]
		c.pushes = c.pushes[1:]
		return l
	}
	l := c.Next()
	if !l.Has("op") {
		c.t.Fatalf("wanted a line that was not asked for, not the reply %s", l.Raw)
	}
	return l
}

// Do sends one request and reads its reply. Nothing else may be on its way.
func (c *Conn) Do(format string, args ...any) Line {
	c.t.Helper()
	line := format
	if len(args) > 0 {
		line = fmt.Sprintf(format, args...)
	}
	c.Send(line)
	return c.Reply()
}

// OK is Do for a request that must succeed.
func (c *Conn) OK(format string, args ...any) Line {
	c.t.Helper()
	l := c.Do(format, args...)
	if !l.Bool("ok") {
		c.t.Fatalf("%s\nfailed: %s", fmt.Sprintf(format, args...), l.Raw)
	}
	return l
}

// Fails is Do for a request that must be refused with that code.
func (c *Conn) Fails(code, format string, args ...any) Line {
	c.t.Helper()
	l := c.Do(format, args...)
	l.WantCode(c.t, code)
	return l
}

// Settle pings and gives every line that comes before the pong: with it a test sees that nothing came.
func (c *Conn) Settle() []Line {
	c.t.Helper()
	c.pings++
	id := "settle-" + strconv.Itoa(c.pings)
	c.Sendf(`{"op":"ping","id":"%s"}`, id)
	got := c.pushes
	c.pushes = nil
	for {
		l := c.Next()
		if l.Text("id") == id {
			return got
		}
		got = append(got, l)
	}
}

// Drain throws away what comes until n bytes have been read.
func (c *Conn) Drain(n int64) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Patience))
	if _, err := io.CopyN(io.Discard, c.r, n); err != nil {
		c.t.Fatal(err)
	}
}

// A Line is a JSON object that the server sent.
type Line struct {
	Raw    string
	Fields map[string]json.RawMessage
}

// Parse reads a line.
func Parse(raw string) (Line, error) {
	l := Line{Raw: raw}
	if err := json.Unmarshal([]byte(raw), &l.Fields); err != nil {
		return l, fmt.Errorf("the server sent what is no JSON object: %w: %.200q", err, raw)
	}
	return l, nil
}

// Has reports whether the field is there.
func (l Line) Has(field string) bool { return l.Fields[field] != nil }

// At is the object in a field.
func (l Line) At(field string) Line {
	in := Line{Raw: string(l.Fields[field])}
	json.Unmarshal(l.Fields[field], &in.Fields)
	return in
}

// Each is the array of objects in a field.
func (l Line) Each(field string) []Line {
	var raws []json.RawMessage
	json.Unmarshal(l.Fields[field], &raws)
	lines := make([]Line, len(raws))
	for i, raw := range raws {
		lines[i].Raw = string(raw)
		json.Unmarshal(raw, &lines[i].Fields)
	}
	return lines
}

// Text is a string field, "" where it is no string.
func (l Line) Text(field string) (s string) {
	json.Unmarshal(l.Fields[field], &s)
	return s
}

// Int is a number field, -1 where it is none.
func (l Line) Int(field string) int64 {
	n := int64(-1)
	if json.Unmarshal(l.Fields[field], &n) != nil {
		return -1
	}
	return n
}

// Ints is a field with an array of numbers.
func (l Line) Ints(field string) (ns []int64) {
	json.Unmarshal(l.Fields[field], &ns)
	return ns
}

// Bool is a boolean field, false where it is none.
func (l Line) Bool(field string) (b bool) {
	json.Unmarshal(l.Fields[field], &b)
	return b
}

// Body is the body, byte for byte.
func (l Line) Body() string { return string(l.Fields["body"]) }

// Code is the code of an error reply, "" of a success.
func (l Line) Code() string { return l.At("error").Text("code") }

// Message is the message of an error reply.
func (l Line) Message() string { return l.At("error").Text("message") }

// WantCode fails the test where the line is no error of that code.
func (l Line) WantCode(t testing.TB, code string) {
	t.Helper()
	if l.Bool("ok") || l.Code() != code {
		t.Fatalf("wanted the error %s, not %s", code, l.Raw)
	}
	if l.Message() == "" || !l.At("error").Has("retryable") {
		t.Errorf("rule 7: an error has a message and retryable: %s", l.Raw)
	}
}
