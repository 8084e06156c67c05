package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// An authority signs nodes' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newAuthority(t *testing.T) *authority {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	a := &authority{cert: must[*x509.Certificate](t)(x509.ParseCertificate(der)), key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(a.cert)
	return a
}

// config is the TLS of a node that a has signed and that trusts a.
func (a *authority) config(t *testing.T, node uint64) *tls.Config {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(node) + 1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"gmq-node", nodeName(node)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13, ServerName: "gmq-node",
		RootCAs: a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

func nodeName(node uint64) string { return fmt.Sprintf("node-%d", node) }

func peerOf(s tls.ConnectionState) (node uint64, err error) {
	for _, name := range s.PeerCertificates[0].DNSNames {
		if _, err := fmt.Sscanf(name, "node-%d", &node); err == nil {
			return node, nil
		}
	}
	return 0, errors.New("the certificate names no node")
}

// A station is a node's end, and what has come there.
type station struct {
	t    *Transport
	addr string
	got  chan string
	lost chan uint64
	logs *logs
}

type logs struct {
	mu    sync.Mutex
	lines []string
	some  chan struct{}
}

func (l *logs) add(format string, args ...any) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// wait waits for a line that holds the text.
func (l *logs) wait(text string) {
	for {
		l.mu.Lock()
		for _, line := range l.lines {
			if strings.Contains(line, text) {
				l.mu.Unlock()
				return
			}
		}
		l.mu.Unlock()
		<-l.some
	}
}

func open(t *testing.T, id uint64, conf *tls.Config, addresses *sync.Map, change func(*Options)) *station {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s := &station{addr: l.Addr().String(), got: make(chan string, 1000), lost: make(chan uint64, 1000), logs: &logs{some: make(chan struct{}, 1)}}
	addresses.Store(id, s.addr)
	opt := Options{
		ID: id, TLS: conf, Peer: peerOf, RetryAfter: time.Millisecond, Logf: s.logs.add,
		Address: func(node uint64) string {
			a, _ := addresses.Load(node)
			text, _ := a.(string)
			return text
		},
		Deliver:     func(from uint64, packet []byte) { s.got <- fmt.Sprintf("%d: %.20s (%d)", from, packet, len(packet)) },
		Unreachable: func(node uint64) { s.lost <- node },
	}
	if change != nil {
		change(&opt)
	}
	s.t = must[*Transport](t)(New(l, opt))
	t.Cleanup(func() {
		if err := s.t.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestPacketsArriveInOrder(t *testing.T) {
	a, addresses := newAuthority(t), &sync.Map{}
	one, two := open(t, 1, a.config(t, 1), addresses, nil), open(t, 2, a.config(t, 2), addresses, nil)
	for i := range 100 {
		one.t.Send(2, append(fmt.Appendf(nil, "packet %d", i), make([]byte, i*1000)...))
		two.t.Send(1, fmt.Appendf(nil, "answer %d", i))
	}
	for i := range 100 {
		if got := <-two.got; !strings.HasPrefix(got, fmt.Sprintf("1: packet %d", i)) {
			t.Fatalf("got %q as number %d", got, i)
		}
		if got, want := <-one.got, fmt.Sprintf("2: answer %d", i); !strings.HasPrefix(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A node that comes back is reached again; what was sent meanwhile may be lost, and is said to be.
func TestNodeComesBack(t *testing.T) {
	a, addresses := newAuthority(t), &sync.Map{}
	one, two := open(t, 1, a.config(t, 1), addresses, nil), open(t, 2, a.config(t, 2), addresses, nil)
	one.t.Send(2, []byte("before"))
	<-two.got
	if err := two.t.Close(); err != nil {
		t.Fatal(err)
	}
	for len(one.lost) == 0 {
		one.t.Send(2, []byte("lost"))
		one.t.pause()
	}
	two = open(t, 2, a.config(t, 2), addresses, nil)
	for len(two.got) == 0 {
		one.t.Send(2, []byte("after"))
		one.t.pause()
	}
	if got := <-two.got; !strings.HasPrefix(got, "1: after") && !strings.HasPrefix(got, "1: lost") {
		t.Errorf("got %q", got)
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	a, addresses := newAuthority(t), &sync.Map{}
	two := open(t, 2, a.config(t, 2), addresses, nil)

	t.Run("signed by somebody else", func(t *testing.T) {
		stranger := newAuthority(t)
		conf := stranger.config(t, 1)
		conf.RootCAs = a.pool // it would talk to us
		one := open(t, 1, conf, addresses, nil)
		one.t.Send(2, []byte("hello"))
		two.logs.wait("is no node's")
	})
	t.Run("without a certificate", func(t *testing.T) {
		c, err := tls.Dial("tcp", two.addr, &tls.Config{RootCAs: a.pool, ServerName: "gmq-node"})
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // in TLS 1.3 the refusal comes behind the handshake
		}
		if err == nil {
			t.Error("it was let in")
		}
	})
	t.Run("at another's address", func(t *testing.T) {
		one := open(t, 1, a.config(t, 1), addresses, nil)
		addresses.Store(uint64(3), two.addr)
		one.t.Send(3, []byte("for three"))
		one.logs.wait("is node 2")
	})
	if len(two.got) > 0 {
		t.Errorf("a packet has arrived: %q", <-two.got)
	}
}

func TestTLSOfBothSidesIsNeeded(t *testing.T) {
	conf := newAuthority(t).config(t, 1)
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if _, err := New(nil, Options{ID: 1, TLS: conf}); err == nil {
		t.Error("a transport was made that takes nodes without a certificate")
	}
}

// What is not whole ends the connection, and nothing of it is delivered.
func TestBadFrames(t *testing.T) {
	a, addresses := newAuthority(t), &sync.Map{}
	two := open(t, 2, a.config(t, 2), addresses, func(o *Options) { o.MaxPacket = 1000 })
	frame := func(length int, sum uint32, packet string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(length))
		return append(binary.LittleEndian.AppendUint32(b, sum), packet...)
	}
	for _, c := range []struct {
		name, says string
		frame      []byte
	}{
		{"checksum", "checksum is wrong", frame(4, 1, "abcd")},
		{"length", "at most 1000 are taken", frame(1001, 0, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := must[*tls.Conn](t)(tls.Dial("tcp", two.addr, a.config(t, 1)))
			good := "good"
			for _, b := range [][]byte{frame(len(good), crc32.Checksum([]byte(good), castagnoli), good), c.frame} {
				if _, err := conn.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			two.logs.wait(c.says)
			if got := <-two.got; !strings.HasPrefix(got, "1: good") {
				t.Errorf("got %q", got)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the connection lives on")
			}
		})
	}
	if len(two.got) > 0 {
		t.Errorf("also delivered: %q", <-two.got)
	}
}

// A node that does not read costs QueueBytes, and no more.
func TestQueueIsBounded(t *testing.T) {
	a, addresses := newAuthority(t), &sync.Map{}
	dials := make(chan struct{}, 1000)
	one := open(t, 1, a.config(t, 1), addresses, func(o *Options) {
		o.QueueBytes = 10_000
		address := o.Address
		o.Address = func(node uint64) string { dials <- struct{}{}; return address(node) }
	})
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")) // nobody accepts
	defer l.Close()
	addresses.Store(uint64(2), l.Addr().String())
	one.t.Send(2, make([]byte, 1000))
	p := one.t.peers[2]
	<-dials // it has taken the first packet, and waits for somebody to shake hands with
	for range 100 {
		one.t.Send(2, make([]byte, 1000))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes > 10_000 || !p.lost {
		t.Errorf("%d bytes wait, lost: %v", p.bytes, p.lost)
	}
}
