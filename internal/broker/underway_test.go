package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

// A gate holds back what is proposed to a journal, and remembers it.
type gate struct {
	*stub
	on         bool
	held       []*journal.Batch
	seen       [][]byte
	wish, more bool // a compaction is wanted; and one more as soon as it has begun
	begun      int
}

// Propose implements journal.Journal.
func (g *gate) Propose(b *journal.Batch) {
	g.seen = append(g.seen, bytes.Clone(b.Data))
	if g.on {
		g.held = append(g.held, b)
		return
	}
	g.stub.Propose(b)
}

// Compact implements journal.Journal.
func (g *gate) Compact() (journal.Compaction, bool) {
	if !g.wish {
		return journal.Compaction{}, false
	}
	g.begun++
	g.wish, g.more = g.more, false
	return journal.Compaction{Sparse: func(journal.Ref) bool { return false }}, true
}

// gate puts a gate before the file journal of the shard of that queue.
func (r *rig) gate(queue string) (g *gate, let func(n int)) {
	sh := r.b.shards[shardOf([]byte(queue))]
	st := sh.stores[1]
	g = &gate{stub: st.journal.(*stub)}
	sh.call(func(*shard) { st.journal = g })
	return g, func(n int) {
		sh.call(func(*shard) {
			for ; n > 0 && len(g.held) > 0; n-- {
				g.stub.Propose(g.held[0])
				g.held = g.held[1:]
			}
		})
		synctest.Wait()
	}
}

// What publishes on their way will push out is not delivered, also where it has only just arrived.
func TestOverflowOfWhatIsUnderWay(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"q","storage":"file","max_messages":2,"overflow":"drop_oldest"}`, "ok", true)
		p.want(`{"op":"subscribe","queue":"q","credit":10}`, "ok", true)
		g, let := r.gate("q")
		g.on = true
		a, b := r.peer(), r.peer()
		a.send(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
		synctest.Wait()
		b.send(`{"op":"publish","queue":"q","body":3}`)
		synctest.Wait()
		let(1)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"seq":2`) {
			t.Errorf("while the third is on its way: %q", got)
		}
		let(1)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"seq":3`) {
			t.Errorf("then: %q", got)
		}
		g.on = false
		p.want(`{"op":"ack","queue":"q","seq":[2,3]}`, "settled", 2)
		a.s.Close()
		b.s.Close()
	})
}

// Room is promised to a topic when it is sure that there is some: publishes that went before a bind count.
func TestTopicCountsWhatIsUnderWay(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"q","storage":"file","max_messages":2}`, "ok", true)
		g, let := r.gate("q")
		g.on = true
		a, b, c := r.peer(), r.peer(), r.peer()
		b.send(`{"op":"queue.bind","queue":"q","topic":"t"}`)
		b.take()
		a.send(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
		a.take()
		let(1)
		b.take()
		c.send(`{"op":"publish","topic":"t","messages":[{"body":3},{"body":4}]}`)
		c.take()
		let(9)
		g.on = false
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.ready", 2)
		for _, q := range []*peer{a, b, c} {
			q.s.Close()
		}
	})
}

// A storage is given the bodies that it keeps, and no others.
func TestTopicBodiesByStorage(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.bindAll("memory", "m", "mq")
		p.bindAll("memory", "full", "fq")
		p.want(`{"op":"queue.update","queue":"fq","max_messages":1}`, "ok", true)
		p.want(`{"op":"publish","queue":"fq","body":1}`, "ok", true)
		p.bindAll("file", "f", "dq")
		g, _ := r.gate("dq")
		p.send(`{"op":"publish","topic":"m","body":"for memory"}`, `{"op":"publish","topic":"full","body":"was refused"}`, `{"op":"publish","topic":"f","body":"for files"}`)
		p.take()
		all := bytes.Join(g.seen, nil)
		if !bytes.Contains(all, []byte("for files")) || bytes.Contains(all, []byte("for memory")) || bytes.Contains(all, []byte("was refused")) {
			t.Errorf("the file storage was given %q", all)
		}
	})
}

func TestCompactionsFollowEachOther(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"q","storage":"file"}`, "ok", true)
		g, _ := r.gate("q")
		r.b.shards[shardOf([]byte("q"))].call(func(sh *shard) {
			g.wish, g.more = true, true
			sh.signal()
		})
		synctest.Wait()
		if g.begun != 2 {
			t.Errorf("%d compactions of 2 have begun", g.begun)
		}
	})
}

func TestUnsubscribeAtOnce(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.send(`{"op":"subscribe","topic":"a.*"}`, `{"op":"unsubscribe","sub":1}`)
		if got := p.take(); len(got) != 2 || got[1] != `{"ok":true}` {
			t.Errorf("got %q", got)
		}
		p.want(`{"op":"publish","topic":"a.b","body":1}`, "queues", 0)
	})
}

func TestBoundWordsAreBounded(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"q"}`, "ok", true)
		r.b.topics.words.Store(maxBoundWords)
		p.want(`{"op":"queue.bind","queue":"q","topic":"a.b"}`, "error.code", "overloaded")
		p.want(`{"op":"subscribe","topic":"a.b"}`, "error.code", "overloaded")
	})
}

// fillDead publishes n messages straight into a dead-letter queue.
func (p *peer) fillDead(queue string, n int) {
	p.t.Helper()
	for i := 0; i < n; i += 100 {
		batch := ""
		for k := range min(100, n-i) {
			batch += fmt.Sprintf(`,{"body":%d}`, i+k)
		}
		p.want(`{"op":"publish","queue":"`+queue+`","messages":[`+batch[1:]+`]}`, "ok", true)
	}
}

// A redrive that cannot be recorded at home leaves nothing stuck.
func TestRedriveRefusedAtHome(t *testing.T) {
	withRig(t, func(l *Limits) { l.MaxInFlight = 100_000 }, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"a.dlq"}`, "ok", true)
		p.fillDead("a.dlq", 2500)
		p.want(`{"op":"queue.create","queue":"there","storage":"file"}`, "ok", true)
		journal := r.stubs[2*shardOf([]byte("a.dlq"))]
		journal.refuse.Store(true)
		p.want(`{"op":"queue.redrive","queue":"a.dlq","to":"there"}`, "moved", journeyMessages)
		journal.refuse.Store(false)
		p.want(`{"op":"queue.redrive","queue":"a.dlq","to":"there"}`, "moved", 2500)
	})
}

// What would end messages that are on their way to another queue waits until they have arrived, or does not find them.
func TestRedriveAndOthers(t *testing.T) {
	withRig(t, func(l *Limits) { l.MaxInFlight = 100_000 }, func(r *rig, p *peer) {
		for _, op := range []string{"purge", "delete"} {
			dead, there := op+".dlq", op+"there"
			p.want(`{"op":"queue.create","queue":"`+dead+`"}`, "ok", true)
			p.fillDead(dead, 2500)
			p.want(`{"op":"queue.create","queue":"`+there+`","storage":"file"}`, "ok", true)
			g, let := r.gate(there)
			g.on = true
			p.send(`{"op":"queue.redrive","id":1,"queue":"`+dead+`","to":"`+there+`"}`, `{"op":"queue.`+op+`","id":2,"queue":"`+dead+`"}`,
				`{"op":"ack","id":3,"queue":"`+dead+`","seq":[1,2]}`)
			if got := p.take(); len(got) != 1 || got[0] != `{"id":3,"ok":true,"settled":0}` {
				t.Fatalf("got %q", got)
			}
			p.want(`{"op":"queue.cancel","queue":"`+dead+`","seq":7}`, "error.code", "not_found")
			g.on = false
			let(1)
			p.take()
			p.want(`{"op":"queue.info","queue":"`+there+`"}`, "counts.published", 2500)
			if op == "purge" {
				p.want(`{"op":"queue.info","queue":"`+dead+`"}`, "counts.redriven", 2500)
				p.want(`{"op":"queue.info","queue":"`+dead+`"}`, "counts.purged", 0)
			}
			if n := r.b.working.Load(); n != 0 {
				t.Errorf("%d requests are still counted", n)
			}
		}
	})
}

// A power cut leaves each message of a redrive between queues of one storage in one of the two.
func TestRedrivePowerCuts(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			disk := vfs.NewMem()
			l := begin(t, disk, 1)
			p := l.peer()
			p.want(`{"op":"queue.create","queue":"a.dlq"}`, "ok", true)
			p.want(`{"op":"queue.create","queue":"there"}`, "ok", true)
			p.fillDead("a.dlq", 300)
			for range rng.IntN(4) {
				p.want(`{"op":"queue.redrive","queue":"a.dlq","to":"there","max":50}`, "moved", 50)
			}
			p.send(`{"op":"queue.redrive","queue":"a.dlq","to":"there","max":50}`)
			cut := disk.Crash(rng)
			p.s.Close()
			synctest.Wait()
			l.end()
			l = begin(t, cut, 2)
			p = l.peer()
			seen := map[string]int{}
			for _, q := range []string{"a.dlq", "there", "a.dlq", "there", "a.dlq", "there", "a.dlq"} {
				for _, body := range strings.Fields(p.bodies(q)) {
					seen[body]++
				}
			}
			for i := range 300 {
				if seen[fmt.Sprint(i)] != 1 {
					t.Fatalf("seed %d: message %d is there %d times", seed, i, seen[fmt.Sprint(i)])
				}
			}
			p.s.Close()
			synctest.Wait()
			l.end()
		})
	}
}

// What keeps a message from its consumer is not always the consumer's credit.
func TestExplainWhatHoldsBack(t *testing.T) {
	withRig(t, func(l *Limits) { l.MaxInFlight = 2 }, func(r *rig, p *peer) {
		p.want(`{"op":"subscribe","queue":"q","credit":5}`, "ok", true)
		p.send(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3},{"body":4}]}`)
		p.take()
		for _, seq := range []int{3, 4} {
			p.want(fmt.Sprintf(`{"op":"queue.explain","queue":"q","seq":%d}`, seq), "because", "2 messages of all queues are leased; max_in_flight is 2")
		}
	})
	withRig(t, nil, func(r *rig, p *peer) {
		deaf := r.peer()
		deaf.send(`{"op":"subscribe","queue":"q","credit":1000}`)
		body := strings.Repeat("x", 100_000)
		for range 5 {
			p.send(`{"op":"publish","quiet":true,"queue":"q","body":"` + body + `"}`)
		}
		synctest.Wait()
		p.want(`{"op":"queue.explain","queue":"q","seq":5}`, "because", "the consumers of queue q do not read what has been sent to them")
		deaf.s.Close()
	})
}

// A message whose ack by a consumer of an earlier life is on its way goes to nobody: that delivery could arrive after the ack is confirmed.
func TestAckOfAnEarlierLife(t *testing.T) {
	withRig(t, nil, func(r *rig, p *peer) {
		p.want(`{"op":"queue.create","queue":"q","storage":"file"}`, "ok", true)
		p.want(`{"op":"publish","queue":"q","body":1}`, "seq", 1.0)
		p.send(`{"op":"receive","queue":"q"}`)
		_, receipt, _ := strings.Cut(p.take()[0], `"receipt":"`)
		receipt, _, _ = strings.Cut(receipt, `"`)
		sh := r.b.shards[shardOf([]byte("q"))]
		sh.call(func(sh *shard) { sh.stores[1].state.Lead(99) }) // as after a change of leaders
		g, let := r.gate("q")
		g.on = true
		p.send(`{"op":"ack","queue":"q","seq":1,"receipt":"` + receipt + `"}`)
		other := r.peer()
		other.send(`{"op":"receive","queue":"q","wait":"1h"}`)
		synctest.Wait()
		if got := other.take(); got != nil {
			t.Errorf("while the ack is on its way: %q", got)
		}
		let(9)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"settled":1`) {
			t.Errorf("the ack: %q", got)
		}
		if got := other.take(); got != nil {
			t.Errorf("when it is kept: %q", got)
		}
		g.on = false
		other.s.Close()
	})
}
