package gmqtest_test

import (
	"strings"
	"testing"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
)

func TestTLS(t *testing.T) {
	srv := gmqtest.NewServer(t, gmqtest.TLS(), gmqtest.File())
	q := srv.Client(t).Queue("q")
	send(t, q, "a")
	receive(t, q, "a")
	srv.Restart() // the client comes back with TLS, too
	receive(t, q, "a")
	if _, err := gmq.Dial(t.Context(), srv.Addr()); err == nil || !strings.Contains(err.Error(), "only encrypted connections") {
		t.Errorf("without TLS: %v", err)
	}
	if gmqtest.NewServer(t).TLS() != nil {
		t.Error("a server without TLS has some")
	}
}
