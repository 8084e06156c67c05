package main

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/certs"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/server"
)

// certificatePoll is how often the files of certificates are looked at. What is new there is in force after the second look.
const certificatePoll = 2 * time.Second

// tlsSettings are the TLS of an instance. Where they are nil there is none.
type tlsSettings struct {
	certs  *certs.Store               // for the goroutine of serve
	policy atomic.Pointer[config.TLS] // for those of the admin address too
}

// openTLS loads the certificates, before anything else is opened.
func (in *instance) openTLS() error {
	if in.cfg.TLS == nil {
		return nil
	}
	g := &tlsSettings{}
	g.policy.Store(in.cfg.TLS)
	var err error
	g.certs, err = certs.Open(certificateFiles(in.cfg.TLS), time.Now, in.log, func(set *certs.Set) {
		if in.server != nil {
			in.server.SetTLS(serverTLS(g.policy.Load(), set))
		}
	})
	in.tls = g
	return err
}

func certificateFiles(t *config.TLS) certs.Files {
	return certs.Files{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA}
}

func leastVersion(t *config.TLS) uint16 {
	if t.MinVersion == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

func serverTLS(t *config.TLS, set *certs.Set) *server.TLS {
	return &server.TLS{Config: set.Config(leastVersion(t)), Clients: set.Clients, Demanded: t.ClientCert == "required", Required: t.Required}
}

// forServer is what the server needs of it.
func (g *tlsSettings) forServer() *server.TLS {
	if g == nil {
		return nil
	}
	return serverTLS(g.policy.Load(), g.certs.Current())
}

// reload takes over new settings and what the files hold now, or nothing.
func (g *tlsSettings) reload(t *config.TLS) error {
	if g == nil {
		return nil
	}
	before := g.policy.Swap(t)
	if err := g.certs.Reload(certificateFiles(t)); err != nil {
		g.policy.Store(before)
		return err
	}
	return nil
}

// poll is when to look at the files: never where there are none.
func (g *tlsSettings) poll() (look <-chan time.Time, stop func()) {
	if g == nil {
		return nil, func() {}
	}
	t := time.NewTicker(certificatePoll)
	return t.C, t.Stop
}

// forAdmin is the listener of the admin address: HTTPS where others than this machine can reach it.
func (g *tlsSettings) forAdmin(l net.Listener, address string) net.Listener {
	if g == nil || config.IsLoopback(address) {
		return l
	}
	return tls.NewListener(l, g.certs.HTTPConfig(func() (uint16, bool) {
		t := g.policy.Load()
		return leastVersion(t), t.ClientCert == "required"
	}))
}

// describe adds to the line that says that the server is ready.
func (g *tlsSettings) describe(args []any) []any {
	if g == nil {
		return args
	}
	how := "optional"
	if g.policy.Load().Required {
		how = "required"
	}
	return append(args, "tls", how, "certificate", g.certs.Current().String())
}

// tlsStats is what the metrics tell.
func (in *instance) tlsStats() *admin.TLSStats {
	if in.tls == nil {
		return nil
	}
	store := in.tls.certs
	return &admin.TLSStats{Expiry: store.Current().NotAfter, ReloadsFailed: store.Failed(), Handshakes: in.server.Handshakes()}
}
