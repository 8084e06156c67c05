package member

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/wire"
)

// Do carries out one of the requests about the cluster, and appends what its reply holds. It returns when that is kept, on whichever
// node keeps it; what follows from it, a node being taken out say, goes on afterwards.
func (m *Manager) Do(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout+leaderWait)
	defer cancel()
	switch r.Op {
	case wire.OpClusterStatus:
		return m.appendStatus(ctx, dst), nil
	case wire.OpClusterToken:
		q := &message{Op: askToken}
		if r.Set&wire.FieldTTL != 0 {
			q.Life = time.Duration(r.TTL).String()
		}
		a := m.atLeader(ctx, q)
		if a.Code != "" || a.Token == nil {
			return dst, a.err()
		}
		dst = wire.AppendString(append(dst, `,"token":`...), a.Token.Token)
		return wire.AppendString(append(dst, `,"expires":`...), a.Token.Expires.Format(time.RFC3339)), nil
	case wire.OpClusterRemove, wire.OpClusterTransfer:
		q := &message{Op: askRemove, Name: string(r.Name)}
		if r.Op == wire.OpClusterTransfer {
			q.Op = askIdle
		}
		if q.Name == "" {
			q.Name = IDText(m.id)
		}
		if !m.Member() {
			return dst, wire.Errorf(wire.CodeBadRequest, "this node is alone; gmq cluster token makes a cluster of it")
		}
		a := m.atLeader(ctx, q)
		if a.Code != "" {
			return dst, a.err()
		}
		return wire.AppendString(append(dst, `,"name":`...), a.Name), nil
	}
	return dst, wire.Errorf(wire.CodeUnknownOp, "unknown op %q", r.Op.String())
}

// A NodeStatus is a node in the reply to cluster.status.
type NodeStatus struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
	Client  string `json:"client,omitempty"`
	State   string `json:"state"` // alone, joining, member, leaving
	Here    bool   `json:"reachable"`
	Leads   int    `json:"leads"`
	Behind  uint64 `json:"behind"`
	Version string `json:"version,omitempty"`
}

// A GroupReport is a group in it.
type GroupReport struct {
	Group    int      `json:"group"`
	Leader   string   `json:"leader,omitempty"`
	Term     uint64   `json:"term"`
	Members  []string `json:"members"`
	Learners []string `json:"learners,omitempty"`
}

// A Report is what it says.
type Report struct {
	Node     string        `json:"node"`
	Replicas int           `json:"replicas"`
	Tables   string        `json:"mysql,omitempty"` // the node that has the queues in MySQL
	Nodes    []NodeStatus  `json:"nodes"`
	Groups   []GroupReport `json:"groups"`
}

func (m *Manager) appendStatus(ctx context.Context, dst []byte) []byte {
	body, err := json.Marshal(m.Report(ctx))
	if err != nil {
		panic(err) // texts and numbers, which can be written
	}
	return append(append(dst, ','), body[1:len(body)-1]...)
}

// Report asks all nodes how they are, and puts together what they say.
func (m *Manager) Report(ctx context.Context) *Report {
	out := &Report{Node: m.Name(), Nodes: []NodeStatus{}, Groups: []GroupReport{}}
	if !m.Member() {
		out.Replicas = 1
		out.Nodes = append(out.Nodes, NodeStatus{Name: m.Name(), ID: IDText(m.id), Client: m.clients(), State: "alone", Here: true, Version: m.opt.Version})
		return out
	}
	there := m.statuses(ctx)
	m.mu.Lock()
	out.Replicas = m.replicas
	m.mu.Unlock()
	nodes := m.Nodes()
	name := func(id uint64) string {
		for _, n := range nodes {
			if n.ID == id {
				return n.Name
			}
		}
		return IDText(id)
	}
	groups := leaders(there)
	for _, n := range nodes {
		s := NodeStatus{Name: n.Name, ID: IDText(n.ID), Address: n.Address, Client: n.Client, State: m.stateOf(n, groups)}
		if a := there[n.ID]; a != nil {
			s.Here, s.Version = true, a.Text
			if a.Holds {
				out.Tables = n.Name
			}
		}
		for _, g := range groups {
			if g.Leading && g.Leader == n.ID {
				s.Leads++
			}
			for _, p := range g.Progress {
				if p.Node == n.ID && g.Last > p.Match {
					s.Behind += g.Last - p.Match
				}
			}
		}
		out.Nodes = append(out.Nodes, s)
	}
	for _, g := range groups {
		r := GroupReport{Group: g.Group, Term: g.Term, Members: []string{}}
		if g.Leading {
			r.Leader = name(g.Leader)
		}
		for _, id := range slices.Concat(g.Voters, g.Outgoing) {
			if !slices.Contains(r.Members, name(id)) {
				r.Members = append(r.Members, name(id))
			}
		}
		for _, id := range g.Learners {
			r.Learners = append(r.Learners, name(id))
		}
		slices.Sort(r.Members)
		slices.Sort(r.Learners)
		out.Groups = append(out.Groups, r)
	}
	return out
}

// leaders are the groups as those see them that lead them, or, where nobody does, who has the latest term.
func leaders(there map[uint64]*answer) (all []cluster.GroupStatus) {
	best := map[int]cluster.GroupStatus{}
	for _, a := range there {
		for _, g := range a.Groups {
			old, known := best[g.Group]
			if newer := g.Term > old.Term || g.Term == old.Term && g.Leading; len(g.Voters) == 0 || known && !newer {
				continue
			}
			best[g.Group] = g
		}
	}
	for _, g := range best {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b cluster.GroupStatus) int { return a.Group - b.Group })
	return all
}

// stateOf is what a node is to the groups.
func (m *Manager) stateOf(n Node, groups []cluster.GroupStatus) string {
	switch {
	case n.Leaving:
		return "leaving"
	case !m.whole(n.ID, groups):
		return "joining"
	}
	return "member"
}
