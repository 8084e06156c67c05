package broker

import (
	"fmt"
	"testing"
)

// deadLetters makes n dead letters of queue q.
func (p *peer) deadLetters(q string, n int) {
	p.t.Helper()
	for i := range n {
		p.want(fmt.Sprintf(`{"op":"publish","queue":"%s","key":"k%d","priority":9,"headers":{"h":"%d"},"body":%d}`, q, i, i, i), "ok", true)
	}
	p.ask(fmt.Sprintf(`{"op":"receive","queue":"%s","max":100}`, q))
	for i := range n {
		p.want(fmt.Sprintf(`{"op":"nack","queue":"%s","seq":%d,"dead":true}`, q, i+1), "settled", 1)
	}
}

func TestRedriveToAnotherShardAndStorage(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"there","storage":"file"}`, "ok", true)
		if shardOf([]byte("q")) == shardOf([]byte("there")) {
			t.Fatal("the test wants two shards")
		}
		p.want(`{"op":"queue.create","queue":"q.dlq"}`, "ok", true)
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"nowhere"}`, "error.code", "not_found")
		p.deadLetters("q", 5)
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"nowhere"}`, "error.code", "not_found")
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"q.dlq"}`, "error.code", "bad_request")
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"there","max":2}`, "moved", 2)
		p.want(`{"op":"queue.info","queue":"q.dlq"}`, "counts.redriven", 2)
		p.want(`{"op":"queue.info","queue":"q.dlq"}`, "counts.ready", 3)
		// What does not fit stays, and can be had there.
		p.want(`{"op":"queue.update","queue":"there","max_messages":4}`, "ok", true)
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"there"}`, "moved", 2)
		p.want(`{"op":"queue.redrive","queue":"q.dlq","to":"there"}`, "moved", 0)
		p.want(`{"op":"queue.info","queue":"q.dlq"}`, "counts.ready", 1)
		p.want(`{"op":"queue.info","queue":"there"}`, "counts.published", 4)
		got := p.ask(`{"op":"receive","queue":"there"}`)["messages"].([]any)[0].(map[string]any)
		if got["key"] != "k0" || fmt.Sprint(got["headers"]) != "map[h:0]" || got["attempt"] != 1.0 || got["seq"] != 1.0 {
			t.Errorf("the first is %v", got)
		}
		p.wantBodies("there", "1 2 3")
		p.wantBodies("q.dlq", "4")
	})
}

// More than one part, to a queue of the same shard in another storage.
func TestRedriveMany(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"a.dlq"}`, "ok", true)
		for i := range 25 {
			batch := ""
			for k := range 100 {
				batch += fmt.Sprintf(`,{"body":%d}`, 100*i+k)
			}
			p.want(`{"op":"publish","queue":"a.dlq","messages":[`+batch[1:]+`]}`, "ok", true)
		}
		p.want(`{"op":"queue.create","queue":"there","storage":"file"}`, "ok", true)
		p.want(`{"op":"queue.redrive","queue":"a.dlq","to":"there"}`, "moved", 2500)
		p.want(`{"op":"queue.info","queue":"there"}`, "counts.ready", 2500)
		p.want(`{"op":"queue.info","queue":"a.dlq"}`, "counts.ready", 0)
	})
}

func TestPurgeByState(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		fill := func(q string) {
			p.want(fmt.Sprintf(`{"op":"queue.create","queue":"%s","storage":"file"}`, q), "ok", true)
			for i := range 6 {
				delay := ""
				if i%2 == 1 {
					delay = `"delay":"1h",`
				}
				p.want(fmt.Sprintf(`{"op":"publish","queue":"%s",%s"body":%d}`, q, delay, i), "ok", true)
			}
			p.ask(fmt.Sprintf(`{"op":"receive","queue":"%s"}`, q))
		}
		for _, test := range []struct {
			state                  string
			purged                 int
			ready, delayed, leased int
		}{
			{"ready", 2, 0, 3, 1}, {"delayed", 3, 2, 0, 1}, {"leased", 1, 2, 3, 0},
		} {
			fill(test.state)
			p.want(fmt.Sprintf(`{"op":"queue.purge","queue":"%s","state":"%s"}`, test.state, test.state), "purged", test.purged)
			info := fmt.Sprintf(`{"op":"queue.info","queue":"%s"}`, test.state)
			p.want(info, "counts.ready", test.ready)
			p.want(info, "counts.delayed", test.delayed)
			p.want(info, "counts.leased", test.leased)
			p.want(info, "counts.purged", test.purged)
			p.want(fmt.Sprintf(`{"op":"publish","queue":"%s","body":"new"}`, test.state), "ok", true)
			p.want(info, "counts.ready", test.ready+1)
			got := p.ask(fmt.Sprintf(`{"op":"receive","queue":"%s","max":10}`, test.state)) // not frozen any more
			if n := len(got["messages"].([]any)); n != test.ready+1 {
				t.Errorf("%s: %d messages are there afterwards", test.state, n)
			}
			p.want(fmt.Sprintf(`{"op":"queue.purge","queue":"%s"}`, test.state), "purged", test.ready+1+test.delayed+test.leased)
		}
	})
}

// A purge of what is ready sees what the same connection has published before it, and spares what is delayed.
func TestPurgeBehindPublishes(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.send(`{"op":"queue.create","queue":"q","storage":"file"}`, `{"op":"publish","queue":"q","body":1}`,
			`{"op":"publish","queue":"q","delay":"1h","body":2}`, `{"op":"queue.purge","queue":"q","state":"ready"}`)
		if got := p.take(); len(got) != 4 || got[3] != `{"ok":true,"purged":1}` {
			t.Errorf("got %q", got)
		}
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.delayed", 1)
	})
}
