package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/vfs"
)

// Config says how large a world is, and how long it lasts.
type Config struct {
	Nodes, Clients int
	Cluster        bool // the nodes are one
	Replicas       int  // at how many of a cluster's nodes each shard is; 0: at all
	For            time.Duration

	// In a world that is to show one fault alone: the operation of a disk that fails (of that kind; "" is any), or
	// with which the disk is full, or may only be read, for a while.
	FailAt   int
	Kind     vfs.OpKind
	FullAt   int
	ReadOnly bool

	Trace io.Writer // gets all of the history; nil: the report has its end
}

// alone: there is one fault, and everything else is as it should be.
func (c *Config) alone() bool { return c.FailAt > 0 || c.FullAt > 0 }

// A Report is what came of a world.
type Report struct {
	Seed    uint64
	Failure string // "" where all promises were kept
	Sum     uint64 // of everything that happened
	Stats   Stats
	Time    time.Duration // simulated
	Steps   uint64
	Tail    func(lines int) string
}

// Run lets a world happen.
func Run(seed uint64, cfg Config) Report {
	w := &World{Seed: seed, cfg: cfg, rng: rand.New(rand.NewPCG(seed, 0x67_6d_71)), log: newHistory(), made: map[[2]string]bool{}, net: network{cut: map[[2]uint64]bool{}}}
	defer w.end()
	w.log.trace = cfg.Trace
	w.check = &Checker{w: w}
	w.check.books = w.books()
	for range cfg.Nodes {
		w.addNode()
	}
	if cfg.Cluster {
		w.quarrel()
		w.wire()
		w.settleIn()
	}
	for _, n := range w.nodes {
		n.fault.eio, n.fault.kind, n.fault.at = cfg.FailAt, string(cfg.Kind), cfg.FullAt
		n.boot()
		if !cfg.alone() {
			w.newPlan(n).begin()
			if n.elsewhere {
				w.after(w.between(time.Second, 5*time.Second), n.wander)
			}
		}
	}
	for range cfg.Clients {
		w.addClient()
	}
	if cfg.Cluster {
		w.spells(cfg.For)
	} else {
		w.run(cfg.For)
	}
	if w.chance(4) && !cfg.alone() && w.failure == "" {
		w.lie()
	}
	w.finale()
	return Report{Seed: seed, Failure: w.failure, Sum: w.log.sum.Sum64(), Stats: w.stats, Time: w.now, Steps: w.steps, Tail: w.log.tail}
}

// lie lets the disks say for a while that they have synced what they have not. What was confirmed may be gone after
// that, and a start be refused; but whatever is served must be what was sent.
func (w *World) lie() {
	w.note("world", "the disks lie")
	for _, n := range w.nodes {
		n.fault.lies = true
	}
	w.check.lenient = true
	w.stats.Lies++
	w.run(w.now + time.Second)
}

// started lets clients come to a process, when it has what they need.
func (k *Checker) started(n *Node) {
	if !k.over {
		k.w.prepare(n)
	}
}

// finale ends all faults and all clients, cuts the power once more, and takes everything that is left out of the queues:
// what was confirmed must be there, unless there is a reason.
func (w *World) finale() {
	w.note("world", "the faults end")
	w.peace, w.check.over = true, true
	clear(w.net.cut)
	for _, c := range w.clients {
		c.off = true
		if c.conn != nil {
			c.conn.close()
		}
	}
	for _, n := range w.nodes {
		n.fault, n.doomed = faults{lied: n.fault.lied, missed: n.fault.missed}, false
		n.disk.SetCapacity(0)
		n.repair()
		if w.plan != nil {
			n.hear(w.plan)
		}
	}
	w.run(w.now + time.Second)
	if w.cfg.Cluster {
		w.finish()
		return
	}
	for _, n := range w.nodes {
		n.die("power cut")
		w.reap()
		n.ahead += time.Duration(n.wall-n.time()) + 20*time.Second
		w.check.over = false
		n.boot()
		if !w.settle(30*time.Second, func() bool { return n.life != nil && n.life.ready || n.refused || w.failure != "" }) {
			w.wrong("P7: it does not come up again when the faults have ended")
		}
		w.check.over = true
		if w.failure != "" || n.refused {
			return
		}
		w.drain(n)
		w.rest(n)
	}
	w.check.verdict()
}

// finish cuts the power of all nodes of a cluster at once, and sees to it that they come to hold the same, all that was confirmed among it.
func (w *World) finish() {
	w.emptyMemory()
	if w.failure != "" || w.refused() {
		return
	}
	w.dark = true
	for _, n := range w.nodes {
		n.die("power cut")
	}
	w.reap()
	w.check.over = false
	for _, n := range w.nodes {
		for _, o := range w.nodes {
			n.wall = max(n.wall, o.wall)
		}
	}
	for _, n := range w.nodes {
		n.ahead += time.Duration(n.wall-n.time()) + 20*time.Second
		n.boot()
	}
	up := func(n *Node) bool { return n.life != nil && n.life.ready }
	if !w.settle(30*time.Second, func() bool {
		return w.failure != "" || w.refused() || !slices.ContainsFunc(w.nodes, func(n *Node) bool { return !up(n) })
	}) {
		w.wrong("P7: the nodes do not come up again when the faults have ended")
	}
	w.check.over = true
	w.run(w.now + 3*time.Second)
	if w.failure != "" || w.refused() {
		return
	}
	w.agree()
	for _, n := range w.nodes {
		w.drain(n)
	}
	w.run(w.now + time.Second)
	for _, n := range w.nodes {
		w.rest(n)
	}
	w.agree()
	w.check.verdict()
}

func (w *World) refused() bool {
	return slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.refused })
}

// drain empties all queues of a node.
func (w *World) drain(n *Node) { w.empty(n, w.specs()) }

func (w *World) empty(n *Node, specs []spec) {
	c := &Client{w: w, name: "drain", off: true}
	k := c.dial(n)
	left := 0
	var take func(queue string, q *queueBook)
	take = func(queue string, q *queueBook) {
		k.ask(&request{op: "receive", queue: queue, done: func(a *reply) {
			if a.Error != nil && (a.Error.Code == "overloaded" || a.Error.Code == "unknown_outcome") { // acks are on their way
				w.after(50*time.Millisecond, func() { take(queue, q) })
				return
			}
			if !a.OK || len(a.Messages) == 0 {
				if left--; a.Error != nil && a.Error.Code != "not_found" && a.Error.Code != "no_quorum" {
					w.wrong("the drain of %s: %s", queue, a.Error.Code)
				}
				return
			}
			w.check.received(k, &request{q: q, queue: queue}, a.Messages, k.moment())
			list := c.held
			c.held = nil
			c.ackAll(k, queue, list, func() { take(queue, q) }) // what has a key waits for the one before
		}}, fmt.Sprintf(`"queue":"%s","max":50,"create":false`, queue))
	}
	for _, s := range specs {
		for _, name := range []string{s.name, s.name + ".dlq"} {
			w.check.books[s.name].paused = false
			k.ask(&request{op: "queue.resume", q: w.check.books[s.name]}, fmt.Sprintf(`"queue":"%s"`, name))
			left++
			w.after(100*time.Millisecond, func() { take(name, w.check.books[s.name]) })
		}
	}
	if !w.settle(60*time.Second, func() bool { return left == 0 || n.refused || w.failure != "" }) {
		w.wrong("P7: %d queues cannot be emptied when the faults have ended", left)
	}
	w.settle(10*time.Second, func() bool { return len(k.asked) == 0 })
	k.close()
	w.run(w.now + 100*time.Millisecond)
}

func (c *Client) ackAll(k *conn, queue string, list []*delivery, then func()) {
	for _, d := range list {
		if d.chain != nil {
			d.chain.asked++
		}
	}
	k.ask(&request{op: "ack", queue: queue, list: list, then: then}, named(list, true))
}

// rest: what has come to rest holds nothing any more.
func (w *World) rest(n *Node) {
	l := n.life
	if l == nil || l.broker == nil || w.failure != "" || n.refused {
		return
	}
	if leased := l.broker.InFlight(); leased != 0 {
		w.wrong("P8: %d messages are leased, and nobody is there", leased)
	}
	if want := 16 + 3; !w.cfg.Cluster && len(n.home.tasks) != want {
		w.wrong("P8: %d tasks are left when all clients have gone, %d are needed", len(n.home.tasks), want)
	}
}

// verdict looks at every message once more.
func (k *Checker) verdict() {
	k.everything(func(*queueBook) bool { return true })
	k.allOrNone()
}

// everything: nothing is lost of what was confirmed, in some queues.
func (k *Checker) everything(of func(*queueBook) bool) {
	for _, m := range k.messages {
		for _, c := range m.chains {
			if of(c.q) && m.status == confirmed && !c.seen && !c.done(nil) && !k.lenient {
				k.w.wrong("P1: queue %s: message %d, which was confirmed, is lost: %.100s", c.q.name, c.seq, m.body)
				return
			}
		}
	}
}

func (k *Checker) allOrNone() {
	for _, g := range k.groups {
		if m := g.chains[0].m; k.w.cfg.Cluster && m.topic != "" && m.status == unknown {
			continue // its queues have several leaders, and some of them may have been lost
		}
		there, away := 0, 0
		for _, c := range g.chains {
			switch {
			case c.seen || c.acked > 0:
				there++
			case !c.done(nil):
				away++
			}
		}
		if there > 0 && away > 0 && !k.lenient {
			k.w.wrong("all or none: of %s (%.60s) %d were stored and %d not", g.what, g.chains[0].m.body, there, away)
			return
		}
	}
}
