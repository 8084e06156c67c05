package wire_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// bodies are values that a decoder and an encoder would not give back as they were.
var bodies = []string{
	`1e400`, `-0`, `-0.0`, `1.10`, `1E+2`, `12345678901234567890123456789`, `0.1000000000000000055511151231257827`,
	`""`, `"\u0000"`, `"\u0041"`, `"\/"`, `"<>&"`, `"☃😀"`, `"\ud83d\ude00"`, `"\ud800"`, "\"\u2028\u2029\"", "\"\x7f\"", `"\"\\\b\f\n\r\t"`,
	`null`, `true`, `false`, `{}`, `[]`, `{"a" : 1}`, `{"a":1,"a":2}`, `{"":{"":[]}}`, "[1,\t2 ,\r3]", `{"op":"ping","id":7,"body":1}`,
	strings.Repeat("[", 60) + strings.Repeat("]", 60), strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60),
	strings.Repeat("[", 63) + strings.Repeat("]", 63), // with the line's own object the 64 levels of rule 3
	`"` + strings.Repeat("z", 1<<20-2) + `"`,          // max_message_bytes
}

func brief(s string) string { return fmt.Sprintf("%.80s", s) }

// Rule 10: a body is delivered byte for byte, on every way that leads to a consumer.
func TestBodies(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	for _, storage := range []string{harness.Storage(), "memory"} {
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%[1]s"}`, storage)
		for _, body := range bodies {
			c.OK(`{"op":"publish","queue":"%s","body":%s}`, storage, body)
		}
		c.OK(`{"op":"subscribe","queue":"%s","credit":1000}`, storage)
		for _, body := range bodies {
			if got := c.Push().Body(); got != body {
				t.Errorf("rule 10: %s was pushed by %s as %s", brief(body), storage, brief(got))
			}
		}
	}
	s.Restart()
	c = s.Dial(t)
	for _, body := range bodies {
		if got := receive(t, c, harness.Storage()); got.Body() != body {
			t.Errorf("rule 10: %s was received after a restart as %s", brief(body), brief(got.Body()))
		}
	}
}

// Rule 4: white space around a body is not part of it. Rule 2: \r\n ends a line too.
func TestWhiteSpace(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.SendRaw([]byte("\n\r\n  \n\t{ \"op\" :\t\"publish\" , \"queue\" : \"q\" , \"body\" : \t {\"a\" : 1} \t } \r\n\n"))
	if l := c.Reply(); !l.Bool("ok") || l.Int("seq") != 1 {
		t.Fatalf("rule 2: %s", l.Raw)
	}
	m := receive(t, c, "q")
	if m.Body() != `{"a" : 1}` || strings.Contains(m.Raw, `"body": `) || strings.HasSuffix(m.Raw, " }") {
		t.Errorf("rule 4: %s", m.Raw)
	}
	alive(t, c)
}

// Rule 12: headers are delivered as sent.
func TestHeaders(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, headers := range []string{
		`{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`,
		`{" ":"","☃":"😀","\u0041":"\ud83d\ude00","B":"\u0000\n"}`, `{"a":"1","A":"2"}`,
	} {
		c.OK(`{"op":"publish","queue":"q","headers":%s,"body":1}`, headers)
		if got := one(t, c, `{"op":"receive","queue":"q","ack":"auto"}`); string(got.Fields["headers"]) != headers {
			t.Errorf("rule 12: %s was delivered as %s", headers, got.Raw)
		}
	}
	for _, none := range []string{``, `"headers":{},`} {
		c.OK(`{"op":"publish","queue":"q",%s"body":1}`, none)
		if got := one(t, c, `{"op":"receive","queue":"q","ack":"auto"}`); got.Has("headers") {
			t.Errorf("Operations: absent fields are left out: %s", got.Raw)
		}
	}
	for _, bad := range []string{`{"a":1}`, `{"a":null}`, `{"a":{}}`, `{"a":["b"]}`, `{"a":true}`, `{"a":"1","a":"2"}`, `{"a":"1","\u0061":"2"}`} {
		l := c.Fails("bad_request", `{"op":"publish","queue":"q","headers":%s,"body":1}`, bad)
		if !strings.Contains(l.Message(), "header") {
			t.Errorf("rule 3: the error does not name the field: %s", l.Raw)
		}
	}
	allAcked(t, c, "q", 5)
}

// Rule 11: base64 is delivered as it was sent, and checked.
func TestBase64(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, body := range []string{`""`, `"aGVsbG8="`, `"//8A"`, `"AA=="`} {
		c.OK(`{"op":"publish","queue":"q","encoding":"base64","body":%s}`, body)
		if got := one(t, c, `{"op":"receive","queue":"q","ack":"auto"}`); got.Body() != body || got.Text("encoding") != "base64" {
			t.Errorf("rule 11: %s was delivered as %s", body, got.Raw)
		}
	}
	for _, bad := range []string{
		`"encoding":"base64","body":"aGVsbG8"`, `"encoding":"base64","body":"a?=="`, `"encoding":"base64","body":"AA==AA=="`,
		`"encoding":"base64","body":1`, `"encoding":"base64","body":{}`, `"encoding":"hex","body":"00"`, `"encoding":"","body":""`,
	} {
		c.Fails("bad_request", `{"op":"publish","queue":"q",%s}`, bad)
	}
	allAcked(t, c, "q", 4)
}

// Operations: a batch is stored all or none.
func TestBatch(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","max_messages":5}`)
	l := c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":{"a" : 2},"headers":{"h":"x"}},{"body":"aGk=","encoding":"base64"}]}`)
	if seqs := l.Ints("seqs"); len(seqs) != 3 || seqs[0] != 1 || seqs[1] != 2 || seqs[2] != 3 || l.Text("stored") != harness.Stored() || l.Has("seq") {
		t.Errorf("Operations, publish (batch): %s", l.Raw)
	}
	for _, test := range []struct{ code, messages string }{
		{"queue_full", `[{"body":1},{"body":2},{"body":3}]`},
		{"bad_request", `[{"body":1},{"headers":{}}]`},
		{"bad_request", `[{"body":1},{"body":2,"headers":{"a":1}}]`},
		{"bad_request", `[{"body":1},{"body":2,"wat":3}]`},
		{"bad_request", `[{"body":1},{"body":2,"body":3}]`},
		{"bad_request", `[{"body":1},{"body":2,"queue":"other"}]`},
		{"bad_request", `[{"body":1},2]`},
		{"bad_request", `{"body":1}`},
		{"bad_json", `[{"body":1},{"body":01}]`},
		{"message_too_large", `[{"body":1},{"body":"` + strings.Repeat("a", 1<<20-1) + `"}]`},
	} {
		if l := c.Do(`{"op":"publish","queue":"q","messages":%s}`, test.messages); l.Code() != test.code {
			t.Errorf("Operations, publish (batch): %s gives %s, not %s", brief(test.messages), l.Raw, test.code)
		}
		wantCounts(t, c, "q", 3, map[string]int64{"ready": 3})
	}
	c.Fails("bad_request", `{"op":"publish","queue":"q","body":1,"messages":[{"body":1}]}`)
	c.Fails("bad_request", `{"op":"publish","queue":"q"}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":4},{"body":5}]}`)
	got := c.OK(`{"op":"receive","queue":"q","max":10}`).Each("messages")
	want := []string{`1`, `{"a" : 2}`, `"aGk="`, `4`, `5`}
	for i := range want {
		if len(got) != 5 || got[i].Body() != want[i] || got[i].Int("seq") != int64(i+1) {
			t.Fatalf("Operations, publish (batch): received %v", got)
		}
	}
	if got[1].At("headers").Text("h") != "x" || got[2].Text("encoding") != "base64" || got[0].Has("headers") || got[1].Has("encoding") {
		t.Errorf("Operations, publish (batch): the fields of each message: %v", got)
	}
}

var instant = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$`)

// Operations: what a delivery holds, pushed and received.
func TestDelivery(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
	received := receive(t, c, "q")
	sub := c.OK(`{"op":"subscribe","queue":"q"}`).Int("sub")
	pushed := c.Push()
	for _, m := range []harness.Line{received, pushed} {
		tight(t, m)
		if m.Text("queue") != "q" || m.Int("attempt") != 1 || m.Text("receipt") == "" || m.Has("redelivered") ||
			m.Has("headers") || m.Has("key") || m.Has("topic") || m.Has("encoding") {
			t.Errorf("Operations, delivery: %s", m.Raw)
		}
		if !instant.MatchString(m.Text("published")) {
			t.Errorf("rule 5: a time is RFC 3339 with fractions in UTC: %s", m.Raw)
		}
	}
	if received.Int("seq") != 1 || received.Has("op") || received.Has("sub") {
		t.Errorf("Operations, delivery: op and sub only when pushed: %s", received.Raw)
	}
	if pushed.Int("seq") != 2 || pushed.Text("op") != "message" || pushed.Int("sub") != sub {
		t.Errorf("Operations, delivery: op and sub when pushed: %s", pushed.Raw)
	}
	if received.Text("receipt") == pushed.Text("receipt") {
		t.Logf("two messages have the same receipt text; it is opaque and goes with its seq")
	}
}
