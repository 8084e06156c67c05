package member

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Kind is what is spoken on a connection between nodes. It is agreed on while the connection comes about (ALPN), so that
// nobody's bytes come before whoever understands them.
type Kind string

// The kinds of connections. Those with a large letter are handed over to whoever Handle names.
const (
	Raft  Kind = "gmq-raft/1"
	Relay Kind = "gmq-relay/1"
	Image Kind = "gmq-image/1"
	// Memory and MemoryImage are as Raft and Image, for the groups in memory.
	Memory      Kind = "gmq-memory/1"
	MemoryImage Kind = "gmq-memory-image/1"

	control Kind = "gmq-member/1" // what nodes ask each other about membership
	joining Kind = "gmq-join/1"   // the only one without a certificate of who connects
)

// What a connection may cost before it is known whose it is.
const (
	strangerBytes = 16 << 10
	strangerTime  = 5 * time.Second
	strangers     = 64 // at a time
	strangersOf   = 16 // at a time, from one address
)

// silence is how long a node may acknowledge nothing of what was sent to it before the connection is given up.
const silence = 4 * time.Second

// Handle says who takes the connections of a kind. F has the connection to itself, in a goroutine of its own; the connection ends when
// f returns, and f should return when it ends: when the manager is closed, or that node is taken out. It is called before Start and Join.
func (m *Manager) Handle(k Kind, f func(c net.Conn, node uint64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers[k] = f
}

// bind listens, if it does not yet. Connections are taken once serve is called.
func (m *Manager) bind() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listener != nil || m.closed {
		return nil
	}
	l, err := net.Listen("tcp", m.opt.Listen)
	if err != nil {
		key := "cluster.listen"
		if m.opt.Derived {
			key = "two ports above listen, as there is no cluster.listen"
		}
		return fmt.Errorf("the address for other nodes (%s): %w; another one: --cluster-listen", key, err)
	}
	m.listener = l
	return nil
}

// address is where other nodes reach this one.
func (m *Manager) address() (string, error) {
	if m.opt.Advertise != "" {
		return m.opt.Advertise, checkAddress(m.opt.Advertise)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	address := m.listener.Addr().String()
	return address, checkAddress(address)
}

// serve begins to take connections.
func (m *Manager) serve() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.serving || m.closed {
		return
	}
	m.serving = true
	d := &door{m: m, from: map[string]int{}}
	l := m.listener
	m.opt.Logf("listening for other nodes at %s", l.Addr())
	m.over.Go(func() { d.accept(l) })
}

// A door bounds how many are at it that nobody knows yet.
type door struct {
	m *Manager

	mu    sync.Mutex // guards the following
	total int
	from  map[string]int
}

func hostOf(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// enter reports whether there is room for another stranger.
func (d *door) enter(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total >= strangers || d.from[host] >= strangersOf {
		return false
	}
	d.total++
	d.from[host]++
	return true
}

// leave is called when it is no stranger any more, or gone.
func (d *door) leave(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total--
	if d.from[host]--; d.from[host] == 0 {
		delete(d.from, host)
	}
}

func (d *door) accept(l net.Listener) {
	m := d.m
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-m.done:
				return
			case <-time.After(100 * time.Millisecond): // too many open files, say
				m.opt.Logf("the listener for other nodes: %v", err)
				continue
			}
		}
		host := hostOf(c)
		if !d.enter(host) {
			_ = c.Close() // it may come again
			continue
		}
		m.over.Go(func() { d.welcome(c, host) })
	}
}

// welcome finds out who is there, and hands the connection over.
func (d *door) welcome(raw net.Conn, host string) {
	m := d.m
	var once sync.Once
	known := func() { once.Do(func() { d.leave(host) }) }
	defer known()
	if !m.track(raw, 0) {
		return
	}
	defer m.untrack(raw)
	limited := &limitedConn{Conn: raw, left: strangerBytes}
	_ = raw.SetDeadline(time.Now().Add(strangerTime)) // a connection without one is not let in: it would fail in the handshake
	c := tls.Server(limited, m.serverTLS())
	if err := c.Handshake(); err != nil {
		m.refused(raw, err)
		return
	}
	limited.limit(-1)
	st := c.ConnectionState()
	kind := Kind(st.NegotiatedProtocol)
	if kind == joining {
		limited.limit(maxMessage)
		m.welcomeJoin(c)
		return
	}
	if len(st.PeerCertificates) == 0 {
		m.refused(raw, errors.New("it shows no certificate"))
		return
	}
	node, err := nodeOf(st.PeerCertificates[0])
	if err == nil {
		err = m.admit(node)
	}
	if err != nil {
		if kind == control && errors.Is(err, errGone) {
			reply(c, &answer{Gone: true})
		}
		m.refused(raw, err)
		return
	}
	known()
	m.mark(raw, node)
	if kind == control {
		m.answerControl(c, node)
		return
	}
	m.mu.Lock()
	f := m.handlers[kind]
	m.mu.Unlock()
	if f == nil {
		m.refused(raw, fmt.Errorf("nobody here speaks %q", kind))
		return
	}
	giveUpSilent(raw, silence)
	_ = raw.SetDeadline(time.Time{}) // if that fails the connection does, soon
	f(c, node)
	_ = c.Close() // it is over
}

func (m *Manager) refused(c net.Conn, err error) {
	tell := m.opt.Logf
	if errors.Is(err, errEarly) {
		tell = m.opt.Tracef // it comes again, and then it is known
	}
	select {
	case <-m.done:
	default:
		tell("a connection from %s to the address for other nodes is refused: %v", c.RemoteAddr(), err)
	}
}

var errGone = errors.New("it was taken out of the cluster")

var errEarly = errors.New("is not known here, yet")

// admit says whether a node with a certificate of the cluster's is let in.
func (m *Manager) admit(node uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.gone[node].Version > 0:
		return errGone
	case node == m.id:
		return errors.New("it says that it is this node")
	case m.nodes[node] == nil && m.told[node] == "":
		// Who leads the group of documents may be the one of whom they tell: so nobody else can say that it belongs here but the others.
		m.stranger = true
		return fmt.Errorf("node %s %w", IDText(node), errEarly)
	}
	return nil
}

// track notes a connection, so that it can be ended; false where the manager is closed.
func (m *Manager) track(c net.Conn, node uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = c.Close() // nothing was said on it
		return false
	}
	m.conns[c] = node
	return true
}

func (m *Manager) mark(c net.Conn, node uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[c] = node
}

func (m *Manager) untrack(c net.Conn) {
	m.mu.Lock()
	delete(m.conns, c)
	m.mu.Unlock()
	_ = c.Close() // it is over
}

// serverTLS is how connections are taken: TLS 1.3, a certificate of the cluster's authority demanded but of who wants to join.
func (m *Manager) serverTLS() *tls.Config {
	m.mu.Lock()
	ca := m.ca
	kinds := []string{string(control)}
	for k := range m.handlers {
		kinds = append(kinds, string(k))
	}
	m.mu.Unlock()
	pool := x509.NewCertPool()
	if ca != nil {
		pool = ca.pool()
	}
	mine := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c := m.cert.Load(); c != nil {
			return c, nil
		}
		return nil, errors.New("this node has no certificate yet")
	}
	members := &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: mine, NextProtos: kinds, SessionTicketsDisabled: true, Time: m.opt.Now,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	guests := members.Clone()
	guests.ClientAuth, guests.NextProtos = tls.NoClientCert, []string{string(joining)}
	conf := members.Clone()
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) != 1 {
			return nil, errors.New("it does not say what it wants to speak")
		}
		if hello.SupportedProtos[0] == string(joining) {
			return guests, nil
		}
		return members, nil
	}
	return conf
}

// A limitedConn gives no more bytes than it may. It belongs to the goroutine that reads it.
type limitedConn struct {
	net.Conn
	left int // -1: no limit
}

func (c *limitedConn) limit(n int) { c.left = n }

// NetConn is what it is made of, as with tls.Conn.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

func (c *limitedConn) Read(b []byte) (int, error) {
	switch {
	case c.left < 0:
		return c.Conn.Read(b)
	case c.left == 0:
		return 0, errors.New("it sends more than it may before it is known who it is")
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
