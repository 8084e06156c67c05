package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// die publishes n messages into a queue and lets them die.
func die(t *testing.T, c *harness.Conn, queue string, n int) {
	t.Helper()
	for i := range n {
		seq := c.OK(`{"op":"publish","queue":"%s","body":%d,"key":"k%d","headers":{"h":"%[2]d","gmq-dead-reason":"mine"}}`, queue, i+1, i).Int("seq")
		m := receive(t, c, queue)
		if m.Int("seq") != seq {
			t.Fatalf("%s", m.Raw)
		}
		c.OK(`{"op":"nack","queue":"%s","seq":%d,"dead":true,"reason":"poison"}`, queue, seq)
	}
}

// Operations, queue.redrive: dead letters go back to where they came from, and begin anew.
func TestRedrive(t *testing.T) {
	for _, storage := range []string{harness.Storage(), "memory"} {
		t.Run(storage, func(t *testing.T) {
			s := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n")
			c := s.Dial(t)
			c.OK(slowRetry, "q")
			die(t, c, "q", 4)
			wantCounts(t, c, "q", 4, map[string]int64{"dead": 4})
			wantCounts(t, c, "q.dlq", 4, map[string]int64{"ready": 4})
			leased := receive(t, c, "q.dlq") // 1: its consumer's
			if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq","max":2}`); l.Int("moved") != 2 {
				t.Errorf("Operations, queue.redrive: %s", l.Raw)
			} else {
				tight(t, l)
			}
			wantCounts(t, c, "q", 6, map[string]int64{"dead": 4, "ready": 2})
			wantCounts(t, c, "q.dlq", 4, map[string]int64{"ready": 1, "leased": 1, "redriven": 2})
			for i := range 2 {
				m := receive(t, c, "q")
				if m.Int("seq") != int64(5+i) || m.Int("attempt") != 1 || m.Int("body") != int64(2+i) || m.Bool("redelivered") || m.Text("key") != fmt.Sprintf("k%d", 1+i) {
					t.Errorf("Meaning: a redriven message has a new seq and begins at attempt 1: %s", m.Raw)
				}
				if h := m.At("headers"); h.Text("h") != fmt.Sprint(2+i) || h.Text("gmq-dead-reason") != "mine" || h.Has("gmq-dead-queue") || h.Has("gmq-dead-seq") || h.Has("gmq-dead-attempts") {
					t.Errorf("Operations, queue.redrive: the headers are those that were published: %s", m.Raw)
				}
				c.OK(`{"op":"ack","queue":"q","seq":%d}`, m.Int("seq"))
			}
			if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq"}`); l.Int("moved") != 1 {
				t.Errorf("Operations, queue.redrive: what is leased stays: %s", l.Raw)
			}
			if l := c.OK(`{"op":"ack","queue":"q.dlq","seq":1,"receipt":%s}`, leased.Fields["receipt"]); l.Int("settled") != 1 {
				t.Errorf("%s", l.Raw)
			}
			if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq"}`); l.Int("moved") != 0 {
				t.Errorf("Operations, queue.redrive: of an empty queue: %s", l.Raw)
			}
			wantCounts(t, c, "q", 7, map[string]int64{"dead": 4, "ready": 1, "acked": 2})
			wantCounts(t, c, "q.dlq", 4, map[string]int64{"redriven": 3, "acked": 1})
			if storage == "memory" {
				return
			}
			s.Restart()
			c = s.Dial(t)
			wantCounts(t, c, "q", 7, map[string]int64{"dead": 4, "ready": 1, "acked": 2})
			wantCounts(t, c, "q.dlq", 4, map[string]int64{"redriven": 3, "acked": 1})
			if m := receive(t, c, "q"); m.Int("body") != 4 || m.Int("seq") != 7 || m.Int("attempt") != 1 || m.At("headers").Has("gmq-dead-queue") {
				t.Errorf("after a restart: %s", m.Raw)
			}
		})
	}
}

// Operations, queue.redrive: what cannot go back stays, is counted nowhere else, and can be received.
func TestRedriveWithoutRoom(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	die(t, c, "q", 3)
	c.OK(`{"op":"queue.update","queue":"q","max_messages":1}`)
	if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq"}`); l.Int("moved") != 1 {
		t.Errorf("Operations, queue.redrive: into a queue that has room for one: %s", l.Raw)
	}
	wantCounts(t, c, "q", 4, map[string]int64{"dead": 3, "ready": 1})
	wantCounts(t, c, "q.dlq", 3, map[string]int64{"ready": 2, "redriven": 1})
	c.OK(`{"op":"queue.delete","queue":"q"}`)
	if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq"}`); l.Int("moved") != 0 {
		t.Errorf("Operations, queue.redrive: into a queue that is gone: %s", l.Raw)
	}
	c.OK(`{"op":"publish","queue":"q.dlq","body":"by hand"}`)
	for _, want := range []string{`2`, `3`, `"by hand"`} {
		if m := receive(t, c, "q.dlq"); m.Body() != want || m.Int("attempt") != 1 {
			t.Errorf("what could not go back, at attempt 1: %s", m.Raw)
		}
	}
	wantCounts(t, c, "q.dlq", 4, map[string]int64{"leased": 3, "redriven": 1})
}

// Operations, queue.redrive: to names one queue for all; where that cannot be, nothing is moved.
func TestRedriveTo(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	die(t, c, "q", 2)
	if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq","to":"q","max":1}`); l.Int("moved") != 1 {
		t.Errorf("Operations, queue.redrive: %s", l.Raw)
	}
	c.Fails("bad_request", `{"op":"queue.redrive","queue":"q"}`)
	c.Fails("bad_request", `{"op":"queue.redrive","queue":"q","to":"q.dlq"}`)
	c.Fails("bad_request", `{"op":"queue.redrive","queue":"q.dlq","to":"q.dlq"}`)
	c.Fails("not_found", `{"op":"queue.redrive","queue":"none.dlq"}`)
	c.Fails("bad_request", `{"op":"queue.redrive","queue":"q.dlq","max":0}`)
	c.Fails("not_found", `{"op":"queue.redrive","queue":"q.dlq","to":"none"}`)
	for i, storage := range []string{"memory", harness.Storage()} { // wherever the other queue is
		name := fmt.Sprintf("other%d", i)
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%s"}`, name, storage)
		die(t, c, fmt.Sprint("source", i), 1)
		l := c.OK(`{"op":"queue.redrive","queue":"source%d.dlq","to":"%s"}`, i, name)
		if m := receive(t, c, name); l.Int("moved") != 1 || m.Int("attempt") != 1 || m.Int("seq") != 1 || m.At("headers").Has("gmq-dead-queue") {
			t.Errorf("Operations, queue.redrive: %s, %s", l.Raw, m.Raw)
		}
		wantCounts(t, c, fmt.Sprintf("source%d.dlq", i), 1, map[string]int64{"redriven": 1})
	}
	wantCounts(t, c, "q.dlq", 2, map[string]int64{"ready": 1, "redriven": 1})
}

// Operations, queue.redrive: in whatever queue, a message is what it was; and what does not fit stays.
func TestRedriveToKeepsWhatTheyAre(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q"}`)
	c.OK(`{"op":"queue.bind","queue":"q","topic":"t"}`)
	for i := range 3 {
		c.OK(`{"op":"publish","topic":"t","body":"QUI=","encoding":"base64","headers":{"h":"x"},"priority":7,"key":"k%d"}`, i)
	}
	was := c.OK(`{"op":"queue.peek","queue":"q"}`).Each("messages")
	c.OK(`{"op":"receive","queue":"q","max":3}`)
	c.OK(`{"op":"nack","queue":"q","seq":[1,2,3],"dead":true}`)
	for i, storage := range []string{harness.Storage(), "memory"} {
		name := "to-" + storage
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%s","max_messages":1}`, name, storage)
		if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq","to":"%s"}`, name); l.Int("moved") != 1 {
			t.Errorf("Operations, queue.redrive: into a queue that has room for one: %s", l.Raw)
		}
		wantCounts(t, c, name, 1, map[string]int64{"ready": 1})
		wantCounts(t, c, "q.dlq", 3, map[string]int64{"ready": int64(2 - i), "redriven": int64(1 + i)})
		m := receive(t, c, name)
		for _, field := range []string{"body", "encoding", "headers", "key", "topic"} {
			if got, want := string(m.Fields[field]), string(was[i].Fields[field]); got != want {
				t.Errorf("Operations, queue.redrive: %s is %s and was %s", field, got, want)
			}
		}
	}
	if l := c.OK(`{"op":"queue.redrive","queue":"q.dlq","to":"to-%s"}`, harness.Storage()); l.Int("moved") != 0 {
		t.Errorf("Operations, queue.redrive: into a full queue: %s", l.Raw)
	}
	if m := receive(t, c, "q.dlq"); m.Int("attempt") != 1 || m.Text("key") != "k2" {
		t.Errorf("what did not fit can be received: %s", m.Raw)
	}
}

// Operations, queue.redrive: a server that dies while it moves messages leaves each in one of the queues, or in both.
func TestRedriveToAndDie(t *testing.T) {
	const n, part = 20_000, 1000
	var batch strings.Builder
	for i := range n / 2 {
		fmt.Fprintf(&batch, `,{"body":%d}`, i)
	}
	for round := range 3 {
		s := harness.Start(t, "")
		c := s.Dial(t)
		to := fmt.Sprint("to", round) // in another part of the server than the one before, most likely
		c.OK(`{"op":"queue.create","queue":"%s"}`, to)
		for range 2 {
			c.OK(`{"op":"publish","queue":"q.dlq","messages":[%s]}`, batch.String()[1:])
		}
		s.Dial(t).Send(fmt.Sprintf(`{"op":"queue.redrive","queue":"q.dlq","to":"%s"}`, to))
		harness.Eventually(t, "some have moved", func() bool { return counts(c, to).Int("published") >= int64(1+round*part) })
		s.Restart()
		c = s.Dial(t)
		there, here := counts(c, to), counts(c, "q.dlq")
		t.Logf("%d were published there, %d taken away here", there.Int("published"), here.Int("redriven"))
		wantCounts(t, c, to, there.Int("published"), map[string]int64{"ready": there.Int("published")})
		wantCounts(t, c, "q.dlq", n, map[string]int64{"ready": n - here.Int("redriven"), "redriven": here.Int("redriven")})
		if both := there.Int("published") - here.Int("redriven"); both < 0 || both > part {
			t.Errorf("Operations, queue.redrive: %d messages are in both queues", both)
		}
		c.OK(`{"op":"queue.redrive","queue":"q.dlq","to":"%s"}`, to)
		wantCounts(t, c, "q.dlq", n, map[string]int64{"redriven": n})
	}
}
