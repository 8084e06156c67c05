package sim

import (
	"cmp"
	"slices"
	"time"
)

// What sessions want of shards that other nodes lead goes over lines between the brokers: each message whole and in order until the line
// breaks, as over TCP. A line that a partition meets may break at once, or say nothing until it has healed.

// A cable is a line from one process to another, and what it carries both ways.
type cable struct {
	w        *World
	from, to *life
	there    half // what its maker says
	back     half
	broken   bool
}

// half is one direction.
type half struct {
	cable   *cable
	receive func(message []byte)
	end     func()
	latest  time.Duration // when the message before arrives
	held    []held        // while the nodes are parted
}

// A held message is one and when it was sent.
type held struct {
	bytes []byte
	sent  time.Duration
}

// An arrival is the step in which a message came to a process, and when it had been sent.
type arrival struct {
	step uint64
	sent time.Duration
}

// lag is how long a leader may have had something before it was sent to the node of the client.
const lag = 5 * time.Millisecond

// atLeader is the moment when what has come for a client since the step before, and left since lo, may have been said by a leader, wherever
// that is.
func (l *life) atLeader(lo moment, before uint64) moment {
	sent := lo.at
	for len(l.arrivals) > 20_000 {
		l.arrivals = l.arrivals[10_000:]
	}
	for i := len(l.arrivals) - 1; i >= 0 && l.arrivals[i].step >= before; i-- {
		sent = min(sent, l.arrivals[i].sent-lag)
	}
	if sent < lo.at {
		lo.at, lo.step = sent, min(lo.step, l.n.w.stepAt(sent))
	}
	return lo
}

// stepAt is a step that was over by then.
func (w *World) stepAt(at time.Duration) uint64 {
	i, _ := slices.BinarySearchFunc(w.marks, at, func(m timeMark, at time.Duration) int { return cmp.Compare(m.at, at) })
	if i == 0 {
		return 0
	}
	return w.marks[i-1].step
}

// A timeMark says which step it was at a time.
type timeMark struct {
	at   time.Duration
	step uint64
}

// Send implements broker.Line.
func (h *half) Send(head, body []byte) {
	c := h.cable
	if c.broken {
		return
	}
	message := held{append(append([]byte(nil), head...), body...), c.w.now}
	if c.parted() || len(h.held) > 0 {
		h.held = append(h.held, message)
		return
	}
	h.carry(message)
}

func (h *half) carry(m held) {
	c := h.cable
	delay := c.w.between(20*time.Microsecond, time.Millisecond)
	if !c.w.peace && c.w.chance(200) {
		delay = c.w.between(time.Millisecond, 200*time.Millisecond)
	}
	h.latest = max(h.latest, c.w.now+delay)
	l := c.from
	if h == &c.there {
		l = c.to
	}
	c.w.afterAt(l.n, h.latest-c.w.now, func() {
		if c.broken {
			return
		}
		l.arrivals = append(l.arrivals, arrival{c.w.steps, m.sent})
		h.receive(m.bytes)
	})
}

// parted reports whether the nodes cannot talk: what is not acknowledged goes nowhere, so one way is enough.
func (c *cable) parted() bool {
	a, b := c.from.n.id, c.to.n.id
	return c.w.net.cut[[2]uint64{a, b}] || c.w.net.cut[[2]uint64{b, a}]
}

// cut ends a cable; each end that is still there is told.
func (c *cable) cut() {
	if c.broken {
		return
	}
	c.broken = true
	c.from.broke = c.w.steps // what its clients had from the other node may be given to others
	c.w.net.cables = slices.DeleteFunc(c.w.net.cables, func(o *cable) bool { return o == c })
	if alive(c.from) {
		c.back.end()
	}
	if alive(c.to) {
		c.there.end()
	}
}

func alive(l *life) bool { return l.n.life == l && l.n.dying == nil }

// wire makes the lines that are missing, breaks those to whom nobody is left, and lets go on what a partition has held.
func (w *World) wire() {
	w.after(w.between(10*time.Millisecond, 60*time.Millisecond), func() {
		for _, c := range slices.Clone(w.net.cables) {
			switch {
			case !alive(c.from) || !alive(c.to):
				c.cut()
			case !c.parted():
				for _, h := range []*half{&c.there, &c.back} {
					for _, m := range h.held {
						h.carry(m)
					}
					h.held = nil
				}
			case !w.peace && w.chance(20): // nobody has answered for too long
				c.cut()
			}
		}
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if a != b {
					w.connect(a.life, b.life)
				}
			}
		}
		w.wire()
	})
}

func (w *World) connect(from, to *life) {
	if from == nil || to == nil || from.broker == nil || to.broker == nil || !alive(from) || !alive(to) || from.leaving || to.leaving {
		return
	}
	c := &cable{w: w, from: from, to: to}
	if c.parted() || slices.ContainsFunc(w.net.cables, func(o *cable) bool { return o.from == from && o.to == to }) {
		return
	}
	c.there.cable, c.back.cable = c, c
	w.net.cables = append(w.net.cables, c)
	guest := to.broker.Accept(from.n.id, &c.back)
	c.there.receive, c.there.end = guest.Receive, guest.Close
	caller := from.broker.LineUp(to.n.id, &c.there)
	c.back.receive, c.back.end = caller.Receive, caller.Close
}

// Nodes implements broker.Peers: all others.
func (l *life) Nodes() (ids []uint64) {
	for _, o := range l.n.w.nodes {
		if o != l.n {
			ids = append(ids, o.id)
		}
	}
	return ids
}
