package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long certificates for trying are good for. Five minutes lie before, for clocks that are behind.
const (
	authorityLife = 5 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	slack         = 5 * time.Minute
)

// A Pair is a certificate with its key, in PEM.
type Pair struct{ Cert, Key []byte }

// Trial is a private authority and what it has signed.
type Trial struct{ CA, Server, Client Pair }

// MakeTrial makes an authority, a certificate for a server that is reached as one of hosts (names and IP
// addresses), and one for a client of that name. All keys are ECDSA on P-256.
func MakeTrial(now time.Time, hosts []string, client string) (*Trial, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "GMQ authority for trying"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: now.Add(-slack), NotAfter: now.Add(authorityLife),
	}
	t := &Trial{}
	if t.CA, err = sign(ca, ca, caKey, caKey); err != nil {
		return nil, err
	}
	// The serial number, and the key's identifier that CreateCertificate adds, are in the encoded form only.
	block, _ := pem.Decode(t.CA.Cert)
	if ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, err
	}
	leaf := func(name string, use x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{use}, NotBefore: now.Add(-slack), NotAfter: now.Add(leafLife),
		}
	}
	server := leaf("GMQ server", x509.ExtKeyUsageServerAuth)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	if t.Server, err = newPair(server, ca, caKey); err != nil {
		return nil, err
	}
	one := leaf(client, x509.ExtKeyUsageClientAuth)
	one.DNSNames = []string{client}
	t.Client, err = newPair(one, ca, caKey)
	return t, err
}

func newPair(c, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	return sign(c, ca, key, caKey)
}

func sign(c, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) (Pair, error) {
	var err error
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, err
	}
	c.SerialNumber.Add(c.SerialNumber, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		return Pair{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}

// Write puts the files into dir, which is made where it is not there: ca.pem, server.pem, client.pem, and the keys,
// ca-key.pem and so on, with mode 0600. It overwrites nothing: where one of them is there, none is written.
func (t *Trial) Write(dir string) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	type file struct {
		name string
		text []byte
		mode fs.FileMode
	}
	var files []file
	for _, p := range []struct {
		name string
		pair Pair
	}{{"ca", t.CA}, {"server", t.Server}, {"client", t.Client}} {
		files = append(files, file{p.name + ".pem", p.pair.Cert, 0o644}, file{p.name + "-key.pem", p.pair.Key, 0o600})
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fmt.Errorf("%s is there already, and nothing is overwritten; choose another directory", filepath.Join(dir, f.name))
			}
			return nil, err
		}
	}
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := writeNew(name, f.text, f.mode); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

func writeNew(name string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// ValidHost reports whether a certificate can name the host: an IP address, or a DNS name that may begin with "*.".
func ValidHost(h string) bool {
	if net.ParseIP(h) != nil {
		return true
	}
	h = strings.TrimPrefix(h, "*.")
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
