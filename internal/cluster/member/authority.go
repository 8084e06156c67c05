package member

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// How long certificates last, and how far behind another node's clock may be.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	nodeLife      = 30 * 24 * time.Hour
	clockSlack    = 24 * time.Hour
)

// nodeDomain is behind a node's id in its certificate. No such name is in the Internet's.
const nodeDomain = ".node.gmq"

// IDText is a node's id as it is written: 16 hexadecimal digits.
func IDText(id uint64) string { return fmt.Sprintf("%016x", id) }

func parseID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 16, 63)
	if err != nil || id == 0 || len(text) != 16 {
		return 0, fmt.Errorf("%q is no node's id", text)
	}
	return id, nil
}

// An authority is the cluster's: whose certificates its nodes trust. The key is nil where this node does not know it yet.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "GMQ cluster"}, NotBefore: now.Add(-clockSlack), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{nodeDomain[1:]},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}

// fingerprint tells authorities apart.
func (a *authority) fingerprint() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes a node's certificate for a key of its own.
func (a *authority) sign(node uint64, public any, now time.Time) ([]byte, error) {
	if a.key == nil {
		return nil, errors.New("this node does not know the authority's key yet")
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "GMQ node " + IDText(node)}, DNSNames: []string{IDText(node) + nodeDomain},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(nodeLife), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
}

// nodeOf is the node that a certificate is for.
func nodeOf(c *x509.Certificate) (uint64, error) {
	if len(c.DNSNames) == 1 {
		if text, ok := strings.CutSuffix(c.DNSNames[0], nodeDomain); ok {
			return parseID(text)
		}
	}
	return 0, errors.New("the certificate is for no node")
}

// A csr is a public key that whoever asks for its certificate has the private one of.
func parseCSR(der []byte) (any, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("the request for a certificate: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the request for a certificate has a key of another kind than ECDSA P-256")
	}
	return key, nil
}

func newCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}
