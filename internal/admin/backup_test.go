package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// askBackup sends a request for a backup and reads its head.
func askBackup(t *testing.T, address, headers string) (*http.Response, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /backup HTTP/1.1\r\nHost: localhost\r\n%s\r\n", headers)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, conn
}

const asked = "Gmq-Action: backup\r\nConnection: close\r\n"

func TestBackup(t *testing.T) {
	for _, test := range []struct {
		what    string
		headers string
		backup  func(ctx context.Context, w io.Writer) error
		status  int
		body    string
		trailer string
	}{
		{"whole", asked, func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			return err
		}, 200, strings.Repeat("x", 1<<20), ""},
		{"failed in the middle", asked, func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "half")
			return errors.Join(err, errors.New("the disk is full"))
		}, 200, "half", "the disk is full"},
		{"failed at once", asked, func(context.Context, io.Writer) error { return errors.New("there is one") }, 503, "there is one\n", ""},
		{"by a web page", "Connection: close\r\n", nil, 400, noActionReply, ""},
		{"of something else", "Gmq-Action: x\r\nConnection: close\r\n", nil, 400, noActionReply, ""},
	} {
		_, address := serve(t, &fake{backup: test.backup})
		resp, _ := askBackup(t, address, test.headers)
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != test.status || string(body) != test.body || resp.Trailer.Get("Gmq-Error") != test.trailer {
			t.Errorf("%s: %v, %d, %d bytes %.40q, %q", test.what, err, resp.StatusCode, len(body), body, resp.Trailer.Get("Gmq-Error"))
		}
	}
}

// The end of the server, and that of the client, end a backup.
func TestBackupEnds(t *testing.T) {
	ended := make(chan error, 1)
	source := &fake{backup: func(ctx context.Context, w io.Writer) error {
		_, err := w.Write(make([]byte, 64<<10))
		<-ctx.Done()
		ended <- errors.Join(err, ctx.Err())
		return ctx.Err()
	}}
	s, address := serve(t, source)
	_, conn := askBackup(t, address, asked)
	conn.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client has gone: %v", err)
	}
	askBackup(t, address, asked)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the server stops: %v", err)
	}
}

func TestLocal(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.8.9.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"10.0.0.1:80": false, "[fe80::1]:80": false, "localhost:80": false, "": false, "@": false,
	} {
		if local(address) != want {
			t.Errorf("local(%q) is %v", address, !want)
		}
	}
}
