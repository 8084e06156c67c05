package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
)

func topLookOf(at time.Time, published uint64) topLook {
	return topLook{at: at, queues: []topQueue{
		{gmq.QueueSummary{Queue: "a", Ready: 5}, &gmq.QueueInfo{Counts: gmq.Counts{Published: published}, Consumers: 2}},
		{gmq.QueueSummary{Queue: "b.dlq", Ready: 70}, &gmq.QueueInfo{}},
		{gmq.QueueSummary{Queue: "c", Ready: 6, Leased: 1}, &gmq.QueueInfo{Paused: true, OldestAge: 90 * time.Second}},
		{gmq.QueueSummary{Queue: "d"}, nil},
	}}
}

func topNames(m *topModel) string {
	var names []string
	for _, r := range m.rows {
		names = append(names, r.Queue)
	}
	return strings.Join(names, " ")
}

func TestTopSortsAndSelects(t *testing.T) {
	m := newTopModel("x:1", "ready", "")
	m.take(topLookOf(time.Unix(10, 0), 100))
	equal(t, "by ready", topNames(m), "b.dlq c a d")
	for key, want := range map[string]string{"n": "a b.dlq c d", "o": "c a b.dlq d", "c": "a b.dlq c d", "l": "c a b.dlq d"} {
		m.upside, m.sort = false, ""
		m.key(key, 20)
		equal(t, "after "+key, topNames(m), want)
	}
	m.sort = ""
	m.key("n", 20)
	m.key("n", 20)
	equal(t, "the same again", topNames(m), "d c b.dlq a")
	m.key("down", 20)
	equal(t, "one down", m.selected, "c")
	m.key("r", 20)
	m.take(topLookOf(time.Unix(12, 0), 130)) // what is selected stays so, wherever it goes
	equal(t, "selected", m.rows[m.at()].Queue, "c")
	m.key("end", 20)
	equal(t, "the last", m.selected, "d")
	equal(t, "of 30 in 2 seconds", rateText(m.rows[2], m.rows[2].in), "15")
	equal(t, "where nothing is known", rateText(m.rows[3], m.rows[3].in), "-")
	for i, want := range []string{"dead", "paused", "", ""} {
		equal(t, m.rows[i].Queue, topState(m.rows[i]), want)
	}
}

func TestTopGoesToOneQueueAndBack(t *testing.T) {
	m := newTopModel("x:1", "ready", "")
	m.take(topLookOf(time.Unix(10, 0), 100))
	m.key("enter", 20)
	equal(t, "what is asked", m.question(), topQuestion{"", "b.dlq"})
	equal(t, "at once", m.hurry(), true)
	l := topLookOf(time.Unix(12, 0), 100)
	l.about = m.question()
	l.detail = &topDetail{messages: []*gmq.Peeked{{Seq: 7, State: "ready", Body: []byte("\"\x1b[31mred\""), Headers: map[string]string{"gmq-dead-reason": "nack: no stock"}}}}
	m.take(l)
	screen := strings.Join(m.view(100, 30), "\n")
	contains(t, "the message", screen, "[nack: no stock]")
	if strings.Contains(screen, "\x1b[31m") {
		t.Error("a message has changed the terminal")
	}
	m.key("escape", 20)
	equal(t, "back", m.question(), topQuestion{})
	equal(t, "the end", m.key("q", 20), true)
}

func TestTopFilters(t *testing.T) {
	m := newTopModel("x:1", "ready", "")
	m.key("/", 20)
	for _, key := range []string{"q", "x", "backspace", "."} {
		if m.key(key, 20) {
			t.Fatal("a letter of a prefix ended it")
		}
	}
	equal(t, "what is asked", m.question().prefix, "q.")
	m.key("enter", 20)
	equal(t, "the end", m.key("q", 20), true)
}

// Whatever the size of the terminal the screen has as many lines, and no line is wider.
func TestTopFits(t *testing.T) {
	m := newTopModel("x:1", "ready", "")
	m.take(topLookOf(time.Unix(10, 0), 100))
	for _, size := range [][2]int{{200, 50}, {80, 24}, {40, 10}, {20, 4}, {10, 3}} {
		for _, key := range []string{"", "?", "x", "enter", "escape", "end", "home"} {
			m.key(key, size[1])
			lines := m.view(size[0], size[1])
			if len(lines) != size[1] {
				t.Errorf("%v after %s: %d lines", size, key, len(lines))
			}
		}
	}
	for _, line := range m.view(80, 24)[3:6] { // the most usual terminal shows all columns
		if cut := fit(line, 80) != line; cut || !strings.Contains(m.view(80, 24)[3], "CONSUMERS") {
			t.Errorf("too wide: %q", line)
		}
	}
	equal(t, "cut", fit(bold+"abcdef"+plainly, 3), bold+"abc")
	equal(t, "whole", fit("äöü", 3), "äöü")
	equal(t, "an escape without an end", fit("a\x1b[2J", 9), "a")
}

func TestTopKeys(t *testing.T) {
	equal(t, "keys", strings.Join(splitKeys("q\x1b[A\x1b[5~\x1b\rx\x1b[24~\x1bOBé\x03"), " "), "q up pageup escape enter x down quit")
}

func TestTopOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("1\n2\n3\n", "pub", "many")
	s.must("1\n", "pub", "few")
	out := s.must("", "top", "--once", "--every", "100ms")
	contains(t, "the head", out, "QUEUE  STATE   READY  LEASED  DELAYED  IN  ACKED  OLDEST  CONSUMERS\n")
	if many, few := strings.Index(out, "many   unread      3"), strings.Index(out, "few    unread      1"); many < 0 || few < many {
		t.Errorf("by what is ready:\n%s", out)
	}
	r := s.run("", "top")
	equal(t, "code without a terminal", r.code, 2)
	contains(t, "stderr", r.err, "--once")
	equal(t, "code of a column that is none", s.run("", "top", "--once", "--sort", "colour").code, 2)
}

func TestQueueLsWatches(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "pub", "q", "1")
	c := s.start("queue", "ls", "--watch", "--every", "100ms", "-o", "json")
	contains(t, "first", c.line(t), `"ready":1`)
	s.must("", "pub", "q", "2")
	for !strings.Contains(c.line(t), `"ready":2`) {
	}
	c.Process.Signal(syscall.SIGINT)
	equal(t, "code", c.end(), 0)
}
