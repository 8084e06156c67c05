package gmqtest

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/gmq/gmq/internal/certs"
	"github.com/gmq/gmq/internal/server"
)

// encryption is what a server with TLS and its clients have.
type encryption struct {
	server *server.TLS
	client *tls.Config
}

// encrypt makes certificates, by the machine's time: it is the client's too.
func encrypt() (*encryption, error) {
	made, err := certs.MakeTrial(time.Now(), []string{"localhost", "127.0.0.1"}, "client")
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(made.Server.Cert, made.Server.Key)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(made.CA.Cert)
	return &encryption{
		server: &server.TLS{Required: true, Config: &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		}},
		client: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS13},
	}, nil
}

// TLS is what a client needs to connect to a server that was started with the option [TLS]; nil without it.
func (s *Server) TLS() *tls.Config {
	if s.encryption == nil {
		return nil
	}
	return s.encryption.client.Clone()
}
