package wire_test

import (
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// R172: a subscription that is drained gets nothing more and keeps what it has, until it is ended.
func TestUnsubscribeDrain(t *testing.T) {
	s := harness.Start(t, "")
	c, other := s.Dial(t), s.Dial(t)
	c.OK(slowRetry, "q")
	sub := c.OK(`{"op":"subscribe","queue":"q","credit":3}`).Int("sub")
	c.OK(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4}]}`)
	for i := range 3 {
		if m := c.Push(); m.Int("seq") != int64(i+1) {
			t.Fatalf("%s", m.Raw)
		}
	}
	c.OK(`{"op":"unsubscribe","sub":%d,"drain":true}`, sub)
	if n := c.OK(`{"op":"queue.info","queue":"q"}`).Int("consumers"); n != 0 {
		t.Errorf("there are %d consumers", n)
	}
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	c.OK(`{"op":"extend","queue":"q","seq":2,"lease":"1h"}`)
	if m := one(t, other, `{"op":"receive","queue":"q","max":4}`); m.Int("seq") != 4 {
		t.Errorf("others get %s", m.Raw)
	}
	c.OK(`{"op":"unsubscribe","sub":%d,"drain":true}`, sub)
	wantCounts(t, c, "q", 4, map[string]int64{"leased": 3, "acked": 1})
	c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	c.Fails("not_found", `{"op":"unsubscribe","sub":%d,"drain":true}`, sub)
	for seq := range 2 {
		if m := receive(t, other, "q"); m.Int("seq") != int64(seq+2) || m.Int("attempt") != 2 {
			t.Errorf("what was not settled has not returned: %s", m.Raw)
		}
	}

	// The end of the connection ends it, too, and so does that of the queue.
	sub = c.OK(`{"op":"subscribe","queue":"r","credit":2}`).Int("sub")
	c.OK(`{"op":"publish","queue":"r","body":1}`)
	c.Push()
	c.OK(`{"op":"unsubscribe","sub":%d,"drain":true}`, sub)
	sub = c.OK(`{"op":"subscribe","queue":"q"}`).Int("sub")
	c.OK(`{"op":"unsubscribe","sub":%d,"drain":true}`, sub)
	other.OK(`{"op":"queue.delete","queue":"q"}`)
	c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	c.Close()
	if m := one(t, other, `{"op":"receive","queue":"r","wait":"60s"}`); m.Int("attempt") != 2 {
		t.Errorf("%s", m.Raw)
	}
}

// R171: a server that is alone is not led by anybody else.
func TestLeadersOfOne(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, line := range []string{`{"op":"cluster.leaders"}`, `{"op":"cluster.leaders","queue":"q"}`} {
		l := c.OK("%s", line)
		if _, group := l.Fields["group"]; string(l.Fields["leaders"]) != `[]` || group {
			t.Errorf("%s gives %s", line, l.Raw)
		}
	}
	c.Fails("bad_request", `{"op":"cluster.leaders","queue":".q"}`)
}
