package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inRig runs f with a broker and a session in a synctest bubble.
func inRig(t *testing.T, f func(t *testing.T, p *peer)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(l *Limits) { l.Defaults.DedupWindow = 5 * time.Minute })
		defer r.close()
		f(t, r.peer())
	})
}

// bodies receives everything there is and returns the bodies in order.
func (p *peer) bodies(queue string) string {
	p.t.Helper()
	r := p.ask(`{"op":"receive","queue":"` + queue + `","max":100,"ack":"auto"}`)
	list, ok := r["messages"].([]any)
	if !ok {
		p.t.Fatalf("%v", r)
	}
	var bodies []string
	for _, m := range list {
		bodies = append(bodies, fmt.Sprint(m.(map[string]any)["body"]))
	}
	return strings.Join(bodies, " ")
}

func (p *peer) wantBodies(queue, want string) {
	p.t.Helper()
	if got := p.bodies(queue); got != want {
		p.t.Errorf("%s holds %q, want %q", queue, got, want)
	}
}

func TestDelay(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		at := time.Now().Add(2 * time.Hour).Format(time.RFC3339Nano)
		p.want(`{"op":"publish","queue":"q","body":"hour","delay":"1h"}`, "seq", 1)
		p.want(`{"op":"publish","queue":"q","body":"two","at":"`+at+`"}`, "seq", 2)
		p.want(`{"op":"publish","queue":"q","body":"past","at":"2000-01-01T00:00:00Z"}`, "seq", 3)
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.delayed", 2)
		p.wantBodies("q", "past")
		pass(time.Hour - time.Second)
		p.wantBodies("q", "")
		pass(time.Second + time.Millisecond)
		p.wantBodies("q", "hour")
		pass(time.Hour)
		p.wantBodies("q", "two")
	})
}

func TestCancelAndReschedule(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		p.want(`{"op":"publish","queue":"q","messages":[{"body":"a","delay":"1h"},{"body":"b","delay":"1h"},{"body":"c"}]}`, "ok", true)
		p.want(`{"op":"queue.cancel","queue":"q","seq":1}`, "ok", true)
		p.want(`{"op":"queue.cancel","queue":"q","seq":1}`, "error.code", "not_found")
		p.want(`{"op":"queue.reschedule","queue":"q","seq":2,"delay":"10s"}`, "ok", true)
		p.want(`{"op":"queue.reschedule","queue":"q","seq":3,"delay":"5s"}`, "ok", true)
		p.wantBodies("q", "")
		pass(5*time.Second + time.Millisecond)
		p.want(`{"op":"receive","queue":"q"}`, "ok", true)
		p.want(`{"op":"queue.cancel","queue":"q","seq":3}`, "error.code", "bad_request")
		pass(5 * time.Second)
		p.wantBodies("q", "b")
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.cancelled", 1)
		p.want(`{"op":"queue.reschedule","queue":"q","seq":99,"delay":"1s"}`, "error.code", "not_found")
	})
}

func TestTTL(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		p.want(`{"op":"queue.create","queue":"q","ttl":"1m"}`, "settings.ttl", "1m0s")
		p.want(`{"op":"publish","queue":"q","messages":[{"body":"short","ttl":"10s"},{"body":"long","ttl":"1h"},{"body":"plain"}]}`, "ok", true)
		pass(11 * time.Second)
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.expired", 1)
		p.want(`{"op":"receive","queue":"q","lease":"2m"}`, "ok", true) // has "long"
		pass(50 * time.Second)
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.expired", 2)
		p.want(`{"op":"nack","queue":"q","seq":2,"delay":"0s"}`, "settled", 1)
		pass(time.Millisecond)
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.expired", 3)
		p.want(`{"op":"queue.create","queue":"d","ttl":"1s","dead_letter_expired":true}`, "ok", true)
		p.want(`{"op":"publish","queue":"d","body":1}`, "ok", true)
		pass(2 * time.Second)
		p.want(`{"op":"queue.info","queue":"d"}`, "counts.dead", 1)
		p.wantBodies("d.dlq", "1")
	})
}

func TestPriority(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		for _, prio := range []int{4, 0, 9, 5, 9, 4, 3} {
			p.want(fmt.Sprintf(`{"op":"publish","queue":"q","body":%d,"priority":%d}`, prio, prio), "ok", true)
		}
		p.want(`{"op":"receive","queue":"q"}`, "ok", true)
		p.want(`{"op":"nack","queue":"q","seq":3,"delay":"0s"}`, "settled", 1)
		p.wantBodies("q", "9 9 5 4 4 3 0")
	})
}

func TestDedup(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		p.want(`{"op":"publish","queue":"q","body":1,"dedup_id":"x"}`, "duplicate", nil)
		p.want(`{"op":"publish","queue":"q","body":1,"dedup_id":"x"}`, "duplicate", true)
		p.wantBodies("q", "1")
		p.want(`{"op":"publish","queue":"q","body":1,"dedup_id":"x"}`, "seq", 1)
		p.want(`{"op":"publish","queue":"q","messages":[{"body":2,"dedup_id":"y"},{"body":3,"dedup_id":"x"},{"body":4},{"body":5,"dedup_id":"y"}]}`, "seqs", "[2 1 3 2]")
		p.want(`{"op":"publish","queue":"q","messages":[{"body":2,"dedup_id":"y"},{"body":9}]}`, "duplicates", "[2]")
		p.wantBodies("q", "2 4 9")
		pass(5*time.Minute + time.Second)
		p.want(`{"op":"publish","queue":"q","body":7,"dedup_id":"x"}`, "seq", 5)
	})
}

func TestStoredDemanded(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		p.want(`{"op":"queue.create","queue":"f","storage":"file"}`, "ok", true) // whose rig says disk
		for _, c := range []struct{ queue, stored, code string }{
			{"m", "memory", ""}, {"m", "written", "not_stored"}, {"m", "disk", "not_stored"}, {"m", "quorum", "not_stored"}, {"m", "memory_quorum", "not_stored"},
			{"f", "memory", ""}, {"f", "written", ""}, {"f", "disk", ""}, {"f", "mysql", ""}, {"f", "memory_quorum", "not_stored"}, {"f", "quorum", "not_stored"},
		} {
			line := fmt.Sprintf(`{"op":"publish","queue":"%s","body":1,"stored":"%s"}`, c.queue, c.stored)
			if c.code == "" {
				p.want(line, "ok", true)
			} else {
				p.want(line, "error.code", c.code)
			}
		}
		p.want(`{"op":"queue.info","queue":"m"}`, "counts.published", 1)
		p.want(`{"op":"queue.info","queue":"f"}`, "counts.published", 4)
	})
}

func TestKeys(t *testing.T) {
	inRig(t, func(t *testing.T, p *peer) {
		take := func() (string, float64) { // body and seq, "" where there is none
			list := p.ask(`{"op":"receive","queue":"q"}`)["messages"].([]any)
			if len(list) == 0 {
				return "", 0
			}
			m := list[0].(map[string]any)
			return m["key"].(string) + fmt.Sprint(m["body"]), m["seq"].(float64)
		}
		for i, k := range []string{"a", "a", "b", "a", "b"} {
			p.want(fmt.Sprintf(`{"op":"publish","queue":"q","body":%d,"key":"%s","priority":%d}`, i+1, k, i), "ok", true)
		}
		var got []string
		for range 3 {
			b, _ := take()
			got = append(got, b)
		}
		if s := strings.Join(got, " "); s != "b3 a1 " {
			t.Fatalf("one of each key, the higher priority first: %q", s)
		}
		p.want(`{"op":"nack","queue":"q","seq":1,"delay":"10s"}`, "settled", 1)
		p.want(`{"op":"ack","queue":"q","seq":3}`, "settled", 1)
		if b, _ := take(); b != "b5" { // a waits for its retry
			t.Fatalf("got %q", b)
		}
		if b, _ := take(); b != "" {
			t.Fatalf("got %q while a1 waits for its retry", b)
		}
		pass(10*time.Second + time.Millisecond)
		for _, want := range []string{"a1", "a2", "a4"} {
			b, seq := take()
			if b != want {
				t.Fatalf("got %q, want %q", b, want)
			}
			p.want(fmt.Sprintf(`{"op":"ack","queue":"q","seq":%.0f}`, seq), "settled", 1)
		}
		// A poisoned message blocks its key only, and only until it is dead.
		p.want(`{"op":"publish","queue":"q","messages":[{"body":"poison","key":"c"},{"body":"next","key":"c"}]}`, "ok", true)
		_, seq := take()
		p.want(fmt.Sprintf(`{"op":"nack","queue":"q","seq":%.0f,"dead":true}`, seq), "settled", 1)
		if b, _ := take(); b != "cnext" {
			t.Fatalf("got %q", b)
		}
	})
}
