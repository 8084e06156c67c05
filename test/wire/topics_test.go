package wire_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// bind makes a queue with settings, such as `"storage":"memory"`, and binds it to patterns.
func bind(c *harness.Conn, queue, settings string, patterns ...string) {
	if settings != "" {
		settings = "," + settings
	}
	c.OK(`{"op":"queue.create","queue":"%s"%s}`, queue, settings)
	for _, p := range patterns {
		c.OK(`{"op":"queue.bind","queue":"%s","topic":"%s"}`, queue, p)
	}
}

// bindings are those of queue.info.
func bindings(c *harness.Conn, queue string) (patterns []string) {
	json.Unmarshal(c.OK(`{"op":"queue.info","queue":"%s"}`, queue).Fields["bindings"], &patterns)
	return patterns
}

// rest takes and settles all that a queue has, and gives the bodies, joined.
func rest(c *harness.Conn, queue string) string {
	var bodies []string
	for {
		ms := c.OK(`{"op":"receive","queue":"%s","max":10000,"ack":"auto"}`, queue).Each("messages")
		if len(ms) == 0 {
			return strings.Join(bodies, " ")
		}
		for _, m := range ms {
			bodies = append(bodies, m.Body())
		}
	}
}

// wantRest compares what a queue has with the bodies wanted.
func wantRest(t *testing.T, c *harness.Conn, queue, want string) {
	t.Helper()
	if got := rest(c, queue); got != want {
		t.Errorf("queue %s has %.1000s, not %.1000s", queue, got, want)
	}
}

// R85: queue.bind and queue.unbind.
func TestBindings(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.Fails("not_found", `{"op":"queue.bind","queue":"none","topic":"a"}`)
	c.Fails("not_found", `{"op":"queue.unbind","queue":"none","topic":"a"}`)
	c.Fails("not_found", `{"op":"queue.info","queue":"none"}`) // neither made it
	bind(c, "f", "", "b.*", "a", "b.*", "c.>")
	bind(c, "m", `"storage":"memory"`, "a")
	bind(c, "none.bound", "")
	if l := c.OK(`{"op":"queue.bind","id":7,"queue":"f","topic":"a"}`); l.Raw != `{"id":7,"ok":true}` {
		t.Errorf("R85: %s", l.Raw)
	}
	if got := bindings(c, "f"); !slices.Equal(got, []string{"a", "b.*", "c.>"}) {
		t.Errorf("R85: queue.info shows each pattern once, in order: %v", got)
	}
	if l := c.OK(`{"op":"queue.info","queue":"none.bound"}`); l.Has("bindings") {
		t.Errorf("R85: %s", l.Raw)
	}
	c.OK(`{"op":"queue.unbind","queue":"f","topic":"c.>"}`)
	c.Fails("not_found", `{"op":"queue.unbind","queue":"f","topic":"c.>"}`)
	c.Fails("not_found", `{"op":"queue.unbind","queue":"f","topic":"b.x"}`) // a topic that the pattern matches is another pattern

	s.Restart()
	c = s.Dial(t)
	if got := bindings(c, "f"); !slices.Equal(got, []string{"a", "b.*"}) {
		t.Errorf("R85: the bindings of a file queue survive: %v", got)
	}
	if l := c.OK(`{"op":"publish","topic":"a","body":1}`); l.Int("queues") != 1 {
		t.Errorf("R85: the memory queue is gone, and its bindings with it: %s", l.Raw)
	}
	if l := c.OK(`{"op":"publish","topic":"b.x","body":2}`); l.Int("queues") != 1 {
		t.Errorf("R85: %s", l.Raw)
	}
	c.OK(`{"op":"queue.delete","queue":"f"}`)
	if l := c.OK(`{"op":"publish","topic":"a","body":3}`); l.Int("queues") != 0 {
		t.Errorf("R85: bindings go with their queue: %s", l.Raw)
	}
	c.OK(`{"op":"queue.create","queue":"f"}`)
	if got := bindings(c, "f"); len(got) != 0 {
		t.Errorf("R85: a new queue of the name is bound to nothing: %v", got)
	}
}

// R84: what a pattern matches.
func TestPatterns(t *testing.T) {
	c := harness.Start(t, "queue_defaults: {storage: memory}\n").Dial(t)
	long := strings.Repeat("x", 255)
	deep := strings.Repeat("a.", 127) + "a"
	for i, test := range []struct {
		pattern string
		yes, no []string
	}{
		{"a", []string{"a"}, []string{"A", "b", "a.a", "aa"}},
		{"a.b", []string{"a.b"}, []string{"a", "b", "a.b.c", "x.a.b"}},
		{"*", []string{"a", "b-1", "_"}, []string{"a.b"}},
		{"a.*", []string{"a.b", "a.a"}, []string{"a", "a.b.c", "b.a"}},
		{"*.b", []string{"a.b", "b.b"}, []string{"b", "a.b.b"}},
		{"a.*.c", []string{"a.b.c", "a.c.c"}, []string{"a.c", "a.b.b.c", "a.b.c.d"}},
		{">", []string{"a", "a.b", deep, long}, nil},
		{"a.>", []string{"a.b", "a.b.c", deep}, []string{"a", "b.a"}},
		{"*.>", []string{"a.b", "a.b.c"}, []string{"a"}},
		{"*.*.>", []string{"a.b.c", "a.b.c.d"}, []string{"a", "a.b"}},
		{deep, []string{deep}, []string{deep[2:]}},
		{long, []string{long}, []string{long[1:]}},
		{strings.Repeat("*.", 127) + "*", []string{deep}, []string{deep[2:]}},
		{strings.Repeat("*.", 127) + ">", []string{deep}, []string{deep[2:]}},
	} {
		queue := fmt.Sprint("q", i)
		bind(c, queue, "", test.pattern)
		for want, topics := range [][]string{test.no, test.yes} {
			for _, topic := range topics {
				if l := c.OK(`{"op":"publish","topic":"%s","body":1}`, topic); l.Int("queues") != int64(want) {
					t.Errorf("R84: %.40s against %.40s: %s", topic, test.pattern, l.Raw)
				}
			}
		}
		c.OK(`{"op":"queue.unbind","queue":"%s","topic":"%s"}`, queue, test.pattern)
		wantCounts(t, c, queue, int64(len(test.yes)), map[string]int64{"ready": int64(len(test.yes))})
	}
}

// R86, R88, R89: what the publisher is told, and what the consumers get.
func TestPublishToTopic(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	bind(c, "f1", "", "t.*", ">", "t.a") // three patterns, one copy
	bind(c, "f2", "", "t.a")
	if l := c.OK(`{"op":"publish","id":"x","topic":"t.a","body":{ "n" : 1.0 }}`); l.Raw != `{"id":"x","ok":true,"queues":2,"stored":"`+harness.Stored()+`"}` {
		t.Errorf("R88: %s", l.Raw)
	}
	bind(c, "m", `"storage":"memory"`, "t.a")
	if l := c.OK(`{"op":"publish","topic":"t.a","headers":{"h":"\u00e4"},"key":"k","priority":7,"encoding":"base64","body":"AA=="}`); l.Raw != `{"ok":true,"queues":3,"stored":"memory"}` {
		t.Errorf("R88: the weakest counts: %s", l.Raw)
	}
	if l := c.OK(`{"op":"publish","topic":"t.b","messages":[{"body":"x"},{"body":"y","delay":"1h"},{"body":"z","ttl":"1ms"}]}`); l.Raw != `{"ok":true,"queues":1,"stored":"`+harness.Stored()+`"}` {
		t.Errorf("R88: a batch: %s", l.Raw)
	}
	c.OK(`{"op":"queue.unbind","queue":"f1","topic":">"}`)
	if l := c.OK(`{"op":"publish","topic":"nobody","body":1}`); l.Raw != `{"ok":true,"queues":0}` {
		t.Errorf("R88: nobody is bound: %s", l.Raw)
	}
	c.Send(`{"op":"publish","topic":"t.b","quiet":true,"body":"quiet"}`, `{"op":"publish","topic":"nobody","quiet":true,"body":1}`)
	alive(t, c)
	c.OK(`{"op":"queue.pause","queue":"f2"}`)
	c.OK(`{"op":"publish","topic":"t.a","body":"paused"}`)
	c.OK(`{"op":"queue.resume","queue":"f2"}`)

	for _, queue := range []string{"f1", "f2", "m"} {
		ms := c.OK(`{"op":"receive","queue":"%s","max":3}`, queue).Each("messages")
		if len(ms) < 2 {
			t.Fatalf("queue %s: %v", queue, ms)
		}
		seq := int64(2)
		if queue == "m" {
			seq = 1
		}
		m := ms[0] // the higher priority first
		if m.Int("seq") != seq || m.Text("topic") != "t.a" || m.Text("key") != "k" || string(m.Fields["headers"]) != `{"h":"\u00e4"}` ||
			m.Text("encoding") != "base64" || m.Body() != `"AA=="` || m.Int("attempt") != 1 || m.Bool("redelivered") || m.Has("dropped") {
			t.Errorf("R89: %s", m.Raw)
		}
		if m = ms[1]; queue != "m" && (m.Int("seq") != 1 || m.Body() != `{ "n" : 1.0 }` || m.Text("topic") != "t.a" || m.Has("headers") || m.Has("key")) {
			t.Errorf("R89: %s", m.Raw)
		}
		tight(t, ms[0])
	}
	wantCounts(t, c, "f1", 7, map[string]int64{"ready": 2, "leased": 3, "delayed": 1, "expired": 1})
	if ms := c.OK(`{"op":"queue.peek","queue":"f1","after":2,"limit":1}`).Each("messages"); len(ms) != 1 || ms[0].Text("topic") != "t.b" {
		t.Errorf("R89: queue.peek: %v", ms)
	}
	c.OK(`{"op":"publish","queue":"f2","body":"direct"}`)
	if m := receive(t, c, "f2"); m.Has("topic") {
		t.Errorf("R89: what was published to a queue has no topic: %s", m.Raw)
	}
	// A dead letter keeps its topic, there and back.
	c.OK(`{"op":"nack","queue":"f2","seq":1,"dead":true}`)
	if m := receive(t, c, "f2.dlq"); m.Text("topic") != "t.a" {
		t.Errorf("R89: %s", m.Raw)
	}
	c.OK(`{"op":"nack","queue":"f2.dlq","seq":1,"delay":"0s"}`)
	c.OK(`{"op":"queue.redrive","queue":"f2.dlq"}`)
	if m := receive(t, c, "f2"); m.Text("topic") != "t.a" || m.Body() != `{ "n" : 1.0 }` {
		t.Errorf("R89: %s", m.Raw)
	}
}

// R88: a topic's message is known, or not, queue by queue.
func TestTopicDuplicates(t *testing.T) {
	for _, storage := range []string{harness.Storage(), "memory"} {
		c := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n").Dial(t)
		bind(c, "a", "", "t")
		publish := func(body string, queues int64, duplicate bool) {
			t.Helper()
			if l := c.OK(`{"op":"publish","topic":"t",%s}`, body); l.Int("queues") != queues || l.Bool("duplicate") != duplicate || l.Text("stored") == "" {
				t.Errorf("R88: %s: %s", body, l.Raw)
			}
		}
		publish(`"dedup_id":"x","body":1`, 1, false)
		publish(`"dedup_id":"x","body":2`, 1, true)
		bind(c, "b", "", "t")
		publish(`"dedup_id":"x","body":3`, 2, false)
		publish(`"dedup_id":"x","body":4`, 2, true)
		publish(`"messages":[{"dedup_id":"x","body":5},{"dedup_id":"y","body":6},{"body":7}]`, 2, false)
		publish(`"messages":[{"dedup_id":"x","body":8},{"dedup_id":"y","body":9}]`, 2, true)
		c.OK(`{"op":"publish","queue":"a","dedup_id":"x","body":10}`) // direct or not, it is one id
		wantRest(t, c, "a", "1 6 7")
		wantRest(t, c, "b", "3 6 7")
	}
}

// R87: all queues have it, or none has.
func TestTopicAllOrNone(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	for i := range 8 { // in several shards
		bind(c, fmt.Sprint("f", i), "", "t")
		bind(c, fmt.Sprint("m", i), `"storage":"memory"`, "t")
	}
	bind(c, "limited", `"max_messages":2`, "t")
	bind(c, "sized", `"max_bytes":40,"storage":"memory"`, "t")
	c.OK(`{"op":"publish","topic":"t","body":1}`)
	for _, test := range []struct{ code, publish, queue string }{
		{"queue_full", `"messages":[{"body":2},{"body":3}]`, "limited"},
		{"queue_full", `"body":"` + strings.Repeat("x", 40) + `"`, "sized"},
		{"not_stored", `"body":4,"stored":"disk"`, `"m`},
		{"not_stored", `"body":4,"stored":"quorum"`, ""},
		{"not_stored", `"messages":[{"body":4},{"body":5,"stored":"disk"}]`, `"m`},
		{"message_too_large", `"body":"` + strings.Repeat("x", 1<<20) + `"`, ""},
	} {
		l := c.Fails(test.code, `{"op":"publish","topic":"t",%s}`, test.publish)
		if !strings.Contains(l.Message(), test.queue) {
			t.Errorf("R10: the error names the queue: %s", l.Raw)
		}
	}
	c.OK(`{"op":"publish","topic":"t","body":2}`)
	c.Send(`{"op":"publish","id":1,"topic":"t","quiet":true,"body":3}`, `{"op":"publish","id":2,"topic":"t","quiet":true,"messages":[{"body":4}]}`)
	for range 2 {
		c.Reply().WantCode(t, "queue_full")
	}
	for i := range 8 {
		wantRest(t, c, fmt.Sprint("f", i), "1 2")
		wantRest(t, c, fmt.Sprint("m", i), "1 2")
	}
	wantRest(t, c, "limited", "1 2")
	wantRest(t, c, "sized", "1 2")
	alive(t, c)

	// What makes room for a publish does so for one to a topic, and only where all have it.
	c.OK(`{"op":"queue.update","queue":"limited","overflow":"drop_oldest"}`)
	bind(c, "dead", `"max_messages":1,"overflow":"dead_letter"`, "t")
	for i := range 3 {
		c.OK(`{"op":"publish","topic":"t","body":%d}`, i)
	}
	c.OK(`{"op":"queue.update","queue":"sized","max_bytes":1}`)
	c.Fails("queue_full", `{"op":"publish","topic":"t","body":3}`)
	c.Fails("queue_full", `{"op":"publish","topic":"t","messages":[{"body":3},{"body":4},{"body":5}]}`)
	c.OK(`{"op":"queue.unbind","queue":"sized","topic":"t"}`)
	c.Fails("queue_full", `{"op":"publish","topic":"t","messages":[{"body":3},{"body":4},{"body":5}]}`) // more than two at once
	wantRest(t, c, "limited", "1 2")
	wantRest(t, c, "dead", "2")
	wantRest(t, c, "dead.dlq", "0 1")
	harness.Eventually(t, "what was taken is settled", func() bool { return counts(c, "limited").Int("acked") == 4 })
	wantCounts(t, c, "limited", 5, map[string]int64{"acked": 4, "dropped": 1})
	for i := range 8 {
		wantRest(t, c, fmt.Sprint("f", i), "0 1 2")
	}
}

// R92: what one connection sends keeps its order in every queue, whatever it is and however it gets there.
func TestTopicOrder(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	queues := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	want := map[string][]string{}
	bound := map[string]bool{}
	var lines []string
	send := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for i, q := range queues {
		send(`{"op":"queue.create","queue":"%s","storage":"%s"}`, q, []string{harness.Storage(), "memory"}[i%2])
	}
	for n := range 4000 { // more than one read's worth
		q := queues[n*7%len(queues)]
		switch n % 5 {
		case 0:
			op := "bind"
			if bound[q] {
				op = "unbind"
			}
			bound[q] = !bound[q]
			send(`{"op":"queue.%s","queue":"%s","topic":"t.>"}`, op, q)
		case 1:
			send(`{"op":"publish","queue":"%s","body":%d}`, q, n)
			want[q] = append(want[q], fmt.Sprint(n))
		case 2:
			send(`{"op":"publish","topic":"t.x.%d","messages":[{"body":%d},{"body":-%d}]}`, n, n, n)
		default:
			send(`{"op":"publish","topic":"t.y","body":%d}`, n)
		}
		if n%5 < 2 {
			continue
		}
		for q, is := range bound {
			if is {
				want[q] = append(want[q], fmt.Sprint(n))
				if n%5 == 2 {
					want[q] = append(want[q], fmt.Sprint(-n))
				}
			}
		}
	}
	go c.Write([]byte(strings.Join(lines, "\n") + "\n"))
	for range lines {
		if l := c.Reply(); !l.Bool("ok") {
			t.Fatal(l.Raw)
		}
	}
	for _, q := range queues {
		wantRest(t, c, q, strings.Join(want[q], " "))
	}
}

// R15: what was sent before a client went away is carried out, to topics too.
func TestTopicThenGone(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	for i, q := range []string{"a", "b", "c", "d"} {
		bind(c, q, `"storage":"`+[]string{harness.Storage(), "memory"}[i%2]+`"`, "t")
	}
	const n = 500
	gone := s.Dial(t)
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"op":"publish","quiet":true,"topic":"t","body":%d}`+"\n", i)
	}
	gone.SendRaw([]byte(lines.String() + `{"op":"publish","topic":"t","body":"half`))
	gone.Close()
	for _, q := range []string{"a", "b", "c", "d"} {
		harness.Eventually(t, "all is there", func() bool { return counts(c, q).Int("published") == n })
	}
	alive(t, c)
}

// R84, R85: what a client must not be able to name, make or fill.
func TestHostileTopics(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q"}`)
	long := strings.Repeat("x", 256)
	for _, topic := range []string{
		``, `.`, `..`, `.a`, `a.`, `a..b`, ` `, `a b`, `a/b`, `ä`, `\u0000`, `a\n`, `\"`, `a*`, `*a`, `**`, `a.>b`, `>>`, `a.>.b`, `>.a`, `>.>`, `>.*`, `$`, `#`,
		long, strings.Repeat("a.", 128), "a." + long[:254], strings.Repeat(".", 1000), strings.Repeat("*.", 30_000) + "*",
	} {
		for _, line := range []string{
			`{"op":"queue.bind","queue":"q","topic":"%s"}`, `{"op":"queue.unbind","queue":"q","topic":"%s"}`,
			`{"op":"publish","topic":"%s","body":1}`, `{"op":"publish","topic":"%s","messages":[{"body":1}]}`, `{"op":"subscribe","topic":"%s"}`,
		} {
			if l := c.Fails("bad_request", line, topic); len(l.Raw) > 600 || !strings.Contains(l.Message(), "topic") {
				t.Errorf("R84: %.100s: %.1000s", line, l.Raw)
			}
		}
	}
	for _, pattern := range []string{`*`, `>`, `a.*`, `*.a`, `a.>`} {
		c.Fails("bad_request", `{"op":"publish","topic":"%s","body":1}`, pattern)
	}
	for _, line := range []string{
		`{"op":"publish","topic":null,"body":1}`, `{"op":"publish","topic":"a","queue":"q","body":1}`, `{"op":"publish","body":1}`, `{"op":"publish","topic":"a"}`,
		`{"op":"publish","topic":"a","topic":"a","body":1}`, `{"op":"publish","topic":"a","messages":[]}`, `{"op":"publish","topic":"a","messages":[{"topic":"a","body":1}]}`,
		`{"op":"subscribe","topic":"a","queue":"q"}`, `{"op":"subscribe"}`, `{"op":"subscribe","topic":["a"]}`, `{"op":"receive","topic":"a"}`, `{"op":"ack","topic":"a","seq":1}`,
		`{"op":"queue.bind","queue":"q"}`, `{"op":"queue.bind","topic":"a"}`, `{"op":"queue.bind","queue":"q","topic":["a","b"]}`, `{"op":"queue.bind","queue":".c1.s1","topic":"a"}`,
		`{"op":"queue.create","queue":"q","topic":"a"}`, `{"op":"queue.info","queue":"q","topic":"a"}`,
	} {
		c.Fails("bad_request", "%s", line)
	}
	if got := bindings(c, "q"); len(got) != 0 {
		t.Errorf("R5: a refused request has bound %v", got)
	}
	wantCounts(t, c, "q", 0, nil)
	alive(t, c)

	// 10,000 patterns are enough for one queue. Those that are bound already still are.
	var b strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&b, `{"op":"queue.bind","id":%d,"queue":"q","topic":"p%d.*.x"}`+"\n", i, i)
	}
	go c.Write([]byte(b.String()))
	for i := range 10_001 {
		l := c.Reply()
		if i == 10_000 {
			l.WantCode(t, "overloaded")
		} else if !l.Bool("ok") {
			t.Fatal(l.Raw)
		}
	}
	c.OK(`{"op":"queue.bind","queue":"q","topic":"p17.*.x"}`)
	for _, topic := range []string{"p0.a.x", "p9999.b.x"} {
		if l := c.OK(`{"op":"publish","topic":"%s","body":1}`, topic); l.Int("queues") != 1 {
			t.Errorf("R85: %s", l.Raw)
		}
	}
	c.OK(`{"op":"queue.unbind","queue":"q","topic":"p17.*.x"}`)
	c.OK(`{"op":"queue.bind","queue":"q","topic":"one.more"}`)
	s.Restart()
	c = s.Dial(t)
	if n := len(bindings(c, "q")); n != 10_000 {
		t.Errorf("R85: %d bindings after a restart", n)
	}
	if l := c.OK(`{"op":"publish","topic":"one.more","body":1}`); l.Int("queues") != 1 {
		t.Errorf("R85: %s", l.Raw)
	}
}

// R93: a request and its reply, with nothing but the protocol.
func TestRequestReply(t *testing.T) {
	s := harness.Start(t, "")
	asker, worker := s.Dial(t), s.Dial(t)
	asker.OK(`{"op":"subscribe","topic":"re.7f3a.*","credit":100,"ack":"auto"}`)
	worker.OK(`{"op":"subscribe","queue":"work","credit":100}`)
	for i := range 20 {
		asker.Sendf(`{"op":"publish","quiet":true,"queue":"work","headers":{"reply_to":"re.7f3a.%d"},"body":%d}`, i, i)
	}
	for range 20 {
		m := worker.Push()
		worker.Sendf(`{"op":"publish","quiet":true,"topic":%s,"body":%d}`, m.At("headers").Fields["reply_to"], 100*m.Int("body"))
		worker.Sendf(`{"op":"ack","quiet":true,"queue":"work","seq":%d,"receipt":%s}`, m.Int("seq"), m.Fields["receipt"])
	}
	for range 20 {
		m := asker.Push()
		if m.Text("topic") != fmt.Sprint("re.7f3a.", m.Int("body")/100) {
			t.Errorf("R93: %s", m.Raw)
		}
	}
	alive(t, asker)
	asker.Close()
	harness.Eventually(t, "nobody waits for a reply", func() bool {
		return worker.OK(`{"op":"publish","topic":"re.7f3a.0","body":1}`).Int("queues") == 0
	})
}
