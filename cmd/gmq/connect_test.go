package main

import (
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
