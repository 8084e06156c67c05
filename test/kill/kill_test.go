// Package kill kills the server again and again while it works, and checks that what it
// promised to clients holds: nothing confirmed is lost, nothing acked comes back.
package kill_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
)

var (
	kills = flag.Int("kills", 20, "how often the server is killed")
	seed  = flag.Uint64("seed", 0, "of the moments of the kills; 0: a new one")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const leastRate = 2000 // confirms a second; with less the load was not real

// A trial is what the kills add to the clients' work.
type trial struct {
	*load.Trial
	t       *testing.T
	gently  bool // ended by SIGTERM
	server  *harness.Server
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
	server := harness.Start(t, "queue_defaults: {storage: file}\n")
	r := &trial{t: t, gently: gently, server: server, Trial: load.NewTrial(t, server, load.Team{
		Kind: load.Kind{Queue: "kill.main", Publishers: 4, Fate: load.Accepted, Size: load.Small, Room: 20_000}, Consumers: 4}, load.Mortal("kill.mortal"))}
	defer func() {
		for _, fault := range r.Faults() {
			t.Error(fault)
		}
		if t.Failed() {
			t.Log("again: ", again)
		}
	}()
	started := time.Now()
	if ended := r.end(n); ended < n {
		return
	}
	v := r.Finish()
	rate := float64(v.Confirmed) / r.serving.Seconds()
	t.Logf("kills %d, %v; %.0f confirms a second of serving, %d MiB in the end, seconds %.1f (serving %.1f, dying %.1f, starting %.1f)",
		n, v, rate, size(server.Data)>>20, time.Since(started).Seconds(), r.serving.Seconds(), r.dying.Seconds(), r.rising.Seconds())
	if rate < leastRate {
		t.Errorf("%.0f confirms a second: the load was not real, it takes %d", rate, leastRate)
	}
}

// end ends the server n times, each 50 to 250 ms after it was ready, and gives how often it did.
func (r *trial) end(n int) int {
	chance := rand.New(rand.NewPCG(*seed, 0))
	ready := time.Now()
	r.Begin()
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
		r.Begin()
	}
	return n
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
