package member

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// credentials are a certificate of an authority for a node.
func credentials(t *testing.T, a *authority, node uint64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.sign(node, &key.PublicKey, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestStrangersAreTurnedAway: who is let in to speak what.
func TestStrangersAreTurnedAway(t *testing.T) {
	one := newCluster(t, 1)[0]
	one.token(t)
	m := one.m
	m.mu.Lock()
	ca, address := m.ca, m.listener.Addr().String()
	m.mu.Unlock()
	other, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		certs []tls.Certificate
		kinds []string
		logs  string
	}{
		{"no certificate", nil, []string{string(Raft)}, "didn't provide a certificate"},
		{"another authority", []tls.Certificate{credentials(t, other, 77)}, []string{string(Raft)}, ""}, // it is not even shown
		{"a node that nobody knows", []tls.Certificate{credentials(t, ca, 77)}, []string{string(Raft)}, "is not known here"},
		{"itself", []tls.Certificate{credentials(t, ca, m.ID())}, []string{string(Raft)}, "says that it is this node"},
		{"nothing to speak", []tls.Certificate{credentials(t, ca, 77)}, nil, "what it wants to speak"},
		{"two things to speak", []tls.Certificate{credentials(t, ca, 77)}, []string{string(joining), string(Raft)}, "what it wants to speak"},
		{"what nobody speaks", []tls.Certificate{credentials(t, ca, 77)}, []string{"h2"}, "unsupported application protocols"},
		{"an old TLS", nil, []string{string(joining)}, "unsupported versions"},
	} {
		conf := &tls.Config{InsecureSkipVerify: true, Certificates: c.certs, NextProtos: c.kinds}
		if c.what == "an old TLS" {
			conf.MaxVersion = tls.VersionTLS12
		}
		conn, err := tls.Dial("tcp", address, conf)
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the refusal comes behind the handshake
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: it was let in", c.what)
		}
		if c.logs != "" {
			until(t, c.what+": "+c.logs, func() bool { return one.logged(c.logs) })
		}
	}
}

// What somebody may cost who has not said who he is.
func TestStrangersAreFew(t *testing.T) {
	one := newCluster(t, 1)[0]
	token := one.token(t)
	one.m.mu.Lock()
	address := one.m.listener.Addr().String()
	one.m.mu.Unlock()
	var idle []net.Conn
	for range strangersOf {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	until(t, "one too many is turned away at once", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // those before are taken one after the other
		_, err = c.Read(make([]byte, 1))
		return err == io.EOF || errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "reset")
	})
	for _, c := range idle {
		_ = c.Close()
	}
	two := newMachine(t, nil)
	if err := two.start(token, one); err != nil {
		t.Errorf("when they are gone nobody is let in: %v", err)
	}
	two.kill()

	// A handshake that never ends, and a request that does.
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	record := append([]byte{0x16, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
	record[5], record[6] = 1, 1 // a ClientHello of 64 KiB
	for range 4 {
		if _, err = c.Write(record); err != nil {
			break
		}
	}
	_, err = c.Read(make([]byte, 100))
	for err == nil {
		_, err = c.Read(make([]byte, 100))
	}
	guest, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{string(joining)}})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	if _, err := guest.Write([]byte("no JSON\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(guest); err == nil && len(b) > 0 {
		t.Errorf("it answers %q", b)
	}
}
