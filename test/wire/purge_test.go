package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

const due = "2190-01-02T03:04:05.000000Z"

// threeStates fills a queue with six messages that are ready (seqs 1, 4, 7 …), six that are delayed (2, 5 …) and six that
// holder has leased (3, 6 …), whose receipts it gives.
func threeStates(t *testing.T, c, holder *harness.Conn, queue string) (receipts map[int64]string) {
	t.Helper()
	receipts = map[int64]string{}
	c.OK(`{"op":"queue.create","queue":"%s","lease":"1h","retry":{"min":"1h","max":"1h"}}`, queue)
	for i := range 6 { // the priority lets the holder get those that are meant for it
		c.OK(`{"op":"publish","queue":"%s","messages":[{"body":"ready %d"},{"body":"delayed %[2]d","at":"%[3]s"},{"body":"leased %[2]d","priority":9}]}`, queue, i, due)
		m := one(t, holder, `{"op":"receive","queue":"%s"}`, queue)
		if m.Body() != fmt.Sprintf(`"leased %d"`, i) {
			t.Fatalf("%s", m.Raw)
		}
		receipts[m.Int("seq")] = m.Text("receipt")
	}
	return receipts
}

// Operations, queue.purge: what is in the state goes, the rest stays as it is, and neither a restart nor two brings it back.
func TestPurgeByState(t *testing.T) {
	for _, storage := range []string{harness.Storage(), "memory"} {
		t.Run(storage, func(t *testing.T) {
			s := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n")
			c, holder := s.Dial(t), s.Dial(t)
			for _, state := range []string{"ready", "delayed", "leased"} {
				receipts := threeStates(t, c, holder, state)
				want := map[string]int64{"ready": 6, "delayed": 6, "leased": 6}
				wantCounts(t, c, state, 18, want)
				l := c.OK(`{"op":"queue.purge","queue":"%[1]s","state":"%[1]s"}`, state)
				if l.Int("purged") != 6 {
					t.Errorf("Operations, queue.purge: %s", l.Raw)
				}
				tight(t, l)
				want["purged"] = want[state]
				delete(want, state)
				wantCounts(t, c, state, 18, want)
				if l := c.OK(`{"op":"queue.purge","queue":"%[1]s","state":"%[1]s"}`, state); l.Int("purged") != 0 {
					t.Errorf("Operations, queue.purge: again: %s", l.Raw)
				}
				settled := int64(1) // what was leased can be acked, unless it is gone
				if state == "leased" {
					settled = 0
				}
				if l := holder.OK(`{"op":"ack","queue":"%s","seq":3,"receipt":"%s"}`, state, receipts[3]); l.Int("settled") != settled {
					t.Errorf("Operations, queue.purge: an ack afterwards: %s", l.Raw)
				}
				want["leased"], want["acked"] = max(want["leased"]-1, 0), settled
				wantCounts(t, c, state, 18, want)
			}
			if storage == "memory" {
				return
			}
			for range 2 { // the second start reads what the first has made of it
				s.Restart()
				c = s.Dial(t)
				wantCounts(t, c, "ready", 18, map[string]int64{"ready": 5, "delayed": 6, "purged": 6, "acked": 1})
				wantCounts(t, c, "delayed", 18, map[string]int64{"ready": 11, "purged": 6, "acked": 1})
				wantCounts(t, c, "leased", 18, map[string]int64{"ready": 6, "delayed": 6, "purged": 6})
			}
			purgedAway(t, c)
		})
	}
}

// purgedAway looks at every message that is left of those queues after a restart.
func purgedAway(t *testing.T, c *harness.Conn) {
	t.Helper()
	for _, state := range []string{"ready", "delayed", "leased"} {
		left := 12
		if state != "leased" {
			left-- // it was acked
		}
		ms := c.OK(`{"op":"queue.peek","queue":"%s"}`, state).Each("messages")
		if len(ms) != left {
			t.Errorf("%s: %d messages are left, not %d", state, len(ms), left)
		}
		for _, m := range ms {
			was := []string{"leased", "ready", "delayed"}[m.Int("seq")%3]
			if m.Body() != fmt.Sprintf(`"%s %d"`, was, (m.Int("seq")-1)/3) || was == state {
				t.Errorf("Operations, queue.purge: %s is left in %s", m.Raw, state)
			}
			if now := map[string]string{"leased": "ready"}[was]; now != "" && m.Text("state") != now || was == "delayed" && (m.Text("state") != was || m.Text("until") != due) {
				t.Errorf("Operations, queue.purge: what stays is not what it was: %s", m.Raw)
			}
		}
	}
	for _, m := range c.OK(`{"op":"receive","queue":"delayed","max":100}`).Each("messages") {
		if m.Int("seq")%3 == 2 {
			t.Errorf("Operations, queue.purge: it came back: %s", m.Raw)
		}
	}
	// What is still delayed is due when it is told to be, and then comes.
	c.OK(`{"op":"queue.reschedule","queue":"ready","seq":2,"delay":"0s"}`)
	c.OK(`{"op":"receive","queue":"ready","max":100}`)
	wantCounts(t, c, "ready", 18, map[string]int64{"leased": 6, "delayed": 5, "purged": 6, "acked": 1})
}

// Operations, queue.purge: what is delayed and was spared comes when it is due, also after a restart.
func TestPurgeSparesWhatIsDueLater(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2,"delay":"2s"},{"body":3,"delay":"1h"}]}`)
	if l := c.OK(`{"op":"queue.purge","queue":"q","state":"ready"}`); l.Int("purged") != 1 {
		t.Errorf("%s", l.Raw)
	}
	c.OK(`{"op":"publish","queue":"q","body":4}`) // a purge is over when it is over
	if m := receive(t, c, "q"); m.Body() != `4` {
		t.Errorf("%s", m.Raw)
	}
	c.OK(`{"op":"ack","queue":"q","seq":4}`)
	s.Restart()
	c = s.Dial(t)
	if m := receive(t, c, "q"); m.Body() != `2` || m.Int("attempt") != 1 {
		t.Errorf("%s", m.Raw)
	}
	wantCounts(t, c, "q", 4, map[string]int64{"leased": 1, "delayed": 1, "purged": 1, "acked": 1})
}

// Operations, queue.purge: a state that holds very many is purged at once, and so it is read back.
func TestPurgeManyDelayed(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	const batches, each = 30, 10_000
	const message = `,{"body":1,"delay":"1000h"}`
	for range batches {
		c.OK("%s", `{"op":"publish","queue":"q","messages":[`+strings.Repeat(message, each)[1:]+"]}")
	}
	c.OK(`{"op":"publish","queue":"q","body":2}`)
	if l := c.OK(`{"op":"queue.purge","queue":"q","state":"delayed"}`); l.Int("purged") != batches*each {
		t.Errorf("Operations, queue.purge: %s", l.Raw)
	}
	s.Restart()
	wantCounts(t, s.Dial(t), "q", batches*each+1, map[string]int64{"ready": 1, "purged": batches * each})
}
