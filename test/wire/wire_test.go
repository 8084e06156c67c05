// Package wire holds the real server to the protocol, rule by rule: each test cites what it
// checks, by the number of the rule or the name of the section in docs/protocol.md.
package wire_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// alive checks that the connection still answers, and that nothing else was said on it.
func alive(t *testing.T, c *harness.Conn) {
	t.Helper()
	if got := c.Settle(); len(got) > 0 {
		t.Fatalf("a line too many: %s", got[0].Raw)
	}
}

// counts are those of queue.info.
func counts(c *harness.Conn, queue string) harness.Line {
	return c.OK(`{"op":"queue.info","queue":"%s"}`, queue).At("counts")
}

// wantCounts compares counts, given as in "ready 1, acked 2"; those not named must be 0, and the equation must hold.
func wantCounts(t *testing.T, c *harness.Conn, queue string, published int64, want map[string]int64) {
	t.Helper()
	got := counts(c, queue)
	sum := int64(0)
	for _, name := range []string{"ready", "delayed", "leased", "acked", "expired", "dead", "dropped", "cancelled", "purged", "redriven"} {
		if got.Int(name) != want[name] {
			t.Errorf("Meaning: %s of %s is %d, not %d: %s", name, queue, got.Int(name), want[name], got.Raw)
		}
		sum += got.Int(name)
	}
	if got.Int("published") != published || sum != published {
		t.Errorf("Meaning: published of %s must be %d and the sum of the others: %s", queue, published, got.Raw)
	}
}

// allAcked waits until n messages of queue count as acked: with ack auto the delivery comes first.
func allAcked(t *testing.T, c *harness.Conn, queue string, n int64) {
	t.Helper()
	harness.Eventually(t, "all are acked", func() bool { return counts(c, queue).Int("acked") >= n })
	wantCounts(t, c, queue, n, map[string]int64{"acked": n})
}

// one receives exactly one message.
func one(t *testing.T, c *harness.Conn, format string, args ...any) harness.Line {
	t.Helper()
	got := c.OK(format, args...)
	ms := got.Each("messages")
	if len(ms) != 1 {
		t.Fatalf("wanted one message, not %s", got.Raw)
	}
	return ms[0]
}

// receive waits for exactly one message of queue.
func receive(t *testing.T, c *harness.Conn, queue string) harness.Line {
	t.Helper()
	return one(t, c, `{"op":"receive","queue":"%s","wait":"60s"}`, queue)
}

// tight fails where there is white space between the tokens of a line.
func tight(t *testing.T, l harness.Line) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(l.Raw)); err != nil || b.String() != l.Raw {
		t.Errorf("rule 6: white space between tokens: %s", l.Raw)
	}
}

func TestHello(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, line := range []string{`{"op":"hello"}`, `{"op":"hello","protocol":1,"client":"a test"}`} {
		l := c.OK("%s", line)
		for _, field := range []string{"server", "version", "node"} {
			if l.Text(field) == "" {
				t.Errorf("Operations, hello: no %s: %s", field, l.Raw)
			}
		}
		if l.Int("protocol") != 1 || l.Int("max_message_bytes") != 1<<20 {
			t.Errorf("Operations, hello: %s", l.Raw)
		}
		for _, storage := range []string{harness.Storage(), "memory"} {
			if !strings.Contains(string(l.Fields["storages"]), `"`+storage+`"`) {
				t.Errorf("Operations, hello: no storage %s: %s", storage, l.Raw)
			}
		}
		tight(t, l)
	}
	c.Fails("bad_request", `{"op":"hello","protocol":99}`)
	alive(t, c)
}

func TestServerInfo(t *testing.T) {
	c := harness.Start(t, "limits: {max_queues: 17}\n").Dial(t)
	c.OK(`{"op":"publish","queue":"a","body":1}`)
	l := c.OK(`{"op":"server.info"}`)
	for _, field := range []string{"version", "limits", "totals", "storages"} {
		if !l.Has(field) {
			t.Errorf("Operations, server.info: no %s: %s", field, l.Raw)
		}
	}
	if l.At("limits").Int("max_queues") != 17 || l.At("totals").Int("queues") != 1 || l.At("totals").Int("ready") != 1 {
		t.Errorf("Operations, server.info: %s", l.Raw)
	}
	tight(t, l)
}
