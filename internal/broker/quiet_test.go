package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestQuietAcks: a quiet ack is kept with what comes next, or a few milliseconds later, and at once where somebody waits for it.
func TestQuietAcks(t *testing.T) {
	const ack = `{"op":"ack","queue":"q","seq":%d,"quiet":true}`
	for _, c := range []struct {
		name     string
		settings string
		before   []string // message 1 is acked
		acks     []string
		waits    bool
	}{
		{name: "nobody waits", acks: []string{fmt.Sprintf(ack, 1)}, waits: true},
		{name: "two at once", before: []string{`{"op":"publish","queue":"q","body":2}`}, acks: []string{fmt.Sprintf(ack, 1), fmt.Sprintf(ack, 2)}, waits: true},
		{name: "in memory", settings: `"storage":"memory"`, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "with an answer", acks: []string{`{"op":"ack","queue":"q","seq":1}`}},
		{name: "and one with an answer", before: []string{`{"op":"publish","queue":"q","body":2}`}, acks: []string{fmt.Sprintf(ack, 1), `{"op":"ack","queue":"q","seq":2}`}},
		{name: "a message is ready", before: []string{`{"op":"publish","queue":"q","body":2}`, `{"op":"publish","queue":"q","body":3}`}, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "the queue is half full", settings: `"max_messages":1`, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "a publish comes with it", acks: []string{fmt.Sprintf(ack, 1), `{"op":"publish","queue":"q","body":2}`}},
		{name: "somebody looks", acks: []string{fmt.Sprintf(ack, 1), `{"op":"queue.info","queue":"q"}`}},
		{name: "back to the queue", acks: []string{`{"op":"nack","queue":"q","seq":1,"quiet":true,"delay":"1m"}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				defer r.close()
				p := r.peer()
				if c.settings == "" {
					c.settings = `"storage":"file"`
				} else if c.settings != `"storage":"memory"` {
					c.settings += `,"storage":"file"`
				}
				p.ask(`{"op":"queue.create","queue":"q",` + c.settings + `}`)
				p.ask(`{"op":"subscribe","queue":"q","credit":2}`)
				p.send(`{"op":"publish","queue":"q","body":1}`)
				p.send(c.before...)
				p.take()
				kept := func() int { // without a request: somebody who looks waits
					synctest.Wait()
					t, _ := r.b.shards[shardOf([]byte("q"))].find([]byte("q"))
					return int(t.queue.Counts.Acked) + t.queue.Counts.Delayed
				}
				p.send(c.acks...)
				if held := kept() == 0; held != c.waits {
					t.Fatalf("it is held: %v, want %v", held, c.waits)
				}
				if !c.waits {
					return
				}
				time.Sleep(time.Duration(quietTime) - 1)
				if kept() != 0 {
					t.Error("it was kept earlier than need be")
				}
				time.Sleep(1)
				if kept() != len(c.acks) {
					t.Error("it was not kept in time")
				}
			})
		})
	}
}
