package server_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/internal/vfs"
)

// nothing is the SHA-512 of nothing, which the old clients put behind user and password.
const nothing = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"

const oldAuth = `"auth":{"user":"616e6e` + nothing + `","password":"` + nothing + `"}`

const maxBody = 4 << 10

// listen starts a server whose queues live in that storage, and gives its address.
func listen(t *testing.T, storage string, classic bool) string {
	t.Helper()
	return listenFor(t, storage, classic, maxBody)
}

// listenFor is listen for bodies of at most that many bytes.
func listenFor(t *testing.T, storage string, classic bool, most int) string {
	t.Helper()
	st := broker.Storage{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
		return journal.NewMemory(journal.NewBudget(0), wake)
	}}
	if storage == "file" {
		log, err := filejournal.Open(vfs.OS(), t.TempDir(), filejournal.Options{Sync: true, Shards: broker.Shards})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { log.Close() })
		st = broker.Storage{Name: "file", Stored: "disk", Open: func(i int, wake func()) journal.Journal { return log.Shard(i, wake) }}
	}
	b, err := broker.Start(broker.Options{
		Storages: []broker.Storage{st}, Fail: func(err error) { t.Error(err) },
		Limits: broker.Limits{MaxQueues: 10, MaxMessageBytes: most, MaxInFlight: 100, AutoCreate: true, Defaults: queue.Settings{
			Storage: storage, Lease: time.Minute, MaxDeliveries: 3, RetryFactor: 1,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Options{Broker: b, Log: slog.New(slog.DiscardHandler), MaxConnections: 100, Classic: classic})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		<-done
		b.Close()
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// An answer is a reply as an old client sees it.
type answer struct {
	Operation, Queue, Payload, Auth any // what was sent comes back, whatever it was
	Confirmation                    string
	Error                           *string
}

// finish reads until the server closes.
func finish(t *testing.T, c net.Conn) (a answer) {
	t.Helper()
	text, err := io.ReadAll(c)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return a
}

// old is a client of 2015: it sends in the pieces given, and reads until the server closes.
func old(t *testing.T, addr string, pieces ...string) answer {
	t.Helper()
	c := dial(t, addr)
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	return finish(t, c)
}

func (a answer) want(t *testing.T, payload string) {
	t.Helper()
	if a.Confirmation != "Y" || a.Error != nil || a.Payload != payload {
		t.Errorf("%+v, not payload %q", a, payload)
	}
}

func (a answer) fails(t *testing.T, says string) {
	t.Helper()
	if a.Confirmation != "N" || a.Error == nil || !strings.Contains(*a.Error, says) {
		t.Errorf("%+v does not fail with %q", a, says)
	}
}

// A today is a client of today's protocol.
type today struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func newToday(t *testing.T, addr string) *today {
	c := dial(t, addr)
	return &today{t, c, bufio.NewReader(c)}
}

func (d *today) ask(line, want string) {
	d.t.Helper()
	if reply := d.say(line); !strings.Contains(reply, want) {
		d.t.Errorf("%s: %s, not %s", line, reply, want)
	}
}

func (d *today) say(line string) string {
	d.t.Helper()
	io.WriteString(d.c, line+"\n")
	reply, err := d.r.ReadString('\n')
	if err != nil {
		d.t.Fatalf("%s: %s %v", line, reply, err)
	}
	return reply
}

func inStorages(t *testing.T, f func(t *testing.T, addr string)) {
	inStoragesFor(t, maxBody, f)
}

// inStoragesFor is inStorages for bodies of at most that many bytes.
func inStoragesFor(t *testing.T, most int, f func(t *testing.T, addr string)) {
	for _, storage := range []string{"memory", "file"} {
		t.Run(storage, func(t *testing.T) { f(t, listenFor(t, storage, true, most)) })
	}
}

func TestClassic(t *testing.T) {
	inStorages(t, func(t *testing.T, addr string) {
		old(t, addr, `{"operation":"L","queue":"q","payload":"",`+oldAuth+`}`).want(t, "0")
		old(t, addr, `{"operation":"S","queue":"q","payload":"",`+oldAuth+`}`).want(t, "")
		a := old(t, addr, `{"operation":"P","queue":"q","payload":"b25l",`+oldAuth+`,"more":[{"op":1}]}`)
		a.want(t, "b25l")
		if a.Operation != "P" || a.Queue != "q" || a.Auth.(map[string]any)["password"] != nothing {
			t.Errorf("the reply is another object: %+v", a)
		}
		old(t, addr, `{"payload":"dHd\u006f","queue":"q","operation":"P"}`+"\n").want(t, "dHdo")
		old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "2")
		old(t, addr, `{"operation":"S","queue":"q"}`).want(t, "b25l")
		old(t, addr, `{"operation":"S","queue":"q","payload":null,"auth":null}`).want(t, "dHdo")
		old(t, addr, `{"operation":"S","queue":"q"}`).want(t, "")
		old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "0")
	})
}

func TestClassicAndToday(t *testing.T) {
	inStorages(t, func(t *testing.T, addr string) {
		c := newToday(t, addr)
		old(t, addr, `{"operation":"P","queue":"q","payload":"b25l"}`).want(t, "b25l")
		c.ask(`{"op":"receive","queue":"q"}`, `"encoding":"base64","body":"b25l"`)
		c.ask(`{"op":"queue.info","queue":"q"}`, `"leased":1`)
		old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "0")
		c.ask(`{"op":"publish","queue":"q","body":{"a": 1}}`, `"ok":true`)
		c.ask(`{"op":"publish","queue":"q","encoding":"base64","body":"\u0062w=="}`, `"ok":true`)
		old(t, addr, `{"operation":"S","queue":"q"}`).want(t, "eyJhIjogMX0=")
		old(t, addr, `{"operation":"S","queue":"q"}`).want(t, "bw==")
		// Like any delivery that is its own ack, it is settled a moment later.
		for !strings.Contains(c.say(`{"op":"queue.info","queue":"q"}`), `"acked":2`) {
		}
	})
}

func TestClassicErrors(t *testing.T) {
	addr := listen(t, "memory", true)
	c := newToday(t, addr)
	c.ask(`{"op":"queue.create","queue":"full","max_messages":1}`, `"ok":true`)
	c.ask(`{"op":"publish","queue":"full","body":1}`, `"ok":true`)
	c.ask(`{"op":"queue.create","queue":"paused"}`, `"ok":true`)
	c.ask(`{"op":"queue.pause","queue":"paused"}`, `"ok":true`)
	long := strings.Repeat("AAAA", maxBody/4+1)
	longer := strings.Repeat("A", maxBody+64<<10)
	for _, test := range []struct{ text, says string }{
		{`{"operation":"P","queue":"full","payload":""}`, "queue_full"},
		{`{"operation":"S","queue":"paused"}`, "paused"},
		{`{"operation":"P","queue":".q","payload":""}`, "queue must be"},
		{`{"operation":"P","payload":""}`, "queue must be"},
		{`{"operation":"P","queue":"q","payload":"b25"}`, "base64"},
		{`{"operation":"P","queue":"q","payload":1}`, "payload must be a string"},
		{`{"operation":"P","queue":["q"],"payload":""}`, "queue must be a string"},
		{`{"operation":"X","queue":"q","payload":""}`, "P, S or L"},
		{`{"operation":1,"queue":"q","payload":""}`, "operation must be a string"},
		{`{"operation":"L","queue":"full","auth":"me"}`, "auth must be"},
		{`{"operation":"L","queue":"full","auth":{"user":"616e6e"},"auth":{"user":"anne"}}`, "auth.user must be hex"},
		{`{"operation":"L","queue":"full","auth":{"password":7}}`, "auth.password must be"},
		{`{"operation":"P",,"queue":"q"}`, "bad_json"},
		{`{"operation":"P"]`, "bad_json"},
		{`{"operation":"P","queue":"q","payload":"` + long + `"}`, "message_too_large"},
		{`{"operation":"P","queue":"q","payload":"` + longer + `"}`, "line_too_long"},
		{`{"operation":"P","queue":"q","payload":"` + longer + `"}` + "\n", "line_too_long"},
		{`{"payload":"` + longer, "line_too_long"},
	} {
		old(t, addr, test.text).fails(t, test.says)
	}
	old(t, addr, `{"operation":"L","queue":"full"}`).want(t, "1")
	old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "0")
}

func TestClassicInPieces(t *testing.T) {
	inStorages(t, func(t *testing.T, addr string) {
		text := "\r\n \n" + `  {"operation":"P","queue":"q","x":"}\"\\{","payload":"b25l"}`
		old(t, addr, strings.Split(text, "")...).want(t, "b25l")
		old(t, addr, text+"garbage}\n{\"op\":\"ping\"}\n").want(t, "b25l")
		old(t, addr, text+strings.Repeat("{", 256<<10)).want(t, "b25l")
		old(t, addr, "\r\n\n"+text+text).want(t, "b25l")

		// What is only half an object is never carried out.
		c := dial(t, addr)
		io.WriteString(c, text[:len(text)-1])
		c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
			t.Errorf("half an object: %q, %v", got, err)
		}
		old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "4")
	})
}

// Today's requests mean the same on a server that speaks both, however they arrive.
func TestTodayBesideClassic(t *testing.T) {
	addr := listen(t, "memory", true)
	c := newToday(t, addr)
	for _, x := range `{"op":"publish","queue":"q","body":{"operation":"P"}}` {
		io.WriteString(c.c, string(x))
	}
	c.ask("", `"seq":1`)
	c.ask(`{"op":"ping","operation":"P"}`, "bad_request")
	c.ask(`{"body":{"operation":"P"}}`, "op is missing")
	c.ask(`["operation"]`, "bad_json")
	c.ask(`{"op":"publish","queue":"q","body":"`+strings.Repeat("a", maxBody+64<<10)+`"}`, "line_too_long")
	c.ask(`{"op":"ping"}`, `"ok":true`)

	// A connection speaks one of the two.
	c.ask(`{"operation":"L","queue":"q"}`, "bad_request")
	c.ask(`{"op":"ping"}`, `"ok":true`)
	old(t, addr, `{"operation":"L","queue":"q"}`).want(t, "1")
}

func TestClassicIsOff(t *testing.T) {
	c := newToday(t, listen(t, "memory", false))
	io.WriteString(c.c, `{"operation":"P","queue":"q","payload":""}`)
	c.ask("", "bad_request")
	c.ask(`{"op":"ping"}`, `"ok":true`)
}
