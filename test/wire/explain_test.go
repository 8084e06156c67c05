package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// because asks why a message is not delivered, and checks the state and that the reason has all the parts.
func because(t *testing.T, c *harness.Conn, queue string, seq int, state string, parts ...string) harness.Line {
	t.Helper()
	l := c.OK(`{"op":"queue.explain","queue":"%s","seq":%d}`, queue, seq)
	if l.Text("state") != state {
		t.Errorf("Operations, queue.explain: message %d of %s is %s: %s", seq, queue, state, l.Raw)
	}
	for _, part := range parts {
		if !strings.Contains(l.Text("because"), part) {
			t.Errorf("Operations, queue.explain: no %q in the reason for message %d of %s: %s", part, seq, queue, l.Raw)
		}
	}
	if !l.Has("attempts") || !l.Has("history") {
		t.Errorf("Operations, queue.explain: %s", l.Raw)
	}
	tight(t, l)
	return l
}

// events are the names in a history, the oldest first.
func events(l harness.Line) string {
	var all []string
	for _, e := range l.Each("history") {
		all = append(all, e.Text("event"))
	}
	return strings.Join(all, " ")
}

// Operations, queue.explain: what keeps a message that is still there.
func TestExplainWaiting(t *testing.T) {
	s := harness.Start(t, "")
	c, sub := s.Dial(t), s.Dial(t)
	c.OK(`{"op":"hello","client":"the tester"}`)
	c.OK(slowRetry, "q")
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1,"delay":"1h"},{"body":2,"priority":9},{"body":3,"key":"k","priority":8},{"body":4,"key":"k","priority":9},{"body":5,"priority":1}]}`)
	if l := because(t, c, "q", 1, "delayed", "delayed until 20"); l.Text("until") == "" || l.Int("attempts") != 0 || l.Has("lease") {
		t.Errorf("%s", l.Raw)
	}
	if l := because(t, c, "q", 2, "ready", "nobody consumes", "q"); l.Has("until") || l.Has("lease") {
		t.Errorf("%s", l.Raw)
	}
	because(t, c, "q", 4, "ready", "behind message 3", "same key")
	c.OK(`{"op":"queue.pause","queue":"q"}`)
	because(t, c, "q", 2, "ready", "q is paused")
	c.OK(`{"op":"queue.resume","queue":"q"}`)

	receive(t, c, "q")
	l := because(t, c, "q", 2, "leased", "leased by", "the tester", "until 20")
	if l.Int("attempts") != 1 || !strings.Contains(l.At("lease").Text("consumer"), "the tester") || l.At("lease").Text("until") != l.Text("until") || l.Text("until") == "" {
		t.Errorf("who has it, and until when: %s", l.Raw)
	}
	c.OK(`{"op":"nack","queue":"q","seq":2,"reason":"no stock"}`)
	l = because(t, c, "q", 2, "delayed", "failed", "again at 20")
	if l.Int("attempts") != 1 || events(l) != "returned" || l.Each("history")[0].Text("reason") != "nack: no stock" || l.Each("history")[0].Int("attempts") != 1 || l.Text("until") == "" {
		t.Errorf("its history: %s", l.Raw)
	}

	sub.OK(`{"op":"subscribe","queue":"q","credit":1}`)
	if m := sub.Push(); m.Int("seq") != 3 {
		t.Fatalf("%s", m.Raw)
	}
	because(t, c, "q", 3, "leased", "leased by", "subscription 1")
	because(t, c, "q", 4, "ready", "behind message 3", "same key") // whom its priority does not help
	because(t, c, "q", 5, "ready", "credit")
	c.OK(`{"op":"publish","queue":"q","body":6}`)
	because(t, c, "q", 5, "ready", "behind message 6", "priority is higher")
	because(t, c, "q", 6, "ready", "credit")
	sub.Close()
	harness.Eventually(t, "the subscription is gone", func() bool { return counts(c, "q").Int("leased") == 0 })
	if l := because(t, c, "q", 3, "ready", "nobody consumes"); l.Int("attempts") != 1 || events(l) != "returned" {
		t.Errorf("after its consumer has gone: %s", l.Raw)
	}
	because(t, c, "q", 6, "ready", "nobody consumes")
	wantCounts(t, c, "q", 6, map[string]int64{"delayed": 2, "ready": 4})
}

// Operations, queue.explain: what became of a message that is no more, and how.
func TestExplainSettled(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","retry":{"min":"0s","max":"0s"},"max_deliveries":2}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4,"delay":"1h"},{"body":5,"ttl":"1ms","delay":"1h"}]}`)
	over := func(queue string, seq int, event, history string) {
		t.Helper()
		l := because(t, c, queue, seq, "settled", event)
		es := l.Each("history")
		if events(l) != history || es[len(es)-1].Text("at") == "" {
			t.Errorf("Operations, queue.explain: the history of message %d of %s: %s", seq, queue, l.Raw)
		}
	}
	c.OK(`{"op":"receive","queue":"q"}`)
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	over("q", 1, "acked", "acked")
	c.OK(`{"op":"receive","queue":"q"}`)
	c.OK(`{"op":"nack","queue":"q","seq":2,"dead":true,"reason":"cannot be read"}`)
	over("q", 2, "cannot be read", "returned dead")
	for range 2 {
		if m := receive(t, c, "q"); m.Int("seq") != 3 {
			t.Fatalf("%s", m.Raw)
		}
		c.OK(`{"op":"nack","queue":"q","seq":3}`)
	}
	over("q", 3, "max_deliveries", "returned returned dead")
	c.OK(`{"op":"queue.cancel","queue":"q","seq":4}`)
	over("q", 4, "cancelled", "cancelled")
	harness.Eventually(t, "message 5 has expired", func() bool { return counts(c, "q").Int("expired") == 1 })
	over("q", 5, "ttl", "expired")
	c.OK(`{"op":"queue.redrive","queue":"q.dlq","max":1}`)
	over("q.dlq", 1, "to q", "redriven")
	c.OK(`{"op":"queue.create","queue":"small","max_messages":1,"overflow":"drop_oldest"}`)
	c.OK(`{"op":"publish","queue":"small","body":1}`)
	c.OK(`{"op":"publish","queue":"small","body":2}`)
	over("small", 1, "full", "dropped")

	for _, line := range []string{
		`{"op":"queue.explain","queue":"q","seq":99}`, `{"op":"queue.explain","queue":"q","seq":0}`, `{"op":"queue.explain","queue":"q","seq":9007199254740991}`,
		`{"op":"queue.explain","queue":"none","seq":1}`,
	} {
		c.Fails("not_found", "%s", line)
	}
	c.Fails("bad_request", `{"op":"queue.explain","queue":"q","seq":[1]}`)

	// A queue remembers the latest events only, and may forget them with its process.
	for i := range 300 {
		c.OK(`{"op":"publish","queue":"many","body":%d}`, i)
	}
	c.OK(`{"op":"receive","queue":"many","max":300,"ack":"auto"}`)
	allAcked(t, c, "many", 300)
	over("many", 300, "acked", "acked")
	over("many", 45, "acked", "acked")
	c.Fails("not_found", `{"op":"queue.explain","queue":"many","seq":44}`)
	over("q", 1, "acked", "acked")
	s.Restart()
	c = s.Dial(t)
	if l := c.Do(`{"op":"queue.explain","queue":"q","seq":1}`); !l.Bool("ok") {
		l.WantCode(t, "not_found")
	}
	because(t, c, "q", 6, "ready", "nobody consumes")
	alive(t, c)
}

// Operations, queue.explain: a limit of the whole server holds messages up, too.
func TestExplainInFlight(t *testing.T) {
	s := harness.Start(t, "limits: {max_in_flight: 1}\n")
	c, sub := s.Dial(t), s.Dial(t)
	sub.OK(`{"op":"subscribe","queue":"q","credit":10}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3}]}`)
	sub.Push()
	for seq := 2; seq <= 3; seq++ {
		if l := because(t, c, "q", seq, "ready"); strings.Contains(l.Text("because"), "credit") || strings.Contains(l.Text("because"), "nobody") {
			t.Errorf("the consumer has credit: %s", l.Raw)
		}
	}
}

// Nothing that a client chose makes a reply of explain anything else than a line of JSON.
func TestExplainQuotes(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	const odd = `"\u0000\"}\n\u2028é`
	c.OK(`{"op":"hello","client":%s"}`, odd)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	receive(t, c, "q")
	l := c.OK(`{"op":"queue.explain","queue":"q","seq":1}`)
	if got := l.At("lease").Text("consumer"); !strings.Contains(got, "\x00\"}\n\u2028é") && !strings.Contains(got, "é") {
		t.Errorf("%s", l.Raw)
	}
	c.OK(`{"op":"nack","queue":"q","seq":1,"delay":"1h","reason":%s"}`, odd)
	l = because(t, c, "q", 1, "delayed")
	if got := l.Each("history")[0].Text("reason"); got != fmt.Sprintf("nack: %s", "\x00\"}\n\u2028é") {
		t.Errorf("%s", l.Raw)
	}
}
