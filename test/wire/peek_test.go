package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// states are the seqs of the messages in a reply, with their states: "1 ready, 2 leased".
func states(l harness.Line) string {
	var all []string
	for _, m := range l.Each("messages") {
		all = append(all, fmt.Sprintf("%d %s", m.Int("seq"), m.Text("state")))
	}
	return strings.Join(all, ", ")
}

// Operations, queue.peek: messages in every state, in order of seq, and nothing about them changes.
func TestPeek(t *testing.T) {
	for _, storage := range []string{harness.Storage(), "memory"} {
		t.Run(storage, func(t *testing.T) {
			c := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n").Dial(t)
			c.OK(slowRetry, "q")
			c.OK(`{"op":"publish","queue":"q","messages":[{"body":{ "a" : 1.0},"headers":{"h":"\u00e9"}},{"body":2,"priority":9},{"body":3},` +
				`{"body":"AAE=","encoding":"base64","delay":"1h"},{"body":5,"key":"k"},{"body":6,"key":"k"}]}`)
			receive(t, c, "q") // 2
			receive(t, c, "q") // 1
			c.OK(`{"op":"nack","queue":"q","seq":1}`)
			before := c.OK(`{"op":"queue.info","queue":"q"}`).At("counts").Raw
			for _, test := range []struct{ fields, want string }{
				{``, "1 delayed, 2 leased, 3 ready, 4 delayed, 5 ready, 6 ready"},
				{`,"state":"ready"`, "3 ready, 5 ready, 6 ready"},
				{`,"state":"delayed"`, "1 delayed, 4 delayed"},
				{`,"state":"leased"`, "2 leased"},
				{`,"limit":2`, "1 delayed, 2 leased"},
				{`,"after":2,"limit":2`, "3 ready, 4 delayed"},
				{`,"after":0,"limit":1000`, "1 delayed, 2 leased, 3 ready, 4 delayed, 5 ready, 6 ready"},
				{`,"after":6`, ""},
				{`,"after":9007199254740991`, ""},
				{`,"state":"ready","after":3,"limit":1`, "5 ready"},
			} {
				l := c.OK(`{"op":"queue.peek","queue":"q"%s}`, test.fields)
				if states(l) != test.want {
					t.Errorf("Operations, queue.peek%s: %s\n  is not %s", test.fields, l.Raw, test.want)
				}
			}
			ms := c.OK(`{"op":"queue.peek","queue":"q"}`).Each("messages")
			if m := ms[0]; m.Body() != `{ "a" : 1.0}` || string(m.Fields["headers"]) != `{"h":"\u00e9"}` || m.Int("attempt") != 1 || m.Text("until") == "" || m.Text("published") == "" {
				t.Errorf("what waits for its retry: %s", m.Raw)
			}
			if m := ms[1]; m.Int("attempt") != 1 || m.Text("until") == "" || m.Has("receipt") {
				t.Errorf("what somebody has, and nobody else may settle by its receipt: %s", m.Raw)
			}
			if m := ms[2]; m.Int("attempt") != 0 || m.Has("until") || m.Has("key") || m.Has("headers") {
				t.Errorf("what is ready: %s", m.Raw)
			}
			if m := ms[3]; m.Text("encoding") != "base64" || m.Body() != `"AAE="` || m.Text("until") == "" {
				t.Errorf("what is delayed: %s", m.Raw)
			}
			if m := ms[4]; m.Text("key") != "k" {
				t.Errorf("a key: %s", m.Raw)
			}
			if after := c.OK(`{"op":"queue.info","queue":"q"}`).At("counts").Raw; after != before {
				t.Errorf("Operations, queue.peek: looking changed %s into %s", before, after)
			}
			if m := receive(t, c, "q"); m.Int("seq") != 3 || m.Int("attempt") != 1 || m.Bool("redelivered") {
				t.Errorf("a message that was looked at is as it was: %s", m.Raw)
			}
			c.Fails("not_found", `{"op":"queue.peek","queue":"none"}`)
			c.Fails("bad_request", `{"op":"queue.peek","queue":"q","limit":1001}`)
			if l := c.OK(`{"op":"queue.list"}`); len(l.Each("queues")) != 1 {
				t.Errorf("looking made a queue: %s", l.Raw)
			}
			alive(t, c)
		})
	}
}

// Operations, queue.peek: a dead letter is shown with the headers that it gained; a reply is cut where it grows long, and no sooner.
func TestPeekIsBounded(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	receive(t, c, "q")
	c.OK(`{"op":"nack","queue":"q","seq":1,"dead":true,"reason":"why"}`)
	if ms := c.OK(`{"op":"queue.peek","queue":"q.dlq"}`).Each("messages"); len(ms) != 1 || ms[0].At("headers").Text("gmq-dead-reason") != "nack: why" || ms[0].Int("attempt") != 0 {
		t.Errorf("a dead letter: %v", ms)
	}
	const n = 300
	for i := range n {
		c.OK(`{"op":"publish","queue":"big","body":"%d %s"}`, i, strings.Repeat("x", 10_000))
	}
	seen, replies := int64(0), 0
	for {
		l := c.OK(`{"op":"queue.peek","queue":"big","after":%d,"limit":1000}`, seen)
		ms := l.Each("messages")
		if len(ms) == 0 {
			break
		}
		if replies++; len(l.Raw) > 300_000 || len(l.Raw) < 200_000 && ms[len(ms)-1].Int("seq") != n {
			t.Errorf("a reply of %d bytes, %d messages", len(l.Raw), len(ms))
		}
		for _, m := range ms {
			if seen++; m.Int("seq") != seen || !strings.HasPrefix(m.Text("body"), fmt.Sprintf("%d x", seen-1)) {
				t.Fatalf("message %d: %.200s", seen, m.Raw)
			}
		}
	}
	if seen != n || replies < 10 {
		t.Errorf("%d of %d messages in %d replies", seen, n, replies)
	}
	c.OK(`{"op":"publish","queue":"huge","body":"%s"}`, strings.Repeat("y", 1<<20-2))
	if ms := c.OK(`{"op":"queue.peek","queue":"huge"}`).Each("messages"); len(ms) != 1 {
		t.Errorf("one message always fits, not %d", len(ms))
	}
	alive(t, c)
}
