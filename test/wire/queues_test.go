package wire_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// Operations, queue.pause: receive gives paused, subscribers get nothing, publishing goes on.
func TestPause(t *testing.T) {
	s := harness.Start(t, "")
	c, sub := s.Dial(t), s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q"}`)
	sub.OK(`{"op":"subscribe","queue":"q","credit":10}`)
	c.OK(`{"op":"queue.pause","queue":"q"}`)
	c.OK(`{"op":"queue.pause","queue":"q"}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
	for _, wait := range []string{"0s", "1h"} {
		if l := c.Fails("paused", `{"op":"receive","queue":"q","wait":"%s"}`, wait); !strings.Contains(l.Message(), `"q"`) {
			t.Errorf("rule 7: messages name the queue: %s", l.Raw)
		}
	}
	alive(t, sub)
	c.OK(`{"op":"queue.resume","queue":"q"}`)
	if a, b := sub.Push(), sub.Push(); a.Body() != `1` || b.Body() != `2` {
		t.Errorf("after resume: %s %s", a.Raw, b.Raw)
	}
	c.OK(`{"op":"queue.pause","queue":"q"}`)
	if l := c.OK(`{"op":"ack","queue":"q","seq":[1,2]}`); l.Int("settled") != 2 {
		t.Errorf("an ack on a paused queue: %s", l.Raw)
	}
	c.OK(`{"op":"publish","queue":"q","body":3}`)
	s.Restart()
	c = s.Dial(t)
	c.Fails("paused", `{"op":"receive","queue":"q"}`)
	c.OK(`{"op":"queue.resume","queue":"q"}`)
	if m := receive(t, c, "q"); m.Body() != `3` {
		t.Errorf("%s", m.Raw)
	}
}

// Operations, queue.purge.
func TestPurge(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(slowRetry, "q")
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4}]}`)
	c.OK(`{"op":"receive","queue":"q","max":2}`)
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	c.OK(`{"op":"queue.purge","queue":"q"}`)
	got := counts(c, "q")
	if got.Int("ready") != 0 || got.Int("purged") < 2 || got.Int("purged")+got.Int("leased") != 3 || got.Int("acked") != 1 || got.Int("published") != 4 {
		t.Errorf("Operations, queue.purge: %s", got.Raw)
	}
	if l := c.OK(`{"op":"publish","queue":"q","body":5}`); l.Int("seq") != 5 {
		t.Errorf("a seq is never used again: %s", l.Raw)
	}
	if m := receive(t, c, "q"); m.Body() != `5` {
		t.Errorf("%s", m.Raw)
	}
}

// Operations, queue.delete: subscribers are told, and who waits is answered.
func TestDelete(t *testing.T) {
	s := harness.Start(t, "")
	c, sub, waits := s.Dial(t), s.Dial(t), s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	id := sub.OK(`{"op":"subscribe","queue":"q"}`).Int("sub")
	sub.Push()
	waits.Send(`{"op":"receive","id":"w","queue":"q","wait":"1h"}`)
	waits.OK(`{"op":"ping"}`)
	c.OK(`{"op":"queue.delete","queue":"q"}`)
	if l := sub.Push(); l.Text("op") != "unsubscribed" || l.Int("sub") != id || l.Text("reason") == "" {
		t.Errorf("rule 9: %s", l.Raw)
	} else {
		tight(t, l)
	}
	if l := waits.Reply(); l.Text("id") != "w" || l.Bool("ok") && len(l.Each("messages")) > 0 {
		t.Errorf("rule 6: every request gets one reply: %s", l.Raw)
	}
	for _, op := range []string{
		`{"op":"queue.info","queue":"q"}`, `{"op":"ack","queue":"q","seq":1}`, `{"op":"nack","queue":"q","seq":1}`, `{"op":"extend","queue":"q","seq":1,"lease":"1s"}`,
		`{"op":"queue.delete","queue":"q"}`, `{"op":"queue.purge","queue":"q"}`, `{"op":"queue.pause","queue":"q"}`, `{"op":"queue.resume","queue":"q"}`, `{"op":"queue.update","queue":"q"}`,
	} {
		c.Fails("not_found", "%s", op)
	}
	if list := c.OK(`{"op":"queue.list"}`).Each("queues"); len(list) != 0 {
		t.Errorf("a deleted queue is listed: %v", list)
	}
	c.OK(`{"op":"publish","queue":"q","body":2}`)
	wantCounts(t, c, "q", 1, map[string]int64{"ready": 1})
	s.Restart()
	c = s.Dial(t)
	wantCounts(t, c, "q", 1, map[string]int64{"ready": 1})
	if m := receive(t, c, "q"); m.Body() != `2` {
		t.Errorf("%s", m.Raw)
	}
}

// Operations, queue.create and queue.update: the same settings are ok, others exist already.
func TestSettings(t *testing.T) {
	s := harness.Start(t, "queue_defaults: {max_messages: 77, lease: 45s}\n")
	c := s.Dial(t)
	const all = `"storage":"file","max_messages":10,"max_bytes":1000,"overflow":"drop_oldest","lease":"1m30s","max_deliveries":3,"retry":{"min":"2s","max":"1m","factor":3,"jitter":0.5}`
	check := func(l harness.Line, lease string, most int64) {
		t.Helper()
		in := l.At("settings")
		got, err := time.ParseDuration(in.Text("lease"))
		want, _ := time.ParseDuration(lease)
		if err != nil || got != want || in.Int("max_messages") != most {
			t.Errorf("Operations: settings in force must have lease %s and max_messages %d: %s", lease, most, l.Raw)
		}
	}
	check(c.OK(`{"op":"queue.create","queue":"q",%s}`, all), "90s", 10)
	check(c.OK(`{"op":"queue.create","queue":"q",%s}`, all), "90s", 10)
	check(c.OK(`{"op":"queue.create","queue":"q"}`), "90s", 10)
	check(c.OK(`{"op":"queue.create","queue":"q","lease":"90s","retry":{"factor":3}}`), "90s", 10)
	for _, other := range []string{
		`"storage":"memory"`, `"max_messages":11`, `"max_bytes":0`, `"overflow":"reject"`, `"lease":"91s"`, `"max_deliveries":0`,
		`"retry":{"min":"1s"}`, `"retry":{"max":"2m"}`, `"retry":{"factor":2}`, `"retry":{"jitter":0}`,
	} {
		c.Fails("exists", `{"op":"queue.create","queue":"q",%s}`, other)
	}
	check(c.OK(`{"op":"queue.create","queue":"defaults"}`), "45s", 77)
	check(c.OK(`{"op":"queue.info","queue":"q"}`), "90s", 10)
	c.OK(`{"op":"queue.update","queue":"q","max_messages":20,"retry":{"min":"3s"}}`)
	l := c.OK(`{"op":"queue.info","queue":"q"}`)
	check(l, "90s", 20)
	if r := l.At("settings").At("retry"); r.Text("min") != "3s" || r.Int("factor") != 3 {
		t.Errorf("queue.update leaves the rest alone: %s", l.Raw)
	}
	c.Fails("not_found", `{"op":"queue.update","queue":"none","max_messages":1}`)
	c.Fails("bad_request", `{"op":"queue.update","queue":"q","storage":"memory"}`)
	c.Fails("bad_request", `{"op":"queue.update","queue":"q","retry":{"min":"2m"}}`)
	c.Fails("bad_request", `{"op":"queue.create","queue":"new","retry":{"min":"1h"}}`) // more than the default max
	s.Configure("queue_defaults: {max_messages: 5, lease: 1s}\n")
	s.Restart()
	c = s.Dial(t)
	check(c.OK(`{"op":"queue.info","queue":"q"}`), "90s", 20)
	check(c.OK(`{"op":"queue.info","queue":"defaults"}`), "45s", 77) // copied when it was created
	check(c.OK(`{"op":"queue.create","queue":"later"}`), "1s", 5)
}

// Operations, queue.list: prefix, after and limit.
func TestList(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	var names []string
	for i := range 120 {
		name := fmt.Sprintf("a.%03d", i)
		names = append(names, name)
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%s"}`, name, []string{harness.Storage(), "memory"}[i%2])
	}
	c.OK(`{"op":"queue.create","queue":"b"}`)
	c.OK(`{"op":"publish","queue":"a.007","messages":[{"body":1},{"body":2},{"body":3}]}`)
	receive(t, c, "a.007")
	page := func(args string) (got []string) {
		t.Helper()
		for _, q := range c.OK(`{"op":"queue.list"%s}`, args).Each("queues") {
			got = append(got, q.Text("queue"))
		}
		return got
	}
	var all []string
	for after := ""; ; {
		got := page(fmt.Sprintf(`,"prefix":"a.","limit":7,"after":"%s"`, after))
		if all = append(all, got...); len(got) < 7 {
			break
		}
		after = got[6]
	}
	if !slices.Equal(all, names) {
		t.Errorf("Operations, queue.list: page by page: %v", all)
	}
	for _, test := range []struct {
		args string
		n    int
		is   string
	}{
		{``, 100, "a.000"}, {`,"limit":1000`, 121, "a.000"}, {`,"prefix":"b"`, 1, "b"}, {`,"prefix":"c"`, 0, ""}, {`,"after":"a.119"`, 1, "b"},
		{`,"after":"a.0075"`, 100, "a.008"}, {`,"prefix":"a.01","after":"a.015"`, 4, "a.016"}, {`,"prefix":""`, 100, "a.000"},
	} {
		if got := page(test.args); len(got) != test.n || test.n > 0 && got[0] != test.is {
			t.Errorf("Operations, queue.list%s: %v", test.args, got)
		}
	}
	l := c.OK(`{"op":"queue.list","prefix":"a.007"}`)
	if want := `{"ok":true,"queues":[{"queue":"a.007","storage":"memory","ready":2,"leased":1,"delayed":0}]}`; l.Raw != want {
		t.Errorf("Operations, queue.list: %s, not %s", l.Raw, want)
	}
	c.Fails("bad_request", `{"op":"queue.list","limit":1001}`)
}

// Operations, queue.info: settings, counts, oldest_age, consumers; and the equation.
func TestInfo(t *testing.T) {
	s := harness.Start(t, "")
	c, other := s.Dial(t), s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","max_messages":8,"overflow":"drop_oldest","retry":{"min":"1h","max":"1h"}}`)
	if age := c.OK(`{"op":"queue.info","queue":"q"}`).Text("oldest_age"); age != "0s" {
		t.Errorf("oldest_age of an empty queue is %q", age)
	}
	for i := range 10 {
		c.OK(`{"op":"publish","queue":"q","body":%d}`, i)
	}
	ms := c.OK(`{"op":"receive","queue":"q","max":6}`).Each("messages") // seq 3 to 8
	if len(ms) != 6 || ms[0].Int("seq") != 3 {
		t.Fatalf("%v", ms)
	}
	c.OK(`{"op":"ack","queue":"q","seq":[3,4]}`)
	c.OK(`{"op":"nack","queue":"q","seq":5}`)
	c.OK(`{"op":"nack","queue":"q","seq":6,"dead":true}`)
	wantCounts(t, c, "q", 10, map[string]int64{"ready": 2, "delayed": 1, "leased": 2, "acked": 2, "dead": 1, "dropped": 2})
	sub := other.OK(`{"op":"subscribe","queue":"q"}`).Int("sub")
	other.OK(`{"op":"subscribe","queue":"q"}`)
	l := c.OK(`{"op":"queue.info","queue":"q"}`)
	if age, err := time.ParseDuration(l.Text("oldest_age")); err != nil || age < 0 || l.Int("consumers") != 2 || !l.Has("settings") {
		t.Errorf("Operations, queue.info: %s", l.Raw)
	}
	tight(t, l)
	other.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	if n := c.OK(`{"op":"queue.info","queue":"q"}`).Int("consumers"); n != 1 {
		t.Errorf("%d consumers after unsubscribe", n)
	}
	other.Close()
	harness.Eventually(t, "the consumer is gone", func() bool { return c.OK(`{"op":"queue.info","queue":"q"}`).Int("consumers") == 0 })
	s.Restart()
	c = s.Dial(t) // leases end with the server
	wantCounts(t, c, "q", 10, map[string]int64{"ready": 4, "delayed": 1, "acked": 2, "dead": 1, "dropped": 2})
}

// Meaning: queues are created by the first who names them, unless somebody says no.
func TestAutoCreate(t *testing.T) {
	makes := []string{
		`{"op":"publish","queue":"%s","body":1%s}`, `{"op":"publish","queue":"%s","messages":[{"body":1}]%s}`,
		`{"op":"receive","queue":"%s"%s}`, `{"op":"receive","queue":"%s","wait":"1h"%s}`, `{"op":"subscribe","queue":"%s"%s}`,
	}
	s := harness.Start(t, "")
	c := s.Dial(t)
	for i, line := range makes {
		name := fmt.Sprintf("q%d", i)
		c.Fails("not_found", line, name, `,"create":false`)
		c.Fails("not_found", `{"op":"queue.info","queue":"%s"}`, name)
		if strings.Contains(line, "1h") {
			c.Sendf(line, name, "")
		} else {
			c.OK(line, name, "")
		}
		c.OK(`{"op":"queue.info","queue":"%s"}`, name)
	}
	s.Configure("queue_defaults: {auto_create: false}\n")
	s.Restart()
	c = s.Dial(t)
	for i, line := range makes {
		c.Fails("not_found", line, "other", "")
		c.Fails("not_found", line, "other", `,"create":true`)
		if !strings.Contains(line, "1h") && i != 2 {
			c.OK(line, fmt.Sprintf("q%d", i), "")
		}
	}
	c.OK(`{"op":"queue.create","queue":"other"}`)
	c.OK(`{"op":"publish","queue":"other","body":1}`)
	c.OK(`{"op":"nack","queue":"other","seq":%d,"dead":true}`, receive(t, c, "other").Int("seq"))
	wantCounts(t, c, "other.dlq", 1, map[string]int64{"ready": 1})
}
