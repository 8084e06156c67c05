package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/vfs"
)

// bindAll creates queues of a storage and binds them.
func (p *peer) bindAll(storage, pattern string, queues ...string) {
	p.t.Helper()
	for _, q := range queues {
		p.want(fmt.Sprintf(`{"op":"queue.create","queue":"%s","storage":"%s"}`, q, storage), "ok", true)
		p.want(fmt.Sprintf(`{"op":"queue.bind","queue":"%s","topic":"%s"}`, q, pattern), "ok", true)
	}
}

func withRig(t *testing.T, change func(*Limits), f func(r *rig, p *peer)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		defer r.close()
		p := r.peer()
		f(r, p)
		p.s.Close()
		synctest.Wait()
	})
}

func TestTopicReachesEveryBoundQueue(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		var queues []string
		for i := range 40 { // more than there are shards
			queues = append(queues, fmt.Sprintf("q%d", i))
		}
		p.bindAll("memory", "files.*.pdf", queues[:20]...)
		p.bindAll("file", "files.>", queues[20:]...)
		p.want(`{"op":"queue.bind","queue":"q0","topic":"files.>"}`, "ok", true) // twice bound is one copy
		got := p.ask(`{"op":"publish","topic":"files.eu.pdf","headers":{"a":"b"},"key":"k","body":{"n":1}}`)
		if got["queues"] != 40.0 || got["stored"] != "memory" || got["seq"] != nil {
			t.Errorf("the confirm is %v", got)
		}
		p.want(`{"op":"publish","topic":"files.eu.txt","body":2}`, "queues", 21)
		p.want(`{"op":"publish","topic":"files","body":3}`, "queues", 0)
		p.want(`{"op":"publish","topic":"files","body":3}`, "stored", nil)
		p.wantBodies("q0", "map[n:1] 2")
		p.wantBodies("q1", "map[n:1]")
		p.wantBodies("q39", "map[n:1] 2")
		got = p.ask(`{"op":"receive","queue":"q20"}`)
		m := got["messages"].([]any)[0].(map[string]any)
		if m["topic"] != "files.eu.pdf" || m["key"] != "k" || fmt.Sprint(m["headers"]) != "map[a:b]" {
			t.Errorf("delivered as %v", m)
		}
		p.want(`{"op":"queue.info","queue":"q0"}`, "bindings", "[files.*.pdf files.>]")
		p.want(`{"op":"queue.unbind","queue":"q0","topic":"files.>"}`, "ok", true)
		p.want(`{"op":"queue.unbind","queue":"q0","topic":"files.>"}`, "error.code", "not_found")
		p.want(`{"op":"publish","topic":"files.eu.txt","body":2}`, "queues", 20)
		p.want(`{"op":"queue.delete","queue":"q21"}`, "ok", true)
		p.want(`{"op":"publish","topic":"files.eu.txt","body":2}`, "queues", 19)
		p.want(`{"op":"queue.bind","queue":"q21","topic":"files.>"}`, "error.code", "not_found")
	})
}

func TestTopicAllOrNone(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "t", "a", "b", "c")
		p.bindAll("file", "t", "d")
		p.want(`{"op":"queue.update","queue":"c","max_messages":2}`, "ok", true)
		p.want(`{"op":"publish","topic":"t","messages":[{"body":1},{"body":2}]}`, "queues", 4)
		p.want(`{"op":"publish","topic":"t","body":3}`, "error.code", "queue_full")
		p.want(`{"op":"publish","topic":"t","body":3,"stored":"disk"}`, "error.code", "not_stored")
		p.send(`{"op":"publish","id":1,"topic":"t","body":4}`, `{"op":"publish","id":2,"topic":"t","body":5}`)
		if got := p.take(); len(got) != 2 || strings.Contains(strings.Join(got, ""), `"queues"`) {
			t.Errorf("got %q", got)
		}
		p.wantBodies("a", "1 2")
		p.wantBodies("d", "1 2")
		p.wantBodies("c", "1 2")
		// What was claimed in the queues that had room has been given back.
		p.want(`{"op":"queue.update","queue":"a","max_messages":1}`, "ok", true)
		p.want(`{"op":"publish","topic":"t","body":6}`, "queues", 4)
		p.want(`{"op":"publish","queue":"c","body":7}`, "ok", true)
		p.want(`{"op":"publish","queue":"c","body":8}`, "error.code", "queue_full")
		// A policy that makes room does so for topics too, though not of what is leased.
		p.want(`{"op":"queue.update","queue":"a","overflow":"drop_oldest"}`, "ok", true)
		p.want(`{"op":"queue.update","queue":"c","max_messages":0}`, "ok", true)
		p.want(`{"op":"publish","topic":"t","body":9}`, "queues", 4)
		got := p.ask(`{"op":"receive","queue":"a"}`)
		if !strings.Contains(fmt.Sprint(got), "body:9") {
			t.Errorf("a has %v", got)
		}
		p.want(`{"op":"publish","topic":"t","body":10}`, "error.code", "queue_full")
		p.wantBodies("d", "6 9")
	})
}

// What one connection sends keeps its order in every queue, however it gets there.
func TestTopicKeepsOrder(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		var lines []string
		for _, q := range []string{"a", "b", "c", "d", "e", "f"} {
			lines = append(lines, fmt.Sprintf(`{"op":"queue.create","queue":"%s"}`, q), fmt.Sprintf(`{"op":"queue.bind","queue":"%s","topic":"t"}`, q))
		}
		lines = append(lines, `{"op":"queue.bind","queue":"a","topic":"only.a"}`)
		var want []string
		for i := range 33 {
			want = append(want, fmt.Sprint(3*i), fmt.Sprint(3*i+1), fmt.Sprint(3*i+2))
			lines = append(lines, fmt.Sprintf(`{"op":"publish","topic":"t","body":%d}`, 3*i),
				fmt.Sprintf(`{"op":"publish","topic":"only.a","body":%d}`, 3*i+1), fmt.Sprintf(`{"op":"publish","queue":"a","body":%d}`, 3*i+2))
		}
		p.send(lines...)
		if got := p.take(); len(got) != len(lines) || strings.Contains(strings.Join(got, ""), `"ok":false`) {
			t.Fatalf("%d replies: %q", len(got), got)
		}
		p.wantBodies("a", strings.Join(want, " "))
	})
}

func TestTopicKnowsDuplicatesQueueByQueue(t *testing.T) {
	withRig(t, func(l *Limits) { l.Defaults.DedupWindow = 1e12 }, func(r *rig, p *peer) {
		p.bindAll("memory", "t", "a")
		p.want(`{"op":"publish","topic":"t","dedup_id":"x","body":1}`, "duplicate", nil)
		p.want(`{"op":"publish","topic":"t","dedup_id":"x","body":1}`, "duplicate", true)
		p.bindAll("memory", "t", "b")
		p.want(`{"op":"publish","topic":"t","dedup_id":"x","body":1}`, "queues", 2)
		p.wantBodies("a", "1")
		p.wantBodies("b", "1")
	})
}

func TestEphemeralSubscription(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		pub, other := r.peer(), r.peer()
		p.want(`{"op":"subscribe","topic":"news.>","credit":2}`, "sub", 1)
		pub.want(`{"op":"publish","topic":"news.eu","body":"1"}`, "queues", 1)
		pub.want(`{"op":"publish","topic":"news.eu","body":"1","stored":"disk"}`, "ok", true) // nobody durable was there to demand it of
		got := p.take()
		if len(got) != 2 || !strings.Contains(got[0], `"topic":"news.eu"`) {
			t.Fatalf("got %q", got)
		}
		m := parse(t, got[0])
		name := m["queue"].(string)
		if !strings.HasPrefix(name, ".") {
			t.Errorf("the queue is called %q", name)
		}
		other.want(fmt.Sprintf(`{"op":"ack","queue":"%s","seq":1}`, name), "error.code", "not_found")
		p.want(`{"op":"queue.list"}`, "queues", "[]")
		p.want(`{"op":"server.info"}`, "totals.queues", 0)
		p.want(fmt.Sprintf(`{"op":"ack","queue":"%s","seq":[1,2]}`, name), "settled", 2)
		// A slow subscriber loses the oldest, and is told how many.
		for i := range ephemeralMessages + 7 {
			pub.send(fmt.Sprintf(`{"op":"publish","quiet":true,"topic":"news.eu","body":%d}`, i))
		}
		got = p.take()
		if len(got) != 2 || strings.Contains(got[0], "dropped") {
			t.Fatalf("got %q", got)
		}
		p.want(`{"op":"queue.list"}`, "queues", "[]")
		p.send(fmt.Sprintf(`{"op":"ack","queue":"%s","seq":[3],"quiet":true}`, name))
		if got = p.take(); len(got) != 1 || !strings.Contains(got[0], `"dropped":7`) || !strings.Contains(got[0], `"body":9}`) {
			t.Fatalf("got %q", got)
		}
		p.want(`{"op":"unsubscribe","sub":1}`, "ok", true)
		pub.want(`{"op":"publish","topic":"news.eu","body":1}`, "queues", 0)
		// Gone with its connection, and with it what it held.
		p.want(`{"op":"subscribe","topic":"news.*"}`, "sub", 2)
		p.s.Close()
		synctest.Wait()
		pub.want(`{"op":"publish","topic":"news.eu","body":1}`, "queues", 0)
		if n := r.b.ephemeral.Load(); n != 0 {
			t.Errorf("%d ephemeral queues are left", n)
		}
		pub.s.Close()
		other.s.Close()
	})
}

// A known message needs no room, in each queue for itself.
func TestTopicDuplicateIntoFullQueue(t *testing.T) {
	withRig(t, func(l *Limits) { l.Defaults.DedupWindow = 1e12 }, func(r *rig, p *peer) {
		p.bindAll("memory", "t", "a")
		p.want(`{"op":"queue.update","queue":"a","max_messages":1}`, "ok", true)
		p.want(`{"op":"publish","topic":"t","dedup_id":"x","body":1}`, "queues", 1)
		p.want(`{"op":"publish","topic":"t","dedup_id":"x","body":1}`, "duplicate", true)
		p.want(`{"op":"publish","topic":"t","messages":[{"dedup_id":"x","body":1},{"dedup_id":"y","body":2}]}`, "error.code", "queue_full")
	})
}

func TestBindingsInOrder(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.send(`{"op":"queue.create","queue":"q","storage":"file"}`, `{"op":"queue.bind","queue":"q","topic":"a.*"}`,
			`{"op":"queue.unbind","queue":"q","topic":"a.*"}`, `{"op":"queue.unbind","queue":"q","topic":"a.*"}`, `{"op":"publish","topic":"a.b","body":1}`)
		got := p.take()
		if len(got) != 5 || got[2] != `{"ok":true}` || !strings.Contains(got[3], "not_found") || got[4] != `{"ok":true,"queues":0}` {
			t.Errorf("got %q", got)
		}
	})
}

// One line is bounded by what it makes the server do.
func TestTopicCopiesAreBounded(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		var queues []string
		for i := range 90 {
			queues = append(queues, fmt.Sprintf("q%d", i))
		}
		p.bindAll("memory", "t", queues...)
		many := strings.Repeat(`{"body":1},`, maxCopies/90)
		p.send(`{"op":"publish","topic":"t","messages":[` + many + `{"body":1}]}`)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "bad_request") {
			t.Errorf("got %.300q", got)
		}
		p.want(`{"op":"queue.info","queue":"q7"}`, "counts.published", 0)
	})
}

// A subscriber that is slow while memory is full misses messages; the queues that are not in memory do not.
func TestTopicWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		full := false
		r.b.opt.Storages[0].Room = func(int64) bool { return !full }
		for _, sh := range r.b.shards {
			sh.stores[0].Room = r.b.opt.Storages[0].Room
		}
		p, pub := r.peer(), r.peer()
		pub.bindAll("file", "t", "durable")
		p.want(`{"op":"subscribe","topic":"t","credit":10}`, "sub", 1)
		full = true
		pub.want(`{"op":"publish","topic":"t","body":1}`, "queues", 1)
		full = false
		pub.want(`{"op":"publish","topic":"t","body":2}`, "queues", 2)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"dropped":1`) {
			t.Errorf("got %q", got)
		}
		pub.bindAll("memory", "t", "kept")
		full = true
		pub.want(`{"op":"publish","topic":"t","body":3}`, "error.code", "overloaded")
		full = false
		pub.want(`{"op":"publish","topic":"t","body":4}`, "queues", 3)
		if got := p.take(); len(got) != 1 || strings.Contains(got[0], `"dropped"`) { // what was refused was not missed
			t.Errorf("got %q", got)
		}
		pub.wantBodies("durable", "1 2 4")
		p.s.Close()
		pub.s.Close()
		synctest.Wait()
	})
}

// A power cut leaves each publish to a topic in all queues or in none, and what was confirmed in all.
func TestTopicPowerCuts(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() { // as in TestPowerCuts
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { topicPowerCut(t, seed) })
	}
}

func topicPowerCut(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 4))
	disk := vfs.NewMem()
	queues := []string{"a", "b", "c", "d", "e"}
	l := begin(t, disk, 1)
	p := l.peer()
	p.bindAll("file", "t.*", queues...)
	confirmed, next := map[string]bool{}, 0
	for life := range 4 {
		for range 1 + rng.IntN(30) {
			var expect []string
			for range 1 + rng.IntN(3) {
				next++
				expect = append(expect, fmt.Sprint(next))
				p.send(fmt.Sprintf(`{"op":"publish","topic":"t.x","body":"%d%s"}`, next, strings.Repeat("x", rng.IntN(3000))))
			}
			for i, line := range p.take() {
				if !strings.Contains(line, `"queues":5`) {
					t.Fatalf("seed %d: %s", seed, line)
				}
				confirmed[expect[i]] = true
			}
		}
		p.send(`{"op":"publish","topic":"t.x","body":"perhaps"}`)
		cut := disk.Crash(rng)
		p.s.Close()
		synctest.Wait()
		l.end()
		disk = cut
		l = begin(t, disk, uint32(life+2))
		p = l.peer()
		p.send(`{"op":"publish","topic":"t.x","body":"behind"}`)
		p.take()
		first := strings.Fields(strings.ReplaceAll(p.bodies(queues[0]), "x", ""))
		for _, q := range queues[1:] {
			if got := strings.Fields(strings.ReplaceAll(p.bodies(q), "x", "")); !slices.Equal(got, first) {
				t.Fatalf("seed %d, life %d: %s has %d messages, %s has %d", seed, life, queues[0], len(first), q, len(got))
			}
		}
		for _, body := range first {
			delete(confirmed, body)
		}
		if len(confirmed) > 0 {
			t.Fatalf("seed %d, life %d: %d confirmed messages are lost", seed, life, len(confirmed))
		}
	}
	p.s.Close()
	synctest.Wait()
	l.end()
}

// What queues share is still kept once when the log has been compacted.
func TestSharedRecordsMoveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		l := begin(t, disk, 1)
		p := l.peer()
		var queues []string
		for i := range 20 {
			queues = append(queues, fmt.Sprintf("q%d", i))
		}
		p.bindAll("file", "t", queues...)
		const shared, size = 40, 4000
		body := strings.Repeat("s", size)
		for i := range shared { // each among much that is garbage soon
			p.want(fmt.Sprintf(`{"op":"publish","topic":"t","body":"%d %s"}`, i, body), "queues", 20)
			for range 20 {
				p.want(`{"op":"publish","queue":"garbage","body":"`+body+`"}`, "ok", true)
			}
			p.bodies("garbage")
		}
		synctest.Wait()
		live := l.b.Usage()[0].Live
		if live > 3*shared*size {
			t.Errorf("%d bytes are counted for %d messages of %d bytes", live, shared, size)
		}
		if total := l.b.Usage()[0].Total; total > 8*shared*size+256<<10 {
			t.Errorf("the log takes %d bytes for %d that are needed", total, live)
		}
		cut := disk.Crash(rand.New(rand.NewPCG(1, 1)))
		p.s.Close()
		synctest.Wait()
		l.end()
		l = begin(t, cut, 2)
		p = l.peer()
		for _, q := range queues {
			for i, got := range strings.Split(strings.ReplaceAll(p.bodies(q), " "+body, ""), " ") {
				if got != fmt.Sprint(i) {
					t.Fatalf("queue %s: message %d is %.20s", q, i, got)
				}
			}
		}
		p.s.Close()
		synctest.Wait()
		l.end()
	})
}
