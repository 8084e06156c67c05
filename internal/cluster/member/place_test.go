package member

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/cluster/placement"
	"github.com/gmq/gmq/wire"
)

// spread waits until each group has so many replicas at the nodes that there are, and the others follow the group of documents.
func (n *machine) spread(t *testing.T, nodes, replicas int) *Report {
	t.Helper()
	var r *Report
	defer func() {
		if t.Failed() {
			t.Logf("it is %+v", r)
		}
	}()
	until(t, fmt.Sprintf("%d replicas at %d nodes", replicas, nodes), func() bool {
		r = n.m.Report(context.Background())
		if len(r.Nodes) != nodes || len(r.Groups) != rigGroups || r.Replicas != replicas {
			return false
		}
		for _, one := range r.Nodes {
			if one.State != "member" || !one.Here {
				return false
			}
		}
		for _, g := range r.Groups {
			watch := 0
			if g.Group == documents {
				watch = nodes - replicas
			}
			if g.Leader == "" || len(g.Members) != replicas || len(g.Learners) != watch {
				return false
			}
		}
		return true
	})
	return r
}

// TestMoreNodesThanReplicas: five nodes have groups of three replicas; documents are at all; each node knows who leads; one is lost for good and
// replaced; there are fewer replicas when every node says so, and more when one does.
func TestMoreNodesThanReplicas(t *testing.T) {
	all := newCluster(t, 3)
	one := all[0]
	add := func(change func(*Options)) *machine {
		n := newMachine(t, change)
		if err := n.start(one.token(t), one); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if n.kill(); t.Failed() {
				t.Logf("%s: %s", n.opt.Name, strings.Join(n.logs, "\n  "))
			}
		})
		return n
	}
	four, five := add(nil), add(nil)
	one.spread(t, 5, 3)
	for i, n := range []*machine{one, all[1], all[2], four, five} {
		if err := n.m.Put(fmt.Sprint("from", i), []byte("x")); err != nil {
			t.Errorf("put by node %d: %v", i, err)
		}
		until(t, "the node knows who leads, and has the documents", func() bool {
			for _, g := range n.host.Status() {
				if g.Leader == 0 {
					return false
				}
			}
			return n.doc("from0") != "" && n.shards[1].leader() != 0
		})
	}
	five.kill() // for good
	if _, err := four.request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n5")}); err != nil {
		t.Fatal(err)
	}
	one.spread(t, 4, 3)
	six := add(func(o *Options) { o.Name = "six" })
	r := one.spread(t, 5, 3)
	if !slices.ContainsFunc(r.Groups, func(g GroupReport) bool {
		return slices.Contains(g.Members, "six") || slices.Contains(g.Learners, "six")
	}) {
		t.Errorf("nothing is at the new node: %+v", r.Groups)
	}
	if six.doc("from4") == "" {
		t.Error("the new node lacks a document")
	}
	for i, n := range []*machine{one, all[1], all[2], four, six} {
		n.again(t, 1)
		if i < 4 { // one after the other, as they come back at other addresses
			all[1].spread(t, 5, 3)
		}
	}
	one.spread(t, 5, 1)
	four.again(t, 5)
	one.spread(t, 5, 5)
}

// again ends the process and starts another, whose configuration asks for so many replicas.
func (n *machine) again(t *testing.T, replicas int) {
	t.Helper()
	n.kill()
	n.opt.Replicas = replicas
	if err := n.start("", n); err != nil {
		t.Fatal(err)
	}
}

func TestPlacingDocument(t *testing.T) {
	p := placing{nodes: []uint64{7, 8, 9, 10}, plan: placement.Plan{{7, 8, 9}, {8, 9, 10}}}
	got, err := parsePlacing(p.document())
	if err != nil || !slices.Equal(got.nodes, p.nodes) || !placement.Equal(got.plan, p.plan) {
		t.Errorf("%+v becomes %+v, %v", p, got, err)
	}
	bad := strings.Replace(string(p.document()), "[0,1,2]", "[0,1,4]", 1)
	if _, err := parsePlacing([]byte(bad)); err == nil {
		t.Error("a group is at a node that is none of those named")
	}
	ids := make([]uint64, mostNodes)
	for i := range ids {
		ids[i] = newID()
	}
	slices.Sort(ids)
	big := placing{ids, placement.Next(nil, 1600, ids, 5)}
	if n := len(big.document()); n > 64<<10 {
		t.Errorf("the plan of 1,600 groups at %d nodes takes %d bytes, and a document may have 64 KiB", mostNodes, n)
	}
}
