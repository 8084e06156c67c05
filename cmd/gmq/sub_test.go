package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestSubTakesWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("1\n2\n3\n4\n5\n", "pub", "q")
	equal(t, "two", s.must("", "sub", "q", "-n", "2"), "1\n2\n")
	equal(t, "one settled on delivery", s.must("", "sub", "q", "-n", "1", "--ack", "auto"), "3\n")
	c := s.counts("q")
	if c["acked"] != 3 || c["ready"] != 2 || c["leased"] != 0 {
		t.Errorf("counts %v", c)
	}
	equal(t, "the rest, one at a time", s.must("", "sub", "q", "--credit", "1"), "4\n5\n")
	equal(t, "nothing", s.must("", "sub", "q", "-n", "1"), "")
	equal(t, "nothing for a while", s.must("", "sub", "q", "--wait", "1ms"), "")
	equal(t, "a queue that is not there", s.run("", "sub", "nosuch").code, 5)
	s.must("", "queue", "pause", "q")
	r := s.run("", "sub", "q")
	equal(t, "code of a paused queue", r.code, 1)
	contains(t, "stderr", r.err, "gmq: paused:")
}

func TestFollowGoesOnUntilInterrupted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("sub", "q", "--follow")
	for i := range 3 {
		s.must("", "pub", "q", fmt.Sprint(i))
		equal(t, "line", c.line(t), fmt.Sprint(i))
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 0)
	equal(t, "stderr", c.err.String(), "")
	n := s.counts("q")
	if n["acked"] != 3 || n["leased"] != 0 {
		t.Errorf("counts %v", n)
	}
}

func TestFollowComesBackAfterItsServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "pub", "q", "before")
	c := s.start("sub", "q", "--follow", "-n", "2")
	equal(t, "line", c.line(t), "before")
	s.stop()
	again := startServerWith(t, s.dir, s.addr, nil)
	again.must("", "pub", "q", "after")
	// The ack of the first may have been lost with the server, as at least once allows.
	line := c.line(t)
	if line != "after" && line != "before" {
		t.Errorf("after the restart: %q", line)
	}
	equal(t, "code", c.end(), 0)
	contains(t, "stderr", c.err.String(), "the connection to "+s.addr+" was lost; connecting again")
}

// Nobody reads any more: that is no error, and what was not written is not lost.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 20_000
	s.must(strings.Repeat("some words to fill the pipe with\n", n), "pub", "q")
	c := s.start("sub", "q")
	c.line(t)
	if err := c.pip.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 0)
	equal(t, "stderr", c.err.String(), "")
	k := s.counts("q")
	if k["acked"] == 0 || k["acked"]+k["ready"]+k["leased"] != n {
		t.Errorf("counts %v", k)
	}
	rest := s.must("", "sub", "q", "--wait", "10s", "-n", fmt.Sprint(n-k["acked"]))
	equal(t, "what was left", strings.Count(rest, "\n"), n-k["acked"])
}
