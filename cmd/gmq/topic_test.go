package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestTopics(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "queue", "create", "added")
	s.must("", "queue", "create", "all", "--storage", "memory")
	equal(t, "bind", s.must("", "queue", "bind", "added", "files.*.added", "-o", "json"), `{"bound":true,"queue":"added","topic":"files.*.added"}`+"\n")
	equal(t, "bind again", s.must("", "queue", "bind", "added", "files.*.added"), "")
	s.must("", "queue", "bind", "added", "added.>")
	s.must("", "queue", "bind", "all", ">")
	contains(t, "info", s.must("", "queue", "info", "added"), "\nbound to\n  added.>\n  files.*.added\n\nmessages\n")
	contains(t, "info", s.must("", "queue", "info", "added", "-o", "json"), `"bindings":["added.>","files.*.added"]`)
	if out := s.must("", "queue", "create", "other") + s.must("", "queue", "info", "other"); strings.Contains(out, "bound") {
		t.Errorf("a queue without bindings: %s", out)
	}

	pub := []string{"pub", "--topic", "files.eu.added"}
	equal(t, "pub in a pipe says", s.must("1\n2\n", pub...), "")
	equal(t, "pub", s.must("", append(pub, "--json", `{"n" : 3}`, "--header", "a=b", "--key", "k", "--priority", "0", "--dedup-id", "d", "--stored", "memory", "-o", "json")...),
		`{"queues":2,"stored":"memory"}`+"\n")
	equal(t, "pub again", s.must("", append(pub, "x", "--dedup-id", "d", "-o", "json")...), `{"queues":2,"stored":"memory","duplicate":true}`+"\n")
	equal(t, "to one", s.must("", "pub", "--topic", "else", "4", "--ttl", "1m", "-o", "json"), `{"queues":1,"stored":"memory"}`+"\n")
	s.must("", "queue", "unbind", "all", ">")
	equal(t, "unbind again", s.run("", "queue", "unbind", "all", ">").code, 5)
	equal(t, "to nobody", s.must("5\n6\n", "pub", "--topic", "else", "-o", "json"), strings.Repeat(`{"queues":0}`+"\n", 2))
	r := s.run("", append(pub, "x", "--stored", "quorum")...)
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, "gmq: not_stored: ")

	contains(t, "peek", s.must("", "peek", "added"), "  KEY  TOPIC           BODY\n", "  k    files.eu.added  {\"n\" : 3}\n")
	equal(t, "sub", s.must("", "sub", "added", "-n", "2"), "1\n2\n")
	contains(t, "sub", s.must("", "sub", "added", "-o", "json"), `"headers":{"a":"b"},"key":"k","topic":"files.eu.added","body":{"n" : 3}}`+"\n")
	equal(t, "sub", s.must("", "sub", "all"), "1\n2\n4\n"+`{"n" : 3}`+"\n")
	equal(t, "completion", s.run("", "__complete", "queue", "bind", "ad").out, "added\n:4\n")
	equal(t, "completion", s.run("", "__complete", "queue", "unbind", "added", "fi").out, "files.*.added\n:4\n")
}

func TestManyLinesToATopicKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, q := range []string{"a", "b"} {
		s.must("", "queue", "create", q)
		s.must("", "queue", "bind", q, "lines")
	}
	var in strings.Builder
	const n = 5000
	for i := range n {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	equal(t, "confirms", s.must(in.String(), "pub", "--topic", "lines", "-o", "json"), strings.Repeat(`{"queues":2,"stored":"disk"}`+"\n", n))
	for _, q := range []string{"a", "b"} {
		if got := s.must("", "sub", q); got != in.String() {
			t.Errorf("what came back from %s is not what was sent", q)
		}
	}
}

// awaitTakers publishes until somebody hears it.
func (s *daemon) awaitTakers(topic string) {
	s.t.Helper()
	for strings.HasPrefix(s.must("", "pub", "--topic", topic, "anybody?", "-o", "json"), `{"queues":0`) {
	}
}

func TestSubToATopic(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("sub", "--topic", "news.*")
	s.awaitTakers("news.first")
	equal(t, "line", c.line(t), "anybody?")
	s.must("1\n2\n", "pub", "--topic", "news.eu")
	s.must("no\n", "pub", "--topic", "news.eu.today")
	s.must("3\n", "pub", "--topic", "news.us")
	for _, want := range []string{"1", "2", "3"} {
		equal(t, "line", c.line(t), want)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 0)
	equal(t, "stderr", c.err.String(), "")

	c = s.start("sub", "--topic", ">", "-n", "3", "--credit", "1", "--ack", "auto", "-o", "json")
	s.awaitTakers("news")
	s.must("a\nb\n", "pub", "--topic", "x.y")
	c.line(t)
	contains(t, "line", c.line(t), `{"queue":".c`, `"topic":"x.y","body":"a"}`)
	contains(t, "line", c.line(t), `"topic":"x.y","body":"b"}`)
	equal(t, "code", c.end(), 0)
	equal(t, "nothing for a while", s.must("", "sub", "--topic", "x", "--wait", "1ms"), "")

	c = s.start("sub", "--topic", "lost")
	s.awaitTakers("lost")
	c.line(t)
	s.signal(syscall.SIGKILL)
	equal(t, "code", c.end(), 1)
	contains(t, "stderr", c.err.String(), "gmq: the connection to "+s.addr+" was lost\n")
}

func TestSubToATopicComesBackAfterItsServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("sub", "--topic", "news", "--follow")
	s.awaitTakers("news")
	equal(t, "line", c.line(t), "anybody?")
	s.stop()
	again := startServerWith(t, s.dir, s.addr, nil)
	again.awaitTakers("news")
	equal(t, "line", c.line(t), "anybody?")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 0)
	contains(t, "stderr", c.err.String(), "was lost; connecting again, and missing what is published meanwhile\n")
}

// Who does not read fast enough is told what was dropped.
func TestSubTellsWhatWasDropped(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("sub", "--topic", "news", "-o", "json")
	s.awaitTakers("news")
	// More than the queue, the pipe and all buffers hold, while nobody reads.
	line := strings.Repeat("some words to fill the pipe with, ", 8) + "\n"
	const n = 15_000
	s.must(strings.Repeat(line, n), "pub", "--topic", "news")
	s.must("last\n", "pub", "--topic", "news")
	var dropped, got uint64
	for {
		var m struct {
			Body    string
			Dropped uint64
		}
		if err := json.Unmarshal([]byte(c.line(t)), &m); err != nil {
			t.Fatal(err)
		}
		got++
		if dropped += m.Dropped; m.Body == "last" {
			break
		}
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 0)
	if dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	if total := got + dropped - 2; total != n {
		t.Errorf("%d read and %d dropped make %d, not %d", got, dropped, total, n)
	}
	contains(t, "stderr", c.err.String(), "gmq: "+grouped(dropped)+" messages dropped, as they were not read fast enough\n")
}
