package page

import (
	"net/http"
	"slices"

	"github.com/gmq/gmq/wire"
)

type nodeView struct {
	Name      string `json:"node"`
	Address   string `json:"address"`  // for clients
	Internal  string `json:"internal"` // for other nodes
	State     string `json:"state"`    // joining, member or leaving
	Reachable bool   `json:"reachable"`
	Leads     int    `json:"leads"`
	Behind    uint64 `json:"behind"`
	Version   string `json:"version,omitempty"`
	Here      bool   `json:"here"`
}

type groupView struct {
	Group    int      `json:"group"`
	Leader   string   `json:"leader,omitempty"`
	Term     uint64   `json:"term"`
	Members  []string `json:"members"`
	Learners []string `json:"learners,omitempty"`
}

type clusterView struct {
	moment
	Node       string      `json:"node"`
	Alone      bool        `json:"alone"`       // there is no cluster
	Replicas   int         `json:"replicas"`    // at how many nodes each queue is to be
	Spare      int         `json:"spare_nodes"` // how many more may be lost, whichever they are; below 0 a majority cannot be reached
	Total      int         `json:"groups_total"`
	Lost       int         `json:"groups_lost"`           // a majority of their nodes cannot be reached
	Leaderless int         `json:"groups_without_leader"` // just now
	Nodes      []nodeView  `json:"nodes"`
	Groups     []groupView `json:"groups"`
}

// cluster shows the nodes, and who leads what. It is for those who may see the numbers of the whole server.
func (p *Page) cluster(w http.ResponseWriter, r *http.Request, v Visitor) {
	p.show(w, r, v, func(l *look) (any, *wire.Error) {
		if !seesServer(v) {
			return nil, wire.Errorf(wire.CodeForbidden, "the cluster needs the right peek or admin on everything")
		}
		return clusterOf(l), nil
	})
}

func clusterOf(l *look) *clusterView {
	is := &clusterView{moment: l.moment(), Node: l.stats.Node, Nodes: []nodeView{}, Groups: []groupView{}}
	c := l.stats.Cluster
	if c == nil {
		is.Alone, is.Replicas = true, 1
		return is
	}
	is.Replicas, is.Spare = c.Replicas, len(c.Nodes)
	var there []string
	for _, n := range c.Nodes {
		is.Nodes = append(is.Nodes, nodeView(n))
		if n.Reachable {
			there = append(there, n.Name)
		}
	}
	for _, g := range c.Groups {
		is.Groups = append(is.Groups, groupView{g.Number, g.Leader, g.Term, g.Members, g.Learners})
		if g.Leader == "" {
			is.Leaderless++
		}
		reached := 0
		for _, m := range g.Members {
			if slices.Contains(there, m) {
				reached++
			}
		}
		spare := reached - len(g.Members)/2 - 1
		is.Spare = min(is.Spare, spare)
		if spare < 0 {
			is.Lost++
		}
	}
	is.Total = len(is.Groups)
	return is
}
