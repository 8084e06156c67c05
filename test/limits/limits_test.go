// Package limits checks that whatever clients can make grow has an end, that they are told when
// it is reached, and that what one client does costs the others nothing.
package limits_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const mib = 1 << 20

// says fails where an error does not name all of these, or says the wrong thing about trying again.
func says(t *testing.T, l harness.Line, retryable bool, all ...string) {
	t.Helper()
	for _, s := range all {
		if !strings.Contains(l.Message(), s) {
			t.Errorf("rule 7: messages name the queue, the limit and the value; no %q in %s", s, l.Raw)
		}
	}
	if l.At("error").Bool("retryable") != retryable {
		t.Errorf("rule 7: retryable must be %v: %s", retryable, l.Raw)
	}
}

func counts(c *harness.Conn, queue string) harness.Line {
	return c.OK(`{"op":"queue.info","queue":"%s"}`, queue).At("counts")
}

// bodies are those of the messages that wait in a queue, which is emptied.
func bodies(c *harness.Conn, queue string) string {
	var all []string
	for _, m := range c.OK(`{"op":"receive","queue":"%s","max":1000,"ack":"auto"}`, queue).Each("messages") {
		all = append(all, m.Body())
	}
	return strings.Join(all, " ")
}

func TestMaxQueues(t *testing.T) {
	s := harness.Start(t, "limits: {max_queues: 3}\n")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"a","body":1}`)
	c.OK(`{"op":"queue.create","queue":"b","storage":"memory"}`)
	c.OK(`{"op":"subscribe","queue":"c"}`)
	full := func() {
		t.Helper()
		for _, op := range []string{
			`{"op":"publish","queue":"d","body":1}`, `{"op":"publish","queue":"d","messages":[{"body":1}]}`, `{"op":"receive","queue":"d"}`,
			`{"op":"receive","queue":"d","wait":"1h"}`, `{"op":"subscribe","queue":"d"}`, `{"op":"queue.create","queue":"d"}`, `{"op":"queue.create","queue":"d","storage":"memory"}`,
		} {
			says(t, c.Fails("too_many_queues", "%s", op), false, `"d"`, "max_queues", "3")
		}
		c.Fails("not_found", `{"op":"queue.info","queue":"d"}`)
	}
	full()
	for _, q := range []string{"a", "b"} { // dead-letter queues do not count
		c.OK(`{"op":"publish","queue":"%s","body":2}`, q)
		c.OK(`{"op":"receive","queue":"%s"}`, q)
		c.OK(`{"op":"nack","queue":"%s","seq":1,"dead":true}`, q)
		if n := counts(c, q+".dlq").Int("ready"); n != 1 {
			t.Errorf("%d messages in %s.dlq", n, q)
		}
	}
	full()
	c.OK(`{"op":"queue.delete","queue":"c"}`)
	c.OK(`{"op":"queue.create","queue":"c2"}`)
	full()
	s.Restart() // the memory queue b is gone with its dead letters
	c = s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"b2"}`)
	full()
	c.OK(`{"op":"queue.delete","queue":"b2"}`)
	c.OK(`{"op":"publish","queue":"d","body":1}`)
}

// Meaning: a dead-letter queue does not count towards max_queues, also when its source has been deleted.
func TestDeadLettersOfADeletedQueue(t *testing.T) {
	c := harness.Start(t, "limits: {max_queues: 1}\n").Dial(t)
	c.OK(`{"op":"publish","queue":"a","body":1}`)
	c.OK(`{"op":"receive","queue":"a"}`)
	c.OK(`{"op":"nack","queue":"a","seq":1,"dead":true}`)
	c.OK(`{"op":"queue.delete","queue":"a"}`)
	if got := bodies(c, "a.dlq"); got != "1" {
		t.Errorf("dead letters of a deleted queue: %s", got)
	}
	c.OK(`{"op":"publish","queue":"b","body":1}`)
}

func TestMaxMessageBytes(t *testing.T) {
	c := harness.Start(t, "limits: {max_message_bytes: 1000}\n").Dial(t)
	body := func(n int) string { return `"` + strings.Repeat("é", (n-2)/2) + strings.Repeat("x", n%2) + `"` }
	for _, n := range []int{2, 999, 1000} {
		c.OK(`{"op":"publish","queue":"q","headers":{"long":"%s"},"body":   %s   }`, strings.Repeat("h", 2000), body(n))
		c.OK(`{"op":"publish","queue":"q","messages":[{"body":%s},{"body":%s}]}`, body(n), body(n))
	}
	for _, n := range []int{1001, 1002, 60000} {
		says(t, c.Fails("message_too_large", `{"op":"publish","queue":"q","body":%s}`, body(n)), false, fmt.Sprint(n), "1000")
		says(t, c.Fails("message_too_large", `{"op":"publish","queue":"q","messages":[{"body":1},{"body":%s}]}`, body(n)), false, fmt.Sprint(n), "1000")
	}
	c.OK(`{"op":"publish","queue":"q","encoding":"base64","body":"%s"}`, strings.Repeat("A", 996))
	c.Fails("message_too_large", `{"op":"publish","queue":"q","encoding":"base64","body":"%s"}`, strings.Repeat("A", 1000))
	c.Fails("line_too_long", `{"op":"publish","queue":"q","body":%s}`, body(1000+64<<10))
	if n := counts(c, "q").Int("published"); n != 10 {
		t.Errorf("%d published", n)
	}
	if n := c.OK(`{"op":"hello"}`).Int("max_message_bytes"); n != 1000 {
		t.Errorf("hello says %d", n)
	}
}

// fill makes a queue that is full with four messages of ten bytes, of which the oldest is leased.
func fill(c *harness.Conn, settings string) {
	c.OK(`{"op":"queue.create","queue":"q",%s}`, settings)
	for i := range 4 {
		c.OK(`{"op":"publish","queue":"q","body":"%d......."}`, i+1)
	}
	c.OK(`{"op":"receive","queue":"q"}`)
}

func TestOverflow(t *testing.T) {
	for _, storage := range []string{"file", "memory"} {
		for _, limit := range []string{`"max_messages":4`, `"max_bytes":40`} {
			settings := `"storage":"` + storage + `",` + limit
			t.Run(storage+limit[:12], func(t *testing.T) {
				t.Run("reject", func(t *testing.T) { overflowRejects(t, settings) })
				t.Run("drop_oldest", func(t *testing.T) { overflowDrops(t, settings) })
				t.Run("dead_letter", func(t *testing.T) { overflowBuries(t, settings) })
			})
		}
	}
}

func overflowRejects(t *testing.T, settings string) {
	c := harness.Start(t, "").Dial(t)
	fill(c, settings)
	says(t, c.Fails("queue_full", `{"op":"publish","queue":"q","body":"5......."}`), true, `"q"`, "max_messages", "4")
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	c.Fails("queue_full", `{"op":"publish","queue":"q","messages":[{"body":"5......."},{"body":"6......."}]}`)
	if l := c.OK(`{"op":"publish","queue":"q","body":"7......."}`); l.Int("seq") != 5 {
		t.Errorf("Meaning: leased ones count, and an ack makes room: %s", l.Raw)
	}
	if got := bodies(c, "q"); got != `"2......." "3......." "4......." "7......."` {
		t.Errorf("reject: %s", got)
	}
}

func overflowDrops(t *testing.T, settings string) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	fill(c, settings+`,"overflow":"drop_oldest"`)
	c.OK(`{"op":"publish","queue":"q","body":"5......."}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":"6......."},{"body":"7......."}]}`)
	c.Fails("queue_full", `{"op":"publish","queue":"q","messages":[{"body":"a......."},{"body":"b......."},{"body":"c......."},{"body":"d......."}]}`)
	got := counts(c, "q")
	if got.Int("dropped") != 3 || got.Int("leased") != 1 || got.Int("ready") != 3 || got.Int("published") != 7 {
		t.Errorf("Meaning: drop_oldest drops the oldest that is not leased: %s", got.Raw)
	}
	if l := c.OK(`{"op":"ack","queue":"q","seq":1}`); l.Int("settled") != 1 {
		t.Errorf("what is leased is not dropped: %s", l.Raw)
	}
	if got := bodies(c, "q"); got != `"5......." "6......." "7......."` {
		t.Errorf("drop_oldest: %s", got)
	}
}

func overflowBuries(t *testing.T, settings string) {
	c := harness.Start(t, "").Dial(t)
	fill(c, settings+`,"overflow":"dead_letter"`)
	c.OK(`{"op":"publish","queue":"q","body":"5......."}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":"6......."},{"body":"7......."}]}`)
	got, dead := counts(c, "q"), counts(c, "q.dlq")
	if got.Int("dead") != 3 || got.Int("leased") != 1 || got.Int("ready") != 3 || dead.Int("ready") != 3 || dead.Int("published") != 3 {
		t.Errorf("Meaning: dead_letter moves the oldest that is not leased: %s %s", got.Raw, dead.Raw)
	}
	ms := c.OK(`{"op":"receive","queue":"q.dlq","max":10}`).Each("messages")
	for i, m := range ms {
		if m.Body() != fmt.Sprintf(`"%d......."`, i+2) || m.At("headers").Text("gmq-dead-reason") == "" {
			t.Errorf("dead_letter: %s", m.Raw)
		}
	}
	if got := bodies(c, "q"); got != `"5......." "6......." "7......."` {
		t.Errorf("dead_letter: %s", got)
	}
}

// A queue in which everything is leased has nothing to drop.
func TestOverflowWithAllLeased(t *testing.T) {
	for _, policy := range []string{"drop_oldest", "dead_letter"} {
		c := harness.Start(t, "").Dial(t)
		c.OK(`{"op":"queue.create","queue":"q","max_messages":2,"overflow":"%s"}`, policy)
		c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
		c.OK(`{"op":"receive","queue":"q","max":2}`)
		c.Fails("queue_full", `{"op":"publish","queue":"q","body":3}`)
		if l := c.OK(`{"op":"ack","queue":"q","seq":[1,2]}`); l.Int("settled") != 2 {
			t.Errorf("%s: %s", policy, l.Raw)
		}
		c.OK(`{"op":"publish","queue":"q","body":3}`)
	}
}

// A message larger than all of max_bytes never fits.
func TestLargerThanTheQueue(t *testing.T) {
	for _, policy := range []string{"reject", "drop_oldest", "dead_letter"} {
		c := harness.Start(t, "").Dial(t)
		c.OK(`{"op":"queue.create","queue":"q","max_bytes":10,"overflow":"%s"}`, policy)
		c.OK(`{"op":"publish","queue":"q","body":12345}`)
		c.Fails("queue_full", `{"op":"publish","queue":"q","body":12345678901}`)
		if got := counts(c, "q"); got.Int("ready") != 1 {
			t.Errorf("%s: a refused publish pushed something out: %s", policy, got.Raw)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	s := harness.Start(t, "limits: {max_connections: 5}\n")
	var all []*harness.Conn
	for range 5 {
		c := s.Dial(t)
		c.OK(`{"op":"ping"}`)
		all = append(all, c)
	}
	for range 3 {
		for _, l := range s.Dial(t).Ended() { // one line, or none
			l.WantCode(t, "too_many_connections")
			says(t, l, true, "5", "max_connections")
		}
	}
	for _, c := range all {
		c.OK(`{"op":"ping"}`)
	}
	all[0].Close()
	harness.Eventually(t, "there is room again", func() bool {
		c := s.Dial(t)
		defer c.Close()
		c.Write([]byte("{\"op\":\"ping\"}\n")) // may fail where the connection was refused
		b := make([]byte, 11)
		n, _ := c.Read(b)
		return string(b[:n]) == `{"ok":true}`
	})
}

func TestMaxInFlight(t *testing.T) {
	s := harness.Start(t, "limits: {max_in_flight: 10}\n")
	c, other := s.Dial(t), s.Dial(t)
	for _, q := range []string{"a", "b"} {
		for i := range 20 {
			c.OK(`{"op":"publish","queue":"%s","body":%d}`, q, i)
		}
	}
	c.OK(`{"op":"subscribe","queue":"a","credit":100}`)
	if got := c.Settle(); len(got) != 10 {
		t.Errorf("%d messages are in flight, not 10", len(got))
	}
	if l := other.Do(`{"op":"receive","queue":"b","max":5}`); l.Bool("ok") && len(l.Each("messages")) > 0 || !l.Bool("ok") && l.Code() != "overloaded" {
		t.Errorf("an eleventh message is in flight: %s", l.Raw)
	}
	for seq := 1; seq <= 20; seq++ {
		c.OK(`{"op":"ack","queue":"a","seq":%d}`, seq)
		if seq <= 10 {
			if m := c.Push(); m.Int("seq") != int64(seq+10) {
				t.Errorf("an ack makes room: %s", m.Raw)
			}
		}
	}
	if ms := other.OK(`{"op":"receive","queue":"b","max":100}`).Each("messages"); len(ms) != 10 {
		t.Errorf("%d messages, not 10", len(ms))
	}
	other.Close()
	harness.Eventually(t, "what a lost connection had can be leased again", func() bool {
		return len(c.Do(`{"op":"receive","queue":"b","max":10}`).Each("messages")) > 0
	})
}
