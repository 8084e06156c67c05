package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func nodes(from, to int) (ids []uint64) {
	for n := from; n <= to; n++ {
		ids = append(ids, rank(7, uint64(n))>>1) // as real ones: 63 random bits
	}
	return ids
}

// loads is how many replicas each node has, and checks that a plan is one.
func loads(t *testing.T, p Plan, ids []uint64, replicas int) (least, most int) {
	t.Helper()
	load := map[uint64]int{}
	for g, at := range p {
		if len(at) != min(replicas, len(ids)) || !slices.IsSorted(at) || len(slices.Compact(slices.Clone(at))) != len(at) {
			t.Fatalf("group %d is at %x; want %d of %d nodes", g, at, replicas, len(ids))
		}
		for _, id := range at {
			if !slices.Contains(ids, id) {
				t.Fatalf("group %d is at %x, which is no node", g, id)
			}
			load[id]++
		}
	}
	least = len(p)
	for _, id := range ids {
		least, most = min(least, load[id]), max(most, load[id])
	}
	return least, most
}

// TestNext: whatever comes and goes, plans are even, whole, and change by as little as can be.
func TestNext(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	moved, asked := 0, 0
	for range 300 {
		groups, replicas := 1+rng.IntN(40), 1+2*rng.IntN(3)
		ids := nodes(1, 1+rng.IntN(12))
		p := Next(nil, groups, ids, replicas)
		for range 12 {
			was, old := replicas, p
			switch n := rng.IntN(4); {
			case n == 0 && len(ids) > 1:
				at := rng.IntN(len(ids))
				ids = slices.Delete(slices.Clone(ids), at, at+1)
			case n < 3:
				ids = append(slices.Clone(ids), nodes(1000+rng.IntN(1000), 3000)[0]+uint64(rng.IntN(1<<20)))
			default:
				replicas = 1 + 2*rng.IntN(3)
			}
			p = Next(old, groups, ids, replicas)
			least, most := loads(t, p, ids, replicas)
			if most-least > 1 {
				t.Fatalf("%d groups, %d replicas, %d nodes: one has %d, another %d", groups, replicas, len(ids), least, most)
			}
			// Who lacks something may have the groups already that lack somebody, so it is one or two more now and then.
			got, want := Moves(old, p), needed(old, ids, groups, replicas)
			if moved, asked = moved+got, asked+want; got > want+2 && was == replicas {
				t.Fatalf("%d groups, %d replicas, %d nodes: %d moves, want %d", groups, replicas, len(ids), got, want)
			}
			if again := Next(p, groups, ids, replicas); !Equal(again, p) {
				t.Fatalf("a plan does not stay as it is: %x, then %x", p, again)
			}
			slices.Reverse(ids)
			if other := Next(old, groups, ids, replicas); !Equal(other, p) {
				t.Fatal("the order of the nodes makes another plan")
			}
		}
	}
	if t.Logf("%d moves, at least %d were needed", moved, asked); moved > asked+asked/50 {
		t.Errorf("%d moves, where %d may have been enough", moved, asked)
	}
}

// needed is how many replicas have to be made at least: those that groups lack, or those that nodes do, if that is more.
func needed(old Plan, ids []uint64, groups, replicas int) int {
	load, short, under := map[uint64]int{}, 0, 0
	for g := range groups {
		there := 0
		for _, id := range old[g] {
			if slices.Contains(ids, id) {
				load[id]++
				there++
			}
		}
		short += max(0, min(replicas, len(ids))-there)
	}
	total := groups * min(replicas, len(ids))
	all := make([]int, 0, len(ids))
	for _, id := range ids {
		all = append(all, load[id])
	}
	slices.Sort(all)
	slices.Reverse(all)
	for i, have := range all {
		may := total / len(ids)
		if i < total%len(ids) { // these may have one more than the others
			may++
		}
		under += max(0, may-have)
	}
	return max(short, under)
}

// TestHundredNodes is placement on paper: 100 nodes, 100,000 queues in 1,600 groups, three replicas; nodes come, go and are replaced. The numbers are those
// of docs/cluster.md.
func TestHundredNodes(t *testing.T) {
	const groups, replicas, queues = 1600, 3, 100_000
	ids := nodes(1, 100)
	p := Next(nil, groups, ids, replicas)
	tell := func(what string, old Plan) {
		t.Helper()
		least, most := loads(t, p, ids, replicas)
		if most-least > 1 {
			t.Errorf("%s: one node has %d replicas, another %d", what, least, most)
		}
		lead, turns := balance(p, ids)
		if lead[1]-lead[0] > 2 {
			t.Errorf("%s: one node leads %d groups, another %d", what, lead[0], lead[1])
		}
		t.Log(fmt.Sprintf("%-28s %3d nodes, %d to %d replicas a node, %d to %d leads after %d transfers, %4d replicas moved; a lost node's groups are at %d to %d others",
			what, len(ids), least, most, lead[0], lead[1], turns, Moves(old, p), partners(p, ids, false), partners(p, ids, true)))
	}
	tell("new", p)
	steps := []struct {
		what string
		ids  []uint64
		most int // moves
	}{
		{"one joins", nodes(1, 101), 48},
		{"one leaves", nodes(2, 101), 49},
		{"another takes its place", nodes(2, 102), 49},
		{"ten join", nodes(2, 112), 10 * 44},
		{"thirty leave", nodes(32, 112), 30*44 + 30},
	}
	for _, s := range steps {
		old := p
		ids = s.ids
		p = Next(old, groups, ids, replicas)
		tell(s.what, old)
		if n := Moves(old, p); n > s.most {
			t.Errorf("%s: %d replicas moved, want no more than %d", s.what, n, s.most)
		}
	}
	// Queues belong to groups by a hash of their names, so they are spread as balls over bins.
	perGroup := make([]int, groups)
	for q := range queues {
		perGroup[rank(q, 99)%groups]++
	}
	load := map[uint64]int{}
	for g, at := range p {
		for _, id := range at {
			load[id] += perGroup[g]
		}
	}
	least, most := queues, 0
	for _, id := range ids {
		least, most = min(least, load[id]), max(most, load[id])
	}
	t.Logf("queues: %d to %d a group, %d to %d a node", slices.Min(perGroup), slices.Max(perGroup), least, most)
}

// balance lets nodes give leads away until nobody wants to, each by what hosts go by, and returns the fewest and the most that a node has.
func balance(p Plan, ids []uint64) (lead [2]int, turns int) {
	leader, leads := make([]uint64, len(p)), map[uint64]int{}
	for g, at := range p { // as elections leave it
		leader[g] = at[rank(g, 5)%uint64(len(at))]
		leads[leader[g]]++
	}
	for again := true; again; {
		again = false
		for g, at := range p {
			may := slices.DeleteFunc(slices.Clone(at), func(id uint64) bool { return id == leader[g] })
			if to := Lighter(leads, leader[g], may); to != 0 {
				leads[leader[g]]--
				leads[to]++
				leader[g] = to
				turns++
				again = true
			}
		}
	}
	lead[0] = len(p)
	for _, id := range ids {
		lead[0], lead[1] = min(lead[0], leads[id]), max(lead[1], leads[id])
	}
	return lead, turns
}

// partners is how many other nodes have a group in common with one, the fewest or the most.
func partners(p Plan, ids []uint64, most bool) (n int) {
	with := map[uint64]map[uint64]bool{}
	for _, id := range ids {
		with[id] = map[uint64]bool{}
	}
	for _, at := range p {
		for _, a := range at {
			for _, b := range at {
				if a != b {
					with[a][b] = true
				}
			}
		}
	}
	n = -1
	for _, id := range ids {
		if k := len(with[id]); n < 0 || most == (k > n) && k != n {
			n = k
		}
	}
	return n
}

func BenchmarkNext(b *testing.B) {
	p := Next(nil, 1600, nodes(1, 100), 3)
	for b.Loop() {
		Next(p, 1600, nodes(2, 101), 3)
	}
}
