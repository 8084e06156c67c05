package broker

import (
	"fmt"
	"testing"
)

// TestKnownTopicsAreForgotten: what was bound to a topic when it was looked up counts for nothing once a binding has come or gone, in none of the
// sessions that ask by turns for several topics.
func TestKnownTopicsAreForgotten(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "t.one", "a")
		p.bindAll("memory", "t.two", "b")
		other := r.peer()
		both := func(one, two int) {
			t.Helper()
			for range 2 { // the second time what is known answers
				for _, s := range []*peer{p, other} {
					s.want(`{"op":"publish","topic":"t.one","body":1}`, "queues", one)
					s.want(`{"op":"publish","topic":"t.two","body":2}`, "queues", two)
				}
			}
		}
		both(1, 1)
		p.want(`{"op":"queue.create","queue":"c","storage":"memory"}`, "ok", true)
		p.want(`{"op":"queue.bind","queue":"c","topic":"t.*"}`, "ok", true)
		both(2, 2)
		p.want(`{"op":"queue.unbind","queue":"a","topic":"t.one"}`, "ok", true)
		both(1, 2)
		p.want(`{"op":"queue.delete","queue":"c"}`, "ok", true)
		both(0, 1)
	})
}

// TestKnownTopicsShareAPlace: a topic that others want the place of stays for a while, and goes in the end. Each is found as the tree has it.
func TestKnownTopicsShareAPlace(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "t.>", "a")
		known := &r.b.topics.known
		first := []byte("t.first")
		in := &p.s.Intake
		in.match(first)
		place := known.place(first)
		others := 0
		for i := 0; place.Load().topic == string(first); i++ {
			topic := fmt.Appendf(nil, "t.%d", i)
			if known.place(topic) != place {
				continue
			}
			others++
			if got := in.match(topic); len(got) != 1 || string(got[0].name) != "a" {
				t.Fatalf("%s is bound to %v", topic, got)
			}
			if k := place.Load(); k.topic != string(first) && k.topic != string(topic) {
				t.Fatalf("in the place is %s", k.topic)
			}
		}
		if others != matchPatience {
			t.Errorf("it went for the %d. other, should be %d", others, matchPatience)
		}
		if got := in.match(first); len(got) != 1 || string(got[0].name) != "a" {
			t.Errorf("%s is bound to %v", first, got)
		}
	})
}
