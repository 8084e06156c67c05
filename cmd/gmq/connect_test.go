package main

import (
	"net"
	"testing"

	"github.com/gmq/gmq/wire"

	gmq "github.com/gmq/gmq/client"
)

// What a login mends is told to whom it helps.
func TestHintForWhomItHelps(t *testing.T) {
	t.Parallel()
	contains(t, "nobody", inWords(&gmq.Error{Code: wire.CodeUnauthenticated, Message: "log in first"}).Error(), "GMQ_USER and GMQ_PASSWORD")
	equal(t, "a certificate", inWords(&gmq.Error{Code: wire.CodeUnauthenticated, Message: "the client's certificate has expired"}).Error(),
		"unauthenticated: the client's certificate has expired")
}

// TestSilentNode: of several addresses, one that takes a connection and says nothing costs a moment.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := gmqRun(t, nil, "", "pub", "q", "hello", "--server", silent.Addr().String()+","+s.addr)
	if r.code != exitOK {
		t.Errorf("code %d: %s", r.code, r.err)
	}
}
