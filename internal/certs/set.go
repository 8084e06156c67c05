// Package certs has the certificates of a server: it reads and checks their files, notices when they have changed,
// and makes some for trying.
//
// It does not know who listens with them, nor how a client is judged. Its errors name the settings
// (tls.cert and so on) that name the files.
package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Soon is how long before its end a certificate is spoken of as about to expire.
const Soon = 14 * 24 * time.Hour

// maxFileBytes is far more than any chain of certificates.
const maxFileBytes = 1 << 20

// Files are where certificates are. ClientCA may be "".
type Files struct{ Cert, Key, ClientCA string }

// A Set is what the files held at one moment. It is not changed.
type Set struct {
	Certificate tls.Certificate
	Leaf        *x509.Certificate
	Clients     *x509.CertPool // authorities of clients; nil where there is no file
	// NotAfter is when the first of the server's chain expires, NotBefore when the last of it begins to be valid.
	NotBefore, NotAfter time.Time

	files       Files
	authorities []*x509.Certificate
	openKey     os.FileMode // of the key's file, where everybody may read it; else 0
	sum         [sha256.Size]byte
}

// Load reads and checks the files. A certificate that has expired, or is not valid yet, is none of its errors:
// that depends on when it is asked, see Usable.
func Load(f Files) (*Set, error) {
	raw, err := read(f)
	if err != nil {
		return nil, err
	}
	return parse(f, raw)
}

// A contents is what the files held.
type contents struct {
	cert, key, clientCA []byte
	mode                os.FileMode // of the key
}

func (c *contents) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range [][]byte{c.cert, c.key, c.clientCA} {
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func read(f Files) (*contents, error) {
	c := &contents{}
	for _, r := range []struct {
		key, name string
		into      *[]byte
	}{{"tls.cert", f.Cert, &c.cert}, {"tls.key", f.Key, &c.key}, {"tls.client_ca", f.ClientCA, &c.clientCA}} {
		if r.name == "" && r.key == "tls.client_ca" {
			continue
		}
		st, err := os.Stat(r.name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", r.key, err)
		case !st.Mode().IsRegular():
			return nil, fmt.Errorf("%s: %s is no file", r.key, r.name)
		case st.Size() > maxFileBytes:
			return nil, fmt.Errorf("%s: %s has %d bytes; a file of certificates has at most %d", r.key, r.name, st.Size(), maxFileBytes)
		}
		if *r.into, err = os.ReadFile(r.name); err != nil {
			return nil, fmt.Errorf("%s: %w", r.key, err)
		}
		if r.key == "tls.key" {
			c.mode = st.Mode().Perm()
		}
	}
	return c, nil
}

func parse(f Files, raw *contents) (*Set, error) {
	s := &Set{files: f, sum: raw.sum()}
	if raw.mode&0o007 != 0 {
		s.openKey = raw.mode
	}
	chain, err := certificates(raw.cert)
	if err != nil {
		return nil, fmt.Errorf("tls.cert: %s: %w", f.Cert, err)
	}
	if s.Certificate, err = tls.X509KeyPair(raw.cert, raw.key); err != nil {
		// The text of the error names no secret; which file is meant it does not say.
		return nil, fmt.Errorf("tls.key: %s with the certificate %s: %s", f.Key, f.Cert, strings.TrimPrefix(err.Error(), "tls: "))
	}
	s.Leaf = chain[0]
	if !forServers(s.Leaf) {
		return nil, fmt.Errorf("tls.cert: %s: the certificate is for another use: its extended key usage has no serverAuth", f.Cert)
	}
	s.NotBefore, s.NotAfter = s.Leaf.NotBefore, s.Leaf.NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(s.NotAfter) {
			s.NotAfter = c.NotAfter
		}
		if c.NotBefore.After(s.NotBefore) {
			s.NotBefore = c.NotBefore
		}
	}
	if f.ClientCA == "" {
		return s, nil
	}
	if s.authorities, err = certificates(raw.clientCA); err != nil {
		return nil, fmt.Errorf("tls.client_ca: %s: %w", f.ClientCA, err)
	}
	s.Clients = x509.NewCertPool()
	for _, c := range s.authorities {
		if c.BasicConstraintsValid && !c.IsCA {
			return nil, fmt.Errorf("tls.client_ca: %s: the certificate of %s is no authority's", f.ClientCA, Names(c))
		}
		s.Clients.AddCert(c)
	}
	return s, nil
}

func forServers(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// certificates reads all of them from PEM, at least one.
func certificates(text []byte) (all []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in it (PEM, -----BEGIN CERTIFICATE-----)")
	}
	return all, nil
}

// Usable is nil where a client with its clock at now may accept the certificate.
func (s *Set) Usable(now time.Time) error {
	switch day := now.UTC().Format(time.RFC3339); {
	case now.After(s.NotAfter):
		return fmt.Errorf("tls.cert: %s has expired: it was valid until %s, and now is %s", s.files.Cert, s.NotAfter.UTC().Format(time.RFC3339), day)
	case now.Before(s.NotBefore):
		return fmt.Errorf("tls.cert: %s is not valid yet: it is from %s on, and now is %s", s.files.Cert, s.NotBefore.UTC().Format(time.RFC3339), day)
	}
	return nil
}

// Names are those of a certificate, for people.
func Names(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if names = append(names, c.EmailAddresses...); len(names) == 0 {
		return fmt.Sprintf("%q", c.Subject.String())
	}
	return strings.Join(names, ", ")
}

// A Finding is something that is not as it should be with certificates that work.
type Finding struct{ Key, Text, Mend string }

// Findings are what is weak at that time.
func (s *Set) Findings(now time.Time) []Finding {
	var all []Finding
	if err := s.Usable(now); err != nil {
		all = append(all, Finding{"tls.cert", strings.TrimPrefix(err.Error(), "tls.cert: "), "put a new certificate into " + s.files.Cert})
	} else if left := s.NotAfter.Sub(now); left < Soon {
		all = append(all, Finding{"tls.cert", fmt.Sprintf("%s expires in %s, on %s", s.files.Cert, days(left), s.NotAfter.UTC().Format(time.RFC3339)), "put a new certificate into " + s.files.Cert})
	}
	if len(s.Leaf.DNSNames)+len(s.Leaf.IPAddresses) == 0 {
		all = append(all, Finding{"tls.cert", s.files.Cert + " names no host (subject alternative name): no client can verify it", "make one with the names that clients connect to"})
	}
	if s.openKey != 0 {
		all = append(all, Finding{"tls.key", fmt.Sprintf("everybody on this machine may read %s (mode %04o)", s.files.Key, s.openKey), "chmod o= " + s.files.Key})
	}
	for _, c := range s.authorities {
		if left := c.NotAfter.Sub(now); left < Soon {
			all = append(all, Finding{"tls.client_ca", fmt.Sprintf("the authority %s in %s expires on %s", Names(c), s.files.ClientCA, c.NotAfter.UTC().Format(time.RFC3339)), "put the new authority into " + s.files.ClientCA})
		}
	}
	return all
}

// days is a duration as people say it.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// String tells whose certificate it is, and until when.
func (s *Set) String() string {
	return fmt.Sprintf("for %s, valid until %s", Names(s.Leaf), s.NotAfter.UTC().Format(time.RFC3339))
}
