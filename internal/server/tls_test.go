package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/certs"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// trusted makes certificates: what the server needs, and a client that trusts it.
func trusted(t testing.TB) (*TLS, *tls.Config) {
	t.Helper()
	made, err := certs.MakeTrial(time.Now(), []string{"localhost"}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Server.Cert, made.Server.Key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := tls.X509KeyPair(made.Client.Cert, made.Client.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(made.CA.Cert)
	ours := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, ClientCAs: pool, SessionTicketsDisabled: true}
	return &TLS{Config: ours, Clients: pool}, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{client}}
}

// newServer starts a server without a listener, on a broker in memory.
func newServer(t testing.TB, opt Options) *Server {
	t.Helper()
	var err error
	opt.Broker, err = broker.Start(broker.Options{
		Storages: []broker.Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
			return journal.NewMemory(journal.NewBudget(1<<20), wake)
		}}},
		Fail: func(err error) { t.Error(err) },
		Limits: broker.Limits{MaxQueues: 10, MaxMessageBytes: 4 << 10, MaxInFlight: 100, AutoCreate: true, Defaults: queue.Settings{
			Storage: "memory", Lease: time.Minute, MaxDeliveries: 3, RetryFactor: 1,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.MaxConnections = 1000
	s := New(opt)
	t.Cleanup(func() { opt.Broker.Close() })
	return s
}

// A script is a connection on which a client says something and ends.
type script struct {
	in     io.Reader
	mu     sync.Mutex // guards out
	out    bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func newScript(said []byte, piece int) *script {
	return &script{in: &pieces{said, piece}, closed: make(chan struct{})}
}

// pieces gives a text in pieces of that size.
type pieces struct {
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (s *script) Read(b []byte) (int, error) { return s.in.Read(b) }

func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *script) said() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Bytes()
}

func (s *script) Close() error                     { s.once.Do(func() { close(s.closed) }); return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzFirstBytes says anything at all to a server that speaks TLS. It ends with the connection, the rest of the server stands, and a
// client is answered in what it spoke: never in lines where it began with TLS.
func FuzzFirstBytes(f *testing.F) {
	t, _ := trusted(f)
	required := *t
	required.Required = true
	free, strict := newServer(f, Options{TLS: t}), newServer(f, Options{TLS: &required})
	hello := capture(f)
	f.Add([]byte("{\"op\":\"ping\"}\n"), uint8(3))
	f.Add([]byte{0x16}, uint8(1))
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}, uint8(4))
	f.Add([]byte{0x16, 3, 1, 0xff, 0xff, 1}, uint8(2))
	f.Add([]byte{0x15, 3, 3, 0, 2, 2, 48}, uint8(7))
	f.Add(hello, uint8(200))
	f.Add(append(bytes.Clone(hello), 0x15, 3, 3, 0, 2, 2, 48), uint8(255))
	f.Fuzz(func(t *testing.T, said []byte, piece uint8) {
		for _, s := range []*Server{free, strict} {
			c := newScript(said, int(piece)+1)
			s.take(c)
			<-c.closed
			out := c.said()
			switch {
			case len(said) == 0:
			case said[0] == firstOfTLS && len(out) > 0 && out[0] != firstOfTLS && out[0] != alertRecord:
				t.Fatalf("%q was answered with %q, which is no TLS", said, out)
			case said[0] != firstOfTLS && s == strict:
				if bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("tls.required")) {
					t.Fatalf("%q was answered with %q where TLS is required", said, out)
				}
			}
		}
	})
}

// capture is what a client says first.
func capture(t testing.TB) []byte {
	c := newScript(nil, 1)
	tls.Client(c, &tls.Config{ServerName: "localhost"}).Handshake() // it fails: nobody answers
	if len(c.said()) == 0 {
		t.Fatal("a client says nothing")
	}
	return c.said()
}

// meet connects a client to the server, over a pipe, with the handshake done.
func meet(t *testing.T, s *Server, config *tls.Config) *tls.Conn {
	t.Helper()
	theirs, ours := net.Pipe()
	s.take(ours)
	c := tls.Client(theirs, config)
	t.Cleanup(func() { theirs.Close() })
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t *testing.T, c net.Conn, line string) (reply map[string]any) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(c).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestPeerNames(t *testing.T) {
	settings, client := trusted(t)
	s := newServer(t, Options{TLS: settings, Auth: withUsers(t)})
	c := meet(t, s, client)
	ask(t, c, `{"op":"ping"}`)
	if id := s.all()[0].identity(); id == nil || id.Name() != "ann" || id.By() != "certificate" {
		t.Errorf("the client is %+v", id)
	}
	// The order of names: hosts, URIs, mail.
	u, _ := url.Parse("spiffe://example.org/ann")
	leaf := *client.Certificates[0].Leaf
	leaf.EmailAddresses, leaf.URIs, leaf.DNSNames = []string{"ann@example.org"}, []*url.URL{u}, []string{"ann", "second"}
	names, err := settings.admit(tls.ConnectionState{PeerCertificates: []*x509.Certificate{&leaf}})
	if want := []string{"ann", "second", "spiffe://example.org/ann", "ann@example.org"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v", names, err)
	}
	// Who presents nothing has no names, and who speaks plainly is not secure.
	without := client.Clone()
	without.Certificates = nil
	s2 := newServer(t, Options{TLS: settings, Auth: withUsers(t)})
	ask(t, meet(t, s2, without), `{"op":"ping"}`)
	if c := s2.all()[0]; c.secure.Load() == nil || c.identity() != nil {
		t.Errorf("a client without a certificate is %+v", c.identity())
	}
	s3 := newServer(t, Options{TLS: settings})
	theirs, ours := net.Pipe()
	defer theirs.Close()
	s3.take(ours)
	ask(t, theirs, `{"op":"ping"}`)
	if peer := s3.all()[0].secure.Load(); peer != nil {
		t.Errorf("a plain client is %+v", peer)
	}
}

// Everything that is to be sent goes into as few records as can hold it.
func TestOutputIsCoalesced(t *testing.T) {
	settings, client := trusted(t)
	a, b := net.Pipe()
	s := newSecure(b, nil, nil, func() {})
	s.socket.budget = handshakeBytes
	config := settings.Config.Clone()
	config.DynamicRecordSizingDisabled = true
	s.tls = tls.Server(&s.socket, config)
	counted := &countedRecords{Conn: a}
	c := tls.Client(counted, client)
	met := make(chan error, 1)
	go func() { met <- s.tls.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-met; err != nil {
		t.Fatal(err)
	}
	counted.n = 0
	var bufs [][]byte
	var want []byte
	for i := range 40 {
		bufs = append(bufs, bytes.Repeat([]byte{byte(i)}, 1000*(i%5)+3*recordBytes*(i/39)))
		want = append(want, bufs[i]...)
	}
	go func() {
		met <- s.send(bufs)
		s.tls.CloseWrite()
		b.Close()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came: %v", len(got), len(want), err)
	}
	if err := <-met; err != nil {
		t.Fatal(err)
	}
	if most := len(want)/recordBytes + 4; counted.n > most { // two where a long buffer begins and ends, the last, and the end
		t.Errorf("%d bytes took %d records, want at most %d", len(want), counted.n, most)
	}
}

// countedRecords counts records of what is read, by their headers.
type countedRecords struct {
	net.Conn
	n, left int
	header  []byte
}

func (c *countedRecords) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for _, x := range b[:n] {
		if c.left > 0 {
			c.left--
			continue
		}
		if c.header = append(c.header, x); len(c.header) == headerBytes {
			c.left, c.header = int(c.header[3])<<8|int(c.header[4]), nil
			c.n++
		}
	}
	return n, err
}

// A handshake that is not finished ends after its time, and so does one that the server's end interrupts.
func TestHandshakeEnds(t *testing.T) {
	settings, _ := trusted(t)
	hello := capture(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newServer(t, Options{TLS: settings, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer s.opt.Broker.Close()
		for _, begin := range [][]byte{{firstOfTLS}, hello[:len(hello)/2], hello} {
			theirs, ours := net.Pipe()
			s.take(ours)
			started := time.Now()
			if _, err := theirs.Write(begin); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, theirs)
			s.running.Wait()
			if took := time.Since(started); took != handshakeTime { // the bubble's clock: it is exact
				t.Errorf("after %d bytes it took %v", len(begin), took)
			}
		}
		if got := s.Handshakes(); got["timeout"] != 3 {
			t.Errorf("%v", got)
		}
		if n := strings.Count(log.String(), "did not finish the handshake"); n != 3 {
			t.Errorf("%d lines: %s", n, log.String())
		}
		// A drain tells no plain line to who may be about to speak TLS, nor to who does.
		silent, ours1 := net.Pipe()
		s.take(ours1)
		begun, ours2 := net.Pipe()
		s.take(ours2)
		if _, err := begun.Write(hello[:1]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(t.Context()) }()
		for _, c := range []net.Conn{silent, begun} {
			if got, _ := io.ReadAll(c); len(got) != 0 {
				t.Errorf("it was told %q", got)
			}
		}
		<-drained
	})
}

// A flood of refusals does not fill the log.
func TestRefusalsLogged(t *testing.T) {
	var l refusalLog
	at := time.Unix(1000, 0)
	logged := 0
	for range 1000 {
		if ok, _ := l.take(at); ok {
			logged++
		}
	}
	if logged != refusalsLogged {
		t.Errorf("%d lines", logged)
	}
	if ok, left := l.take(at.Add(refusalsEvery)); !ok || left != 1000-refusalsLogged {
		t.Errorf("%v, %d", ok, left)
	}
}

// While nothing comes, a TLS connection holds no buffer of encrypted bytes, whatever came before.
func TestIdleHoldsNoBuffer(t *testing.T) {
	settings, client := trusted(t)
	s := newServer(t, Options{TLS: settings})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { l.Close() })
	nc, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 3 {
		if r := ask(t, nc, `{"op":"publish","queue":"q","body":"`+strings.Repeat("x", 3000)+`"}`); r["ok"] != true {
			t.Fatal(r)
		}
		// The end of a line is still to come: it is kept, in its own size.
		io.WriteString(nc, `{"op":"ping"`)
		io.WriteString(nc, "}\n")
		if err := json.NewDecoder(nc).Decode(new(map[string]any)); err != nil {
			t.Fatal(err)
		}
	}
	// The reader goes to sleep after the last reply was sent; when the server is drained, it has ended, and can be looked at.
	c := s.all()[0]
	s.Drain(t.Context())
	if k := &c.secure.Load().socket; k.whose != nil || len(k.buf) > 0 {
		t.Errorf("it holds a buffer of %d bytes", len(k.buf))
	}
}
