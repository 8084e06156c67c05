package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Rule 6: publishes of one connection to one queue are stored in their order, whatever is published in between.
func TestOrderAcrossStorages(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	var names []string
	for i := range 8 {
		for _, storage := range []string{harness.Storage(), "memory"} {
			name := fmt.Sprintf("%s%d", storage, i)
			names = append(names, name)
			c.OK(`{"op":"queue.create","queue":"%s","storage":"%s"}`, name, storage)
		}
	}
	var b strings.Builder
	const n = 30
	for i := range n {
		for q, name := range names {
			fmt.Fprintf(&b, `{"op":"publish","id":%d,"queue":"%s","body":%d}`+"\n", i*len(names)+q, name, i)
		}
	}
	c.SendRaw([]byte(b.String()))
	for range n * len(names) {
		l := c.Reply()
		i, name := l.Int("id")/int64(len(names)), names[l.Int("id")%int64(len(names))]
		if l.Int("seq") != i+1 {
			t.Fatalf("rule 6: publish %d to %s got %s", i+1, name, l.Raw)
		}
	}
}

// Queues in memory and in files side by side: each says what its confirm stands for, and after a
// crash what was in memory is gone and what was on disk is there.
func TestStorages(t *testing.T) {
	for _, test := range []struct{ sync, stored string }{{"always", "disk"}, {"never", "written"}} {
		t.Run(test.sync, func(t *testing.T) {
			s := harness.Start(t, "storage: {file: {sync: "+test.sync+"}}\n")
			c := s.Dial(t)
			for i := range 8 { // some of them in the same shard
				c.OK(`{"op":"queue.create","queue":"f%d","storage":"file"}`, i)
				c.OK(`{"op":"queue.create","queue":"m%d","storage":"memory"}`, i)
			}
			const n = 200
			for i := range n {
				c.Sendf(`{"op":"publish","id":%d,"queue":"f%d","body":%d}`, i, i%8, i)
				c.Sendf(`{"op":"publish","id":%d,"queue":"m%d","body":%d}`, -1-i, i%8, i)
			}
			for range 2 * n {
				l := c.Reply()
				want := test.stored
				if l.Int("id") < 0 {
					want = "memory"
				}
				if l.Text("stored") != want {
					t.Fatalf("Operations, stored: %s, not %s", l.Raw, want)
				}
			}
			for i := range 8 {
				for _, storage := range []string{"f", "m"} {
					c.OK(`{"op":"receive","queue":"%s%d","max":5}`, storage, i)
					c.OK(`{"op":"ack","queue":"%s%d","seq":[1,2,3]}`, storage, i)
				}
			}
			s.Restart()
			c = s.Dial(t)
			for i := range 8 {
				wantCounts(t, c, fmt.Sprintf("f%d", i), n/8, map[string]int64{"acked": 3, "ready": n/8 - 3})
				if l := c.Do(`{"op":"queue.info","queue":"m%d"}`, i); l.Bool("ok") && l.At("counts").Int("ready") != 0 || !l.Bool("ok") && l.Code() != "not_found" {
					t.Errorf("a memory queue after a restart: %s", l.Raw)
				}
				for k := 3; k < n/8; k++ {
					m := receive(t, c, fmt.Sprintf("f%d", i))
					if m.Body() != fmt.Sprint(k*8+i) || m.Int("seq") != int64(k+1) || !m.Bool("redelivered") {
						t.Fatalf("Operations: after a restart: %s", m.Raw)
					}
				}
			}
		})
	}
}

// A default of memory, and a file queue beside it.
func TestMemoryByDefault(t *testing.T) {
	c := harness.Start(t, "queue_defaults: {storage: memory}\n").Dial(t)
	if l := c.OK(`{"op":"publish","queue":"m","body":1}`); l.Text("stored") != "memory" {
		t.Errorf("%s", l.Raw)
	}
	c.OK(`{"op":"nack","queue":"m","seq":%d,"dead":true}`, receive(t, c, "m").Int("seq"))
	if m := receive(t, c, "m.dlq"); m.Body() != `1` {
		t.Errorf("%s", m.Raw)
	}
	c.OK(`{"op":"queue.create","queue":"f","storage":"file"}`)
	if l := c.OK(`{"op":"publish","queue":"f","body":1}`); l.Text("stored") != "disk" {
		t.Errorf("%s", l.Raw)
	}
}

// SIGTERM: clients are told, what they ack meanwhile counts, and the exit is 0.
func TestDrain(t *testing.T) {
	s := harness.Start(t, "")
	c, waits := s.Dial(t), s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
	c.OK(`{"op":"subscribe","queue":"q","credit":1}`)
	m := c.Push()
	waits.Send(`{"op":"receive","id":"w","queue":"other","wait":"1h"}`)
	waits.OK(`{"op":"ping"}`)
	code := make(chan int, 1)
	go func() { code <- s.Term() }()
	if l := c.Push(); l.Text("op") != "closing" || l.Text("reason") == "" {
		t.Errorf("rule 9: %s", l.Raw)
	}
	if l := c.OK(`{"op":"ack","queue":"q","seq":1,"receipt":%s}`, m.Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("an ack while the server ends: %s", l.Raw)
	}
	for _, l := range c.Ended() {
		t.Errorf("no new work once the server ends: %s", l.Raw)
	}
	answered := false
	for _, l := range waits.Ended() {
		answered = answered || l.Text("id") == "w"
	}
	if !answered {
		t.Error("rule 6: a receive that waited was not answered when the server ended")
	}
	if got := <-code; got != 0 {
		t.Errorf("exit code %d after SIGTERM", got)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, s.Dial(t), "q", 2, map[string]int64{"acked": 1, "ready": 1})
}
