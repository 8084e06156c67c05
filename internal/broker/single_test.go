package broker

import (
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// TestTopicOfOneQueue: a publish to a topic to which one queue is bound goes straight there, and is answered as any other to a topic.
func TestTopicOfOneQueue(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "one", "a")
		p.bindAll("file", "other", "b")
		p.want(`{"op":"queue.update","queue":"a","max_messages":4,"dedup_window":"1h"}`, "ok", true)
		got := p.ask(`{"op":"publish","topic":"one","key":"k","headers":{"a":"b"},"dedup_id":"x","body":{"n":1}}`)
		if got["queues"] != 1.0 || got["stored"] != "memory" || got["seq"] != nil || got["duplicate"] != nil {
			t.Errorf("the confirm is %v", got)
		}
		p.want(`{"op":"publish","topic":"one","dedup_id":"x","body":2}`, "duplicate", true)
		p.want(`{"op":"publish","topic":"one","messages":[{"body":2},{"body":3}]}`, "queues", 1)
		p.want(`{"op":"publish","topic":"one","messages":[{"body":4},{"body":5}]}`, "error.code", "queue_full") // all or none
		p.want(`{"op":"publish","topic":"one","body":4,"stored":"disk"}`, "error.code", "not_stored")
		p.want(`{"op":"publish","topic":"other","body":6,"stored":"disk"}`, "stored", "disk")

		m := p.ask(`{"op":"receive","queue":"a"}`)["messages"].([]any)[0].(map[string]any)
		if m["topic"] != "one" || m["key"] != "k" || m["dedup_id"] != nil {
			t.Errorf("delivered as %v", m)
		}
		p.wantBodies("b", "6")

		// What is sent to a queue, to its topic, and to a topic of several, stays in order.
		p.bindAll("memory", "several", "c", "d")
		p.want(`{"op":"queue.bind","queue":"c","topic":"single"}`, "ok", true)
		p.send(`{"op":"publish","topic":"single","quiet":true,"body":1}`, `{"op":"publish","topic":"several","quiet":true,"body":2}`,
			`{"op":"publish","queue":"c","quiet":true,"body":3}`, `{"op":"publish","topic":"single","quiet":true,"body":4}`, `{"op":"publish","topic":"several","quiet":true,"body":5}`)
		p.take()
		p.wantBodies("c", "1 2 3 4 5")

		// What was on its way when its queue went is for nobody, though there is another queue of that name.
		p.send(`{"op":"queue.delete","queue":"b","quiet":true}`, `{"op":"queue.create","queue":"b","quiet":true}`, `{"op":"publish","topic":"other","id":1,"body":7}`)
		if got := strings.Join(p.take(), "\n"); got != `{"id":1,"ok":true,"queues":0}` {
			t.Errorf("the confirm is %s", got)
		}
		p.want(`{"op":"publish","topic":"other","body":8}`, "queues", 0)
		p.wantBodies("b", "")
	})
}

// TestTopicOfAnotherQueue: between the look into the index and the shard, the queue has become another one of its name.
func TestTopicOfAnotherQueue(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "one", "a")
		w := &work{s: p.s, requests: 1}
		w.pubs = []pub{{id: w.put([]byte("1")), name: w.put([]byte("a")), n: 1, only: 4711}}
		w.batch.Data = appendMessage(nil, &wire.Message{Body: []byte("1"), Priority: queue.DefaultPriority}, []byte("one"), true, false)
		r.b.shards[shardOf([]byte("a"))].post(w)
		if got := strings.Join(p.take(), "\n"); got != `{"id":1,"ok":true,"queues":0}` {
			t.Errorf("the confirm is %s", got)
		}
		p.wantBodies("a", "")
	})
}
