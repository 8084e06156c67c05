package gmq

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A token goes to this machine, over TLS, or where the caller has said how; to nobody else, not even in part.
func TestTokenIsNotSentInClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		own := func(c *config) { c.dial = f.dial } // as if it were the client's
		if _, err := Dial(t.Context(), "fake", Token("gmq_canary"), own); !errors.Is(err, errReadable) {
			t.Errorf("connected, or for another reason not: %v", err)
		}
		if n, err := (<-f.conns).Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("something was sent")
		}
		go func() { f.accept() }()
		c, err := Dial(t.Context(), "fake", Token("gmq_canary"), DialWith(f.dial), Heartbeat(0))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
	for addr, own := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}: true, &net.TCPAddr{IP: net.IPv6loopback}: true, &net.UnixAddr{}: true,
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}: false, &net.TCPAddr{}: false,
	} {
		if ownMachine(addr) != own {
			t.Errorf("%v is this machine's: %v", addr, !own)
		}
	}
}

// A login that is refused is tried again ever more rarely, and where somebody looks.
func TestRefusedLoginBacksOff(t *testing.T) {
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c, err := Dial(t.Context(), "fake", Lazy(), Token("x"), DialWith(f.dial), Logger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		attempts := make(chan int)
		hour := time.After(time.Hour)
		go func() {
			n := 0
			for {
				select {
				case conn := <-f.conns:
					s := &fakeConn{t: t, Conn: conn, in: bufio.NewReader(conn)}
					s.refuse(s.expect("hello"), "unauthenticated", false)
					conn.Close()
					n++
				case <-hour:
					attempts <- n
					return
				}
			}
		}()
		if n := <-attempts; n < 30 || n > 90 {
			t.Errorf("%d attempts in an hour", n)
		}
		c.Close()
	})
	if n := strings.Count(log.String(), "level=WARN msg=\"gmq: the server refuses the login\""); n < 30 {
		t.Errorf("%d warnings: %.300s", n, log.String())
	}
}
