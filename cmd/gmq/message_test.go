package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// times are left to the server.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)

func timeless(s string) string { return times.ReplaceAllString(s, "T") }

func TestPublishOptions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "pub", "q", "low", "--priority", "0")
	s.must("", "pub", "q", "high", "--priority", "9", "--stored", "disk")
	s.must("", "pub", "q", "late", "--delay", "24h")
	s.must("", "pub", "q", "christmas", "--at", "2190-12-24T18:00:00+01:00")
	s.must("a\nb\n", "pub", "q", "--key", "k")
	s.must("", "pub", "q", "gone", "--ttl", "1ms")
	once := []string{"pub", "q", "once", "--dedup-id", "x", "-o", "json"}
	equal(t, "the first time", s.must("", once...), `{"seq":8,"stored":"disk"}`+"\n")
	equal(t, "the second time", s.must("", once...), `{"seq":8,"stored":"disk","duplicate":true}`+"\n")
	equal(t, "sub", s.must("", "sub", "q", "-n", "2"), "high\na\n")
	contains(t, "peek", s.must("", "peek", "q", "--state", "delayed"), `"late"`, "  2190-12-24T17:00:00Z  ", `"christmas"`)
	contains(t, "sub", s.must("", "sub", "q", "-n", "1", "-o", "json"), `"key":"k","body":"b"}`)
	equal(t, "sub", s.must("", "sub", "q"), "once\nlow\n")
	n := s.counts("q")
	if n["published"] != 8 || n["delayed"] != 2 || n["acked"] != 5 || n["expired"] != 1 {
		t.Errorf("counts: %v", n)
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "queue", "create", "empty")
	equal(t, "an empty queue", s.must("", "peek", "empty"), "SEQ  STATE  UNTIL  ATTEMPTS  PUBLISHED  KEY  TOPIC  DIED OF  BODY\n")
	equal(t, "an empty queue", s.must("", "peek", "empty", "-o", "json"), "")
	s.must("", "pub", "q", "--json", `{ "a" : 1.0}`)
	s.must("", "pub", "q", strings.Repeat("é", 100)+"\n", "--key", "k")
	s.must("", "pub", "q", "\u202eon\u009b31m", "--delay", "24h")
	want := `SEQ  STATE    UNTIL                 ATTEMPTS  PUBLISHED             KEY  BODY
1    ready                          0         2026-11-23T00:00:00Z       { "a" : 1.0}
2    ready                          0         2026-11-23T00:00:00Z  k    "` + strings.Repeat("é", 59) + `…
3    delayed  2026-11-23T00:00:00Z  0         2026-11-23T00:00:00Z       "` + "\uFFFDon\uFFFD31m" + `"
`
	for _, peek := range [][]string{{"peek", "q"}, {"queue", "peek", "q", "--limit", "0"}} {
		equal(t, "peek", times.ReplaceAllString(s.must("", peek...), "2026-11-23T00:00:00Z"), want)
	}
	equal(t, "one", timeless(s.must("", "peek", "q", "--after", "1", "--limit", "1", "--state", "ready")),
		"SEQ  STATE  ATTEMPTS  PUBLISHED             KEY  BODY\n2    ready  0         T  k    \""+strings.Repeat("é", 59)+"…\n")
	equal(t, "as JSON", timeless(s.must("", "peek", "q", "--limit", "1", "-o", "json")),
		`{"queue":"q","seq":1,"attempt":0,"state":"ready","published":"T","body":{ "a" : 1.0}}`+"\n")

	// More than fits into one reply.
	const many = 2500
	var in strings.Builder
	for i := range many {
		fmt.Fprintf(&in, "%d %s\n", i, strings.Repeat("x", 200))
	}
	s.must(in.String(), "pub", "many")
	out := strings.Split(strings.TrimSpace(s.must("", "peek", "many", "--limit", "0", "-o", "json")), "\n")
	equal(t, "messages", len(out), many)
	for i, line := range out {
		var m struct {
			Seq  int
			Body string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Seq != i+1 || !strings.HasPrefix(m.Body, fmt.Sprint(i, " ")) {
			t.Fatalf("message %d: %s", i+1, line)
		}
	}
	n := s.counts("q")
	if n["ready"] != 2 || n["delayed"] != 1 || n["leased"] != 0 {
		t.Errorf("looking changed something: %v", n)
	}
}

func TestSingleMessages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "pub", "q", "a", "--key", "k")
	s.must("", "pub", "q", "b", "--key", "k")
	s.must("", "pub", "q", "c", "--delay", "24h")
	s.must("", "pub", "q", "d", "--delay", "24h")
	equal(t, "explain", s.must("", "queue", "explain", "q", "1"), "message 1 of q is not being delivered because nobody consumes queue q\n")
	equal(t, "explain", s.must("", "queue", "explain", "q", "2"), "message 2 of q is not being delivered because it waits behind message 1, which has the same key\n")
	equal(t, "explain", timeless(s.must("", "queue", "explain", "q", "3", "-v")), "message 3 of q is not being delivered because it is delayed until T\nstate delayed, 0 attempts counted\n")
	var x struct{ State, Because string }
	if err := json.Unmarshal([]byte(s.must("", "queue", "explain", "q", "1", "-o", "json")), &x); err != nil || x.State != "ready" || x.Because != "nobody consumes queue q" {
		t.Errorf("%+v, %v", x, err)
	}
	r := s.run("", "queue", "explain", "q", "99")
	equal(t, "code", r.code, 5)
	contains(t, "stderr", r.err, `gmq: not_found: queue "q" has no message 99`)

	equal(t, "cancel", s.must("", "queue", "cancel", "q", "4", "-o", "json"), `{"cancelled":true,"queue":"q","seq":4}`+"\n")
	equal(t, "explain", timeless(s.must("", "queue", "explain", "q", "4", "-v")), `message 4 of q is no more because it was cancelled at T
AT                           EVENT      ATTEMPTS  REASON
T  cancelled  0
`)
	equal(t, "cancel again", s.run("", "queue", "cancel", "q", "4").code, 5)
	equal(t, "reschedule", s.must("", "queue", "reschedule", "q", "3", "--delay", "48h"), "")
	equal(t, "reschedule", s.must("", "queue", "reschedule", "q", "1", "--at", "2190-01-01T00:00:00Z", "-o", "json"), `{"queue":"q","rescheduled":true,"seq":1}`+"\n")
	equal(t, "explain", s.must("", "queue", "explain", "q", "1"), "message 1 of q is not being delivered because it is delayed until 2190-01-01T00:00:00Z\n")
	s.must("", "queue", "reschedule", "q", "3", "--delay", "0s")
	equal(t, "sub", s.must("", "sub", "q"), "b\nc\n")
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "queue", "create", "q", "--max-messages", "1", "--overflow", "dead_letter")
	s.must("1\n2\n3\n4\n", "pub", "q")
	contains(t, "peek", s.must("", "peek", "q.dlq"), "DIED OF", "overflow: the queue was full")
	s.must("", "queue", "update", "q", "--max-messages", "3", "--overflow", "reject")
	r := s.run("", "queue", "redrive", "q")
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, `gmq: bad_request: queue "q" is no dead-letter queue`)
	equal(t, "redrive", s.must("", "queue", "redrive", "q.dlq", "--max", "1"), "1 message moved\n")
	equal(t, "redrive", s.must("", "queue", "redrive", "q.dlq", "-o", "json"), `{"moved":1,"queue":"q.dlq"}`+"\n")
	equal(t, "no room for more", s.must("", "queue", "redrive", "q.dlq"), "0 messages moved\n")
	equal(t, "redriven", s.counts("q.dlq")["redriven"], 2)
	equal(t, "sub", s.must("", "sub", "q"), "4\n1\n2\n")
	r = s.run("", "queue", "redrive", "q.dlq", "--to", "elsewhere")
	equal(t, "code", r.code, 5)
	contains(t, "stderr", r.err, `gmq: not_found: to: queue "elsewhere" does not exist`)
	s.must("", "queue", "create", "elsewhere", "--storage", "memory")
	equal(t, "redrive", s.must("", "queue", "redrive", "q.dlq", "--to", "elsewhere"), "1 message moved\n")
	equal(t, "sub", s.must("", "sub", "elsewhere"), "3\n")
}
