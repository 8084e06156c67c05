package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Meaning: nack returns by the one path; delay overrides the queue's retry; count false does not count.
func TestNack(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(slowRetry, "q")
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	m := receive(t, c, "q")
	if l := c.OK(`{"op":"nack","queue":"q","seq":1,"receipt":%s,"delay":"0s","reason":"not now"}`, m.Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("Operations, nack: %s", l.Raw)
	}
	if m = receive(t, c, "q"); m.Int("attempt") != 2 || !m.Bool("redelivered") {
		t.Errorf("nack with delay 0s: %s", m.Raw)
	}
	c.OK(`{"op":"nack","queue":"q","seq":1,"count":false,"delay":"0s"}`)
	if m = receive(t, c, "q"); m.Int("attempt") != 2 || !m.Bool("redelivered") {
		t.Errorf("nack with count false: this attempt does not count: %s", m.Raw)
	}
	c.OK(`{"op":"nack","queue":"q","seq":[1],"receipt":[%s],"delay":"20ms"}`, m.Fields["receipt"])
	wantCounts(t, c, "q", 1, map[string]int64{"delayed": 1})
	if m = receive(t, c, "q"); m.Int("attempt") != 3 {
		t.Errorf("nack with delay: %s", m.Raw)
	}
	c.OK(`{"op":"nack","queue":"q","seq":1}`) // the queue's own retry
	wantCounts(t, c, "q", 1, map[string]int64{"delayed": 1})
	s.Restart()
	c = s.Dial(t)
	wantCounts(t, c, "q", 1, map[string]int64{"delayed": 1})
	if l := c.OK(`{"op":"ack","queue":"q","seq":1,"receipt":%s}`, m.Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("ack names the message, and nobody else has had it since: %s", l.Raw)
	}
	for _, op := range []string{`{"op":"nack","queue":"q","seq":1}`, `{"op":"nack","queue":"q","seq":[1],"dead":true}`} {
		if l := c.OK("%s", op); l.Int("settled") != 0 {
			t.Errorf("nack of what is settled: %s", l.Raw)
		}
	}
	c.Fails("not_found", `{"op":"nack","queue":"none","seq":1}`)
	wantCounts(t, c, "q", 1, map[string]int64{"acked": 1})
}

// A nack with count false in the first attempt: it is the first attempt again, and marked.
func TestUncountedFirstAttempt(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	for range 20 { // more than max_deliveries
		receive(t, c, "q")
		c.OK(`{"op":"nack","queue":"q","seq":1,"count":false,"delay":"0s"}`)
	}
	if m := receive(t, c, "q"); m.Int("attempt") != 1 || !m.Bool("redelivered") {
		t.Errorf("Operations: redelivered where it may have been delivered before: %s", m.Raw)
	}
}

// Meaning: after max_deliveries a message moves to the dead-letter queue, and says why in its headers.
func TestDeadLetters(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","max_deliveries":2,"lease":"30ms","retry":{"min":"0s","max":"0s"}}`)
	c.OK(`{"op":"publish","queue":"q","headers":{"mine":"☃","gmq-dead-queue":"forged"},"body":{"a" : 1}}`)
	c.OK(`{"op":"publish","queue":"q","encoding":"base64","body":"AA=="}`)
	c.OK(`{"op":"publish","queue":"q","body":3}`)

	receive(t, c, "q")
	c.OK(`{"op":"nack","queue":"q","seq":1,"dead":true,"reason":"cannot \"read\" it"}`)
	one(t, c, `{"op":"receive","queue":"q","lease":"1h"}`)
	c.OK(`{"op":"nack","queue":"q","seq":2,"reason":"first"}`)
	one(t, c, `{"op":"receive","queue":"q","lease":"1h"}`)
	c.OK(`{"op":"nack","queue":"q","seq":2,"reason":"second"}`)
	receive(t, c, "q") // and twice nobody settles it in time
	receive(t, c, "q")
	var dead []harness.Line
	for range 3 {
		dead = append(dead, one(t, c, `{"op":"receive","queue":"q.dlq","wait":"60s","lease":"1h"}`))
	}
	for i, want := range []struct{ body, seq, attempts, reason string }{
		{`{"a" : 1}`, "1", "1", `cannot "read" it`}, {`"AA=="`, "2", "2", "second"}, {`3`, "3", "2", "lease"},
	} {
		m := dead[i]
		h := m.At("headers")
		if m.Body() != want.body || m.Int("seq") != int64(i+1) || m.Int("attempt") != 1 || h.Text("gmq-dead-queue") != "q" ||
			h.Text("gmq-dead-seq") != want.seq || h.Text("gmq-dead-attempts") != want.attempts || !strings.Contains(h.Text("gmq-dead-reason"), want.reason) {
			t.Errorf("Meaning: dead letter %d: %s", i, m.Raw)
		}
	}
	if h := dead[0].At("headers"); h.Text("mine") != "☃" || strings.Count(dead[0].Raw, "gmq-dead-queue") != 1 {
		t.Errorf("Meaning: a dead letter keeps its headers, and ours stand once: %s", dead[0].Raw)
	}
	if dead[1].Text("encoding") != "base64" {
		t.Errorf("Meaning: a dead letter is still what it was: %s", dead[1].Raw)
	}
	wantCounts(t, c, "q", 3, map[string]int64{"dead": 3})
	wantCounts(t, c, "q.dlq", 3, map[string]int64{"leased": 3})

	c.Fails("bad_request", `{"op":"nack","queue":"q.dlq","seq":1,"dead":true}`)
	for range 30 { // a dead-letter queue has none of its own: nothing ever leaves it by itself
		c.OK(`{"op":"nack","queue":"q.dlq","seq":1,"delay":"0s"}`)
		if m := one(t, c, `{"op":"receive","queue":"q.dlq","lease":"1h"}`); m.Int("seq") != 1 {
			t.Fatalf("%s", m.Raw)
		}
	}
	s.Restart()
	c = s.Dial(t)
	wantCounts(t, c, "q", 3, map[string]int64{"dead": 3})
	wantCounts(t, c, "q.dlq", 3, map[string]int64{"ready": 3})
	if m := receive(t, c, "q.dlq"); m.At("headers").Raw != dead[0].At("headers").Raw || m.Body() != dead[0].Body() {
		t.Errorf("a dead letter after a restart: %s\nand before: %s", m.Raw, dead[0].Raw)
	}
	c.Fails("not_found", `{"op":"queue.info","queue":"q.dlq.dlq"}`)
}

// A message that dies is delivered by a subscription of its dead-letter queue too.
func TestDeadLetterSubscription(t *testing.T) {
	s := harness.Start(t, "")
	watch, c := s.Dial(t), s.Dial(t)
	watch.OK(`{"op":"subscribe","queue":"q.dlq","credit":10}`)
	c.OK(`{"op":"subscribe","queue":"q","credit":10}`)
	for i := range 5 {
		c.OK(`{"op":"publish","queue":"q","body":%d}`, i)
		m := c.Push()
		c.OK(`{"op":"nack","dead":true,"queue":"q","seq":%d,"receipt":%s}`, m.Int("seq"), m.Fields["receipt"])
		if d := watch.Push(); d.Body() != fmt.Sprint(i) || d.At("headers").Text("gmq-dead-seq") != fmt.Sprint(i+1) {
			t.Errorf("%s", d.Raw)
		}
	}
}

// Meaning: max_deliveries 0 is no limit.
func TestNoDeliveryLimit(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","max_deliveries":0}`)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	for i := range int64(50) {
		if m := receive(t, c, "q"); m.Int("attempt") != i+1 {
			t.Fatalf("attempt %d: %s", i+1, m.Raw)
		}
		c.OK(`{"op":"nack","queue":"q","seq":1,"delay":"0s"}`)
	}
	wantCounts(t, c, "q", 1, map[string]int64{"ready": 1})
}
