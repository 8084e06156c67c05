package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
)

// The limits that a run is held to.
const (
	mostRecovery = 5 * time.Second
	mostWait     = 2 * time.Second // of 99 confirms in 100
	patience     = 20 * time.Second
	shortCut     = 2500 * time.Millisecond // of a partition, which is longer where it takes longer until clients go on
)

// A fault is something that goes wrong, and how it is put right.
type fault struct {
	name string
	do   func(c *chaos, chance *rand.Rand)
}

// faults are what every run has, in an order that the seed decides.
func faults() []fault {
	all := []fault{}
	add := func(n int, name string, do func(c *chaos, chance *rand.Rand)) {
		for range n {
			all = append(all, fault{name, do})
		}
	}
	add(4, "kill -9 of a leader", killLeader)
	add(3, "partition", partition(true, true, shortCut))
	add(1, "partition, of what it sends", partition(true, false, shortCut))
	add(1, "partition, of what it is sent", partition(false, true, shortCut))
	add(2, "SIGSTOP for 5 s", pause)
	add(1, "a flipped bit", flipped)
	add(1, "power cut of all", powerCut)
	return all
}

// recipes are what a long run has besides.
func recipes() []fault {
	return []fault{
		{"power cut of one, and pauses", powerAndPauses},
		{"a flipped bit anywhere", flippedAnywhere},
		{"taken out while it is cut off", removedInPartition},
		{"a long partition", partition(true, true, 20*time.Second)},
	}
}

// strike does something and waits until all lanes go on: until each has had a confirm of something that was sent when it was done. Then, if it
// is not longer ago than hold, it waits for the rest of that. Repair puts it right.
func (c *chaos) strike(name string, hold time.Duration, do, repair func()) {
	c.t.Helper()
	before, from := c.crew.ledger.confirms(), time.Now()
	for _, d := range c.nodes {
		d.note("--- %s", name)
	}
	do()
	over := c.crew.ledger.recovery()
	held := time.After(hold - time.Since(from))
	select {
	case <-over:
	case <-time.After(patience):
		c.t.Errorf("%s: after %v these lanes had no confirm: %s", name, patience, c.crew.ledger.without())
	}
	r := row{name: name, recovery: time.Since(from)}
	<-held
	mended := time.Now()
	repair()
	c.settle(500)
	r.healing, r.confirms = time.Since(mended), c.crew.ledger.confirms()-before
	c.rows = append(c.rows, r)
	if most := slackened(mostRecovery); r.recovery > most {
		c.t.Errorf("%s: it took %v until all lanes went on; at most %v are allowed", name, r.recovery, most)
	}
	if r.confirms == 0 {
		c.t.Errorf("%s: nothing was confirmed meanwhile", name)
	}
}

func killLeader(c *chaos, chance *rand.Rand) {
	most, _ := c.leading()
	c.strike(fmt.Sprintf("kill -9 of node %d, a leader", most.index+1), time.Duration(chance.IntN(500))*time.Millisecond, most.kill, func() { c.must(most.up("")) })
}

// partition cuts a node off from the others, but not from its clients: what it sends, or is sent, or both.
func partition(out, in bool, hold time.Duration) func(c *chaos, chance *rand.Rand) {
	return func(c *chaos, chance *rand.Rand) {
		most, _ := c.leading()
		name := fmt.Sprintf("partition: node %d", most.index+1)
		senders := map[int][]int{}
		for _, d := range c.nodes {
			if d == most {
				continue
			}
			if out {
				senders[most.index] = append(senders[most.index], d.index)
			}
			if in {
				senders[d.index] = []int{most.index}
			}
		}
		switch {
		case !in:
			name += " does not reach the others, and hears them"
		case !out:
			name += " reaches the others, and does not hear them"
		}
		before := map[int]int{}
		if hold > shortCut {
			name += fmt.Sprintf(", for %v", hold)
		}
		c.strike(name, hold, func() {
			for from, to := range senders {
				before[from] = c.lost(from)
				c.must(c.net.lose(from, to...))
			}
		}, func() {
			c.must(c.net.heal())
			for from := range senders {
				if n := c.lost(from) - before[from]; n < 5 {
					c.t.Errorf("%s: %d packets of node %d were lost, so there was no partition", name, n, from+1)
				}
			}
		})
	}
}

func (c *chaos) lost(node int) int {
	c.t.Helper()
	n, err := c.net.lost(node)
	c.must(err)
	return n
}

func pause(c *chaos, _ *rand.Rand) {
	most, _ := c.leading()
	c.strike(fmt.Sprintf("SIGSTOP of node %d for 5 s", most.index+1), 5*time.Second, func() { c.must(most.stop()) }, func() {
		stands, err := most.stands()
		c.must(err)
		if !stands {
			c.t.Error("the node that was stopped did not stand still")
		}
		c.must(most.goOn())
	})
}

// flipped changes a bit of a follower's log while it is down.
func flipped(c *chaos, chance *rand.Rand) {
	_, least := c.leading()
	c.strike(fmt.Sprintf("a bit of node %d's log flips", least.index+1), 0, func() {
		least.kill()
		names, used, err := least.segments()
		c.must(err)
		k := chance.IntN(len(names))
		for used[k] == 0 { // one that was prepared
			k = chance.IntN(len(names))
		}
		// What was written last may be torn, which is no damage: a flip there cannot be told from it.
		c.must(flip(names[k], chance.Int64N(max(1, used[k]*9/10)), uint(chance.IntN(8))))
		c.must(least.start(""))
		c.refuses(least)
	}, func() { c.replace(least) })
}

// refuses waits until a node has ended by itself, as its files are damaged.
func (c *chaos) refuses(d *node) {
	c.t.Helper()
	select {
	case <-d.ended:
	case <-d.ready:
		c.t.Fatal("a node whose files are damaged serves")
	case <-time.After(patience):
		c.t.Fatal("a node whose files are damaged neither starts nor ends")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 1 || !d.logged("damaged") {
		c.t.Errorf("a node whose files are damaged ends with exit code %d:\n%s", code, d.lately(5))
	}
}

// replace has a node join anew that is of no use any more.
func (c *chaos) replace(d *node) {
	c.t.Helper()
	d.kill()
	c.remove(d)
	c.must(d.wipe())
	c.join(d)
}

// powerCut takes the power from all nodes at once, and gives it back.
func powerCut(c *chaos, chance *rand.Rand) {
	loss := []disk.Loss{disk.FlushNone, disk.FlushLog}[chance.IntN(2)]
	c.strike("power cut of all, disks forget "+loss.String(), 0, func() {
		for _, d := range c.nodes { // at once: nobody confirms anything that another one is about to forget
			c.must(d.stop())
		}
		for _, d := range c.nodes {
			c.must(d.lose(loss))
		}
		for _, d := range c.nodes {
			c.must(d.remount())
			c.must(d.start(""))
		}
		for _, d := range c.nodes {
			select {
			case <-d.ready:
			case <-d.ended:
				c.t.Fatalf("node %d does not start after a power cut:\n%s", d.index+1, d.lately(5))
			case <-time.After(harness.Patience):
				c.t.Fatalf("node %d is not ready after a power cut", d.index+1)
			}
		}
	}, func() {})
}

// powerAndPauses stops one node, cuts another one's power behind a cable that is out, so that nobody is told, and has the first go on.
func powerAndPauses(c *chaos, chance *rand.Rand) {
	most, least := c.leading()
	moment := time.Duration(200+chance.IntN(800)) * time.Millisecond
	c.strike(fmt.Sprintf("power cut of node %d after a pause of node %d", most.index+1, least.index+1), 0, func() {
		c.must(least.stop())
		<-time.After(moment)
		c.must(c.net.cable(most.index, false))
		c.must(most.lose(disk.FlushNone))
		c.must(least.goOn())
	}, func() {
		c.must(most.remount())
		c.must(c.net.cable(most.index, true))
		c.must(most.up(""))
	})
}

// flippedAnywhere changes a bit in any file of a node: it refuses to start, or what it has lost was no promise, and it gets that from the others.
func flippedAnywhere(c *chaos, chance *rand.Rand) {
	_, least := c.leading()
	refused := false
	c.strike(fmt.Sprintf("a bit of any file of node %d flips", least.index+1), 0, func() {
		least.kill()
		name, size, err := least.anyFile(chance)
		c.must(err)
		c.must(flip(name, chance.Int64N(size), uint(chance.IntN(8))))
		c.must(least.start(""))
		select {
		case <-least.ready:
		case <-least.ended:
			refused = true
		}
	}, func() {
		if refused {
			c.replace(least)
		}
	})
}

// removedInPartition takes a node out that nobody reaches, and lets it join anew when it has learnt that.
func removedInPartition(c *chaos, _ *rand.Rand) {
	most, _ := c.leading()
	var others []int
	for _, d := range c.nodes {
		if d != most {
			others = append(others, d.index)
		}
	}
	c.strike(fmt.Sprintf("node %d is taken out while it is cut off", most.index+1), 0, func() {
		c.must(c.net.lose(most.index, others...))
		for _, i := range others {
			c.must(c.net.lose(i, most.index))
		}
	}, func() {
		c.remove(most)
		c.must(c.net.heal())
		select {
		case <-most.ended:
		case <-time.After(harness.Patience):
			c.t.Error("a node that was taken out does not end")
		}
		c.replace(most)
	})
}

// plan is the faults of a round, in the order that its number decides.
func plan(chance *rand.Rand, long bool) []fault {
	all := faults()
	if long {
		all = slices.Concat(all, recipes())
	}
	chance.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
