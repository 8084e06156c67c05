package member

import (
	"fmt"
	"slices"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/placement"
)

// Where there are more nodes than replicas each group is at some of them. Which ones is a document, so that all nodes go by the same plan, and the next one
// is made of the last. Whoever leads the group of documents makes it when nodes come and go. That group is everywhere: those that do not vote in it
// follow, so each node has the documents.

// mostNodes is how many nodes a cluster may have.
const mostNodes = 100

// documents is the number of the group that has the documents.
const documents = 0

// A placementDocument says at which nodes groups are, by their places in the list of nodes.
type placementDocument struct {
	Version int      `json:"version"`
	Nodes   []string `json:"nodes"` // for whom it was made
	Groups  [][]int  `json:"groups"`
}

// A placing is one, read.
type placing struct {
	nodes []uint64
	plan  placement.Plan
}

func (p *placing) document() []byte {
	d := placementDocument{Version: documentVersion}
	for _, id := range p.nodes {
		d.Nodes = append(d.Nodes, IDText(id))
	}
	for _, at := range p.plan {
		places := make([]int, len(at))
		for i, id := range at {
			places[i] = slices.Index(p.nodes, id)
		}
		d.Groups = append(d.Groups, places)
	}
	return encode(d)
}

func parsePlacing(data []byte) (p placing, err error) {
	var d placementDocument
	if err := decode(data, &d, &d.Version); err != nil {
		return p, err
	}
	for _, text := range d.Nodes {
		id, err := parseID(text)
		if err != nil {
			return p, err
		}
		p.nodes = append(p.nodes, id)
	}
	for _, places := range d.Groups {
		at := make([]uint64, len(places))
		for i, place := range places {
			if place < 0 || place >= len(p.nodes) {
				return p, fmt.Errorf("a group is at node %d of %d", place, len(p.nodes))
			}
			at[i] = p.nodes[place]
		}
		p.plan = append(p.plan, at)
	}
	return p, nil
}

// staying are the nodes that are not being taken out, in order. It is called with mu held.
func (m *Manager) staying() (ids []uint64) {
	for id, n := range m.nodes {
		if !n.Leaving {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// arrange makes another plan where nodes have come or gone, or are to have other numbers of replicas. It is called with changing held, where the
// documents are kept.
func (m *Manager) arrange() {
	m.mu.Lock()
	ids, replicas, old := m.staying(), m.replicas, m.placed
	m.mu.Unlock()
	if len(ids) == 0 || replicas == 0 {
		return
	}
	next := placing{ids, placement.Next(old.plan, m.opt.Groups, ids, replicas)}
	if slices.Equal(old.nodes, ids) && placement.Equal(old.plan, next.plan) {
		return
	}
	if err := m.opt.Put(placementName, next.document()); err != nil {
		m.opt.Logf("where the groups shall be is not kept: %v", err)
		return
	}
	if n := placement.Moves(old.plan, next.plan); len(ids) > replicas && n > 0 {
		m.opt.Logf("%d replicas are made elsewhere, so that each of %d groups has %d, spread over %d nodes", n, m.opt.Groups, replicas, len(ids))
	}
}

// place says in a wish where the groups shall be; false where that is not known yet, and nothing must be changed. As long as there are no more nodes than replicas
// all of them have all groups, whatever the plan is. It is called with mu held.
func (m *Manager) place(w *cluster.Wish) bool {
	switch {
	case len(w.Members) <= max(m.replicas, 1), m.tables != "": // whoever has the tables has to lead all groups
		return true
	case len(m.placed.plan) != m.opt.Groups:
		return false
	}
	w.Groups, w.Everywhere = m.placed.plan, []int{documents}
	return true
}

// sameWish reports whether nothing has changed.
func sameWish(a, b *cluster.Wish) bool {
	return slices.Equal(a.Members, b.Members) && slices.Equal(a.Avoid, b.Avoid) && placement.Equal(a.Groups, b.Groups) && slices.Equal(a.Everywhere, b.Everywhere)
}

// whole reports whether a node is what it shall be in all groups.
func (m *Manager) whole(id uint64, groups []cluster.GroupStatus) bool {
	m.mu.Lock()
	w, placed := m.wish, m.placed
	m.mu.Unlock()
	if w.Groups != nil && !slices.Contains(placed.nodes, id) {
		return false // it is to be given something yet
	}
	for _, g := range groups {
		votes := slices.Contains(g.Voters, id)
		if w.Groups == nil || slices.Contains(w.Groups[g.Group], id) {
			if !votes {
				return false
			}
		} else if g.Group == documents && !slices.Contains(g.Members(), id) {
			return false
		}
	}
	return true
}

// Copies is at how many nodes each group is to be.
func (m *Manager) Copies() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return min(m.replicas, len(m.staying()))
}

// agree finds out how many replicas groups shall have, as a node says what its configuration asks for: it may say nothing. More than there
// are counts at once. Fewer count when every node says so. It is called with changing held.
func (m *Manager) agree(node uint64, says int) error {
	m.mu.Lock()
	want, all := says, true
	for _, id := range m.staying() {
		n := m.nodes[id].replicas
		if id == node {
			n = says
		}
		want, all = max(want, n), all && n != 0
	}
	now := m.replicas
	m.mu.Unlock()
	if !goodReplicas(want) || want == now || want < now && !all {
		return nil
	}
	m.opt.Logf("each group has %d replicas from now on, before %d", want, now)
	return m.opt.Put(settingsName, encode(settingsDocument{documentVersion, want, m.opt.Groups}))
}
