package gmq

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is a server whose every word is in the test. Connections are pipes,
// so tests run in a synctest bubble: time is the test's own, and a goroutine
// that outlives the client fails the test.
type fake struct {
	t     *testing.T
	conns chan net.Conn
	down  chan struct{} // holds a token while dialing is to fail
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, conns: make(chan net.Conn, 4), down: make(chan struct{}, 1)}
}

func (f *fake) dial(ctx context.Context, _ string) (net.Conn, error) {
	select {
	case f.down <- struct{}{}:
		<-f.down
	default:
		return nil, errors.New("nobody there")
	}
	client, server := net.Pipe()
	f.conns <- server
	return client, nil
}

// A fakeConn is the server's end of one connection.
type fakeConn struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
	// told is what was said of the leaders last, and is said again when other requests are expected.
	told string
}

// A request is a line of the client.
type request struct {
	ID       json.Number
	Op       string
	Queue    string
	Seq      any
	Receipt  any
	Sub      uint64
	Reason   string
	Lease    string
	Delay    string
	Dead     bool
	Count    *bool
	Credit   int
	Encoding string
	Body     json.RawMessage
	After    any
	raw      string
}

// accept takes a connection and answers the greeting.
func (f *fake) accept() *fakeConn {
	conn := <-f.conns
	s := &fakeConn{t: f.t, Conn: conn, in: bufio.NewReader(conn)}
	r := s.expect("hello")
	s.ok(r, `"server":"gmq","version":"test","protocol":1,"max_message_bytes":1048576`)
	return s
}

func (s *fakeConn) read() (request, error) {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return request{}, err
	}
	r := request{raw: line}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		s.t.Errorf("the client sent %q: %v", line, err)
	}
	return r, nil
}

// expect reads the next request, which has to be of that op.
func (s *fakeConn) expect(op string) request {
	s.t.Helper()
	r, err := s.read()
	for err == nil && s.told != "" && r.Op == "cluster.leaders" && op != r.Op {
		s.ok(r, s.told)
		r, err = s.read()
	}
	if err != nil || r.Op != op {
		s.t.Errorf("got %q (%v), want op %s", r.raw, err, op)
	}
	return r
}

func (s *fakeConn) send(format string, args ...any) {
	if _, err := fmt.Fprintf(s, format+"\n", args...); err != nil {
		s.t.Errorf("the fake server cannot send: %v", err)
	}
}

// ok answers a request; fields may be empty.
func (s *fakeConn) ok(r request, fields string) {
	if fields != "" {
		fields = "," + fields
	}
	s.send(`{"id":%s,"ok":true%s}`, r.ID, fields)
}

func (s *fakeConn) refuse(r request, code string, retryable bool) {
	s.send(`{"id":%s,"ok":false,"error":{"code":%q,"message":"no","retryable":%v}}`, r.ID, code, retryable)
}

func (s *fakeConn) deliver(sub, seq uint64) {
	s.send(`{"op":"message","sub":%d,"queue":"q","seq":%d,"attempt":1,"receipt":"r%d",`+
		`"published":"2026-01-02T03:04:05.5Z","body":%d}`, sub, seq, seq, seq)
}

// with runs a test in a bubble, with a client and the server's end of its
// first connection. The client is closed afterwards.
func with(t *testing.T, test func(t *testing.T, f *fake, c *Client, s *fakeConn), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		first := make(chan *fakeConn, 1)
		go func() { first <- f.accept() }()
		all := append([]Option{DialWith(f.dial), Heartbeat(0), CloseTimeout(time.Second)}, opts...)
		c, err := Dial(t.Context(), "fake", all...)
		if err != nil {
			t.Fatal(err)
		}
		s := <-first
		test(t, f, c, s)
		_ = c.Close()
		_ = s.Close()
	})
}

// going runs f and gives a channel with its outcome.
func going[T any](f func() (T, error)) <-chan outcome[T] {
	ch := make(chan outcome[T], 1)
	go func() {
		v, err := f()
		ch <- outcome[T]{v, err}
	}()
	return ch
}

type outcome[T any] struct {
	v   T
	err error
}

// done is for going: an error only.
func done(err error) (struct{}, error) { return struct{}{}, err }
