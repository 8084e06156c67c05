package wire_test

import (
	"fmt"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Operations, publish: delay and at hold a message back; both survive a restart.
func TestDelay(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","delay":"1h","body":"late"}`)
	c.OK(`{"op":"publish","queue":"q","at":"2190-01-02T03:04:05Z","body":"never"}`)
	c.OK(`{"op":"publish","queue":"q","at":"2001-01-02T03:04:05Z","body":"long due"}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"delay":"50ms","body":"soon"},{"delay":"0s","body":"now"}]}`)
	got := map[string]bool{}
	for range 3 {
		m := receive(t, c, "q")
		if m.Int("attempt") != 1 || m.Bool("redelivered") {
			t.Errorf("a delayed message is a first delivery: %s", m.Raw)
		}
		got[m.Body()] = true
	}
	if !got[`"long due"`] || !got[`"soon"`] || !got[`"now"`] {
		t.Errorf("Operations, delay and at: %v", got)
	}
	wantCounts(t, c, "q", 5, map[string]int64{"leased": 3, "delayed": 2})
	s.Restart()
	c = s.Dial(t)
	wantCounts(t, c, "q", 5, map[string]int64{"ready": 3, "delayed": 2})
	c.OK(`{"op":"queue.reschedule","queue":"q","seq":2,"delay":"1ms"}`)
	c.OK(`{"op":"queue.cancel","queue":"q","seq":1}`)
	c.Fails("not_found", `{"op":"queue.cancel","queue":"q","seq":1}`)
	c.Fails("not_found", `{"op":"queue.cancel","queue":"q","seq":99}`)
	c.Fails("not_found", `{"op":"queue.reschedule","queue":"none","seq":1,"delay":"1s"}`)
	for range 4 {
		m := receive(t, c, "q")
		got[m.Body()] = true
		c.OK(`{"op":"ack","queue":"q","seq":%d,"receipt":%s}`, m.Int("seq"), m.Fields["receipt"])
	}
	if !got[`"never"`] {
		t.Errorf("Operations, queue.reschedule: %v", got)
	}
	wantCounts(t, c, "q", 5, map[string]int64{"acked": 4, "cancelled": 1})
	c.Fails("bad_request", `{"op":"publish","queue":"q","delay":"1s","at":"2190-01-02T03:04:05Z","body":1}`)
	for _, at := range []string{`"tomorrow"`, `"2190-01-02"`, `"2190-13-02T03:04:05Z"`, `""`} {
		c.Fails("bad_request", `{"op":"publish","queue":"q","at":%s,"body":1}`, at)
	}
}

// Operations, publish: a ttl ends messages that nobody took, and they are counted.
func TestTTL(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"queue.create","queue":"short","ttl":"20ms"}`)
	c.OK(`{"op":"publish","queue":"short","body":1}`)
	c.OK(`{"op":"publish","queue":"q","ttl":"20ms","body":1}`)
	c.OK(`{"op":"publish","queue":"q","ttl":"1h","body":2}`)
	for _, queue := range []string{"short", "q"} {
		harness.Eventually(t, "a message has expired", func() bool { return counts(c, queue).Int("expired") == 1 })
	}
	wantCounts(t, c, "short", 1, map[string]int64{"expired": 1})
	wantCounts(t, c, "q", 2, map[string]int64{"expired": 1, "ready": 1})
	if m := receive(t, c, "q"); m.Body() != `2` {
		t.Errorf("an expired message was delivered: %s", m.Raw)
	}
}

// Meaning: first deliveries are in order of seq within a priority.
func TestPriority(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for i, priority := range []int{4, 9, 0, 9, 4, 0} {
		c.OK(`{"op":"publish","queue":"q","priority":%d,"body":%d}`, priority, i)
	}
	c.OK(`{"op":"publish","queue":"q","body":6}`)
	got := ""
	for _, m := range c.OK(`{"op":"receive","queue":"q","max":10}`).Each("messages") {
		got += m.Body()
	}
	if got != "1304625" {
		t.Errorf("Meaning: by priority and seq: %s", got)
	}
	for _, bad := range []string{`10`, `-1`, `1.5`, `"4"`} {
		c.Fails("bad_request", `{"op":"publish","queue":"q","priority":%s,"body":1}`, bad)
	}
}

// Meaning: dedup_id within the window gives the first seq again, across restarts.
func TestDedup(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	first := c.OK(`{"op":"publish","queue":"q","dedup_id":"a","body":1}`)
	if first.Has("duplicate") {
		t.Errorf("%s", first.Raw)
	}
	again := func() {
		t.Helper()
		if l := c.OK(`{"op":"publish","queue":"q","dedup_id":"a","body":"other"}`); l.Int("seq") != 1 || !l.Bool("duplicate") {
			t.Errorf("Meaning: dedup_id: %s", l.Raw)
		}
	}
	again()
	if l := c.OK(`{"op":"publish","queue":"other","dedup_id":"a","body":1}`); l.Has("duplicate") {
		t.Errorf("Meaning: a window is a queue's: %s", l.Raw)
	}
	if l := c.OK(`{"op":"publish","queue":"q","messages":[{"body":2,"dedup_id":"b"},{"body":3,"dedup_id":"a"},{"body":4}]}`); fmt.Sprint(l.Ints("seqs")) != "[2 1 3]" || !l.Has("duplicates") {
		t.Errorf("Meaning: a batch lists duplicates: %s", l.Raw)
	}
	receive(t, c, "q")
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	again()
	s.Restart()
	c = s.Dial(t)
	again()
	wantCounts(t, c, "q", 3, map[string]int64{"ready": 2, "acked": 1})
}

// Operations, stored: a publish that demands more than its queue gives stores nothing.
func TestStoredDemand(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	met := map[string][]string{harness.Storage(): {"memory", "written", "disk", "mysql"}, "memory": {"memory"}}
	n := map[string]int64{}
	for storage, good := range met {
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%[1]s"}`, storage)
		for _, demand := range []string{"memory", "written", "disk", "mysql", "memory_quorum", "quorum"} {
			ok := false
			for _, g := range good {
				ok = ok || g == demand
			}
			for _, line := range []string{`{"op":"publish","queue":"%s","stored":"%s","body":1}`, `{"op":"publish","queue":"%s","messages":[{"stored":"%s","body":1}]}`} {
				if !ok {
					c.Fails("not_stored", line, storage, demand)
					continue
				}
				c.OK(line, storage, demand)
				n[storage]++
			}
		}
		c.Fails("bad_request", `{"op":"publish","queue":"%s","stored":"tape","body":1}`, storage)
		wantCounts(t, c, storage, n[storage], map[string]int64{"ready": n[storage]})
	}
	c.Fails("not_stored", `{"op":"publish","queue":"memory","messages":[{"body":1},{"stored":"disk","body":2}]}`)
	wantCounts(t, c, "memory", n["memory"], map[string]int64{"ready": n["memory"]})
}

// Operations, delay: what is due while nobody serves is delivered at the next start, and once; what is not due stays.
func TestDelayAcrossRestart(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":"later","delay":"1h"},{"body":"soon","delay":"100ms","priority":9},{"body":"now"}]}`)
	before := c.OK(`{"op":"queue.peek","queue":"q","limit":1}`).Each("messages")[0].Text("until")
	s.Restart()
	c = s.Dial(t)
	if m := c.OK(`{"op":"queue.peek","queue":"q","limit":1}`).Each("messages")[0]; m.Text("until") != before || m.Text("state") != "delayed" {
		t.Errorf("Operations, delay: due at %s, and after a restart: %s", before, m.Raw)
	}
	got := map[string]bool{}
	for range 2 {
		m := receive(t, c, "q")
		got[m.Body()] = true
		c.OK(`{"op":"ack","queue":"q","seq":%d}`, m.Int("seq"))
	}
	if !got[`"now"`] || !got[`"soon"`] {
		t.Errorf("Operations, delay: %v", got)
	}
	wantCounts(t, c, "q", 3, map[string]int64{"acked": 2, "delayed": 1})
	c.OK(`{"op":"queue.reschedule","queue":"q","seq":1,"at":"2190-01-02T03:04:05.5Z"}`)
	s.Restart()
	c = s.Dial(t)
	if l := c.OK(`{"op":"queue.explain","queue":"q","seq":1}`); l.Text("until") != "2190-01-02T03:04:05.500000Z" || l.Int("attempts") != 0 {
		t.Errorf("Operations, queue.reschedule: after a restart: %s", l.Raw)
	}
	c.OK(`{"op":"queue.cancel","queue":"q","seq":1}`)
	s.Restart()
	wantCounts(t, s.Dial(t), "q", 3, map[string]int64{"acked": 2, "cancelled": 1})
}

// Meaning: a message that is given back goes before others of its priority, and behind those of a higher one; across a restart too.
func TestPriorityOfRetries(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":0,"priority":1},{"body":1,"priority":5},{"body":2,"priority":5},{"body":3,"priority":9}]}`)
	c.OK(`{"op":"receive","queue":"q","max":2}`) // 3 and 1
	c.OK(`{"op":"nack","queue":"q","seq":[2,4],"delay":"0s"}`)
	c.OK(`{"op":"publish","queue":"q","body":4,"priority":9}`)
	order := func() (got string) {
		for _, m := range c.OK(`{"op":"receive","queue":"q","max":10}`).Each("messages") {
			got += m.Body()
		}
		return got
	}
	if got := order(); got != "34120" {
		t.Errorf("Meaning: by priority and seq: %s", got)
	}
	s.Restart()
	c = s.Dial(t)
	if got := order(); got != "34120" {
		t.Errorf("Meaning: by priority and seq, after a restart: %s", got)
	}
}

// Meaning: a window that is over, or switched off, does not keep an id; a batch that is repeated after a crash stores nothing.
func TestDedupWindow(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	const batch = `{"op":"publish","queue":"q","messages":[{"body":1,"dedup_id":"a"},{"body":2,"dedup_id":"b","key":"k"},{"body":3,"dedup_id":"a"}]}`
	if l := c.OK(batch); fmt.Sprint(l.Ints("seqs")) != "[1 2 1]" || fmt.Sprint(l.Ints("duplicates")) != "[1]" {
		t.Errorf("Meaning: a batch lists duplicates: %s", l.Raw)
	}
	s.Restart()
	c = s.Dial(t)
	if l := c.OK(batch); fmt.Sprint(l.Ints("seqs")) != "[1 2 1]" || fmt.Sprint(l.Ints("duplicates")) != "[1 2 1]" {
		t.Errorf("Meaning: dedup_id across a restart: %s", l.Raw)
	}
	wantCounts(t, c, "q", 2, map[string]int64{"ready": 2})
	c.OK(`{"op":"queue.create","queue":"off","dedup_window":"0s"}`)
	for range 2 {
		if l := c.OK(`{"op":"publish","queue":"off","body":1,"dedup_id":"a"}`); l.Has("duplicate") {
			t.Errorf("Meaning: without a window: %s", l.Raw)
		}
	}
	c.OK(`{"op":"queue.create","queue":"brief","dedup_window":"20ms"}`)
	c.OK(`{"op":"publish","queue":"brief","body":1,"dedup_id":"a"}`)
	harness.Eventually(t, "the window is over", func() bool { return !c.OK(`{"op":"publish","queue":"brief","body":1,"dedup_id":"a"}`).Has("duplicate") })
	// A full queue knows its messages all the same.
	c.OK(`{"op":"queue.update","queue":"q","max_messages":2}`)
	if l := c.OK(`{"op":"publish","queue":"q","body":1,"dedup_id":"b"}`); l.Int("seq") != 2 || !l.Bool("duplicate") {
		t.Errorf("Meaning: dedup_id: %s", l.Raw)
	}
	c.Fails("queue_full", `{"op":"publish","queue":"q","body":1,"dedup_id":"c"}`)
	c.OK(`{"op":"queue.update","queue":"q","max_messages":0}`)
	if l := c.OK(`{"op":"publish","queue":"q","body":1,"dedup_id":"c"}`); l.Has("duplicate") {
		t.Errorf("Meaning: what was refused is not remembered: %s", l.Raw)
	}
}
