package member

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Dial connects to another node, to speak what kind says. Both have proven who they are. The connection ends when it is closed, when
// that node is taken out, or the manager is closed.
func (m *Manager) Dial(ctx context.Context, node uint64, kind Kind) (net.Conn, error) {
	m.mu.Lock()
	n, heard, ca, gone := m.nodes[node], m.heard[node], m.ca, m.gone[node].Version > 0
	address := heard.Address
	if address == "" && n != nil {
		address = n.Address
	}
	m.mu.Unlock()
	switch {
	case gone:
		return nil, fmt.Errorf("node %s: %w", IDText(node), errGone)
	case address == "" || ca == nil:
		return nil, fmt.Errorf("node %s: nobody knows its address", IDText(node))
	case m.cert.Load() == nil:
		return nil, errors.New("this node has no certificate yet")
	}
	ctx, cancel := context.WithTimeout(ctx, strangerTime)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: ca.pool(), ServerName: IDText(node) + nodeDomain, NextProtos: []string{string(kind)}, Time: m.opt.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert.Load(), nil },
	}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if got := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != string(kind) {
		return nil, errors.Join(fmt.Errorf("node %s does not speak %q", IDText(node), kind), c.Close())
	}
	if !m.track(c, node) {
		return nil, net.ErrClosed
	}
	return &trackedConn{Conn: c, m: m}, nil
}

// A trackedConn is one that the manager ends with itself.
type trackedConn struct {
	net.Conn
	m *Manager
}

func (c *trackedConn) Close() error {
	c.m.mu.Lock()
	delete(c.m.conns, c.Conn)
	c.m.mu.Unlock()
	return c.Conn.Close()
}

// dialJoin connects to somebody who has the authority that a token names. Nothing is said to anybody else.
func (m *Manager) dialJoin(ctx context.Context, address string, t *Token) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, strangerTime)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{string(joining)}, Time: m.opt.Now,
		InsecureSkipVerify: true, // there is no authority to verify by but that in the token, which VerifyConnection does
		VerifyConnection:   func(st tls.ConnectionState) error { return t.verify(st, m.opt.Now()) },
	}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(joinTimeout))
}
