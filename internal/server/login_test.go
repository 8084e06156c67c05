package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/server"
)

// locked starts a server that wants logins, and gives its broker and a way to connect without sockets.
func locked(t testing.TB) (*broker.Broker, func() net.Conn) {
	t.Helper()
	st := broker.Storage{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
		return journal.NewMemory(journal.NewBudget(0), wake)
	}}
	b, err := broker.Start(broker.Options{
		Storages: []broker.Storage{st}, Fail: func(err error) { t.Error(err) },
		Limits: broker.Limits{MaxQueues: 10, MaxMessageBytes: 1 << 20, MaxInFlight: 100, AutoCreate: true, Defaults: queue.Settings{Storage: "memory", Lease: time.Minute}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New(auth.Options{Required: true, Put: b.PutDocument})
	b.WatchDocuments(auth.Prefix, func(name string, data []byte) {
		if err := a.Changed(name, data); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Begin(func() ([]byte, error) { return []byte("adminpw"), nil }); err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Options{Broker: b, Log: slog.New(slog.DiscardHandler), MaxConnections: 10_000, Classic: true, Auth: a})
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		<-done
		b.Close()
	})
	return b, func() net.Conn {
		client, end := net.Pipe()
		l.conns <- end
		return client
	}
}

// pipes is a listener without sockets.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// FuzzBeforeLogin: whatever somebody sends who has not logged in, nothing is made, there is no panic, what is answered is
// lines of ours, few of them, and little is allocated for it. Over a pipe a password is refused even if it is right.
func FuzzBeforeLogin(f *testing.F) {
	for _, text := range []string{
		`{"op":"hello","user":"admin","password":"adminpw"}` + "\n" + `{"op":"publish","queue":"q","body":1}` + "\n",
		`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"biwsbj1hZG1pbixyPWFiYw=="}` + "\n" + `{"op":"hello","data":"Yz1iaXdzLHI9YWJjLHA9QUFBQQ=="}` + "\n",
		`{"operation":"P","queue":"q","payload":"","auth":{"user":"61","password":"61"}}`, "\x16\x03\x01\x02\x00\x01", "\n\n\r\n \n", "{\n", strings.Repeat("[", 5000),
		`{"op":"ping"}` + "\n" + strings.Repeat("x", 5000) + "\n" + `{"op":"user.add","user":"x","allow":["*:>"]}` + "\n", `{"op":"subscribe","topic":">"}` + "\n",
		strings.Repeat(`{"op":"ping"}`+"\n", 50), `{"op":"hello","token":"gmq_x","id":1}` + "\n", "GET / HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	b, connect := locked(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := connect()
		answered := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(c) // ends with the connection
			answered <- all
		}()
		c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		// As many lines as there may be before a login let the server end the connection, so that nothing has to be waited for.
		for rest := append(bytes.Clone(text), "\n"+strings.Repeat("{\"op\":\"ping\"}\n", 17)...); len(rest) > 0; rest = rest[min(1000, len(rest)):] {
			if _, err := c.Write(rest[:min(1000, len(rest))]); err != nil {
				break // it has heard enough
			}
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer := <-answered
		c.Close()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20+64*uint64(len(text)) {
			t.Errorf("%d bytes were allocated for %d", n, len(text))
		}
		if len(answer) == 0 || len(answer) > 64<<10 {
			t.Errorf("%d bytes of answer to %d", len(answer), len(text))
		}
		for line := range bytes.Lines(answer) {
			var reply struct {
				OK    *bool
				Error json.RawMessage
			}
			if bytes.HasSuffix(line, []byte("\n")) && (json.Unmarshal(line, &reply) != nil || reply.OK == nil) {
				t.Errorf("answered %q", line)
			}
		}
		if qs := b.Queues(""); len(qs) != 0 {
			t.Fatalf("there is a queue now: %v", qs)
		}
	})
}
