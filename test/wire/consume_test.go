package wire_test

import (
	"fmt"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// slowRetry makes a queue to which only what returns at once returns during a test.
const slowRetry = `{"op":"queue.create","queue":"%s","retry":{"min":"1h","max":"1h"}}`

// quickRetry makes a queue to which everything returns at once.
const quickRetry = `{"op":"queue.create","queue":"%s","retry":{"min":"0s","max":"0s"}}`

// Operations, receive: max, wait, and an empty array where there is nothing.
func TestReceive(t *testing.T) {
	s := harness.Start(t, "")
	c, other := s.Dial(t), s.Dial(t)
	for _, line := range []string{`{"op":"receive","queue":"q"}`, `{"op":"receive","queue":"q","wait":"0s"}`, `{"op":"receive","queue":"q","max":10,"wait":"30ms"}`} {
		if l := c.OK("%s", line); string(l.Fields["messages"]) != `[]` {
			t.Errorf("%s gives %s", line, l.Raw)
		}
	}
	c.Send(`{"op":"receive","id":1,"queue":"q","max":5,"wait":"60s"}`)
	c.OK(`{"op":"ping","id":2}`)
	other.OK(`{"op":"publish","queue":"q","body":"for who waits"}`)
	if l := c.Reply(); l.Int("id") != 1 || len(l.Each("messages")) != 1 || l.Each("messages")[0].Body() != `"for who waits"` {
		t.Errorf("wait is for the first message: %s", l.Raw)
	}
	other.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3}]}`)
	if ms := c.OK(`{"op":"receive","queue":"q","max":2,"wait":"60s"}`).Each("messages"); len(ms) != 2 || ms[0].Body() != `1` || ms[1].Body() != `2` {
		t.Errorf("max: %v", ms)
	}
	if m := one(t, c, `{"op":"receive","queue":"q","max":10}`); m.Body() != `3` {
		t.Errorf("max: %s", m.Raw)
	}
	wantCounts(t, c, "q", 4, map[string]int64{"leased": 4})
}

// Each of many receives that wait gets one of many messages, whoever came first.
func TestManyWait(t *testing.T) {
	s := harness.Start(t, "")
	waiting := make([]*harness.Conn, 10)
	for i := range waiting {
		waiting[i] = s.Dial(t)
		waiting[i].Send(`{"op":"receive","id":"w","queue":"q","wait":"60s"}`)
		waiting[i].OK(`{"op":"ping"}`)
	}
	c := s.Dial(t)
	got := map[string]bool{}
	for i, w := range waiting {
		c.OK(`{"op":"publish","queue":"q","body":%d}`, i)
		ms := w.Reply().Each("messages")
		if len(ms) != 1 || got[ms[0].Body()] {
			t.Fatalf("receive %d of %d got %v", i, len(waiting), ms)
		}
		got[ms[0].Body()] = true
	}
	// One that has gone away takes nothing with it.
	gone := s.Dial(t)
	gone.Send(`{"op":"receive","id":"w","queue":"q","wait":"60s"}`)
	gone.OK(`{"op":"ping"}`)
	gone.Close()
	c.OK(`{"op":"publish","queue":"q","body":"last"}`)
	if m := receive(t, c, "q"); m.Body() != `"last"` {
		t.Errorf("%s", m.Raw)
	}
}

// Meaning: ack names the message; an ack of what is settled succeeds with settled 0.
func TestAck(t *testing.T) {
	s := harness.Start(t, "")
	c, other := s.Dial(t), s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4},{"body":5}]}`)
	ms := c.OK(`{"op":"receive","queue":"q","max":5}`).Each("messages")
	receipt := func(i int) string { return string(ms[i].Fields["receipt"]) }
	for _, test := range []struct {
		from    *harness.Conn
		line    string
		settled int64
	}{
		{c, `{"op":"ack","queue":"q","seq":1,"receipt":` + receipt(0) + `}`, 1},
		{c, `{"op":"ack","queue":"q","seq":1,"receipt":` + receipt(0) + `}`, 0},
		{c, `{"op":"ack","queue":"q","seq":1}`, 0},
		{other, `{"op":"ack","queue":"q","seq":2}`, 1},
		{other, `{"op":"ack","queue":"q","seq":[1,2,3],"receipt":[` + receipt(0) + `,` + receipt(1) + `,` + receipt(2) + `]}`, 1},
		{other, `{"op":"ack","queue":"q","seq":[4,5,4]}`, 2},
		{c, `{"op":"ack","queue":"q","seq":[1,2,3,4,5]}`, 0},
		{c, `{"op":"ack","queue":"q","seq":[],"receipt":[]}`, 0},
	} {
		if l := test.from.Do("%s", test.line); l.Int("settled") != test.settled {
			if l.Code() == "bad_request" && test.line == `{"op":"ack","queue":"q","seq":[],"receipt":[]}` {
				continue // an empty array may be refused
			}
			t.Errorf("%s\n  gives %s, not settled %d", test.line, l.Raw, test.settled)
		}
	}
	c.Fails("not_found", `{"op":"ack","queue":"none","seq":1}`)
	wantCounts(t, c, "q", 5, map[string]int64{"acked": 5})
}

// Meaning: an ack counts after a reconnect and after a restart; its receipt stays good until the message is delivered again.
func TestAckAfterRestart(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
	ms := c.OK(`{"op":"receive","queue":"q","max":2}`).Each("messages")
	s.Restart()
	c = s.Dial(t)
	if l := c.OK(`{"op":"ack","queue":"q","seq":1,"receipt":%s}`, ms[0].Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("Meaning: a restart alone does not make a receipt stale: %s", l.Raw)
	}
	m := receive(t, c, "q")
	if m.Int("seq") != 2 || m.Int("attempt") != 1 || !m.Bool("redelivered") {
		t.Errorf("Operations: redelivered where the server has restarted since it was stored: %s", m.Raw)
	}
	l := c.Fails("lease_lost", `{"op":"ack","queue":"q","seq":2,"receipt":%s}`, ms[1].Fields["receipt"])
	if seqs := l.At("error").Ints("seqs"); len(seqs) != 1 || seqs[0] != 2 {
		t.Errorf("Meaning: the error's seqs names the stale ones: %s", l.Raw)
	}
	wantCounts(t, c, "q", 2, map[string]int64{"acked": 1, "leased": 1})
}

// Meaning: a lease that is over returns the message, attempt counted; stale receipts change nothing.
func TestLeaseExpiry(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(quickRetry, "q")
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
	first := one(t, c, `{"op":"receive","queue":"q","lease":"30ms"}`)
	good := one(t, c, `{"op":"receive","queue":"q"}`)
	again := receive(t, c, "q")
	if again.Int("seq") != 1 || again.Int("attempt") != 2 || !again.Bool("redelivered") || again.Text("receipt") == first.Text("receipt") {
		t.Fatalf("Meaning: after the lease: %s", again.Raw)
	}
	for _, op := range []string{
		`{"op":"ack","queue":"q","seq":1,"receipt":%s}`, `{"op":"nack","queue":"q","seq":1,"receipt":%s}`, `{"op":"nack","dead":true,"queue":"q","seq":1,"receipt":%s}`,
		`{"op":"extend","queue":"q","seq":1,"lease":"1h","receipt":%s}`,
	} {
		l := c.Fails("lease_lost", op, first.Fields["receipt"])
		if seqs := l.At("error").Ints("seqs"); len(seqs) != 1 || seqs[0] != 1 {
			t.Errorf("Meaning: lease_lost names the stale ones: %s", l.Raw)
		}
		wantCounts(t, c, "q", 2, map[string]int64{"leased": 2})
	}
	l := c.Fails("lease_lost", `{"op":"ack","queue":"q","seq":[1,2],"receipt":[%s,%s]}`, first.Fields["receipt"], good.Fields["receipt"])
	if seqs := l.At("error").Ints("seqs"); len(seqs) != 1 || seqs[0] != 1 {
		t.Errorf("Meaning: in an array each is judged alone: %s", l.Raw)
	}
	wantCounts(t, c, "q", 2, map[string]int64{"leased": 1, "acked": 1})
	c.Fails("lease_lost", `{"op":"ack","queue":"q","seq":1,"receipt":"nobody-ever-had-this"}`)
	if l := c.OK(`{"op":"ack","queue":"q","seq":1,"receipt":%s}`, again.Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("the current receipt: %s", l.Raw)
	}
}

// A queue's own lease, and that of a subscription.
func TestLeaseOfQueueAndSubscription(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"queue.create","queue":"a","lease":"30ms","retry":{"min":"0s","max":"0s"}}`)
	c.OK(`{"op":"publish","queue":"a","body":1}`)
	receive(t, c, "a")
	if m := receive(t, c, "a"); m.Int("attempt") != 2 {
		t.Errorf("the queue's lease: %s", m.Raw)
	}
	c.OK(quickRetry, "b")
	c.OK(`{"op":"subscribe","queue":"b","lease":"30ms"}`)
	c.OK(`{"op":"publish","queue":"b","body":1}`)
	for attempt := range int64(3) {
		if m := c.Push(); m.Int("attempt") != attempt+1 || m.Bool("redelivered") != (attempt > 0) {
			t.Errorf("the subscription's lease: %s", m.Raw)
		}
	}
}

// Operations, extend: the lease of the extended message outlives a later one.
func TestExtend(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(quickRetry, "q")
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":"extended"},{"body":"not"}]}`)
	m := one(t, c, `{"op":"receive","queue":"q","lease":"2s"}`)
	if l := c.OK(`{"op":"extend","queue":"q","seq":1,"receipt":%s,"lease":"1h"}`, m.Fields["receipt"]); !instant.MatchString(l.Text("until")) {
		t.Errorf("Operations, extend: %s", l.Raw)
	}
	one(t, c, `{"op":"receive","queue":"q","lease":"2100ms"}`)
	if back := receive(t, c, "q"); back.Int("seq") != 2 { // its end came after that of the first
		t.Errorf("an extended lease ended before another: %s", back.Raw)
	}
	wantCounts(t, c, "q", 2, map[string]int64{"leased": 2})
	c.OK(`{"op":"extend","queue":"q","seq":[1,2],"lease":"1h"}`)
	c.OK(`{"op":"extend","queue":"q","seq":1,"lease":"20ms"}`)
	if back := receive(t, c, "q"); back.Int("seq") != 1 || back.Int("attempt") != 2 {
		t.Errorf("a shortened lease: %s", back.Raw)
	}
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	c.Fails("lease_lost", `{"op":"extend","queue":"q","seq":1,"lease":"1h"}`)
	c.Fails("not_found", `{"op":"extend","queue":"none","seq":1,"lease":"1h"}`)
}

// Meaning: what a subscription, a connection or a receive had returns at once when that is gone.
func TestReturnAtOnce(t *testing.T) {
	for name, leave := range map[string]func(c *harness.Conn, queue string){
		"unsubscribe": func(c *harness.Conn, queue string) {
			sub := c.OK(`{"op":"subscribe","queue":"%s","credit":3}`, queue).Int("sub")
			for range 3 {
				c.Push()
			}
			c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
			c.Fails("not_found", `{"op":"unsubscribe","sub":%d}`, sub)
		},
		"disconnect": func(c *harness.Conn, queue string) {
			c.OK(`{"op":"subscribe","queue":"%s","credit":3}`, queue)
			for range 3 {
				c.Push()
			}
			c.Close()
		},
		"disconnect-receive": func(c *harness.Conn, queue string) {
			c.OK(`{"op":"receive","queue":"%s","max":3}`, queue)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, "")
			c, other := s.Dial(t), s.Dial(t)
			c.OK(slowRetry, "q")
			c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3}]}`)
			leave(c, "q")
			for i := range 3 {
				m := receive(t, other, "q")
				if m.Int("attempt") != 2 || !m.Bool("redelivered") || m.Int("seq") != int64(i+1) {
					t.Errorf("Meaning: a lost connection returns at once, attempt counted: %s", m.Raw)
				}
			}
			wantCounts(t, other, "q", 3, map[string]int64{"leased": 3})
		})
	}
}

// Meaning: credit is how many may be unacked at a time, and who has credit gets a fair share.
func TestCredit(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"subscribe","queue":"q","credit":2}`)
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4}]}`)
	if a, b := c.Push(), c.Push(); a.Body() != `1` || b.Body() != `2` {
		t.Errorf("%s %s", a.Raw, b.Raw)
	}
	alive(t, c)
	for i := range 2 {
		c.OK(`{"op":"ack","queue":"q","seq":%d}`, i+1)
		if m := c.Push(); m.Int("seq") != int64(i+3) {
			t.Errorf("an ack makes room for the next: %s", m.Raw)
		}
		alive(t, c)
	}

	consumers := make([]*harness.Conn, 3)
	for i := range consumers {
		consumers[i] = s.Dial(t)
		consumers[i].OK(`{"op":"subscribe","queue":"fair","credit":100}`)
	}
	for i := range 60 {
		c.OK(`{"op":"publish","queue":"fair","body":%d}`, i)
	}
	for i, consumer := range consumers {
		if n := len(consumer.Settle()); n < 15 || n > 25 {
			t.Errorf("consumer %d of 3 got %d of 60 messages", i, n)
		}
	}
	c.OK(`{"op":"subscribe","queue":"one"}`)
	c.OK(`{"op":"publish","queue":"one","messages":[{"body":1},{"body":2}]}`)
	if m := c.Push(); m.Body() != `1` {
		t.Errorf("%s", m.Raw)
	}
	alive(t, c) // the credit is 1 where nothing is said
}

// Operations: with ack auto a delivery settles.
func TestAutoAck(t *testing.T) {
	s := harness.Start(t, "")
	c, other := s.Dial(t), s.Dial(t)
	sub := c.OK(`{"op":"subscribe","queue":"q","ack":"auto"}`).Int("sub")
	for i := range 50 {
		other.OK(`{"op":"publish","queue":"q","body":%d}`, i)
	}
	for i := range 50 {
		if m := c.Push(); m.Body() != fmt.Sprint(i) {
			t.Fatalf("%s", m.Raw)
		}
	}
	c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	other.OK(`{"op":"publish","queue":"q","messages":[{"body":50},{"body":51}]}`)
	if ms := c.OK(`{"op":"receive","queue":"q","max":2,"ack":"auto"}`).Each("messages"); len(ms) != 2 {
		t.Errorf("%v", ms)
	}
	c.Close()
	allAcked(t, other, "q", 52)
}
