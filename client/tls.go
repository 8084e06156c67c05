package gmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// WithTLS encrypts the connection. nil is the usual configuration: the machine's authorities, TLS 1.3. Where it
// names no server, the certificate must be for the host of the address. A certificate in settings is presented where
// the server asks for one, also where the server's list of authorities does not name who signed it: it is the server that
// says what is wrong with it. The settings are copied.
func WithTLS(settings *tls.Config) Option {
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	settings = settings.Clone()
	settings.DynamicRecordSizingDisabled = true // it helps browsers, and costs us a record per message at first
	if len(settings.Certificates) == 1 && settings.GetClientCertificate == nil {
		own := &settings.Certificates[0]
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return func(c *config) { c.tls = settings }
}

// secured makes TLS of a connection to addr.
func secured(ctx context.Context, conn net.Conn, addr string, config *tls.Config) (net.Conn, error) {
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		config = config.Clone()
		config.ServerName = host
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, explainTLS(err, config)
	}
	return t, nil
}

// explainTLS says in words for people why a handshake failed. What crypto/tls said can be had by errors.As.
func explainTLS(err error, config *tls.Config) error {
	unknown, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	name, isName := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isHeader := errors.AsType[tls.RecordHeaderError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isUnknown:
		return &tlsError{"the server's certificate is signed by an unknown authority" + by(unknown.Cert), err}
	case isName:
		return &tlsError{fmt.Sprintf("the server's certificate is for another name: it is for %s, not for %s", namesOf(name.Certificate), config.ServerName), err}
	case isInvalid && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return &tlsError{validity(invalid.Cert, config), err}
	case isInvalid && invalid.Reason == x509.IncompatibleUsage:
		return &tlsError{"the server's certificate is for another use: its extended key usage has no serverAuth", err}
	case isHeader:
		return &tlsError{"the server does not speak TLS here", err}
	case isOp && op.Op == "remote error":
		return &tlsError{"the server refused the TLS connection: " + strings.TrimPrefix(op.Err.Error(), "tls: "), err}
	}
	return err
}

func validity(c *x509.Certificate, config *tls.Config) string {
	now := time.Now()
	if config.Time != nil {
		now = config.Time()
	}
	if now.Before(c.NotBefore) {
		return "the server's certificate is not valid yet: it is from " + c.NotBefore.UTC().Format(time.RFC3339) + " on"
	}
	return "the server's certificate has expired: it was valid until " + c.NotAfter.UTC().Format(time.RFC3339)
}

func by(c *x509.Certificate) string {
	if c == nil || c.Issuer.String() == "" {
		return ""
	}
	return fmt.Sprintf(" (%.100q)", c.Issuer.String())
}

func namesOf(c *x509.Certificate) string {
	var names []string
	if c != nil {
		names = append(names, c.DNSNames...)
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
	}
	if len(names) == 0 {
		return "no host"
	}
	if len(names) > 8 {
		names = append(names[:8], "others")
	}
	return strings.Join(names, ", ")
}

// A tlsError is a failed handshake in words.
type tlsError struct {
	text  string
	cause error
}

func (e *tlsError) Error() string { return e.text }
func (e *tlsError) Unwrap() error { return e.cause }
