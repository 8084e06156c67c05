package main

import (
	"context"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/admin"
)

// nodesFor is how long what the nodes have said is shown: that they are asked costs each of them something.
const nodesFor = 2 * time.Second

// A nodeWatch is what the nodes of a cluster said when somebody last looked. Nobody is asked while nobody looks.
type nodeWatch struct {
	mu     sync.Mutex // guards the following
	last   *admin.ClusterStats
	at     time.Time
	asking chan struct{} // closed when they have answered; nil while nobody is asked
}

// clusterStats is what the nodes say; nil where the server is alone. It waits for them where what they have said is older than a look
// or two, a second at most.
func (in *instance) clusterStats() *admin.ClusterStats {
	if !in.node.member.Member() {
		return nil
	}
	w := &in.nodes
	w.mu.Lock()
	age := time.Since(w.at)
	if age >= nodesFor && w.asking == nil {
		w.asking = make(chan struct{})
		go in.askNodes(w.asking)
	}
	asking, last := w.asking, w.last
	w.mu.Unlock()
	if last == nil || age >= 3*nodesFor {
		<-asking
		w.mu.Lock()
		last = w.last
		w.mu.Unlock()
	}
	return last
}

func (in *instance) askNodes(done chan struct{}) {
	r := in.node.member.Report(context.Background())
	is := &admin.ClusterStats{Replicas: r.Replicas}
	for _, n := range r.Nodes {
		is.Nodes = append(is.Nodes, admin.NodeStats{
			Name: n.Name, Address: n.Client, Internal: n.Address, State: n.State, Reachable: n.Here, Leads: n.Leads, Behind: n.Behind, Version: n.Version, Here: n.Name == r.Node,
		})
	}
	for _, g := range r.Groups {
		is.Groups = append(is.Groups, admin.Group{Number: g.Group, Leader: g.Leader, Term: g.Term, Members: g.Members, Learners: g.Learners})
	}
	w := &in.nodes
	w.mu.Lock()
	w.last, w.at, w.asking = is, time.Now(), nil
	w.mu.Unlock()
	close(done)
}

// groupStats is what this node knows by itself of the groups; nil where the server is alone.
func (in *instance) groupStats() *admin.GroupStats {
	if !in.node.member.Member() {
		return nil
	}
	names := in.nodeNames()
	is := &admin.GroupStats{Away: map[string]int{}}
	for _, g := range in.node.host.Status() {
		switch {
		case !g.Here:
		case g.Leading:
			is.Leading++
			for _, p := range g.Progress {
				name := names[p.Node]
				if p.Node == in.node.member.ID() || name == "" {
					continue
				}
				away := is.Away[name] // heard of, so that the series is there
				if !p.Active {
					away++
				}
				is.Away[name] = away
			}
		case g.Leader != 0:
			is.Following++
		default:
			is.Leaderless++
		}
	}
	return is
}

func (in *instance) nodeNames() map[uint64]string {
	names := map[uint64]string{}
	for _, n := range in.node.member.Nodes() {
		names[n.ID] = n.Name
	}
	return names
}

// tellLeaders says of each queue which other node leads it.
func (in *instance) tellLeaders(queues []admin.QueueStats) {
	if !in.node.member.Member() {
		return
	}
	names := in.nodeNames()
	for i := range queues {
		node, here := in.broker.LeaderOf(queues[i].Name)
		if here {
			continue
		}
		if queues[i].Leader = names[node]; queues[i].Leader == "" {
			queues[i].Leader = "nobody"
		}
	}
}
