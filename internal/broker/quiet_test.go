package broker

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// TestQuietAcks: a quiet ack is kept with what comes next, or a few milliseconds later, and at once where somebody waits for it.
func TestQuietAcks(t *testing.T) {
	const ack = `{"op":"ack","queue":"q","seq":%d,"quiet":true}`
	many := `{"op":"publish","queue":"q","messages":[{"body":0}` + strings.Repeat(`,{"body":0}`, fewQuiet) + `]}`
	seqs := func(from, to int) string {
		var list []string
		for i := from; i <= to; i++ {
			list = append(list, fmt.Sprint(i))
		}
		return `{"op":"ack","queue":"q","quiet":true,"seq":[` + strings.Join(list, ",") + `]}`
	}
	for _, c := range []struct {
		name     string
		settings string
		before   []string // message 1 is acked
		acks     []string
		credit   int // 0: two
		waits    bool
	}{
		{name: "nobody waits", acks: []string{fmt.Sprintf(ack, 1)}, waits: true},
		{name: "two at once", before: []string{`{"op":"publish","queue":"q","body":2}`}, acks: []string{fmt.Sprintf(ack, 1), fmt.Sprintf(ack, 2)}, waits: true},
		{name: "in memory", settings: `"storage":"memory"`, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "with an answer", acks: []string{`{"op":"ack","queue":"q","seq":1}`}},
		{name: "and one with an answer", before: []string{`{"op":"publish","queue":"q","body":2}`}, acks: []string{fmt.Sprintf(ack, 1), `{"op":"ack","queue":"q","seq":2}`}},
		{name: "a message is ready", before: []string{`{"op":"publish","queue":"q","body":2}`, `{"op":"publish","queue":"q","body":3}`}, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "the queue is half full", settings: `"max_messages":1`, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "publishes to a topic claim its room", before: []string{`{"op":"queue.bind","queue":"q","topic":"t"}`}, acks: []string{fmt.Sprintf(ack, 1)}},
		{name: "a publish comes with it", acks: []string{fmt.Sprintf(ack, 1), `{"op":"publish","queue":"q","body":2}`}},
		{name: "somebody looks", acks: []string{fmt.Sprintf(ack, 1), `{"op":"queue.info","queue":"q"}`}},
		{name: "a few messages", before: []string{many}, acks: []string{seqs(1, fewQuiet/2), seqs(fewQuiet/2+1, fewQuiet)}, credit: 100, waits: true},
		{name: "many messages", before: []string{many}, acks: []string{seqs(1, fewQuiet/2), seqs(fewQuiet/2+1, fewQuiet+1)}, credit: 100},
		{name: "many messages in one", before: []string{many}, acks: []string{seqs(1, fewQuiet+1)}, credit: 100},
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
				p.ask(fmt.Sprintf(`{"op":"subscribe","queue":"q","credit":%d}`, max(c.credit, 2)))
				p.send(`{"op":"publish","queue":"q","body":1}`)
				p.send(c.before...)
				p.take()
				kept := func() int {
					c := r.countsOfQ()
					return int(c.Acked) + c.Delayed
				}
				p.send(c.acks...)
				if held := kept() == 0; held != c.waits {
					t.Fatalf("it is held: %v, want %v", held, c.waits)
				}
				if !c.waits {
					return
				}
				pass(time.Duration(quietTime) - 1)
				if kept() != 0 {
					t.Error("it was kept earlier than need be")
				}
				pass(1)
				if kept() == 0 {
					t.Error("it was not kept in time")
				}
			})
		})
	}
}

// countsOfQ are those of the queue q, without a request: what asks would hurry what waits.
func (r *rig) countsOfQ() queue.Counts {
	synctest.Wait()
	sh := r.b.shards[shardOf([]byte("q"))]
	if !sh.baton.take() {
		r.t.Fatal("somebody has the baton")
	}
	t, _ := sh.find([]byte("q"))
	counts := t.queue.Counts
	if sh.baton.give() {
		signal(sh.baton.wake)
	}
	return counts
}

// A slow journal keeps what is proposed half a millisecond later.
type slow struct {
	*journal.Memory
	wake func()
	mu   sync.Mutex // guards done
	done []*journal.Batch
}

const slowness = 500 * time.Microsecond

func (s *slow) Committed(into []*journal.Batch) []*journal.Batch {
	for _, b := range s.Memory.Committed(nil) {
		time.AfterFunc(slowness, func() {
			s.mu.Lock()
			s.done = append(s.done, b)
			s.mu.Unlock()
			s.wake()
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	into = append(into, s.done...)
	s.done = nil
	return into
}

// TestQuietAcksAreHurried: what comes up while a quiet ack waits, and would go on without it, has it kept at once.
func TestQuietAcksAreHurried(t *testing.T) {
	var back atomic.Int64 // by how much the clock was set back, ns
	other := "x"
	for shardOf([]byte(other)) == shardOf([]byte("q")) {
		other += "x"
	}
	for name, try := range map[string]func(t *testing.T, r *rig, p, c *peer){
		"a message that was on its way when it came": func(t *testing.T, _ *rig, p, c *peer) {
			p.send(`{"op":"publish","queue":"q","body":2,"quiet":true}`)
			pass(slowness / 5)
			c.send(`{"op":"ack","queue":"q","seq":1,"quiet":true}`)
			pass(2 * slowness)
			if got := strings.Join(c.take(), ""); !strings.Contains(got, `"seq":2`) {
				t.Errorf("the next message does not come, but %q", got)
			}
		},
		"another queue's, for want of leases": func(t *testing.T, _ *rig, p, c *peer) {
			c.send(`{"op":"ack","queue":"q","seq":1,"quiet":true}`)
			c.send(`{"op":"subscribe","queue":"` + other + `","credit":10}`)
			c.take()
			p.send(`{"op":"publish","queue":"`+other+`","body":1,"quiet":true}`, `{"op":"publish","queue":"`+other+`","body":2,"quiet":true}`)
			pass(3 * slowness)
			if got := strings.Join(c.take(), ""); !strings.Contains(got, `"body":2`) {
				t.Errorf("the last message does not come, but %q", got)
			}
		},
		"the clock is set back": func(t *testing.T, r *rig, _, c *peer) {
			c.send(`{"op":"ack","queue":"q","seq":1,"quiet":true}`)
			synctest.Wait()
			back.Store(int64(time.Hour))
			pass(time.Duration(quietTime) + slowness)
			if r.countsOfQ().Acked != 1 {
				t.Error("it waits for the clock")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				back.Store(0)
				r, budget := &rig{t: t}, journal.NewBudget(1<<20)
				var err error
				r.b, err = Start(Options{Boot: 7, Limits: Limits{MaxQueues: 10, MaxMessageBytes: 1 << 20, MaxInFlight: 2, AutoCreate: true,
					Defaults: queue.Settings{Storage: "file", Lease: time.Hour}}, Fail: func(err error) { r.fail = err },
					Now: func() int64 { return time.Now().UnixNano() - back.Load() },
					Storages: []Storage{{Name: "file", Stored: "disk", Syncs: true, Open: func(_ int, wake func()) journal.Journal {
						return &slow{Memory: journal.NewMemory(budget, wake), wake: wake}
					}}}})
				if err != nil {
					t.Fatal(err)
				}
				defer r.close()
				p, c := r.peer(), r.peer()
				for _, q := range []string{"q", other} {
					p.send(`{"op":"queue.create","queue":"` + q + `"}`)
				}
				pass(slowness)
				c.send(`{"op":"subscribe","queue":"q","credit":1}`)
				p.take()
				c.take()
				p.send(`{"op":"publish","queue":"q","body":1,"quiet":true}`)
				pass(slowness)
				if got := strings.Join(c.take(), ""); !strings.Contains(got, `"seq":1`) {
					t.Fatalf("the first message does not come, but %q", got)
				}
				try(t, r, p, c)
			})
		})
	}
}
