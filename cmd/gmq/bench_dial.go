package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// loadDialer gives a function that makes one connection: encrypted and logged in, where the target wants that. The load
// generator speaks for itself on it, so it cannot be the client's; but whether one can get in at all, the client says best.
func (g *globals) loadDialer(ctx context.Context) (func(context.Context) (net.Conn, error), error) {
	config, err := g.target.config()
	if err != nil {
		return nil, err
	}
	who, err := g.known()
	if err != nil {
		return nil, err
	}
	if config != nil || who != (credentials{}) {
		_, _, closing, err := g.connect(ctx, nil)
		if err != nil {
			return nil, err
		}
		closing()
	}
	if config != nil {
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(g.address()) // which has both parts
		}
		if own := config.Certificates; len(own) == 1 { // shown whoever the server says that it knows, as by the client
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own[0], nil }
		}
	}
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := g.dialPlain(ctx)
		if err != nil {
			return nil, err
		}
		if nc, err = g.enter(ctx, nc, config, who); err != nil {
			return nil, errors.Join(g.cannotConnect(err), nc.Close())
		}
		return nc, nil
	}, nil
}

// dialPlain makes a connection to a server that wants neither.
func (g *globals) dialPlain(ctx context.Context) (net.Conn, error) {
	nc, err := (&net.Dialer{Timeout: g.timeout}).DialContext(ctx, "tcp", g.address())
	if err != nil {
		return nil, g.cannotConnect(err)
	}
	return nc, nil
}

// enter encrypts a connection where config says so, and logs in where there is somebody. The connection is never nil.
func (g *globals) enter(ctx context.Context, nc net.Conn, config *tls.Config, who credentials) (net.Conn, error) {
	nc.SetDeadline(time.Now().Add(g.timeout))
	switch {
	case config != nil:
		t := tls.Client(nc, config)
		if err := t.HandshakeContext(ctx); err != nil {
			return nc, err
		}
		nc = t
	case who != (credentials{}) && !loopback(nc.RemoteAddr()):
		return nc, inClear("what says who you are", g.address())
	}
	if who != (credentials{}) {
		if err := who.hello(nc); err != nil {
			return nc, err
		}
	}
	return nc, nc.SetDeadline(time.Time{})
}

// hello logs in. Nothing but its reply is read.
func (who credentials) hello(nc net.Conn) error {
	request := map[string]string{"op": "hello", "token": who.token}
	if who.user != "" {
		request = map[string]string{"op": "hello", "user": who.user, "password": who.password}
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := nc.Write(append(line, '\n')); err != nil {
		return err
	}
	var reply []byte
	for b := make([]byte, 1); len(reply) == 0 || reply[len(reply)-1] != '\n'; reply = append(reply, b...) {
		if _, err := nc.Read(b); err != nil {
			return fmt.Errorf("no answer to the login: %w", err)
		}
	}
	var f wire.Frame
	if err := wire.DecodeFrame(reply[:len(reply)-1], &f); err != nil {
		return err
	}
	if f.Err != nil {
		return &gmq.Error{Code: f.Err.Code, Message: f.Err.Message}
	}
	return nil
}
