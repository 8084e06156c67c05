package broker

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A wireEnd is a Line in memory, with what takes the messages at its other end.
type wireEnd struct {
	mu     sync.Mutex
	queue  [][]byte
	wake   chan struct{}
	held   bool
	broken bool
}

func (w *wireEnd) Send(head, body []byte) {
	w.mu.Lock()
	w.queue = append(w.queue, append(append([]byte(nil), head...), body...))
	w.mu.Unlock()
	signal(w.wake)
}

// carry hands over messages until the line breaks.
func (w *wireEnd) carry(receive func([]byte)) {
	for range w.wake {
		for {
			w.mu.Lock()
			if w.broken {
				w.mu.Unlock()
				return
			}
			if len(w.queue) == 0 || w.held {
				w.mu.Unlock()
				break
			}
			m := w.queue[0]
			w.queue = w.queue[1:]
			w.mu.Unlock()
			receive(m)
		}
	}
}

func (w *wireEnd) hold(on bool) {
	w.mu.Lock()
	w.held = on
	w.mu.Unlock()
	signal(w.wake)
}

func (w *wireEnd) cut() {
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	signal(w.wake)
}

// A cable is the line that one node has made to another.
type cable struct {
	there, back *wireEnd
	caller      *Caller
	guest       *Guest
	over        sync.WaitGroup
}

// A net is some brokers with lines between all of them.
type nodes struct {
	t       *testing.T
	brokers []*Broker // of node i+1
	cables  map[[2]int]*cable
	failed  error
	changed func(shard int) // told in the shard's goroutine that somebody else leads; nil: nobody is
}

type others struct{ of []uint64 }

func (o others) Nodes() []uint64 { return o.of }

func newNodes(t *testing.T, n int, change func(*Options)) *nodes {
	ns := &nodes{t: t, cables: map[[2]int]*cable{}}
	for i := range n {
		var of []uint64
		for k := range n {
			if k != i {
				of = append(of, uint64(k+1))
			}
		}
		budget := journal.NewBudget(64 << 20)
		open := func(_ int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) }
		opt := Options{
			Version: "test", Node: "n" + string(rune('1'+i)), ID: uint64(i + 1), Peers: others{of}, Boot: uint32(i + 1), Seed: 1, Fail: func(err error) { ns.failed = err },
			Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 100000, AutoCreate: true, Defaults: queue.Settings{
				Storage: "memory", Lease: 30 * time.Second, MaxDeliveries: 3, RetryMin: time.Second, RetryMax: time.Minute, RetryFactor: 2, DedupWindow: time.Minute,
			}},
			Storages: []Storage{{Name: "memory", Stored: "memory", Open: open}, {Name: "file", Stored: "disk", Syncs: true, Open: open}},
		}
		if change != nil {
			change(&opt)
		}
		b, err := Start(opt)
		if err != nil {
			t.Fatal(err)
		}
		ns.brokers = append(ns.brokers, b)
	}
	for i := range n {
		for k := range n {
			if i != k {
				ns.connect(i, k)
			}
		}
	}
	return ns
}

func (ns *nodes) connect(i, k int) {
	c := &cable{there: &wireEnd{wake: make(chan struct{}, 1)}, back: &wireEnd{wake: make(chan struct{}, 1)}}
	c.guest = ns.brokers[k].Accept(uint64(i+1), c.back)
	c.caller = ns.brokers[i].LineUp(uint64(k+1), c.there)
	c.over.Go(func() { c.there.carry(c.guest.Receive); c.guest.Close() })
	c.over.Go(func() { c.back.carry(c.caller.Receive); c.caller.Close() })
	ns.cables[[2]int{i, k}] = c
}

func (ns *nodes) disconnect(i, k int) {
	c := ns.cables[[2]int{i, k}]
	delete(ns.cables, [2]int{i, k})
	c.there.cut()
	c.back.cut()
	c.over.Wait()
}

// lead lets node i lead a shard in a term; all know it.
func (ns *nodes) lead(shard, i int, term uint64) {
	for k, b := range ns.brokers {
		if k != i {
			b.setLeader(shard, uint64(i+1), term, false)
		}
	}
	ns.brokers[i].setLeader(shard, uint64(i+1), term, true)
}

func (ns *nodes) leadAll(i int, term uint64) {
	for shard := range Shards {
		ns.lead(shard, i, term)
	}
}

func (ns *nodes) peer(i int) *peer {
	return &peer{&rig{t: ns.t, b: ns.brokers[i]}, ns.brokers[i].NewSession("test:1"), wire.NewDecoder(1 << 20)}
}

func (ns *nodes) close() {
	for len(ns.cables) > 0 {
		for at := range ns.cables {
			ns.disconnect(at[0], at[1])
			break
		}
	}
	for _, b := range ns.brokers {
		if err := b.Close(); err != nil {
			ns.t.Error(err)
		}
	}
	if ns.failed != nil {
		ns.t.Error("a broker failed:", ns.failed)
	}
}

func TestForwardedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		if got := p.ask(`{"op":"publish","id":"a","queue":"q","body":1}`); got["id"] != "a" || got["seq"] != 1.0 {
			t.Fatal(got)
		}
		if got := p.ask(`{"op":"publish","queue":"q","messages":[{"body":2},{"body":3}]}`); got["id"] != nil || len(got["seqs"].([]any)) != 2 {
			t.Fatal(got)
		}
		p.send(`{"op":"publish","quiet":true,"queue":"q","body":4}`)
		if got := p.take(); got != nil {
			t.Fatal(got)
		}
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.ready", 4.0)
		got := p.ask(`{"op":"receive","id":7,"queue":"q"}`)
		if got["id"] != 7.0 || len(got["messages"].([]any)) != 1 {
			t.Fatal(got)
		}
		p.want(`{"op":"ack","id":8,"queue":"q","seq":1}`, "settled", 1.0)
		p.send(`{"op":"subscribe","id":9,"queue":"q","credit":10,"quiet":true}`)
		if got := p.take(); len(got) != 3 {
			t.Fatal(got)
		}
		p.want(`{"op":"unsubscribe","id":10,"sub":1}`, "ok", true)
		p.s.Close()
		synctest.Wait()
		other := ns.peer(2)
		other.want(`{"op":"queue.info","queue":"q"}`, "counts.ready", 3.0)
	})
}

// TestFailoverOfASubscription: the client sees nothing of another leader but deliveries of what is there.
func TestFailoverOfASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p, other := ns.peer(0), ns.peer(2)
		p.want(`{"op":"subscribe","id":1,"queue":"q","credit":2}`, "sub", 1.0)
		for i, at := range []int{1, 2, 0, 2} { // of node 0 the session's own shard
			ns.leadAll(at, uint64(i+2))
			pass(restless)
			synctest.Wait()
			if got := p.take(); got != nil {
				t.Fatalf("the client is told %q", got)
			}
			other.want(`{"op":"publish","id":1,"queue":"q","body":"x"}`, "ok", true)
			if got := p.take(); len(got) != 1 || parse(t, got[0])["sub"] != 1.0 {
				t.Fatalf("at node %d: %q", at, got)
			}
		}
		p.want(`{"op":"unsubscribe","id":2,"sub":1}`, "ok", true)
		ns.leadAll(1, 9)
		other.want(`{"op":"publish","id":1,"queue":"q","body":"x"}`, "ok", true)
		if got := p.take(); got != nil {
			t.Fatal(got)
		}
		p.s.Close()
		other.s.Close()
	})
}

// TestDeliveryThatWasOnItsWay: what a leader has delivered, and has lain in a cable that was out while another one led, is not taken for a delivery of
// its next leadership.
func TestDeliveryThatWasOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p, other := ns.peer(0), ns.peer(2)
		defer p.s.Close()
		defer other.s.Close()
		p.want(`{"op":"subscribe","id":1,"queue":"q","credit":9}`, "sub", 1.0)
		cable := ns.cables[[2]int{0, 1}].back
		cable.hold(true)
		other.want(`{"op":"publish","id":1,"queue":"q","body":"old"}`, "ok", true)
		for i, at := range []int{2, 1} {
			ns.leadAll(at, uint64(i+2))
			pass(2 * restless)
			synctest.Wait()
		}
		cable.hold(false)
		pass(2 * restless)
		synctest.Wait()
		if got := p.take(); got != nil {
			t.Errorf("of an earlier leadership comes %q", got)
		}
		other.want(`{"op":"publish","id":2,"queue":"q","body":"new"}`, "ok", true)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "new") {
			t.Error(got)
		}
	})
}

// TestOrderOverLeaders: what the old leader did not take goes to the new one, before what came later.
func TestOrderOverLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		p.want(`{"op":"publish","id":0,"queue":"q","body":0}`, "seq", 1.0)
		ns.cables[[2]int{0, 1}].there.hold(true)
		for i := 1; i <= 5; i++ {
			p.send(fmt.Sprintf(`{"op":"publish","id":%d,"queue":"q","body":%d}`, i, i))
		}
		synctest.Wait()
		// The node that is asked loses the lead, and with it what only it had, and wins it again before it hears of any of that.
		ns.lead(shardOf([]byte("q")), 2, 2)
		ns.lead(shardOf([]byte("q")), 1, 3)
		p.send(`{"op":"publish","id":6,"queue":"q","body":6}`)
		ns.cables[[2]int{0, 1}].there.hold(false)
		pass(time.Second)
		got := p.take()
		if len(got) != 6 {
			t.Fatal(got)
		}
		for i, line := range got {
			if m := parse(t, line); m["id"] != float64(i+1) || m["seq"] != float64(i+1) {
				t.Errorf("reply %d: %s", i, line)
			}
		}
		p.s.Close()
	})
}

// TestLostLeader: what was under way is answered, or asked again where that does no harm.
func TestLostLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		p.want(`{"op":"publish","id":0,"queue":"q","body":0}`, "seq", 1.0)
		ns.cables[[2]int{0, 1}].back.hold(true)
		p.send(`{"op":"publish","id":1,"queue":"q","body":1}`, `{"op":"ack","id":2,"queue":"q","seq":1}`, `{"op":"nack","id":3,"queue":"q","seq":1}`,
			`{"op":"receive","id":4,"queue":"q"}`, `{"op":"receive","id":5,"queue":"q","ack":"auto"}`, `{"op":"queue.delete","id":6,"queue":"q"}`)
		synctest.Wait()
		ns.disconnect(0, 1)
		got := p.take()
		p.send(`{"op":"publish","id":7,"queue":"q","body":7}`)
		ns.leadAll(2, 2)
		pass(100 * time.Millisecond)
		got = append(got, p.take()...)
		codes := map[float64]string{}
		for _, line := range got {
			m := parse(t, line)
			if m["ok"] == true {
				codes[m["id"].(float64)] = "ok"
			} else {
				codes[m["id"].(float64)] = m["error"].(map[string]any)["code"].(string)
			}
		}
		// The new leader has nothing of it, as there is no replication here: acks are asked again, of a queue that it does not know.
		want := map[float64]string{1: "unknown_outcome", 2: "not_found", 3: "unknown_outcome", 4: "ok", 5: "unknown_outcome", 6: "unknown_outcome", 7: "ok"}
		if !maps.Equal(codes, want) {
			t.Errorf("got %v, want %v", codes, want)
		}
		p.s.Close()
	})
}

// TestNobodyLeads: nothing waits for ever.
func TestNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		p.want(`{"op":"publish","id":0,"queue":"q","body":0}`, "seq", 1.0)
		for _, b := range ns.brokers {
			b.setLeader(shardOf([]byte("q")), 0, 2, false)
		}
		p.send(`{"op":"publish","id":1,"queue":"q","body":1}`, `{"op":"receive","id":2,"queue":"q","wait":"60s"}`)
		pass(1900 * time.Millisecond)
		if got := p.take(); got != nil {
			t.Fatal(got)
		}
		pass(200 * time.Millisecond)
		got := p.take()
		if len(got) != 2 || !strings.Contains(got[0], "no_quorum") || !strings.Contains(got[1], "no_quorum") {
			t.Fatal(got)
		}
		if ns.brokers[0].working.Load() != 0 || p.s.working.Load() != 0 {
			t.Error("something is left")
		}
		p.s.Close()
	})
}

// TestCutOff: a node that finds no leader for anything says so soon, but for one that has never found any.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		nobody := func(term uint64) {
			for shard := range Shards {
				for _, b := range ns.brokers {
					b.setLeader(shard, 0, term, false)
				}
			}
		}
		ns.leadAll(1, 1)
		p := ns.peer(0)
		p.want(`{"op":"publish","id":0,"queue":"q","body":0}`, "seq", 1.0)
		nobody(2)
		for id := range 2 { // the second one comes when that is known
			p.send(fmt.Sprintf(`{"op":"publish","id":%d,"queue":"q","body":1}`, id+1))
			pass(450 * time.Millisecond)
			if got := p.take(); got != nil {
				t.Fatal(got)
			}
			pass(100 * time.Millisecond)
			if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "no_quorum") {
				t.Fatal(got)
			}
		}
		p.send(`{"op":"publish","id":4,"queue":"q","body":1}`)
		pass(400 * time.Millisecond)
		ns.lead(shardOf([]byte("other")), 2, 3) // the rest will follow
		pass(time.Second)
		if got := p.take(); got != nil {
			t.Fatal(got)
		}
		ns.leadAll(2, 4)
		pass(100 * time.Millisecond)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"ok":true`) {
			t.Fatal(got)
		}
		p.s.Close()
	})
}

// TestSlowClientOfAProxy: who does not read holds back his own deliveries, and nobody else's.
func TestSlowClientOfAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 2, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		slow, quick := ns.crowd()
		if n := slow.s.pending.Load(); n > OutLimit+proxyLimit+20_000 || n < proxyLimit {
			t.Errorf("%d bytes wait for a client that does not read", n)
		}
		quick.want(`{"op":"publish","id":1,"queue":"r","body":1}`, "seq", 1.0)
		total := 0
		for {
			got := slow.take()
			if total += len(got); len(got) == 0 {
				break
			}
		}
		if total != 200 {
			t.Errorf("%d deliveries", total)
		}
		slow.s.Close()
		quick.s.Close()
	})
}

// TestWhatIsGathered: each node tells of what it leads.
func TestWhatIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		for shard := range Shards {
			ns.lead(shard, shard%3, 1)
		}
		p := ns.peer(0)
		for i := range 20 {
			p.want(fmt.Sprintf(`{"op":"publish","id":1,"queue":"q%02d","body":1}`, i), "seq", 1.0)
		}
		for i := range 3 {
			p := ns.peer(i)
			got := p.ask(`{"op":"queue.list","id":1,"prefix":"q","after":"q04","limit":10}`)["queues"].([]any)
			if len(got) != 10 || got[0].(map[string]any)["queue"] != "q05" || got[9].(map[string]any)["ready"] != 1.0 {
				t.Errorf("at node %d: %v", i, got)
			}
			p.want(`{"op":"server.info","id":2}`, "totals.ready", 20.0)
		}
		ns.disconnect(0, 1)
		if got := p.ask(`{"op":"queue.list","id":1}`)["queues"].([]any); len(got) == 0 || len(got) >= 20 {
			t.Errorf("without node 1: %d queues", len(got))
		}
	})
}

// TestRedriveToAnotherLeader: what is stored there is taken away here.
func TestRedriveToAnotherLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.spread(1)
		p, from, to := ns.peer(0), ns.queueAt(1, 1), ns.queueAt(2, 2)
		for i := range 5 {
			p.want(fmt.Sprintf(`{"op":"publish","id":1,"queue":"%s","body":%d}`, from, i), "ok", true)
			p.want(fmt.Sprintf(`{"op":"receive","id":1,"queue":"%s"}`, from), "ok", true)
			p.want(fmt.Sprintf(`{"op":"nack","id":1,"queue":"%s","seq":%d,"dead":true}`, from, i+1), "settled", 1.0)
		}
		p.want(fmt.Sprintf(`{"op":"queue.redrive","id":2,"queue":"%s.dlq","to":"%s"}`, from, to), "error.code", "not_found")
		p.want(fmt.Sprintf(`{"op":"queue.create","id":1,"queue":"%s","max_messages":3}`, to), "ok", true)
		p.want(fmt.Sprintf(`{"op":"queue.redrive","id":2,"queue":"%s.dlq","to":"%s"}`, from, to), "moved", 3.0)
		p.want(fmt.Sprintf(`{"op":"queue.info","queue":"%s"}`, to), "counts.ready", 3.0)
		p.want(fmt.Sprintf(`{"op":"queue.info","queue":"%s.dlq"}`, from), "counts.ready", 2.0)
		p.want(fmt.Sprintf(`{"op":"queue.update","id":1,"queue":"%s","max_messages":10}`, to), "ok", true)
		ns.cables[[2]int{1, 2}].back.hold(true)
		p.send(fmt.Sprintf(`{"op":"queue.redrive","id":3,"queue":"%s.dlq","to":"%s"}`, from, to))
		synctest.Wait()
		ns.disconnect(1, 2)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "unknown_outcome") {
			t.Fatal(got)
		}
		p.want(fmt.Sprintf(`{"op":"queue.info","queue":"%s"}`, to), "counts.ready", 5.0) // in both
		p.want(fmt.Sprintf(`{"op":"queue.info","queue":"%s.dlq"}`, from), "counts.ready", 2.0)
		p.s.Close()
	})
}

// TestDrainOfTheClientsNode: receives that wait elsewhere are answered, deliveries cease, and acks of what is held elsewhere are waited for.
func TestDrainOfTheClientsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 2, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p, other := ns.peer(0), ns.peer(1)
		p.want(`{"op":"subscribe","id":1,"queue":"q","credit":5}`, "sub", 1.0)
		other.want(`{"op":"publish","id":1,"queue":"q","body":1}`, "seq", 1.0)
		if got := p.take(); len(got) != 1 {
			t.Fatal(got)
		}
		p.send(`{"op":"receive","id":2,"queue":"r","wait":"1h"}`)
		synctest.Wait()
		front := ns.brokers[0]
		if err := front.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"messages":[]`) {
			t.Fatal(got)
		}
		if front.InFlight() == 0 {
			t.Error("what its client holds is forgotten")
		}
		other.want(`{"op":"publish","id":2,"queue":"q","body":2}`, "seq", 2.0)
		p.want(`{"op":"publish","id":3,"queue":"q","body":3}`, "error.code", "shutting_down")
		p.want(`{"op":"receive","id":4,"queue":"r","wait":"1h"}`, "id", 4.0)
		p.want(`{"op":"ack","id":5,"queue":"q","seq":1}`, "settled", 1.0)
		if n := front.InFlight(); n != 0 {
			t.Errorf("%d are held", n)
		}
		p.s.Close()
		other.s.Close()
	})
}

// TestSubscriptionThatCannotBeMadeAgain is over, and nothing else is said of it.
func TestSubscriptionThatCannotBeMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 2, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		for i, at := range []int{0, 1} { // the session's own node, and the other
			ns.leadAll(1-at, uint64(2*i+2))
			p.want(`{"op":"queue.create","id":1,"queue":"q"}`, "ok", true)
			p.want(`{"op":"subscribe","id":1,"queue":"q","create":false}`, "ok", true)
			ns.leadAll(at, uint64(2*i+3)) // where there is no such queue: nothing is replicated here
			pass(100 * time.Millisecond)
			if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `{"op":"unsubscribed","sub":`) {
				t.Errorf("led by node %d: %q", at, got)
			}
		}
		p.s.Close()
	})
}

// TestAckThatNobodyAnswers: where a leader that was lost may have carried out an ack, and nobody comes to lead, nobody says that it was not.
func TestAckThatNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 3, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		p := ns.peer(0)
		p.want(`{"op":"publish","id":0,"queue":"q","body":0}`, "seq", 1.0)
		ns.cables[[2]int{0, 1}].back.hold(true)
		p.send(`{"op":"ack","id":1,"queue":"q","seq":1}`)
		synctest.Wait()
		for shard := range Shards {
			for _, b := range ns.brokers {
				b.setLeader(shard, 0, 2, false)
			}
		}
		ns.disconnect(0, 1)
		p.send(`{"op":"ack","id":2,"queue":"q","seq":1}`)
		pass(2100 * time.Millisecond)
		got := p.take()
		if len(got) != 2 || !strings.Contains(got[0], `"id":1,"ok":false,"error":{"code":"unknown_outcome"`) || !strings.Contains(got[1], `"id":2,"ok":false,"error":{"code":"no_quorum"`) {
			t.Fatal(got)
		}
		p.s.Close()
	})
}
