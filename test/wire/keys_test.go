package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// take receives up to max messages at once and gives their bodies, joined.
func take(t *testing.T, c *harness.Conn, queue string, max int) string {
	t.Helper()
	var bodies []string
	for _, m := range c.OK(`{"op":"receive","queue":"%s","max":%d}`, queue, max).Each("messages") {
		bodies = append(bodies, m.Text("body"))
	}
	return strings.Join(bodies, " ")
}

// keyed publishes messages into q: "a1 b2" is one of key a and one of key b; "-3" has none.
func keyed(c *harness.Conn, text string) {
	for m := range strings.FieldsSeq(text) {
		key := `,"key":"` + m[:1] + `"`
		if m[0] == '-' {
			key = ""
		}
		c.OK(`{"op":"publish","queue":"q","body":"%s"%s}`, m, key)
	}
}

// Meaning: messages of one key are delivered one at a time and in order; those of other keys, and of none, go on.
func TestKeys(t *testing.T) {
	for _, storage := range []string{harness.Storage(), "memory"} {
		t.Run(storage, func(t *testing.T) {
			s := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n")
			c := s.Dial(t)
			c.OK(slowRetry, "q")
			keyed(c, "a1 a2 b3 -4 a5 b6 -7")
			if got := take(t, c, "q", 100); got != "a1 b3 -4 -7" {
				t.Fatalf("Meaning: one of each key at a time: %s", got)
			}
			if m := c.OK(`{"op":"queue.peek","queue":"q","state":"leased","limit":1}`).Each("messages")[0]; m.Text("key") != "a" {
				t.Errorf("a key is delivered as it was sent: %s", m.Raw)
			}
			c.OK(`{"op":"ack","queue":"q","seq":3}`)
			if got := take(t, c, "q", 100); got != "b6" {
				t.Errorf("Meaning: an ack lets the next of its key go: %s", got)
			}
			c.OK(`{"op":"nack","queue":"q","seq":1}`) // waits for its retry, an hour
			if got := take(t, c, "q", 100); got != "" {
				t.Errorf("Meaning: a retry that waits holds up its key: %s", got)
			}
			wantCounts(t, c, "q", 7, map[string]int64{"acked": 1, "delayed": 1, "leased": 3, "ready": 2})
			keyed(c, "c8 a9")
			if got := take(t, c, "q", 100); got != "c8" {
				t.Errorf("Meaning: other keys go on: %s", got)
			}
			c.OK(`{"op":"queue.reschedule","queue":"q","seq":1,"delay":"0s"}`)
			if m := receive(t, c, "q"); m.Int("seq") != 1 || m.Int("attempt") != 2 {
				t.Errorf("Meaning: a retry goes before what is behind it: %s", m.Raw)
			}
			c.OK(`{"op":"nack","queue":"q","seq":1,"dead":true}`)
			if got := take(t, c, "q", 100); got != "a2" {
				t.Errorf("Meaning: what is dead blocks nobody: %s", got)
			}
			c.OK(`{"op":"queue.cancel","queue":"q","seq":5}`)
			c.OK(`{"op":"ack","queue":"q","seq":2}`)
			if got := take(t, c, "q", 100); got != "a9" {
				t.Errorf("Meaning: nor does what was cancelled: %s", got)
			}
			// Dead letters keep their keys, and do not wait for each other.
			c.OK(`{"op":"nack","queue":"q","seq":9,"dead":true}`)
			if ms := c.OK(`{"op":"receive","queue":"q.dlq","max":10}`).Each("messages"); len(ms) != 2 || ms[0].Text("key") != "a" || ms[1].Text("key") != "a" {
				t.Errorf("dead letters of a key: %v", ms)
			}
		})
	}
}

// Meaning: the order of a key outlives a crash of the server, also while a retry waits.
func TestKeysAcrossRestarts(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(slowRetry, "q")
	keyed(c, "a1 a2 b3 b4 a5")
	if got := take(t, c, "q", 100); got != "a1 b3" {
		t.Fatalf("%s", got)
	}
	c.OK(`{"op":"nack","queue":"q","seq":1}`)
	s.Restart() // b3 was leased, a1 waits
	c = s.Dial(t)
	if got := take(t, c, "q", 100); got != "b3" {
		t.Errorf("Meaning: order within a key across a restart: %s", got)
	}
	c.OK(`{"op":"ack","queue":"q","seq":3}`)
	s.Restart()
	c = s.Dial(t)
	if got := take(t, c, "q", 100); got != "b4" {
		t.Errorf("Meaning: order within a key across a restart: %s", got)
	}
	because(t, c, "q", 2, "ready", "behind message 1", "same key")
	c.OK(`{"op":"queue.reschedule","queue":"q","seq":1,"delay":"0s"}`)
	for i, want := range []string{"a1", "a2", "a5"} {
		if got := take(t, c, "q", 100); got != want {
			t.Fatalf("Meaning: order within a key: %s, not %s", got, want)
		}
		c.OK(`{"op":"ack","queue":"q","seq":%d}`, []int{1, 2, 5}[i])
		if i == 0 {
			s.Restart()
			c = s.Dial(t)
			if got := take(t, c, "q", 100); got != "a2 b4" {
				t.Fatalf("after another restart: %s", got)
			}
			c.OK(`{"op":"nack","queue":"q","seq":[2,4],"delay":"0s"}`)
			if m := c.OK(`{"op":"receive","queue":"q","max":100}`).Each("messages"); len(m) != 2 || m[0].Int("seq") != 2 {
				t.Fatalf("given back at once: %v", m)
			}
			c.OK(`{"op":"nack","queue":"q","seq":[2],"delay":"0s"}`)
			c.OK(`{"op":"ack","queue":"q","seq":4}`)
		}
	}
	wantCounts(t, c, "q", 5, map[string]int64{"acked": 5})
}

// Meaning: within a key seq outranks priority, and a delay at publishing holds nobody up.
func TestKeysPrioritiesDelays(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":"a1","key":"a","priority":0},{"body":"a2","key":"a","priority":9},{"body":"b3","key":"b","priority":5},` +
		`{"body":"c4","key":"c","delay":"1h"},{"body":"c5","key":"c"},{"body":"c6","key":"c"}]}`)
	if got := take(t, c, "q", 100); got != "b3 c5 a1" {
		t.Errorf("Meaning: within a key seq outranks priority: %s", got)
	}
	c.OK(`{"op":"queue.reschedule","queue":"q","seq":4,"delay":"0s"}`)
	if got := take(t, c, "q", 100); got != "" {
		t.Errorf("Meaning: one of a key at a time: %s", got)
	}
	c.OK(`{"op":"ack","queue":"q","seq":[1,5]}`)
	if got := take(t, c, "q", 100); got != "a2 c4" && got != "c4 a2" {
		t.Errorf("Meaning: what is due takes its place in its key: %s", got)
	}
}

// Meaning: many keys, several consumers who give back and crash, a restart: never two of a key at once, and each key
// begins in order.
func TestKeysUnderLoad(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(quickRetry, "q")
	c.OK(`{"op":"queue.update","queue":"q","max_deliveries":0}`)
	const n, keys = 600, 7
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"body":%d,"key":"k%d"}`, i, i%keys)
	}
	c.OK(`{"op":"publish","queue":"q","messages":[%s]}`, b.String())
	done := map[int64]int64{} // by key: the next body
	for i := range int64(keys) {
		done[i] = i
	}
	for turn, acked := 0, 0; acked < n; turn++ {
		ms := c.OK(`{"op":"receive","queue":"q","max":5}`).Each("messages")
		if len(ms) == 0 {
			t.Fatalf("Meaning: nothing to be had after %d of %d", acked, n)
		}
		seen := map[int64]bool{}
		for i, m := range ms {
			body := m.Int("body")
			if seen[body%keys] || done[body%keys] != body {
				t.Fatalf("Meaning: order within a key: %d came, and %d is next: %s", body, done[body%keys], m.Raw)
			}
			seen[body%keys] = true
			if (turn+i)%3 == 0 {
				c.OK(`{"op":"nack","queue":"q","seq":%d}`, m.Int("seq"))
				continue
			}
			c.OK(`{"op":"ack","queue":"q","seq":%d}`, m.Int("seq"))
			done[body%keys] += keys
			acked++
		}
		switch {
		case turn%50 == 49:
			s.Restart()
			c = s.Dial(t)
		case turn%10 == 9: // another consumer takes some, and is gone
			other := s.Dial(t)
			other.OK(`{"op":"receive","queue":"q","max":3}`)
			other.Close()
			harness.Eventually(t, "what it had is back", func() bool { return counts(c, "q").Int("leased") == 0 })
		}
	}
	wantCounts(t, c, "q", n, map[string]int64{"acked": n})
}
