// Package kill kills the server again and again while it works, and checks that what it
// promised to clients holds: nothing confirmed is lost, nothing acked comes back.
package kill_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

var (
	kills = flag.Int("kills", 20, "how often the server is killed")
	seed  = flag.Uint64("seed", 0, "of the moments of the kills; 0: a new one")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	publishers    = 4
	consumers     = 4
	maxDeliveries = 3
	leastRate     = 2000 // confirms a second; with less the load was not real
)

// A trial is the server, its clients and what they know.
type trial struct {
	t       *testing.T
	gently  bool // ended by SIGTERM
	server  *harness.Server
	lives   *lives
	main    *ledger
	mortal  *ledger // of a queue with nacks and dead letters
	serving time.Duration
	dying   time.Duration // from the kill until the process was gone
	rising  time.Duration // from there until it was ready again
}

func TestKill(t *testing.T) {
	work(t, fmt.Sprintf("Kill -kills %d", *kills), *kills, false)
}

// TestTerm ends the server in good order under the same load: exit 0 each time, and who is told that
// the server shuts down can rely on it that nothing was stored.
func TestTerm(t *testing.T) {
	n := 10
	if testing.Short() {
		n = 3
	}
	work(t, "Term", n, true)
}

// work lets clients work while the server is ended n times, and judges what they have seen.
func work(t *testing.T, run string, n int, gently bool) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	again := fmt.Sprintf("go test -count=1 ./test/kill -run %s -seed %d", run, *seed)
	t.Log(again)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &trial{
		t:      t,
		gently: gently,
		server: harness.Start(t, "queue_defaults: {storage: file}\n"),
		lives:  newLives(ctx),
		main:   newLedger("kill.main", publishers, func(int) fate { return accept }),
		mortal: newLedger("kill.mortal", 1, func(n int) fate { return fate(n % 4) }),
	}
	defer r.faults(again)
	r.mortal.room = 2000
	r.server.Dial(t).OK(`{"op":"queue.create","queue":"kill.mortal","max_deliveries":%d,"retry":{"min":"0s","max":"0s"}}`, maxDeliveries)

	var publishing, consuming sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() { publish(r.lives, r.main, p) })
	}
	publishing.Go(func() { publish(r.lives, r.mortal, 0) })
	for i := range consumers {
		consuming.Go(func() { consume(r.lives, r.main, i%2 == 0) })
	}
	for range 2 {
		consuming.Go(func() { consume(r.lives, r.mortal, false) })
	}
	started := time.Now()
	ended := r.end(n)
	for _, l := range []*ledger{r.main, r.mortal} {
		l.stop()
	}
	if ended < n {
		return
	}
	publishing.Wait()
	counts := r.drain()
	cancel()
	consuming.Wait()
	r.judge(ended, counts, time.Since(started))
}

// end ends the server n times, each 50 to 250 ms after it was ready, and gives how often it did.
func (r *trial) end(n int) int {
	chance := rand.New(rand.NewPCG(*seed, 0))
	ready := time.Now()
	r.lives.begin(r.server.Addr)
	for i := range n {
		<-time.After(50*time.Millisecond + time.Duration(chance.Int64N(int64(200*time.Millisecond))))
		if !r.server.Running() {
			r.t.Errorf("the server ended by itself after %d kills", i)
			return i
		}
		killed := time.Now()
		r.serving += killed.Sub(ready)
		if !r.gently {
			r.server.Kill()
		} else if code := r.server.Term(); code != 0 {
			r.t.Errorf("exit code %d after SIGTERM", code)
		}
		gone := time.Now()
		r.dying += gone.Sub(killed)
		if err := r.server.Up(); err != nil {
			r.t.Errorf("after %d kills: %v", i+1, err)
			return i
		}
		ready = time.Now()
		r.rising += ready.Sub(gone)
		r.lives.begin(r.server.Addr)
	}
	return n
}

// drain waits until the consumers have settled everything, and gives the counts of both queues as
// they are after one more restart, when all who knew them are dead.
func (r *trial) drain() map[string]harness.Line {
	r.t.Helper()
	counts := map[string]harness.Line{}
	if !r.server.Running() {
		r.t.FailNow()
	}
	c := r.server.Dial(r.t)
	for _, l := range []*ledger{r.main, r.mortal} {
		harness.Eventually(r.t, l.queue+" is empty", func() bool {
			now := c.OK(`{"op":"queue.info","queue":"%s"}`, l.queue).At("counts")
			counts[l.queue] = now
			return now.Int("ready")+now.Int("delayed")+now.Int("leased") == 0
		})
	}
	r.t.Logf("the data directory has %d MiB", size(r.server.Data)>>20)
	before := counts["kill.main"].Raw + counts["kill.mortal"].Raw
	r.server.Restart()
	c = r.server.Dial(r.t)
	for name := range counts {
		counts[name] = c.OK(`{"op":"queue.info","queue":"%s"}`, name).At("counts")
		r.equation(name, counts[name])
	}
	if after := counts["kill.main"].Raw + counts["kill.mortal"].Raw; after != before {
		r.t.Errorf("the counts did not survive a restart:\n%s\n%s", before, after)
	}
	dead := c.OK(`{"op":"queue.info","queue":"kill.mortal.dlq"}`).At("counts")
	r.equation("kill.mortal.dlq", dead)
	counts["dlq"] = dead
	for {
		got := c.OK(`{"op":"receive","queue":"kill.mortal.dlq","max":1000,"ack":"auto"}`).Each("messages")
		if len(got) == 0 {
			return counts
		}
		for _, m := range got {
			attempts, _ := strconv.Atoi(m.At("headers").Text("gmq-dead-attempts"))
			body := m.At("body")
			r.mortal.buried(int(body.Int("p")), int(body.Int("n")), attempts)
		}
	}
}

// size is how much the files below dir hold.
func size(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil { // files come and go
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func (r *trial) equation(queue string, c harness.Line) {
	r.t.Helper()
	sum := int64(0)
	for _, name := range []string{"ready", "delayed", "leased", "acked", "expired", "dead", "dropped", "cancelled", "purged", "redriven"} {
		sum += c.Int(name)
	}
	if sum != c.Int("published") {
		r.t.Errorf("%s: published is not the sum of the others: %s", queue, c.Raw)
	}
}

// faults shows what clients have seen that must not be.
func (r *trial) faults(again string) {
	for _, l := range []*ledger{r.main, r.mortal} {
		l.mu.Lock()
		for _, f := range l.faults {
			r.t.Error(f)
		}
		if more := l.faultCount - len(l.faults); more > 0 {
			r.t.Errorf("%s: and %d faults more", l.queue, more)
		}
		l.mu.Unlock()
	}
	if r.t.Failed() {
		r.t.Log("again: ", again)
	}
}

// judge reports and fails where anything was not as promised.
func (r *trial) judge(ended int, counts map[string]harness.Line, took time.Duration) {
	r.t.Helper()
	main, mortal := r.main.close(), r.mortal.close()
	rate := float64(main.confirmed+mortal.confirmed) / r.serving.Seconds()
	r.t.Logf("kills %d, confirmed %d (%.0f/s while serving), delivered %d, duplicates %d, dead %d, lost %d, resurrected %d, seconds %.1f (serving %.1f, dying %.1f, starting %.1f)",
		ended, main.confirmed+mortal.confirmed, rate, main.delivered+mortal.delivered, main.redone+mortal.redone, mortal.dead,
		main.lost+mortal.lost, main.resurrected+mortal.resurrected, took.Seconds(), r.serving.Seconds(), r.dying.Seconds(), r.rising.Seconds())
	if rate < leastRate {
		r.t.Errorf("%.0f confirms a second: the load was not real, it takes %d", rate, leastRate)
	}
	for _, l := range []*ledger{r.main, r.mortal} {
		s := main
		if l == r.mortal {
			s = mortal
		}
		if got := counts[l.queue].Int("published"); got != int64(s.stored) || s.delivered != s.stored {
			r.t.Errorf("%s: the server counts %d published; clients know of %d stored and %d delivered", l.queue, got, s.stored, s.delivered)
		}
		if got := counts[l.queue].Int("dead"); got != int64(s.dead) {
			r.t.Errorf("%s: the server counts %d dead; there are %d dead letters", l.queue, got, s.dead)
		}
	}
	if got := counts["dlq"].Int("published"); got != int64(mortal.dead) {
		r.t.Errorf("kill.mortal.dlq counts %d published and held %d", got, mortal.dead)
	}
}
