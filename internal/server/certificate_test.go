package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/wire"
)

// withUsers wants logins; there are admin, and ann, who may do everything too and has no password.
func withUsers(t *testing.T) *auth.Service {
	t.Helper()
	var a *auth.Service
	a = auth.New(auth.Options{Required: true, Put: func(name string, data []byte) error { return a.Changed(name, data) }})
	if _, err := a.Begin(func() ([]byte, error) { return []byte("adminpw"), nil }); err != nil {
		t.Fatal(err)
	}
	r := wire.Request{Op: wire.OpUserAdd, User: []byte("ann"), Allow: [][]byte{[]byte("*:>")}}
	if _, err := a.Do(&r, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// A certificate logs a client of the first protocol in as it does any other; a password with it is not asked for, and not looked at.
func TestClassicByCertificate(t *testing.T) {
	settings, client := trusted(t)
	for _, credentials := range []string{``, `,"auth":{"user":"616e6e","password":"78"}`} {
		s := newServer(t, Options{TLS: settings, Auth: withUsers(t), Classic: true})
		c := meet(t, s, client)
		go fmt.Fprintf(c, `{"operation":"P","queue":"q","payload":"Y2F0"%s}`, credentials)
		text, _ := io.ReadAll(c)
		var answer struct{ Payload, Error string }
		if err := json.Unmarshal(text, &answer); err != nil || answer.Error != "" || answer.Payload != "Y2F0" {
			t.Errorf("%q: answered %s (%v)", credentials, text, err)
		}
	}
}

// An object that is too long before a login is told the limit that holds there.
func TestLongClassicBeforeLogin(t *testing.T) {
	s := newServer(t, Options{Auth: withUsers(t), Classic: true})
	theirs, ours := net.Pipe()
	defer theirs.Close()
	s.take(ours)
	go fmt.Fprintf(theirs, `{"operation":"P","queue":"q","payload":"%s"`, strings.Repeat("x", strangerLine))
	text, _ := io.ReadAll(theirs)
	if !strings.Contains(string(text), "4096 bytes (before a login") {
		t.Errorf("answered %s", text)
	}
}

// Who is in by a certificate is out when it ends, as by a token.
func TestCertificateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings, client := trusted(t)
		s := newServer(t, Options{TLS: settings, Auth: withUsers(t)})
		defer s.opt.Broker.Close()
		c := meet(t, s, client)
		if reply := ask(t, c, `{"op":"publish","queue":"q","body":1}`); reply["ok"] != true {
			t.Fatal(reply)
		}
		text, err := io.ReadAll(c) // the bubble's clock goes to the certificate's last second
		if !strings.Contains(string(text), `"op":"closing"`) || !strings.Contains(string(text), "certificate") {
			t.Errorf("%s, %v", text, err)
		}
	})
}

// R96: what proved a password without sending it does not make the connection one for passwords and tokens.
func TestSecretsOverReadableConnections(t *testing.T) {
	s := newServer(t, Options{Auth: withUsers(t)})
	c, err := gmq.Dial(t.Context(), "pipe", gmq.Login("admin", "adminpw"), gmq.DialWith(func(context.Context, string) (net.Conn, error) {
		theirs, ours := net.Pipe()
		s.take(ours)
		return theirs, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, err := range map[string]error{
		"user.add":      c.AddUser(t.Context(), "bob", "pencil", nil, nil),
		"user.password": c.SetPassword(t.Context(), "ann", "pencil"),
		"token.add":     func() error { _, err := c.AddToken(t.Context(), "ci", "", 0, nil, nil); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "unencrypted") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.AddUser(t.Context(), "eve", "", nil, nil); err != nil {
		t.Error("without a secret:", err)
	}
}
