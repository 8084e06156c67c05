package auth_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
)

// R98: what a connection may be and do before its login.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "limits: {max_connections: 20}\n")
	t.Run("a long line", func(t *testing.T) {
		c := s.Dial(t)
		c.SendRaw([]byte(`{"op":"ping","id":"` + strings.Repeat("x", 4096) + "\"}\n" + `{"op":"ping","id":1}` + "\n"))
		c.Reply().WantCode(t, "line_too_long")
		if l := c.Reply(); l.Int("id") != 1 {
			t.Error(l.Raw)
		}
		c.OK(`{"op":"hello","user":"admin","password":"%s"}`, adminPassword(t, s))
		c.OK(`{"op":"publish","queue":"long","body":"%s"}`, strings.Repeat("x", 1<<19))
	})
	t.Run("hello and more at once", func(t *testing.T) {
		c := s.Dial(t)
		c.Send(fmt.Sprintf(`{"op":"hello","user":"admin","password":"%s"}`, adminPassword(t, s)), `{"op":"publish","queue":"long","body":"`+strings.Repeat("x", 1<<19)+`"}`)
		if l := c.Reply(); !l.Bool("ok") {
			t.Error(l.Raw)
		}
		if l := c.Reply(); !l.Bool("ok") {
			t.Error(l.Raw)
		}
	})
	t.Run("many lines", func(t *testing.T) {
		c := s.Dial(t)
		c.SendRaw([]byte(strings.Repeat(`{"op":"ping"}`+"\n", 100)))
		lines := c.Ended()
		if len(lines) != 17 || lines[16].Code() != "unauthenticated" {
			t.Errorf("%d lines, %v", len(lines), lines[len(lines)-1])
		}
	})
	t.Run("many failures", func(t *testing.T) {
		c := s.Dial(t)
		for range 5 {
			c.Sendf(`{"op":"hello","user":"nobody-%d","password":"x"}`, time.Now().UnixNano())
		}
		if lines := c.Ended(); len(lines) != 3 {
			t.Errorf("%d answers: %v", len(lines), lines)
		}
	})
	t.Run("half of the connections", func(t *testing.T) {
		var some []*harness.Conn
		for range 12 {
			some = append(some, s.Dial(t))
		}
		told := 0
		for _, c := range some[10:] {
			for _, l := range c.Ended() {
				l.WantCode(t, "too_many_connections")
				told++
			}
		}
		if told == 0 {
			t.Error("nobody was told why")
		}
		admin.OK(`{"op":"queue.list"}`)
		for _, c := range some {
			c.Close()
		}
	})
}

// R98: a connection without a login ends after five seconds, also one that sends a byte now and then. The test takes as long.
func TestStrangersTime(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	silent, slow := s.Dial(t), s.Dial(t)
	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if _, err := slow.Write([]byte(" ")); err != nil {
					return
				}
			}
		}
	}()
	for _, c := range []*harness.Conn{silent, slow} {
		if lines := c.Ended(); len(lines) != 1 || lines[0].Code() != "unauthenticated" || !strings.Contains(lines[0].Message(), "5s") {
			t.Errorf("told: %v", lines)
		}
	}
	admin.OK(`{"op":"ping"}`) // who has logged in has no such end
}

// R99, R105: what is taken away is gone at once.
func TestRightsAreWithdrawn(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	ann := add(t, s, admin, "ann", "publish:a.* consume:a.*", "")
	ann.OK(`{"op":"publish","queue":"a.x","body":1}`)
	sub := ann.OK(`{"op":"subscribe","queue":"a.x"}`).Int("sub")
	topical := ann.OK(`{"op":"subscribe","topic":"a.*"}`).Int("sub")
	if l := ann.Push(); l.Int("seq") != 1 {
		t.Fatal(l.Raw)
	}
	waiting := login(t, s, "ann", "pencil-ann")
	waiting.Sendf(`{"op":"receive","id":"w","queue":"a.y","wait":"1h"}`)
	harness.Eventually(t, "the receive waits", func() bool {
		return admin.Do(`{"op":"queue.info","queue":"a.y"}`).Bool("ok")
	})
	admin.OK(`{"op":"user.grant","user":"ann","revoke":["consume:a.*"],"allow":["consume:b"]}`)
	ended := map[int64]bool{}
	for range 2 {
		l := ann.Push()
		if l.Text("op") != "unsubscribed" || !strings.Contains(l.Text("reason"), "withdrawn") {
			t.Error(l.Raw)
		}
		ended[l.Int("sub")] = true
	}
	if !ended[sub] || !ended[topical] {
		t.Errorf("%v ended, should be %d and %d", ended, sub, topical)
	}
	if l := waiting.Reply(); l.Code() != "forbidden" || l.Text("id") != "w" {
		t.Error(l.Raw)
	}
	ann.Fails("forbidden", `{"op":"ack","queue":"a.x","seq":1}`)
	ann.Fails("forbidden", `{"op":"receive","queue":"a.x"}`)
	ann.OK(`{"op":"publish","queue":"a.x","body":2}`)
	harness.Eventually(t, "what was leased is back", func() bool {
		return admin.OK(`{"op":"queue.info","queue":"a.x"}`).At("counts").Int("ready") == 2
	})
	admin.OK(`{"op":"user.grant","user":"ann","allow":["consume:a.*"],"revoke":["publish:a.*"]}`)
	ann.Fails("forbidden", `{"op":"publish","queue":"a.x","body":2}`)
	ann.OK(`{"op":"receive","queue":"a.x"}`)

	admin.OK(`{"op":"user.remove","user":"ann"}`)
	for _, c := range []*harness.Conn{ann, waiting} {
		if lines := c.Ended(); len(lines) != 1 || lines[0].Text("op") != "closing" {
			t.Errorf("told: %v", lines)
		}
	}
	s.Dial(t).Fails("unauthenticated", `{"op":"hello","user":"ann","password":"pencil-ann"}`)
}

// R99: a token ends, and those who came by it with it.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	short := admin.OK(`{"op":"token.add","name":"short","ttl":"1500ms","allow":["publish:a"]}`).Text("token")
	long := admin.OK(`{"op":"token.add","name":"long","user":"admin"}`).Text("token")
	a, b := s.Dial(t), s.Dial(t)
	a.OK(`{"op":"hello","token":"%s"}`, short)
	a.OK(`{"op":"publish","queue":"a","body":1}`)
	if l := b.OK(`{"op":"hello","token":"%s"}`, long); l.Text("user") != "admin (token long)" {
		t.Error(l.Raw)
	}
	if lines := a.Ended(); len(lines) != 1 || lines[0].Text("op") != "closing" {
		t.Errorf("told: %v", lines)
	}
	s.Dial(t).Fails("unauthenticated", `{"op":"hello","token":"%s"}`, short)
	b.OK(`{"op":"queue.list"}`)
	admin.OK(`{"op":"token.remove","name":"long"}`)
	if lines := b.Ended(); len(lines) != 1 || lines[0].Text("op") != "closing" {
		t.Errorf("told: %v", lines)
	}
}

// Users and what they may do outlive the server, whatever ended it, and a snapshot.
func TestUsersAreKept(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	add(t, s, admin, "ann", "publish:a.*", "publish:a.secret")
	token := admin.OK(`{"op":"token.add","name":"ci","allow":["consume:a.*"]}`).Text("token")
	password := adminPassword(t, s)
	for range 2 {
		s.Restart()
		ann := login(t, s, "ann", "pencil-ann")
		ann.OK(`{"op":"publish","queue":"a.x","body":1}`)
		ann.Fails("forbidden", `{"op":"publish","queue":"a.secret","body":1}`)
		s.Dial(t).OK(`{"op":"hello","token":"%s"}`, token)
		login(t, s, "admin", password)
	}
	if adminPassword(t, s) != password {
		t.Error("the file was written again")
	}
}

// The Go client logs in without sending the password, and again whenever it connects.
func TestClient(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	add(t, s, admin, "ann", "publish:a consume:a", "")
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	sent := &tap{}
	c, err := gmq.Dial(ctx, s.Addr, gmq.Login("ann", "pencil-ann"), gmq.DialWith(sent.dial), gmq.Backoff(time.Millisecond, 10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Hello().User != "ann" {
		t.Errorf("logged in as %q", c.Hello().User)
	}
	for i := range 3 {
		// Published again where it was on its way already as the connection before was cut.
		if _, err := c.Queue("a").Send(ctx, "x", gmq.DedupID(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		sent.cut()
	}
	if n, text := sent.sent(); n < 3 || strings.Contains(text, "pencil") {
		t.Errorf("%d connections; sent: %s", n, text)
	}
	if _, err := gmq.Dial(ctx, s.Addr, gmq.Login("ann", "wrong")); err == nil || !strings.Contains(err.Error(), "unauthenticated") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password: %v", err)
	}
}

// A tap keeps what a client says to log in, and cuts its connections.
type tap struct {
	mu   sync.Mutex // guards the following
	n    int
	last net.Conn
	text strings.Builder
}

func (p *tap) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.last = p.n+1, c
	return &tapped{Conn: c, p: p}, err
}

func (p *tap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Close()
}

// sent is how many connections there were, and what was said on them.
func (p *tap) sent() (int, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n, p.text.String()
}

type tapped struct {
	net.Conn
	p *tap
}

func (c *tapped) Write(b []byte) (int, error) {
	if strings.Contains(string(b), `"hello"`) {
		c.p.mu.Lock()
		c.p.text.Write(b)
		c.p.mu.Unlock()
	}
	return c.Conn.Write(b)
}

// The first protocol asks for the same users.
func TestClassic(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "classic: true\n")
	add(t, s, admin, "old", "publish:q consume:q", "")
	const nothing = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
	ask := func(object string) string {
		t.Helper()
		c := s.Dial(t)
		c.SendRaw([]byte(object))
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		text, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	auth := func(user, password string) string {
		return fmt.Sprintf(`,"auth":{"user":"%s","password":"%s"}}`, hex.EncodeToString([]byte(user))+nothing, hex.EncodeToString([]byte(password))+nothing)
	}
	for _, c := range []struct{ object, want string }{
		{`{"operation":"P","queue":"q","payload":"bmV3"` + auth("old", "pencil-old"), `"confirmation":"Y","error":null`},
		{`{"operation":"P","queue":"other","payload":"bmV3"` + auth("old", "pencil-old"), `"confirmation":"N","error":"forbidden`},
		{`{"operation":"P","queue":"q","payload":"bmV3"` + auth("old", "pencil"), `"confirmation":"N","error":"unauthenticated`},
		{`{"operation":"S","queue":"q","payload":""}`, `"confirmation":"N","error":"unauthenticated`},
		{`{"operation":"L","queue":"q","payload":""` + auth("old", "pencil-old"), `"payload":"1"`},
		{`{"operation":"S","queue":"q","payload":""` + auth("old", "pencil-old"), `"payload":"bmV3"`},
		{`{"operation":"P","queue":"q","payload":"` + strings.Repeat("bmV3", 1024) + `"` + auth("old", "pencil-old"), `"error":"line_too_long`},
	} {
		if got := ask(c.object); !strings.Contains(got, c.want) {
			t.Errorf("%.100s: %s, should have %s", c.object, got, c.want)
		}
	}
}

// R101: limits of a user and of an address; who is over them is told how long to wait, and may settle.
func TestRatesAndConnections(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "limits: {max_connections_per_user: 2, max_connections_per_address: 50, max_rate_per_user: 40}\n")
	ann := add(t, s, admin, "ann", "publish:a consume:a", "")
	ann.SendRaw([]byte(strings.Repeat(`{"op":"publish","queue":"a","body":1}`+"\n", 200)))
	taken, refused := 0, 0
	for range 200 {
		switch l := ann.Reply(); {
		case l.Bool("ok"):
			taken++
		case l.Code() == "rate_limited" && l.At("error").Bool("retryable") && strings.Contains(l.Message(), "try again in"):
			refused++
		default:
			t.Fatal(l.Raw)
		}
	}
	if taken < 40 || refused == 0 {
		t.Errorf("%d were taken and %d refused", taken, refused)
	}
	if l := ann.OK(`{"op":"ack","queue":"a","seq":[1,2,3]}`); l.Int("settled") != 3 {
		t.Error(l.Raw)
	}
	admin.OK(`{"op":"queue.info","queue":"a"}`) // others have their own

	second := login(t, s, "ann", "pencil-ann")
	third := s.Dial(t)
	third.Fails("too_many_connections", `{"op":"hello","user":"ann","password":"pencil-ann"}`)
	third.Ended()
	second.Close()
	harness.Eventually(t, "there is room again", func() bool {
		return s.Dial(t).Do(`{"op":"hello","user":"ann","password":"pencil-ann"}`).Bool("ok")
	})
	var last *harness.Conn
	for range 60 {
		last = s.Dial(t)
	}
	if lines := last.Ended(); len(lines) > 0 { // it may be told, and is closed
		lines[0].WantCode(t, "too_many_connections")
	}
}
