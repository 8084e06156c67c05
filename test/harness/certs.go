package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority signs certificates for a test.
type Authority struct {
	File string // its own certificate
	Pool *x509.CertPool

	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A Certificate is one that an authority has signed, with the files that hold it and its key.
type Certificate struct {
	Cert, Key string
	Pair      tls.Certificate
}

// NewAuthority makes a private authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{t: t, dir: t.TempDir(), key: key, cert: &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.Pool = x509.NewCertPool()
	a.Pool.AddCert(a.cert)
	a.File = filepath.Join(a.dir, "ca.pem")
	WritePEM(t, a.File, "CERTIFICATE", der)
	return a
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// WritePEM writes one block into a file that only its owner may read.
func WritePEM(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Issue signs a certificate into files NAME.pem and NAME-key.pem. Without changes it is a server's: for localhost and
// 127.0.0.1, from an hour ago for a year.
func (a *Authority) Issue(name string, changes ...func(*x509.Certificate)) Certificate {
	a.t.Helper()
	c := &x509.Certificate{
		SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
	}
	for _, change := range changes {
		change(c)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	out := Certificate{Cert: filepath.Join(a.dir, name+".pem"), Key: filepath.Join(a.dir, name+"-key.pem")}
	WritePEM(a.t, out.Cert, "CERTIFICATE", der)
	WritePEM(a.t, out.Key, "PRIVATE KEY", secret)
	if out.Pair, err = tls.LoadX509KeyPair(out.Cert, out.Key); err != nil {
		a.t.Fatal(err)
	}
	return out
}

// Expired makes a certificate one whose time is over.
func Expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
}

// NotYet makes a certificate one whose time has not come.
func NotYet(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }

// ForClient makes a certificate one for a client of these names; such as hold a colon are URIs.
func ForClient(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtKeyUsage, c.DNSNames, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil, nil
		for _, n := range names {
			if u, err := url.Parse(n); err == nil && u.Scheme != "" {
				c.URIs = append(c.URIs, u)
			} else {
				c.DNSNames = append(c.DNSNames, n)
			}
		}
	}
}

// ForHost makes a server's certificate one for that name alone.
func ForHost(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil }
}

// TLSConfig is the section of a server with that certificate; more is added to it ("required: true").
func (c Certificate) TLSConfig(more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf("tls: {cert: %q, key: %q%s}\n", c.Cert, c.Key, more)
}

// Client is what a client needs that trusts the authority and presents certificates, if any.
func (a *Authority) Client(present ...Certificate) *tls.Config {
	c := &tls.Config{RootCAs: a.Pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	for _, p := range present {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.Pair, nil }
	}
	return c
}

// DialTLS is Dial with TLS; the handshake must succeed.
func (s *Server) DialTLS(t testing.TB, config *tls.Config) *Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	secure := tls.Client(nc, config)
	secure.SetDeadline(time.Now().Add(Patience))
	if err := secure.Handshake(); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return newConn(t, secure, 64<<10)
}
