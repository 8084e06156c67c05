package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// TestNearSpreads: names that differ only in their last digits, as those of many queues do, do not share a few places.
func TestNearSpreads(t *testing.T) {
	for _, form := range []string{"bench-0123456789abcdef.%d", "q%d", "orders.%d.eu", "%d-of-a-long-name-that-goes-on-and-on"} {
		n := make(near, 1024)
		sets := map[*[4]nearby]int{}
		tags := map[uint32]bool{}
		for i := range 1024 {
			set, tag := n.set(fmt.Appendf(nil, form, i))
			sets[set]++
			tags[tag] = true
		}
		crowded := 0
		for _, k := range sets {
			crowded += max(0, k-4)
		}
		if crowded > 30 || len(tags) < 1000 { // by chance 12 of them find their set full
			t.Errorf("%s: %d of 1024 names find their set full, and there are %d tags", form, crowded, len(tags))
		}
	}
}

// TestManyQueues: requests about so many queues in one go that they are looked at side by side before, some of which are not there any more.
func TestManyQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(l *Limits) { l.MaxQueues, l.MaxInFlight = 3000, 1e6 })
		defer r.close()
		p, c := r.peer(), r.peer()
		const queues = 1500
		var make, subscribe, publish []string
		for i := range queues {
			make = append(make, fmt.Sprintf(`{"op":"queue.create","queue":"many.%d","quiet":true}`, i))
			subscribe = append(subscribe, fmt.Sprintf(`{"op":"subscribe","queue":"many.%d","credit":10,"quiet":true}`, i))
			publish = append(publish, fmt.Sprintf(`{"op":"publish","queue":"many.%d","create":false,"id":%d,"body":%d}`, i, i, i))
		}
		p.send(make...)
		p.take()
		c.send(subscribe...)
		c.take()
		for round := 1; round <= 3; round++ {
			p.send(publish...)
			confirmed, missing := 0, 0
			for _, line := range p.take() {
				if strings.Contains(line, fmt.Sprintf(`"seq":%d,`, round)) {
					confirmed++
				} else if strings.Contains(line, `"not_found"`) {
					missing++
				}
			}
			gone := (round - 1) * 100
			if confirmed != queues-gone || missing != gone {
				t.Fatalf("round %d: %d confirmed, %d not found", round, confirmed, missing)
			}
			got := 0
			var acks []string
			for lines := c.take(); len(lines) > 0; lines = c.take() { // more than a session is sent before it takes something
				for _, line := range lines {
					var q, seq int
					if n, _ := fmt.Sscanf(line[strings.Index(line, `"queue"`):], `"queue":"many.%d","seq":%d`, &q, &seq); n != 2 || seq != round {
						t.Fatalf("round %d: %s", round, line)
					}
					got++
					acks = append(acks, fmt.Sprintf(`{"op":"ack","queue":"many.%d","seq":[%d]}`, q, seq))
				}
			}
			if got != queues-gone {
				t.Fatalf("round %d: %d delivered", round, got)
			}
			c.send(acks...)
			if settled := strings.Count(strings.Join(c.take(), "\n"), `"settled":1`); settled != got {
				t.Fatalf("round %d: %d settled", round, settled)
			}
			for i := range 100 {
				p.send(fmt.Sprintf(`{"op":"queue.delete","queue":"many.%d","quiet":true}`, (round-1)*100+i))
			}
			p.take()
			c.take() // the ends of subscriptions
		}
	})
}
