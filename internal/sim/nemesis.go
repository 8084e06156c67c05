package sim

import "time"

// plan does something to a node now and then. What it likes to do differs from seed to seed: a fault that is not
// there lets others come together more often.
type plan struct {
	w    *World
	n    *Node
	does [7]int // weights
}

func (w *World) newPlan(n *Node) *plan {
	p := &plan{w: w, n: n, does: [7]int{10, 1, 4, 2, 2, 5, 2}}
	for i := 1; i < len(p.does); i++ {
		if w.chance(4) {
			p.does[i] = 0
		}
	}
	if w.Seed%8 == 7 { // long lives on a slow disk: what piles up has the time to
		p.does = [7]int{1, 1, 0, 1, 20, 1, 0}
	} else if w.chance(2) {
		p.does[1+w.rng.IntN(len(p.does)-1)] += 10
	}
	return p
}

func (p *plan) begin() { p.w.after(p.w.between(500*time.Millisecond, 2*time.Second), p.strike) }

func (p *plan) strike() {
	w, n := p.w, p.n
	if w.peace {
		return
	}
	if w.after(w.between(100*time.Millisecond, 1700*time.Millisecond), p.strike); w.still() {
		return
	}
	sum := 0
	for _, d := range p.does {
		sum += d
	}
	x, what := w.rng.IntN(sum), 0
	for ; x >= p.does[what]; what++ {
		x -= p.does[what]
	}
	if w.gentle() && (what < 3 || what == 6) && !w.spares(n) {
		return
	}
	switch what {
	case 0:
		p.crash()
	case 1:
		n.stop()
	case 2:
		n.fault.eio = 1 + w.rng.IntN(40)
		n.fault.kind = []string{"", "sync", "sync", "write", "syncdir", "rename", "open", "read"}[w.rng.IntN(8)]
	case 3:
		if !n.fault.full {
			w.stats.Squeezes++
			n.squeeze()
			w.after(w.between(200*time.Millisecond, 3*time.Second), n.relieve)
		}
	case 4:
		n.fault.slow = true
		w.after(w.between(200*time.Millisecond, 3*time.Second), func() { n.fault.slow = false })
	case 5:
		if w.cfg.Cluster { // who leads has the time, and nobody here knows who that is
			return
		}
		d := w.between(-3*time.Second, 6*time.Second)
		if w.chance(6) {
			d = w.between(-time.Minute, time.Minute)
		}
		n.jump(d)
		if c := w.clients[w.rng.IntN(len(w.clients))]; c.conn != nil && !c.conn.closed { // before anything else stirs
			c.receive(w.check.books["mortal"])
		}
	case 6:
		n.rot()
	}
}

// crash ends the process: at once, or after some more operations of its disk.
func (p *plan) crash() {
	w, n := p.w, p.n
	switch w.rng.IntN(5) {
	case 0:
		n.die("kill")
	case 1:
		n.die("power cut")
	case 2, 3:
		n.fault.cut, n.fault.torn = 1+w.rng.IntN(20), true
	default:
		n.fault.cut = 1 + w.rng.IntN(300)
	}
}
