// Package placement says which nodes are to have which groups: so many replicas of each, spread evenly, and as few of them moved as can
// be when nodes come and go; and who is to lead in somebody's place. It owns the arithmetic and nothing else: it does not know what a group is,
// how a replica gets from one node to another, or who keeps a plan.
package placement

import (
	"cmp"
	"slices"
)

// A Plan has for each group the nodes that are to have it, in order. Nobody changes one.
type Plan [][]uint64

// Next is the plan for these nodes, made of the one before: each group is at as many nodes as it is to have replicas, or at all where
// there are fewer; of two nodes neither has more than one replica more than the other; and of what the old plan says only so much is changed as that asks for.
// The same input gives the same plan on every machine. An old plan of another number of groups, or none, counts for the groups that it has.
func Next(old Plan, groups int, nodes []uint64, replicas int) Plan {
	p := &planner{plan: make(Plan, groups), load: map[uint64]int{}, nodes: slices.Compact(slices.Sorted(slices.Values(nodes)))}
	for g := range min(groups, len(old)) {
		for _, node := range old[g] {
			if slices.Contains(p.nodes, node) && !slices.Contains(p.plan[g], node) {
				p.add(g, node)
			}
		}
	}
	each := min(replicas, len(p.nodes))
	for g := range p.plan {
		for len(p.plan[g]) > each {
			p.drop(g, p.most(g))
		}
	}
	for g := range p.plan {
		for len(p.plan[g]) < each {
			p.add(g, p.fewest(g))
		}
	}
	p.even()
	for g := range p.plan {
		slices.Sort(p.plan[g])
	}
	return p.plan
}

// Moves is how many replicas are made to get from one plan to another.
func Moves(from, to Plan) (n int) {
	for g := range to {
		for _, node := range to[g] {
			if g >= len(from) || !slices.Contains(from[g], node) {
				n++
			}
		}
	}
	return n
}

// Equal reports whether two plans are the same.
func Equal(a, b Plan) bool { return slices.EqualFunc(a, b, slices.Equal[[]uint64]) }

type planner struct {
	plan  Plan
	nodes []uint64
	load  map[uint64]int // replicas
}

func (p *planner) add(g int, node uint64) {
	p.plan[g] = append(p.plan[g], node)
	p.load[node]++
}

func (p *planner) drop(g int, node uint64) {
	p.plan[g] = slices.DeleteFunc(p.plan[g], func(n uint64) bool { return n == node })
	p.load[node]--
}

// fewest is the node with the fewest replicas of those that lack a group, most that with the most of those that have it.
func (p *planner) fewest(g int) uint64 {
	lack := slices.DeleteFunc(slices.Clone(p.nodes), func(n uint64) bool { return slices.Contains(p.plan[g], n) })
	return slices.MinFunc(lack, p.order(g))
}

func (p *planner) most(g int) uint64 { return slices.MaxFunc(p.plan[g], p.order(g)) }

// order puts nodes with fewer replicas first, and among equals each group has an order of its own: so that what one node has is spread over
// many others, which make up for it together when it is lost.
func (p *planner) order(g int) func(a, b uint64) int {
	return func(a, b uint64) int {
		return cmp.Or(cmp.Compare(p.load[a], p.load[b]), cmp.Compare(rank(g, a), rank(g, b)), cmp.Compare(a, b))
	}
}

// even moves replicas, from who has most to who has fewest, until nobody has two more than another one. Who has two more has a group
// that the other lacks.
func (p *planner) even() {
	if len(p.nodes) == 0 {
		return
	}
	for {
		byLoad := func(a, b uint64) int { return cmp.Compare(p.load[a], p.load[b]) }
		from, to := slices.MaxFunc(p.nodes, byLoad), slices.MinFunc(p.nodes, byLoad)
		if p.load[from]-p.load[to] < 2 {
			return
		}
		best := -1
		for g := range p.plan {
			if slices.Contains(p.plan[g], from) && !slices.Contains(p.plan[g], to) && (best < 0 || rank(g, to) < rank(best, to)) {
				best = g
			}
		}
		p.drop(best, from)
		p.add(best, to)
	}
}

// rank is a number for a group and a node that says nothing about either: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func rank(g int, node uint64) uint64 {
	z := node + (uint64(g)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Lighter is who is to lead something in a node's place, so that leads are spread: of those who may the one with the fewest leads, where that
// is at least two fewer than the node has. 0: nobody.
func Lighter(leads map[uint64]int, node uint64, may []uint64) uint64 {
	best := Lightest(leads, may)
	if best == 0 || leads[node]-leads[best] < 2 {
		return 0
	}
	return best
}

// Lightest is who leads the fewest of those who may, the first of several; 0 where nobody may.
func Lightest(leads map[uint64]int, may []uint64) (best uint64) {
	for _, id := range may {
		if best == 0 || leads[id] < leads[best] {
			best = id
		}
	}
	return best
}
