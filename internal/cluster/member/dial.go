package member

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Dial connects to another node, to speak what kind says. Both have proven who they are. The connection ends when it is closed, when
// that node is taken out, or the manager is closed.
func (m *Manager) Dial(ctx context.Context, node uint64, kind Kind) (net.Conn, error) {
	m.mu.Lock()
	all, ca, gone := m.whereIs(node), m.ca, m.gone[node].Version > 0
	m.mu.Unlock()
	switch {
	case gone:
		return nil, fmt.Errorf("node %s: %w", IDText(node), errGone)
	case len(all) == 0 || ca == nil:
		return nil, fmt.Errorf("node %s: nobody knows its address", IDText(node))
	case m.cert.Load() == nil:
		return nil, errors.New("this node has no certificate yet")
	}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: ca.pool(), ServerName: IDText(node) + nodeDomain, NextProtos: []string{string(kind)}, Time: m.opt.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert.Load(), nil },
	}}
	var errs []error
	for _, address := range all {
		// Whoever is at a wrong address cannot prove to be that node.
		c, err := dialWithin(ctx, strangerTime/time.Duration(len(all)), &d, address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != string(kind) {
			return nil, errors.Join(fmt.Errorf("node %s does not speak %q", IDText(node), kind), c.Close())
		}
		giveUpSilent(c.NetConn(), silence)
		if !m.track(c, node) {
			return nil, net.ErrClosed
		}
		return &trackedConn{Conn: c, m: m}, nil
	}
	return nil, errors.Join(errs...)
}

func dialWithin(ctx context.Context, d time.Duration, dialer *tls.Dialer, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

// whereIs is where a node may be: where it said itself that it is, where documents say so, where others have heard of it. It is
// called with mu held.
func (m *Manager) whereIs(node uint64) (all []string) {
	add := func(address string) {
		if address != "" && !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	add(m.heard[node].Address)
	if n := m.nodes[node]; n != nil {
		add(n.Address)
	}
	add(m.told[node])
	return all
}

// whereabouts is where this node finds the others, for one who asks. It is the newest that it knows of each.
func (m *Manager) whereabouts() (all []nodeAddress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.roster() {
		if at := m.whereIs(n.ID); n.ID != m.id && len(at) > 0 {
			all = append(all, nodeAddress{IDText(n.ID), at[0]})
		}
	}
	return all
}

// hearOf notes where another node finds the others: when several have moved at the same time, it may be the only one that knows.
func (m *Manager) hearOf(all []nodeAddress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range all {
		if id, err := parseID(a.ID); err == nil && id != m.id && checkAddress(a.Address) == nil {
			m.told[id] = a.Address
		}
	}
}

// A trackedConn is one that the manager ends with itself.
type trackedConn struct {
	net.Conn
	m *Manager
}

// NetConn is what it is made of, as with tls.Conn.
func (c *trackedConn) NetConn() net.Conn { return c.Conn }

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
