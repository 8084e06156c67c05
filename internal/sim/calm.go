package sim

import (
	"slices"
	"time"
)

// A world of a cluster lasts a minute, of which its clients are busy for a quarter. Between that it is calm for some seconds at a time: leases, times to live and
// delays run out, groups have nothing to decide, and who has missed something can catch up to the end. Troubles go on meanwhile, but for one calm in three,
// after which all nodes must be there and hold the same without having been started anew.

// A spell is what some seconds of a world are like.
type spell int

const (
	busy   spell = iota
	slack        // the clients ask for something now and then
	silent       // they ask for nothing, and some of them have gone
	still        // neither do they, nor does anything fail
)

// spells lets things happen until the given time, first and last under load.
func (w *World) spells(until time.Duration) {
	for {
		w.begin(busy)
		if w.run(min(until, w.now+w.between(time.Second, 5*time.Second))); w.now >= until || w.failure != "" {
			return
		}
		w.begin(spell(1 + w.rng.IntN(3)))
		w.run(min(until-w.between(time.Second, 3*time.Second), w.now+w.between(4*time.Second, 12*time.Second)))
		if w.spell == still && w.failure == "" {
			w.catchUp()
		}
	}
}

func (w *World) begin(s spell) {
	w.spell = s
	w.note("world", "from now on it is %s", [...]string{"busy", "slack", "silent", "still"}[s])
	if s == silent || s == still {
		for _, c := range w.clients {
			if c.conn != nil && w.chance(2) {
				c.conn.close()
			}
		}
	}
	if s == still {
		w.stats.Stills++
		w.calmDown()
	}
}

// calmDown ends what troubles there are.
func (w *World) calmDown() {
	clear(w.net.cut)
	for _, n := range w.nodes {
		n.fault, n.doomed = faults{lied: n.fault.lied, struck: n.fault.struck, missed: n.fault.missed}, false
		n.disk.SetCapacity(0)
		n.repair()
		if w.plan != nil {
			n.hear(w.plan)
		}
	}
}

// still reports whether nothing is to fail now.
func (w *World) still() bool { return w.peace || w.spell == still }

// catchUp: after a calm without troubles all nodes are there and hold the same.
func (w *World) catchUp() {
	ready := func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.life == nil || !n.life.ready || n.dying != nil || n.life.failed != 0 })
	}
	if !w.settle(20*time.Second, func() bool { return w.failure != "" || w.refused() || ready() }) {
		w.wrong("P7: the nodes are not all there, though nothing has failed for some time")
	}
	if w.failure == "" && !w.refused() {
		w.agree()
	}
}

// pause is how long a client waits until it does something again.
func (w *World) pause() time.Duration {
	switch {
	case w.spell == slack:
		return w.between(100*time.Millisecond, 3*time.Second)
	case w.spell != busy:
		return w.between(100*time.Millisecond, 500*time.Millisecond) // until it looks whether it is still so
	case w.chance(200):
		return w.between(time.Second, 3*time.Second)
	}
	return w.between(time.Millisecond, 60*time.Millisecond)
}
