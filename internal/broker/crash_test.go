package broker

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/vfs"
)

var crashSeed = flag.Uint64("crash-seed", 0, "run TestPowerCuts with this seed alone")

// A life is a broker over a file journal on a disk in memory, until the power is cut.
type life struct {
	*rig
	log *filejournal.Log
}

func begin(t *testing.T, fs vfs.FS, boot uint32) *life {
	t.Helper()
	log, err := filejournal.Open(fs, "data", filejournal.Options{
		Sync: true, Shards: Shards, SegmentBytes: 64 << 10, CacheBytes: 128 << 10, CompactSlack: 64 << 10, CompactEvery: 16 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{rig: &rig{t: t}, log: log}
	l.b, err = Start(Options{
		Version: "test", Boot: boot, Seed: uint64(boot),
		Fail: func(err error) { l.fail = err },
		Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 100_000, AutoCreate: true, Defaults: queue.Settings{
			Storage: "file", Lease: time.Hour, MaxDeliveries: 4, RetryFactor: 1,
		}},
		Storages: []Storage{{Name: "file", Stored: "disk", Shared: true, Spread: log.Spread, Open: func(i int, wake func()) journal.Journal { return log.Shard(i, wake) }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *life) end() {
	l.close()
	if err := l.log.Close(); err != nil {
		l.t.Error(err)
	}
}

// A ledger is what the test's clients know of each body published: whether it was sent,
// whether its confirm was seen, whether its ack was sent, and whether the ack's reply was seen.
type ledger struct {
	sent, confirmed, asked, acked map[string]bool

	next   int
	queues []string
}

// step is one random thing that a client does; the replies are entered when the test takes them.
func (g *ledger) step(p *peer, rng *rand.Rand, expect map[string][]string) {
	g.next++
	id := fmt.Sprint(g.next)
	q := g.queues[rng.IntN(len(g.queues))]
	switch rng.IntN(3) {
	case 0:
		var msgs, bodies []string
		for i := range 1 + rng.IntN(4) {
			body := fmt.Sprintf(`"%s %s.%d %s"`, q, id, i, strings.Repeat("x", rng.IntN(3000)))
			g.sent[body] = true
			bodies = append(bodies, body)
			msgs = append(msgs, `{"body":`+body+`}`)
		}
		expect[id] = bodies
		p.send(fmt.Sprintf(`{"op":"publish","id":"%s","queue":"%s","messages":[%s]}`, id, q, strings.Join(msgs, ",")))
	default:
		p.send(fmt.Sprintf(`{"op":"receive","id":"r%s","queue":"%s","max":%d,"create":true}`, id, q, 1+rng.IntN(6)))
	}
}

type reply struct {
	ID       string
	OK       bool
	Messages []struct {
		Queue       string
		Seq         uint64
		Receipt     string
		Body        json.RawMessage
		Redelivered bool
	}
}

// enter notes what replies say, and settles what was received, most of it.
func (g *ledger) enter(t *testing.T, p *peer, rng *rand.Rand, lines []string, expect map[string][]string) {
	for _, line := range lines {
		var r reply
		if err := json.Unmarshal([]byte(line), &r); err != nil || !r.OK {
			t.Fatalf("%s: %v", line, err)
		}
		for _, body := range expect[r.ID] {
			if strings.HasPrefix(r.ID, "a") {
				g.acked[body] = true
			} else {
				g.confirmed[body] = true
			}
		}
		for _, m := range r.Messages {
			body := string(m.Body)
			if !g.sent[body] {
				t.Fatalf("nobody sent %.100s", body)
			}
			if g.acked[body] {
				t.Fatalf("came back after its ack was confirmed: %.100s", body)
			}
			g.next++
			id := fmt.Sprint("a", g.next)
			if rng.IntN(8) == 0 {
				p.send(fmt.Sprintf(`{"op":"nack","quiet":true,"queue":"%s","seq":%d,"receipt":"%s"}`, m.Queue, m.Seq, m.Receipt))
				continue
			}
			expect[id], g.asked[body] = []string{body}, true
			p.send(fmt.Sprintf(`{"op":"ack","id":"%s","queue":"%s","seq":%d,"receipt":"%s"}`, id, m.Queue, m.Seq, m.Receipt))
		}
	}
}

// drain receives and acks everything there is, dead letters included.
func (g *ledger) drain(t *testing.T, p *peer) (got map[string]bool) {
	got = map[string]bool{}
	for _, q := range g.queues {
		for _, name := range []string{q, q + queue.DeadSuffix} {
			for {
				r := p.ask(`{"op":"receive","queue":"` + name + `","max":50}`)
				if r["messages"] == nil {
					t.Fatalf("%v", r)
				}
				list := r["messages"].([]any)
				if len(list) == 0 {
					break
				}
				for _, v := range list {
					m := v.(map[string]any)
					body, _ := json.Marshal(m["body"])
					got[string(body)] = true
					p.want(fmt.Sprintf(`{"op":"ack","queue":"%s","seq":%.0f}`, name, m["seq"]), "settled", 1)
				}
			}
			p.want(`{"op":"queue.info","queue":"`+name+`"}`, "counts.ready", 0)
		}
	}
	return got
}

// powerCuts runs several lives on one disk, each ended by a power cut at a random moment.
func powerCuts(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, seed))
	g := &ledger{sent: map[string]bool{}, confirmed: map[string]bool{}, asked: map[string]bool{}, acked: map[string]bool{}, queues: []string{"a", "b", "c"}}
	disk := vfs.NewMem()
	compacted := 0
	for boot := uint32(1); boot <= 6; boot++ {
		l := begin(t, disk, boot)
		p := l.peer()
		expect := map[string][]string{}
		for range 40 + rng.IntN(200) {
			g.step(p, rng, expect)
			if rng.IntN(3) > 0 {
				g.enter(t, p, rng, p.take(), expect)
			}
		}
		if rng.IntN(2) == 0 {
			synctest.Wait()
		}
		next := disk.Crash(rng)
		if snaps, err := disk.ReadDir("data/snap"); err == nil {
			compacted += len(snaps)
		}
		l.end()
		disk = next
	}
	l := begin(t, disk, 99)
	p := l.peer()
	got := g.drain(t, p)
	for _, body := range slices.Sorted(maps.Keys(g.confirmed)) {
		if !g.asked[body] && !got[body] {
			t.Errorf("confirmed, and lost: %.60s", body)
		}
	}
	for body := range got {
		if g.acked[body] {
			t.Errorf("acked, and back: %.60s", body)
		}
	}
	if len(g.confirmed) < 100 || len(g.acked) < 50 || compacted == 0 {
		t.Errorf("too little happened: %d confirmed, %d acked, %d snapshots", len(g.confirmed), len(g.acked), compacted)
	}
	l.end()
}

// TestPowerCuts: nothing confirmed is lost, nothing acked comes back, whatever a power
// cut leaves of what was not synced. It compacts all the while.
func TestPowerCuts(t *testing.T) {
	from, to := uint64(1), uint64(25)
	if testing.Short() { // what a disk has kept is nothing to the race detector
		to = 8
	}
	if *crashSeed != 0 {
		from, to = *crashSeed, *crashSeed
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint("crash-seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { powerCuts(t, seed) })
		})
	}
}
