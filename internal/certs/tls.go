package certs

import "crypto/tls"

// Config is for a server with this certificate; least is the oldest version of TLS that it speaks. A client is
// asked for a certificate where there are authorities, and what it presents is not verified: that is for
// whoever uses the Config.
//
// There is no resumption: connections live long, and a session that is resumed would carry what was verified
// before the last reload.
func (s *Set) Config(least uint16) *tls.Config {
	c := &tls.Config{
		Certificates:                []tls.Certificate{s.Certificate},
		MinVersion:                  least,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // small records at the beginning help browsers, and cost us
	}
	if s.Clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequestClientCert, s.Clients
	}
	return c
}

// HTTPConfig is Config for a server that leaves the judgement to crypto/tls, always for the set in force.
func (s *Store) HTTPConfig(policy func() (least uint16, demanded bool)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // of no effect: every client gets the one below
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			set := s.Current()
			least, demanded := policy()
			c := set.Config(least)
			c.NextProtos = []string{"http/1.1"}
			if set.Clients != nil {
				if c.ClientAuth = tls.VerifyClientCertIfGiven; demanded {
					c.ClientAuth = tls.RequireAndVerifyClientCert
				}
			}
			return c, nil
		},
	}
}
