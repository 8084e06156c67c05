package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/wire"
)

// firstOfTLS is the first byte of a TLS connection (a handshake record, RFC 8446, 5.1). No line begins with it.
const firstOfTLS = 0x16

// handshakeTime bounds a TLS handshake, from the first byte on.
const handshakeTime = 5 * time.Second

// handshakeBytes bounds what a client may send until the handshake is done: several times what one
// with a chain of certificates takes, and all that it can make the server keep.
const handshakeBytes = 32 << 10

// TLS is how a server speaks TLS. It is never changed; SetTLS puts another one in its place.
type TLS struct {
	// Config has the server's certificate. Where Clients is set it asks for a certificate (tls.RequestClientCert) and leaves
	// the judgement to the server, so that a client that is refused is told why in a line and not by an alert's number.
	Config   *tls.Config
	Clients  *x509.CertPool // who may have signed clients' certificates; nil where none are asked for
	Demanded bool           // a client without a certificate is refused
	Required bool           // a client without TLS is refused
}

// SetTLS puts t in force for connections from now on; nil is no TLS.
func (s *Server) SetTLS(t *TLS) { s.tls.Store(t) }

// begin deals with the first byte of the connection, which tells TLS and plain apart. It is false where the
// connection cannot go on.
func (c *conn) begin() bool {
	t := c.server.tls.Load()
	switch encrypted := c.desk.buf[0] == firstOfTLS; {
	case encrypted && t == nil:
		c.session.Refuse(nil, wire.Errorf(wire.CodeBadRequest, "this looks like TLS, and this server has no certificate (tls.cert, tls.key): connect without TLS, or give it one"))
		return false
	case encrypted:
		return c.secureWith(t)
	case t != nil && t.Required:
		c.server.handshakes[plainRefused].Add(1)
		c.session.Refuse(nil, wire.Errorf(wire.CodeBadRequest, "this server takes only encrypted connections (tls.required): connect with TLS, such as gmq --tls, or openssl s_client"))
		return false
	}
	return true
}

// secureWith makes the connection a TLS one; what has been read of it is the client's hello.
func (c *conn) secureWith(t *TLS) bool {
	hello := bytes.Clone(c.desk.buf[:c.n])
	c.n = 0
	c.leaveDesk() // a handshake that waits holds no desk
	s := newSecure(c.nc, c.raw, hello, c.leaveDesk)
	s.tls = tls.Server(&s.socket, t.Config)
	// From here on nothing plain is written: the writer waits for the handshake.
	c.secure.Store(s)
	// A timer and no deadline: others set the deadlines of the connection meanwhile.
	timer := time.AfterFunc(handshakeTime, func() { c.nc.Close() })
	err := s.tls.Handshake()
	if !timer.Stop() {
		c.server.handshakeFailed(c, handshakeTimeout, fmt.Errorf("it did not finish the handshake within %v", handshakeTime))
		return false
	}
	if err != nil {
		reason, err := explainHandshake(err, s.socket.alert)
		c.server.handshakeFailed(c, reason, err)
		return false
	}
	s.socket.open()
	names, err := t.admit(s.tls.ConnectionState())
	if err != nil {
		c.server.handshakeFailed(c, clientRefused, err)
		c.session.Refuse(nil, wire.Errorf(wire.CodeUnauthenticated, "%v", err))
		return false
	}
	c.server.handshakes[handshakeDone].Add(1)
	until := time.Time{}
	if len(names) > 0 {
		until = s.tls.ConnectionState().PeerCertificates[0].NotAfter
	}
	return c.secured(names, until)
}

// admit verifies the client's certificate and gives its names: those for hosts, then URIs, then addresses of
// mail, each in the order of the certificate.
func (t *TLS) admit(state tls.ConnectionState) ([]string, error) {
	if t.Clients == nil {
		return nil, nil
	}
	if len(state.PeerCertificates) == 0 {
		if t.Demanded {
			return nil, errors.New("this server demands a client certificate (tls.client_cert: required), and none was presented")
		}
		return nil, nil
	}
	leaf := state.PeerCertificates[0]
	rest := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		rest.AddCert(c)
	}
	now := time.Now()
	if t.Config.Time != nil {
		now = t.Config.Time()
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.Clients, Intermediates: rest, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, explainCertificate(leaf, now, err)
	}
	names := append([]string(nil), leaf.DNSNames...)
	for _, u := range leaf.URIs {
		names = append(names, u.String())
	}
	return append(names, leaf.EmailAddresses...), nil
}

// explainCertificate says what is wrong with a client's certificate, so that whoever made it knows what to do.
func explainCertificate(leaf *x509.Certificate, now time.Time, err error) error {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case isUnknown:
		return errors.New("the client's certificate is signed by an unknown authority: by none of those in tls.client_ca")
	case isInvalid && invalid.Reason == x509.Expired && now.Before(leaf.NotBefore):
		return fmt.Errorf("the client's certificate is not valid yet: it is from %s on, and now is %s", day(leaf.NotBefore), day(now))
	case isInvalid && invalid.Reason == x509.Expired && now.After(leaf.NotAfter):
		return fmt.Errorf("the client's certificate has expired: it was valid until %s, and now is %s", day(leaf.NotAfter), day(now))
	case isInvalid && invalid.Reason == x509.Expired:
		return errors.New("an authority that signed the client's certificate has expired, or is not valid yet")
	case isInvalid && invalid.Reason == x509.IncompatibleUsage:
		return errors.New("the client's certificate is for another use: its extended key usage has no clientAuth")
	}
	return fmt.Errorf("the client's certificate is refused: %s", printable(err.Error()))
}

// printable cuts a text that may hold what a client chose.
func printable(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return string(bytes.ToValidUTF8([]byte(s), []byte("?")))
}
