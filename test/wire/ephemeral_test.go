package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// nobody fails where a topic has a queue.
func nobody(t *testing.T, c *harness.Conn, topic string) {
	t.Helper()
	if l := c.OK(`{"op":"publish","topic":"%s","body":"anybody?"}`, topic); l.Raw != `{"ok":true,"queues":0}` {
		t.Errorf("R91: the subscription is gone, and so is its queue: %s", l.Raw)
	}
}

// R91: a subscription to topics has a queue of its own.
func TestEphemeralQueue(t *testing.T) {
	s := harness.Start(t, "limits: {max_queues: 1}\n")
	c, pub := s.Dial(t), s.Dial(t)
	pub.OK(`{"op":"publish","queue":"only","body":1}`) // as many as there may be
	a := c.OK(`{"op":"subscribe","topic":"news.*","credit":10}`).Int("sub")
	b := c.OK(`{"op":"subscribe","topic":"news.>","credit":10}`).Int("sub")
	if a == b {
		t.Fatalf("two subscriptions are both %d", a)
	}
	if l := pub.OK(`{"op":"publish","topic":"news.eu","headers":{"h":"1"},"key":"k","body":"x y"}`); l.Raw != `{"ok":true,"queues":2}` {
		t.Errorf("R88: ephemeral queues count, and what they store does not: %s", l.Raw)
	}
	if l := pub.OK(`{"op":"publish","topic":"news.us","stored":"disk","body":2}`); l.Int("queues") != 2 {
		t.Errorf("R88: nobody is there of whom that could be demanded: %s", l.Raw)
	}
	got := map[int64][]harness.Line{}
	for range 4 {
		m := c.Push()
		got[m.Int("sub")] = append(got[m.Int("sub")], m)
	}
	names := map[string]bool{}
	for _, sub := range []int64{a, b} {
		if len(got[sub]) != 2 {
			t.Fatalf("R91: %v", got)
		}
		m := got[sub][0]
		names[m.Text("queue")] = true
		if !strings.HasPrefix(m.Text("queue"), ".") || m.Int("seq") != 1 || m.Int("attempt") != 1 || m.Text("receipt") == "" || m.Text("topic") != "news.eu" ||
			m.Text("key") != "k" || m.At("headers").Text("h") != "1" || m.Body() != `"x y"` || m.Bool("redelivered") || m.Has("dropped") {
			t.Errorf("R91: %s", m.Raw)
		}
		tight(t, m)
	}
	if len(names) != 2 {
		t.Errorf("R91: each subscription has its own queue: %v", names)
	}
	if l := pub.OK(`{"op":"queue.list","limit":1000}`); len(l.Each("queues")) != 1 {
		t.Errorf("R91: not listed: %s", l.Raw)
	}
	if l := pub.OK(`{"op":"server.info"}`); l.At("totals").Int("queues") != 1 || l.At("totals").Int("leased") != 0 {
		t.Errorf("R91: not counted: %s", l.Raw)
	}
	pub.Fails("too_many_queues", `{"op":"queue.create","queue":"another"}`)
	alive(t, c)
}

// R91: the deliveries of an ephemeral queue are settled as others are, by their own connection.
func TestEphemeralSettling(t *testing.T) {
	s := harness.Start(t, "queue_defaults: {max_deliveries: 2, retry: {min: 0s, max: 0s}}\n")
	c, other := s.Dial(t), s.Dial(t)
	sub := c.OK(`{"op":"subscribe","topic":"t","credit":2}`).Int("sub")
	other.OK(`{"op":"publish","topic":"t","messages":[{"body":1},{"body":2},{"body":3}]}`)
	first, second := c.Push(), c.Push()
	alive(t, c) // the credit is used up
	queue := first.Text("queue")
	for _, op := range []string{"ack", "nack", "extend"} {
		more := map[string]string{"extend": `,"lease":"1h"`}[op]
		other.Fails("not_found", `{"op":"%s","queue":"%s","seq":1%s}`, op, queue, more)
		other.Fails("not_found", `{"op":"%s","queue":"%s","seq":1,"receipt":%s%s}`, op, queue, first.Fields["receipt"], more)
		c.Fails("not_found", `{"op":"%s","queue":"%s9","seq":1%s}`, op, queue, more)
	}
	for _, op := range []string{"queue.info", "queue.delete", "queue.purge", "queue.peek", "queue.pause", "queue.create", "receive", "subscribe"} {
		for _, from := range []*harness.Conn{c, other} {
			from.Fails("bad_request", `{"op":"%s","queue":"%s"}`, op, queue)
		}
	}
	c.Fails("bad_request", `{"op":"publish","queue":"%s","body":1}`, queue)
	if l := c.OK(`{"op":"extend","queue":"%s","seq":1,"receipt":%s,"lease":"1h"}`, queue, first.Fields["receipt"]); !l.Has("until") {
		t.Errorf("R91: %s", l.Raw)
	}
	if l := c.OK(`{"op":"ack","queue":"%s","seq":[1,9],"receipt":[%s,"x"]}`, queue, first.Fields["receipt"]); l.Int("settled") != 1 {
		t.Errorf("R91: %s", l.Raw)
	}
	if m := c.Push(); m.Body() != `3` {
		t.Errorf("R91: %s", m.Raw)
	}
	c.Fails("bad_request", `{"op":"nack","queue":"%s","seq":2,"dead":true}`, queue) // there is nowhere to
	for attempt := range int64(5) {                                                 // and max_deliveries does not count
		c.OK(`{"op":"nack","queue":"%s","seq":2}`, queue)
		if second = c.Push(); second.Int("seq") != 2 || second.Int("attempt") != attempt+2 || !second.Bool("redelivered") {
			t.Fatalf("R91: %s", second.Raw)
		}
	}
	c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	c.Fails("not_found", `{"op":"unsubscribe","sub":%d}`, sub)
	c.Fails("not_found", `{"op":"ack","queue":"%s","seq":2,"receipt":%s}`, queue, second.Fields["receipt"])
	nobody(t, other, "t")
	alive(t, c)
}

// R91: an ephemeral queue ends with its connection, however that ends.
func TestEphemeralEnds(t *testing.T) {
	s := harness.Start(t, "")
	pub := s.Dial(t)
	for name, leave := range map[string]func(c *harness.Conn){
		"close":      func(c *harness.Conn) { c.Close() },
		"half-close": func(c *harness.Conn) { c.Conn.(interface{ CloseWrite() error }).CloseWrite() },
	} {
		c := s.Dial(t)
		for range 20 {
			c.OK(`{"op":"subscribe","topic":"a.>","credit":3}`)
		}
		if l := pub.OK(`{"op":"publish","topic":"a.b","messages":[{"body":1},{"body":2},{"body":3},{"body":4}]}`); l.Int("queues") != 20 {
			t.Errorf("%s: %s", name, l.Raw)
		}
		leave(c)
		harness.Eventually(t, "the queues have gone", func() bool { return pub.OK(`{"op":"publish","topic":"a.b","body":1}`).Int("queues") == 0 })
	}
	// In one go with what comes behind it, and before it has been answered.
	c := s.Dial(t)
	c.Send(`{"op":"subscribe","id":1,"topic":"a.b"}`, `{"op":"publish","id":2,"topic":"a.b","body":1}`, `{"op":"unsubscribe","id":3,"sub":1}`, `{"op":"publish","id":4,"topic":"a.b","body":2}`)
	queues := map[int64]int64{2: 1, 4: 0}
	for range 4 {
		l := c.Reply()
		if want, ok := queues[l.Int("id")]; !l.Bool("ok") || ok && l.Int("queues") != want {
			t.Errorf("R92: %s", l.Raw)
		}
	}
	usage := func() int64 { return pub.OK(`{"op":"server.info"}`).At("usage").At("memory").Int("message_bytes") }
	c.OK(`{"op":"subscribe","topic":"a.b"}`)
	pub.OK(`{"op":"publish","topic":"a.b","messages":[{"body":1},{"body":"%s"}]}`, strings.Repeat("x", 500_000))
	if n := usage(); n < 500_000 {
		t.Errorf("R90: %d bytes of messages in memory", n)
	}
	c.Close()
	harness.Eventually(t, "their memory is free", func() bool { return usage() < 10_000 })
}

// R91: a subscriber that is too slow loses the oldest, and is told how many.
func TestDropped(t *testing.T) {
	s := harness.Start(t, "")
	c, pub := s.Dial(t), s.Dial(t)
	sub := c.OK(`{"op":"subscribe","topic":"t","credit":1}`).Int("sub")
	publish := func(n int, body func(i int) string) {
		for i := 0; i < n; {
			var batch []string
			for ; i < n && len(batch) < 50; i++ {
				batch = append(batch, `{"body":`+body(i)+`}`)
			}
			if l := pub.OK(`{"op":"publish","topic":"t","messages":[%s]}`, strings.Join(batch, ",")); l.Int("queues") != 1 {
				t.Fatalf("R91: %s", l.Raw)
			}
		}
	}
	publish(12_000, func(i int) string { return fmt.Sprint(i) })
	m := c.Push()
	queue := m.Text("queue")
	if m.Body() != `0` || m.Has("dropped") {
		t.Errorf("R91: what is leased is not dropped: %s", m.Raw)
	}
	next := int64(1)
	for next < 12_000 {
		c.OK(`{"op":"ack","queue":"%s","seq":%d}`, queue, m.Int("seq"))
		m = c.Push()
		lost := max(m.Int("dropped"), 0) // at once, so that what was dropped stands where it was missed
		if m.Int("body") != next+lost || m.Int("seq") != m.Int("body")+1 || (lost > 0) != (next == 1) {
			t.Fatalf("R91: %s, and %d was next", m.Raw, next)
		}
		if next == 1 && lost != 2000 {
			t.Errorf("R91: 10000 messages are held: %s", m.Raw)
		}
		next += lost + 1
	}
	c.OK(`{"op":"ack","queue":"%s","seq":%d}`, queue, m.Int("seq"))

	// The bytes count as well: 8 MiB.
	big := strings.Repeat("x", 500_000)
	for i := range 40 {
		pub.OK(`{"op":"publish","topic":"t","body":"%d %s"}`, i, big)
	}
	m = c.Push()
	c.OK(`{"op":"ack","queue":"%s","seq":%d}`, queue, m.Int("seq"))
	m = c.Push()
	if lost := m.Int("dropped"); lost != 40-8<<20/500_000 && lost != 40-8<<20/500_000+1 {
		t.Errorf("R91: of 40 messages of 500 KB %d were dropped", lost)
	}
	c.OK(`{"op":"unsubscribe","sub":%d}`, sub)
	// A batch that is larger than the queue is missed as a whole, and so is what comes while all is leased.
	c.OK(`{"op":"subscribe","topic":"t","credit":100}`)
	var batch []string
	for range 10_000 {
		batch = append(batch, `{"body":1}`)
	}
	c.OK(`{"op":"ping"}`)
	if l := pub.OK(`{"op":"publish","topic":"t","messages":[%s]}`, strings.Join(batch, ",")); l.Int("queues") != 1 {
		t.Errorf("R91: %s", l.Raw)
	}
	for range 100 {
		m = c.Push()
	}
	if l := pub.OK(`{"op":"publish","topic":"t","messages":[%s]}`, strings.Join(batch, ",")); l.Int("queues") != 0 {
		t.Errorf("R91: 100 of its messages are leased: %s", l.Raw)
	}
	c.OK(`{"op":"ack","queue":%s,"seq":%d}`, m.Fields["queue"], m.Int("seq"))
	if m = c.Push(); m.Int("dropped") != 10_000 || m.Int("seq") != 101 {
		t.Errorf("R91: %s", m.Raw)
	}
}

// R91: one connection has 1,000 subscriptions to topics at most; those that it ends make room.
func TestManyEphemeral(t *testing.T) {
	s := harness.Start(t, "")
	c, pub := s.Dial(t), s.Dial(t)
	for i := range 1001 {
		c.Sendf(`{"op":"subscribe","id":%d,"topic":"t.%d"}`, i, i)
	}
	for range 1001 {
		l := c.Reply()
		if l.Int("id") == 1000 {
			l.WantCode(t, "overloaded")
		} else if !l.Bool("ok") || l.Int("sub") != l.Int("id")+1 {
			t.Fatal(l.Raw)
		}
	}
	c.OK(`{"op":"subscribe","queue":"q"}`) // those to queues are others
	c.OK(`{"op":"unsubscribe","sub":500}`)
	c.OK(`{"op":"subscribe","topic":">"}`)
	c.Fails("overloaded", `{"op":"subscribe","topic":"t"}`)
	if l := pub.OK(`{"op":"publish","topic":"t.7","body":1}`); l.Int("queues") != 2 {
		t.Errorf("R91: %s", l.Raw)
	}
	for range 2 {
		if m := c.Push(); m.Text("topic") != "t.7" {
			t.Errorf("R91: %s", m.Raw)
		}
	}
	alive(t, c)
}
