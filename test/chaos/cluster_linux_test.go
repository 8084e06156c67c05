package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
)

const imageSize = 512 << 20 // sparse

// A chaos is a cluster, its clients, and what was done to it.
type chaos struct {
	t     *testing.T
	net   *network
	nodes []*node
	asks  []*gmq.Client // one for each node, that goes to no other
	crew  *crew
	rows  []row
	disks string // what they are
}

// A row is a fault of the report.
type row struct {
	name     string
	recovery time.Duration // until each lane had a confirm of what was sent after the fault
	healing  time.Duration // from the repair until all nodes were in step
	confirms int
}

// newChaos makes nodes and joins them.
func newChaos(t *testing.T, n int) *chaos {
	t.Helper()
	if err := disk.Outside(); err != nil {
		skip(t, err)
	}
	net, err := newNetwork(n)
	if err != nil {
		skip(t, err)
	}
	c := &chaos{t: t, net: net, disks: "ext4, which forgets what was not synced when it is cut"}
	for i := range n {
		d := &node{t: t, net: net, index: i}
		if d.disk, err = disk.Try(t, "ext4", t.TempDir(), imageSize); err != nil {
			c.disks = fmt.Sprintf("that of the machine, so that a power cut is a kill -9 (%v)", err)
			d.disk, d.data = nil, filepath.Join(t.TempDir(), "data")
		} else {
			d.data = filepath.Join(d.disk.Dir, "data")
		}
		c.nodes = append(c.nodes, d)
		t.Cleanup(d.kill)
		ask, err := gmq.Dial(t.Context(), d.addr(), gmq.Lazy(), gmq.OnlyGiven(), gmq.Backoff(20*time.Millisecond, 100*time.Millisecond), gmq.DialTimeout(time.Second))
		c.must(err)
		t.Cleanup(func() { ask.Close() })
		c.asks = append(c.asks, ask)
	}
	c.must(c.nodes[0].up(""))
	for _, d := range c.nodes[1:] {
		c.join(d)
	}
	c.settle(0)
	return c
}

// skip is for what the machine does not allow; -required makes it a failure.
func skip(t *testing.T, err error) {
	t.Helper()
	if disk.Required() {
		t.Fatal(err)
	}
	t.Skipf("this machine does not allow it: %v", err)
}

func (c *chaos) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// until asks again and again.
func (c *chaos) until(what string, ok func(ctx context.Context) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), harness.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s, err := c.status(c.t.Context())
			c.t.Fatalf("waited %v in vain until %s: %+v, %v\n%s", harness.Patience, what, s, err, c.tail())
		}
	}
}

// status is how the cluster is, as the first node says that answers and is not to be left out.
func (c *chaos) status(ctx context.Context, without ...int) (s gmq.ClusterStatus, err error) {
	for i, ask := range c.asks {
		if slices.Contains(without, i) || !c.nodes[i].running() {
			continue
		}
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err = ask.ClusterStatus(one)
		cancel()
		if err == nil {
			return s, nil
		}
	}
	return s, err
}

// of is the place of a node in a status; -1: it is not in there.
func of(s *gmq.ClusterStatus, d *node) int {
	return slices.IndexFunc(s.Nodes, func(n gmq.ClusterNode) bool { return n.Client == d.addr() })
}

// settle waits until all nodes are members, in step but for so many entries, and each group has a leader.
func (c *chaos) settle(behind uint64) {
	c.t.Helper()
	c.until("all nodes are in step", func(ctx context.Context) bool {
		s, err := c.status(ctx)
		if err != nil || len(s.Nodes) != len(c.nodes) {
			return false
		}
		for _, n := range s.Nodes {
			if !n.Reachable || n.State != "member" || n.Behind > behind {
				return false
			}
		}
		return !slices.ContainsFunc(s.Groups, func(g gmq.ClusterGroup) bool { return g.Leader == "" || len(g.Members) != len(c.nodes) })
	})
}

// most and least are the nodes that lead the most groups, and the fewest.
func (c *chaos) leading() (most, least *node) {
	c.t.Helper()
	s, err := c.status(c.t.Context())
	c.must(err)
	leads := func(d *node) int {
		if i := of(&s, d); i >= 0 {
			return s.Nodes[i].Leads
		}
		return 0
	}
	byLeads := func(a, b *node) int { return leads(a) - leads(b) }
	most, least = slices.MaxFunc(c.nodes, byLeads), slices.MinFunc(c.nodes, byLeads)
	if leads(most) == 0 {
		c.t.Fatalf("nobody leads anything: %+v", s)
	}
	return most, least
}

// join has a node join that has an empty directory.
func (c *chaos) join(d *node) {
	c.t.Helper()
	c.until("a token is given", func(context.Context) bool {
		for _, other := range c.nodes {
			if other == d || !other.running() {
				continue
			}
			token, err := other.token()
			if err == nil {
				c.must(d.up(token))
				return true
			}
			other.note("no token: %v", err)
		}
		return false
	})
}

// remove takes a node out that is gone.
func (c *chaos) remove(d *node) {
	c.t.Helper()
	c.until("the node is taken out", func(ctx context.Context) bool {
		s, err := c.status(ctx, d.index)
		if err != nil {
			return false
		}
		i := of(&s, d)
		if i < 0 {
			return true
		}
		for k, ask := range c.asks {
			if s.Nodes[i].State != "leaving" && k != d.index {
				one, cancel := context.WithTimeout(ctx, 3*time.Second)
				err = ask.RemoveNode(one, s.Nodes[i].ID) // if it fails it is tried again
				cancel()
				if err == nil {
					break
				}
			}
		}
		return false
	})
}

// A group is what a node's directory says of one.
type group struct {
	Group  int
	Last   uint64
	Digest string
}

// compare stops all nodes at once and says where they do not have the same.
func (c *chaos) compare() (differ []string) {
	c.t.Helper()
	for _, d := range c.nodes {
		d.kill()
	}
	var first []group
	for i, d := range c.nodes {
		out, err := exec.Command(harness.Exe(c.t), "journal", "check", "--data", d.data, "-o", "json").Output()
		var report struct{ Groups []group }
		if err == nil {
			err = json.Unmarshal(out, &report)
		}
		if err != nil || len(report.Groups) == 0 {
			differ = append(differ, fmt.Sprintf("node %d cannot be checked: %v, %s", i+1, err, out))
			continue
		}
		if first == nil {
			first = report.Groups
		}
		for k, g := range report.Groups {
			if k >= len(first) || g.Digest != first[k].Digest { // an entry that says nothing of messages may have come between two kills
				differ = append(differ, fmt.Sprintf("group %d: node %d has %+v, the first one %+v", k, i+1, g, first[k]))
			}
		}
	}
	return differ
}

// tail is the end of all logs.
func (c *chaos) tail() string {
	var b strings.Builder
	for i, d := range c.nodes {
		fmt.Fprintf(&b, "--- node %d\n%s\n", i+1, d.lately(220))
	}
	return b.String()
}
