package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

// What has to be fetched arrives in order, also where it is more than a connection may be sent at a time, and whoever asks.
func TestFetched(t *testing.T) {
	s := harness.Start(t, "")
	s.UseMySQL(mariadb.Get(t).Database(t))
	s.Restart()
	c := s.Dial(t)
	const n = 600
	for _, q := range []string{"sub", "receive", "small"} {
		size := 4000
		if q == "small" {
			size = 10
		}
		for at := 0; at < n; at += 100 {
			var all []string
			for i := range 100 {
				all = append(all, fmt.Sprintf(`{"body":"%d %s"}`, at+i, strings.Repeat("x", size)))
			}
			c.OK(`{"op":"publish","queue":"%s","messages":[%s]}`, q, strings.Join(all, ","))
		}
	}
	const large = 20 // each nearly as much as a connection may be sent at a time
	for i := range large {
		c.OK(`{"op":"publish","queue":"large","body":"%d %s"}`, i, strings.Repeat("x", 200_000))
	}
	s.Restart()
	c = s.Dial(t)
	c.OK(`{"op":"subscribe","queue":"large","credit":1000}`)
	for i := range large {
		if m := c.Push(); !strings.HasPrefix(m.Body(), fmt.Sprintf(`"%d `, i)) {
			t.Fatalf("large delivery %d: %.80s", i, m.Raw)
		}
	}
	c = s.Dial(t)
	c.OK(`{"op":"subscribe","queue":"sub","credit":1000}`)
	for i := range n {
		if m := c.Push(); !strings.HasPrefix(m.Body(), fmt.Sprintf(`"%d `, i)) {
			t.Fatalf("delivery %d: %.80s", i, m.Raw)
		}
	}
	for _, q := range []string{"receive", "small"} {
		c = s.Dial(t)
		for got := 0; got < n; {
			ms := c.OK(`{"op":"receive","queue":"%s","max":1000,"ack":"auto"}`, q).Each("messages")
			for _, m := range ms {
				if !strings.HasPrefix(m.Body(), fmt.Sprintf(`"%d `, got)) {
					t.Fatalf("%s %d: %.80s", q, got, m.Raw)
				}
				got++
			}
			if len(ms) == 0 {
				t.Fatalf("%s: only %d", q, got)
			}
		}
	}
	if c.OK(`{"op":"queue.info","queue":"receive"}`).At("counts").Int("acked") != n {
		t.Error("not all that was received with ack auto is acked")
	}
}
