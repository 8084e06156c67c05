package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Rule 6: ids are echoed as they were sent, in success and in failure.
func TestIDs(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, id := range []string{
		`0`, `7`, `-1`, `-0`, `1.50`, `1e5`, `1E+400`, `12345678901234567890123`, `"a"`, `""`, `"\u0061"`, `"☃"`, `"\"\\"`, `"\ud83d\ude00"`,
		`"` + strings.Repeat("x", 250) + `"`,
	} {
		for _, line := range []string{
			`{"op":"ping","id":%s}`, `{"id":%s,"op":"publish","queue":"q","body":1}`, `{"op":"queue.info","queue":"q","id":%s}`,
			`{"op":"receive","id":%s,"queue":"q","ack":"auto"}`, `{"op":"queue.list","id":%s}`, `{"op":"server.info","id":%s}`,
			`{"op":"nope","id":%s}`, `{"id":%s}`, `{"op":"ping","wat":1,"id":%s}`, `{"id":%s,"op":"publish","queue":"q"}`,
			`{"op":"queue.info","queue":"none","id":%s}`, `{"op":"ack","queue":"q","seq":"x","id":%s}`,
		} {
			l := c.Do(line, id)
			if string(l.Fields["id"]) != id {
				t.Errorf("rule 6: the id of %s is answered with %s", fmt.Sprintf(line, id), l.Raw)
			}
			tight(t, l)
		}
	}
	for _, id := range []string{`null`, `true`, `{}`, `[1]`} {
		if l := c.Fails("bad_request", `{"op":"ping","id":%s}`, id); !strings.Contains(l.Message(), "id") {
			t.Errorf("rule 6: %s", l.Raw)
		}
	}
	if l := c.OK(`{"op":"ping"}`); l.Has("id") || l.Raw != `{"ok":true}` {
		t.Errorf("rule 7: a request without id is answered %s", l.Raw)
	}
	alive(t, c)
}

// Rule 8: quiet requests are answered only when they fail.
func TestQuiet(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"late","messages":[{"body":1,"delay":"1h"},{"body":2,"delay":"1h"}]}`)
	c.OK(`{"op":"queue.create","queue":"late.dlq"}`)
	for _, line := range []string{
		`{"op":"ping"`, `{"op":"hello"`, `{"op":"server.info"`, `{"op":"queue.list"`,
		`{"op":"queue.create","queue":"q","max_messages":3`, `{"op":"queue.create","queue":"q","max_messages":3`,
		`{"op":"queue.update","queue":"q","max_messages":2`, `{"op":"queue.info","queue":"q"`,
		`{"op":"publish","queue":"q","body":1`, `{"op":"publish","queue":"q","messages":[{"body":2}]`,
		`{"op":"subscribe","queue":"other"`, `{"op":"unsubscribe","sub":1`, `{"op":"subscribe","topic":"t"`, `{"op":"unsubscribe","sub":2`,
		`{"op":"queue.bind","queue":"late","topic":"t"`, `{"op":"publish","topic":"t","body":1`,
		`{"op":"queue.unbind","queue":"late","topic":"t"`, `{"op":"publish","topic":"t","body":1`,
		`{"op":"queue.pause","queue":"q"`, `{"op":"queue.resume","queue":"q"`,
		`{"op":"queue.reschedule","queue":"late","seq":1,"delay":"2h"`, `{"op":"queue.cancel","queue":"late","seq":1`,
		`{"op":"queue.redrive","queue":"late.dlq"`, `{"op":"queue.peek","queue":"late"`, `{"op":"queue.explain","queue":"late","seq":2`,
	} {
		c.Send(line + `,"quiet":true}`)
		for _, l := range c.Settle() {
			t.Errorf("rule 8: %s\n  is answered %s", line, l.Raw)
		}
		if strings.Contains(line, "queue.create") { // its end is not announced, and what follows is for the queue
			c.OK(`{"op":"queue.info","queue":"q"}`)
		}
	}
	for _, test := range []struct{ line, code string }{
		{`{"op":"publish","queue":"q","body":3`, "queue_full"},
		{`{"op":"publish","queue":"q","messages":[{"body":3}]`, "queue_full"},
		{`{"op":"publish","queue":"none","create":false,"body":3`, "not_found"},
		{`{"op":"queue.create","queue":"q","max_messages":9`, "exists"},
		{`{"op":"queue.delete","queue":"none"`, "not_found"},
		{`{"op":"queue.bind","queue":"none","topic":"t"`, "not_found"},
		{`{"op":"queue.unbind","queue":"late","topic":"t"`, "not_found"},
		{`{"op":"publish","topic":"t.*","body":1`, "bad_request"},
		{`{"op":"unsubscribe","sub":77`, "not_found"},
		{`{"op":"ping","wat":1`, "bad_request"},
		{`{"op":"nope"`, "unknown_op"},
		{`{"op":"queue.explain","queue":"late","seq":77`, "not_found"},
		{`{"op":"queue.cancel","queue":"late","seq":77`, "not_found"},
		{`{"op":"queue.redrive","queue":"late"`, "bad_request"},
		{`{"op":"queue.peek","queue":"none"`, "not_found"},
	} {
		c.Fails(test.code, `%s,"id":"x","quiet":true}`, test.line)
	}
	m := c.OK(`{"op":"receive","queue":"q","max":2}`).Each("messages")
	for _, line := range []string{
		`{"op":"extend","queue":"q","seq":1,"lease":"1m"`, `{"op":"ack","queue":"q","seq":1,"receipt":` + string(m[0].Fields["receipt"]),
		`{"op":"nack","queue":"q","seq":2`, `{"op":"queue.purge","queue":"q"`, `{"op":"queue.delete","queue":"q"`,
	} {
		c.Send(line + `,"quiet":true}`)
		for _, l := range c.Settle() {
			t.Errorf("rule 8: %s\n  is answered %s", line, l.Raw)
		}
	}
	c.Fails("not_found", `{"op":"queue.info","queue":"q"}`)
	if l := c.OK(`{"op":"ping","quiet":false}`); l.Raw != `{"ok":true}` {
		t.Errorf("rule 8: %s", l.Raw)
	}
}

// Rule 6: requests may be pipelined; each gets exactly one reply, and publishes of one
// connection to one queue are stored in the order in which they were sent.
func TestPipelining(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	const n, queues = 3000, 3
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"op":"publish","id":%d,"queue":"q%d","body":%d}`+"\n", i, i%queues, i)
		if i%100 == 0 {
			fmt.Fprintf(&b, `{"op":"publish","id":"b%d","queue":"batches","messages":[{"body":%d},{"body":%d}]}`+"\n", i, i, i+1)
		}
		if i%500 == 0 {
			b.WriteString("{\"op\":\"queue.list\",\"quiet\":true}\n{\"op\":\"ping\",\"quiet\":true}\n")
		}
	}
	go c.Write([]byte(b.String()))
	seqs := map[string]int64{}
	for range n + n/100 {
		l := c.Reply()
		id := string(l.Fields["id"])
		if _, twice := seqs[id]; twice || !l.Bool("ok") {
			t.Fatalf("rule 6: the reply to %s: %s", id, l.Raw)
		}
		seqs[id] = l.Int("seq")
	}
	alive(t, c)
	for i := range n {
		if got := seqs[fmt.Sprint(i)]; got != int64(i/queues+1) {
			t.Fatalf("rule 6: publish %d got seq %d in its queue, not %d", i, got, i/queues+1)
		}
	}
	for q := range queues {
		for i, m := range c.OK(`{"op":"receive","queue":"q%d","max":%d,"ack":"auto"}`, q, n).Each("messages") {
			if m.Body() != fmt.Sprint(i*queues+q) {
				t.Fatalf("Meaning: first deliveries are in order of seq: q%d has %s at place %d", q, m.Raw, i)
			}
		}
	}
	last := int64(0)
	for i, m := range c.OK(`{"op":"receive","queue":"batches","max":%d}`, n).Each("messages") {
		if want := int64(i/2*100 + i%2); m.Int("body") != want || m.Int("seq") != last+1 {
			t.Fatalf("rule 6: batch message %d is %s, not %d", i, m.Raw, want)
		}
		last = m.Int("seq")
	}
}

// Rule 6: one connection waits in a receive, and its other requests are answered meanwhile.
func TestRepliesOvertake(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.Send(`{"op":"receive","id":"waits","queue":"q","wait":"60s"}`, `{"op":"ping","id":"p"}`)
	if l := c.Reply(); l.Text("id") != "p" {
		t.Fatalf("rule 6: the ping is answered behind the receive: %s", l.Raw)
	}
	c.Send(`{"op":"publish","id":"pub","queue":"q","body":"x"}`)
	got := map[string]harness.Line{}
	for range 2 {
		l := c.Reply()
		got[l.Text("id")] = l
	}
	if ms := got["waits"].Each("messages"); len(ms) != 1 || ms[0].Body() != `"x"` || !got["pub"].Bool("ok") {
		t.Errorf("rule 6: %v", got)
	}
}

// Rule 6: the reply to a subscribe precedes its deliveries.
func TestSubscribeRepliesFirst(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	for q := range 20 {
		c.OK(`{"op":"publish","queue":"q%d","messages":[{"body":1},{"body":2},{"body":3}]}`, q)
	}
	var b strings.Builder
	for q := range 20 {
		fmt.Fprintf(&b, `{"op":"subscribe","id":%d,"queue":"q%d","credit":10}`+"\n", q, q)
	}
	c.SendRaw([]byte(b.String()))
	known := map[int64]bool{}
	for range 20 * 4 {
		l := c.Next()
		switch sub := l.Int("sub"); {
		case l.Bool("ok"):
			if known[sub] {
				t.Fatalf("two subscriptions of one connection are both %d", sub)
			}
			known[sub] = true
		case !known[sub]:
			t.Fatalf("rule 6: a delivery before the reply: %s", l.Raw)
		}
	}
	alive(t, c)
}

// R130: a storage that the server was not given is refused.
func TestStorageNotConfigured(t *testing.T) {
	if harness.Storage() == "mysql" {
		t.Skip("this run has it configured")
	}
	c := harness.Start(t, "").Dial(t)
	if l := c.Do(`{"op":"queue.create","queue":"m","storage":"mysql"}`); l.Code() != "bad_request" || !strings.Contains(l.Message(), "mysql") {
		t.Errorf("R130: %s", l.Raw)
	}
	alive(t, c)
}
