package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	gmq "github.com/gmq/gmq/client"
)

// The global flags that say how a server is talked to, beside flagServer.
const (
	flagContext    = "context"
	flagTLS        = "tls"
	flagCA         = "ca"
	flagCert       = "cert"
	flagCertKey    = "cert-key"
	flagServerName = "server-name"
)

// targetFlags are all of these; who talks to a server has a use for each.
var targetFlags = []string{flagServer, flagContext, flagTLS, flagCA, flagCert, flagCertKey, flagServerName}

// A target is a server and how it is talked to; a context is one with a name.
type target struct {
	Server     string `yaml:"server,omitempty" json:"server,omitempty"`
	TLS        bool   `yaml:"tls,omitempty" json:"tls,omitempty"`
	CA         string `yaml:"ca,omitempty" json:"ca,omitempty"`
	Cert       string `yaml:"cert,omitempty" json:"cert,omitempty"`
	CertKey    string `yaml:"cert_key,omitempty" json:"cert_key,omitempty"`
	ServerName string `yaml:"server_name,omitempty" json:"server_name,omitempty"`

	// Who the client says it is. Token is a secret.
	User         string `yaml:"user,omitempty" json:"user,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty" json:"password_file,omitempty"`
	Token        string `yaml:"token,omitempty" json:"token,omitempty"`
	TokenFile    string `yaml:"token_file,omitempty" json:"token_file,omitempty"`
}

// addTLSFlags are those flags of a target that contexts keep too.
func (t *target) addTLSFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&t.TLS, flagTLS, false, "encrypt the connection; any of the following does so too")
	fs.StringVar(&t.CA, flagCA, "", "`file` with the authority that has signed the server's certificate; without it, the machine's authorities")
	fs.StringVar(&t.Cert, flagCert, "", "`file` with a client certificate, for a server that asks for one")
	fs.StringVar(&t.CertKey, flagCertKey, "", "`file` with its private key; without it, the one with the certificate")
	fs.StringVar(&t.ServerName, flagServerName, "", "`name` that the server's certificate must have; without it, that of the address")
	// The name that other tools have. It is hidden, and elsewhere than here it may be the key of a message.
	fs.StringVar(&t.CertKey, "key", "", "the same as --"+flagCertKey)
	fs.Lookup("key").Hidden = true
}

// complete says what follows from what was said.
func (t *target) complete() error {
	t.TLS = t.TLS || t.CA != "" || t.Cert != "" || t.CertKey != "" || t.ServerName != ""
	if t.CertKey != "" && t.Cert == "" {
		return usage("--%s: the key is of no use without its certificate (--%s)", flagCertKey, flagCert)
	}
	if t.CertKey == "" {
		t.CertKey = t.Cert
	}
	return nil
}

// resolve finds out which server is meant, and how it is talked to: the flags beat the context. The one that
// is used as a rule (gmq context use) is for commands that name neither a server nor a context, so
// that nothing of it is sent to another server.
func (g *globals) resolve() error {
	return g.resolveFor(g.flags.Lookup(flagServer).Changed || os.Getenv("GMQ_SERVER") != "")
}

// resolveFor is resolve where it is known whether a server was named.
func (g *globals) resolveFor(named bool) error {
	if g.resolved {
		return nil
	}
	changed := func(name string) bool { return g.flags.Lookup(name).Changed }
	t := target{Server: g.server}
	name := os.Getenv("GMQ_CONTEXT")
	if changed(flagContext) {
		name = g.named
	}
	if name != "" || !named {
		found, err := findContext(name)
		if err != nil {
			return err
		}
		if found != nil {
			if t = *found; changed(flagServer) || t.Server == "" {
				t.Server = g.server
			}
		}
	}
	for _, f := range []struct {
		name     string
		to, from *string
	}{{flagCA, &t.CA, &g.target.CA}, {flagCert, &t.Cert, &g.target.Cert}, {flagCertKey, &t.CertKey, &g.target.CertKey}, {"key", &t.CertKey, &g.target.CertKey}, {flagServerName, &t.ServerName, &g.target.ServerName}} {
		if changed(f.name) {
			*f.to = *f.from
		}
	}
	if changed(flagTLS) {
		if t.TLS = g.target.TLS; !t.TLS && (t.CA != "" || t.Cert != "" || t.ServerName != "") {
			return usage("--%s=false contradicts what else was said about certificates", flagTLS)
		}
	}
	if err := t.complete(); err != nil {
		return err
	}
	if g.user == "" && os.Getenv(envToken) == "" { // who else the command is asked to be beats the context
		g.user = t.User
		if g.passwordFile == "" {
			g.passwordFile = t.PasswordFile
		}
	}
	g.target, g.server, g.resolved = t, t.Server, true
	return nil
}

// options are those of the client for the target.
func (t *target) options() ([]gmq.Option, error) {
	c, err := t.config()
	if c == nil || err != nil {
		return nil, err
	}
	return []gmq.Option{gmq.WithTLS(c)}, nil
}

// config is the target's TLS; nil where it has none.
func (t *target) config() (*tls.Config, error) {
	if !t.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: t.ServerName}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flagCA, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--%s: there is no certificate in %s (PEM, -----BEGIN CERTIFICATE-----)", flagCA, t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.CertKey)
		if err != nil {
			return nil, fmt.Errorf("--%s %s, --%s %s: %s", flagCert, t.Cert, flagCertKey, t.CertKey, strings.TrimPrefix(err.Error(), "tls: "))
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// tlsHint says what to do about a failed handshake.
func (t *target) tlsHint(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if t.CA == "" {
			return fmt.Sprintf("; give the file with that authority: --%s", flagCA)
		}
		return fmt.Sprintf("; %s is the certificate of another one", t.CA)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("; connect to it by a name that it has, or say which one to expect: --%s", flagServerName)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Sprintf("; is it the address of a gmq server, and has it a certificate? without TLS: leave out --%s", flagTLS)
	}
	return ""
}
