package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/disk"
)

func TestMain(m *testing.M) { os.Exit(disk.MainNetwork(m)) }

var (
	most  = flag.Int("faults", 13, "how many faults there are; 0: as many as -hours allows")
	hours = flag.Float64("hours", 0, "how long to go on, fractions allowed; the round that has begun then is the last")
	size  = flag.Int("nodes", 3, "how many nodes: 3 or 5")
	seed  = flag.Uint64("seed", 0, "of everything that goes wrong; 0: a new one")
	only  = flag.String("only", "", "faults whose name has this in it, those of long runs included, and no others")
	slack = flag.Float64("slack", 1, "by how much clients may wait longer than is promised: where other tests run at the same time")
	first = flag.Int("round", 1, "the round to begin with: one that failed, to repeat it")
)

// TestChaos goes in rounds of 13 faults, each with clients, queues and a proof of its own.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	again := fmt.Sprintf("go test -count=1 -timeout 0 -v ./test/chaos -faults %d -hours %g -nodes %d -seed %d", *most, *hours, *size, *seed)
	t.Log(again)
	c := newChaos(t, *size)
	t.Logf("%d nodes; disks: %s", *size, c.disks)
	end := time.Now().Add(time.Duration(*hours * float64(time.Hour)))
	for round, done := *first, 0; round == *first || done < *most || time.Now().Before(end); round++ {
		if !t.Run(fmt.Sprintf("round-%d", round), func(t *testing.T) { done += c.round(t, round, *most-done) }) {
			t.Log("again: ", again, " -round ", round)
			break
		}
		if *most > 0 && *hours == 0 && done >= *most {
			break
		}
	}
}

// round is a round of at most so many faults, as many as there are where -hours says when it ends.
func (c *chaos) round(t *testing.T, number, left int) int {
	outer := c.t
	c.t, c.rows = t, nil
	defer func() { c.t = outer }()
	chance := rand.New(rand.NewPCG(*seed, uint64(number)))
	for _, d := range c.nodes {
		if !d.running() { // the round before has stopped all of them
			c.must(d.start(""))
		}
	}
	c.settle(0)
	for q := range queueCount {
		_ = c.asks[0].DeleteQueue(t.Context(), queueName(q)) // in the first round there is none
	}
	var err error
	c.crew, err = newCrew(t.Context(), c.nodes)
	defer c.crew.close()
	c.must(err)
	defer func() {
		for _, f := range c.crew.ledger.wrong() {
			t.Error(f)
		}
		t.Log(c.report())
		if t.Failed() || *only != "" {
			t.Log(c.tail())
		}
	}()
	todo := plan(chance, *hours > 0 || *only != "")
	todo = slices.DeleteFunc(todo, func(f fault) bool { return !strings.Contains(f.name, *only) })
	if *hours == 0 && left < len(todo) {
		todo = todo[:left]
	}
	began := time.Now()
	select {
	case <-c.crew.ledger.recovery():
	case <-time.After(patience):
		t.Fatalf("the clients do not begin: %s", c.crew.ledger.without())
	}
	for _, f := range todo {
		<-time.After(time.Duration(chance.IntN(800)) * time.Millisecond) // a fault comes when it likes
		f.do(c, chance)
	}
	c.judge(time.Since(began))
	return len(todo)
}

// judge ends the round's load and says whether everything is as it must be.
func (c *chaos) judge(took time.Duration) {
	t, l := c.t, c.crew.ledger
	rate := float64(l.confirms()) / took.Seconds()
	if err := c.crew.finish(patience); err != nil {
		t.Error(err)
	}
	c.settle(0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	v := l.judge()
	for q := range queueCount {
		info, err := c.asks[0].QueueInfo(ctx, queueName(q))
		c.must(err)
		if n := info.Counts; n.Ready+n.Leased+n.Delayed > 0 || n.Published != uint64(v.stored[queueName(q)]) {
			t.Errorf("%s: the server counts %+v; clients know of %d messages that it has stored", queueName(q), n, v.stored[queueName(q)])
		}
	}
	c.crew.close()
	differ := c.compare()
	for _, d := range differ {
		t.Error("replicas differ: ", d)
	}
	p99 := time.Duration(l.took.ValueAtQuantile(99)) * time.Microsecond
	t.Logf("%v\n%.0f confirms a second over %.1f s; p50 %v, p99 %v, longest %v; replicas equal: %v", v, rate, took.Seconds(),
		time.Duration(l.took.ValueAtQuantile(50))*time.Microsecond, p99, time.Duration(l.took.Max())*time.Microsecond, len(differ) == 0)
	if least := leastRate / *slack; rate < least {
		t.Errorf("%.0f confirms a second are no load; at least %.0f are wanted", rate, least)
	}
	if most := slackened(mostWait); p99 > most {
		t.Errorf("of 100 confirms one took longer than %v; at most %v are allowed", p99, most)
	}
}

func slackened(d time.Duration) time.Duration { return time.Duration(float64(d) * *slack) }

// report is the table of faults.
func (c *chaos) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d faults:\n", len(c.rows))
	for _, r := range c.rows {
		fmt.Fprintf(&b, "  %-72s all lanes go on after %5.2f s, all in step %5.2f s after the repair; %6d confirms\n", r.name, r.recovery.Seconds(), r.healing.Seconds(), r.confirms)
	}
	return b.String()
}
