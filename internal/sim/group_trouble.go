package sim

import (
	"sync"
	"time"

	"github.com/gmq/gmq/internal/journal/filejournal"
)

// Go, Await and Cond make a life the scheduler of its process.
func (l *memberLife) Go(f func()) { l.tasks = append(l.tasks, l.m.c.w.start(l.m.name, f)) }

// Await implements filejournal.Scheduler.
func (l *memberLife) Await(c <-chan struct{}, d time.Duration) { l.m.c.w.await(c, d) }

// Cond implements filejournal.Scheduler.
func (l *memberLife) Cond(mu *sync.Mutex) filejournal.Cond { return &cond{w: l.m.c.w, mu: mu} }

// trouble does something bad now and then.
func (c *groups) trouble() {
	w := c.w
	w.after(w.between(100*time.Millisecond, 1500*time.Millisecond), func() {
		if c.peace {
			return
		}
		c.harm()
		c.trouble()
	})
}

func (c *groups) harm() {
	w := c.w
	m := c.members[w.rng.IntN(len(c.members))]
	if c.cfg.Replicas > 0 && w.chance(4) {
		c.relocate()
		return
	}
	if c.wish != nil && w.chance(5) {
		c.resettle()
		return
	}
	switch n := w.rng.IntN(36); {
	case n >= 34:
		m.decay()
	case n >= 32:
		c.bequeath(w.rng.IntN(c.cfg.Groups))
	case n >= 29:
		c.duel(w.rng.IntN(c.cfg.Groups))
	case n >= 26:
		c.relapse(w.rng.IntN(c.cfg.Groups))
	case n >= 23:
		c.contest(w.rng.IntN(c.cfg.Groups))
	case n >= 20:
		c.amnesia(w.rng.IntN(c.cfg.Groups))
	case n < 6: // in the middle of whatever it writes
		m.doom = 1 + w.rng.IntN(60)
	case n < 8:
		m.die(true)
	case n < 10:
		m.die(false)
	case n == 10: // all at once
		c.stats.Outages++
		for _, m := range c.members {
			m.die(w.chance(2))
		}
	case n < 14:
		c.part()
	case n < 16:
		c.heal()
	case n == 16:
		m.slow = !m.slow
	case n == 17:
		c.stats.Stalls++
		m.stall = w.now + w.between(100*time.Millisecond, 2*time.Second)
		w.note(m.name, "the disk hangs until %s", m.stall)
	default:
		if l := m.life; l != nil && l.host != nil {
			c.stats.Transfered++
			l.host.Transfer(w.rng.IntN(c.cfg.Groups), c.members[w.rng.IntN(len(c.members))].id)
		}
	}
}

// leads is the member that leads a group, or nil.
func (c *groups) leads(group int) *member {
	for _, m := range c.members {
		if l := m.life; l != nil && len(l.owners) > group && l.owners[group].j.Role().Leading {
			return m
		}
	}
	return nil
}

// contest has a leader die, and others want its place at the same time; whoever votes may lose power, and be back before
// the next asks for a vote.
func (c *groups) contest(group int) {
	old := c.leads(group)
	if old == nil {
		return
	}
	c.stats.Contests++
	old.die(true)
	clear(c.cut)
	at := c.w.between(110*time.Millisecond, 250*time.Millisecond)
	for _, m := range c.members {
		if m == old {
			continue
		}
		m.nervous = true
		c.w.after(at+c.w.between(0, 3*time.Millisecond), func() {
			if m.life != nil && m.life.host != nil {
				m.life.host.Campaign(group)
			}
		})
	}
	c.w.after(time.Second, func() {
		for _, m := range c.members {
			m.nervous = false
		}
	})
}

// duel has a leader die, and two who do not hear each other want its place, one after the other; whoever votes may lose power, and be back before
// the second asks for a vote.
func (c *groups) duel(group int) {
	old := c.leads(group)
	if old == nil || len(c.members) < 3 {
		return
	}
	w := c.w
	c.stats.Duels++
	old.die(true)
	clear(c.cut)
	a, b := c.members[w.rng.IntN(len(c.members))], c.members[w.rng.IntN(len(c.members))]
	c.cut[[2]uint64{a.id, b.id}], c.cut[[2]uint64{b.id, a.id}] = true, true
	c.second = b.id
	first := w.between(110*time.Millisecond, 250*time.Millisecond)
	for _, m := range c.members {
		m.nervous = m != a && m != b
	}
	want := func(m *member) {
		if m.life != nil && m.life.host != nil {
			m.life.host.Campaign(group)
		}
	}
	w.after(first, func() { want(a) })
	w.after(first+w.between(5*time.Millisecond, 80*time.Millisecond), func() { want(b) })
	w.after(time.Second, func() {
		for _, m := range c.members {
			m.nervous = false
		}
		c.second = 0
		if !c.peace {
			c.heal()
		}
	})
}

// bequeath has who leads give the lead to somebody who does not hear of it: after a while it leads on, in the same term.
func (c *groups) bequeath(group int) {
	m, w := c.leads(group), c.w
	heir := c.members[w.rng.IntN(len(c.members))]
	if m == nil || heir == m {
		return
	}
	c.stats.Bequests++
	c.cut[[2]uint64{m.id, heir.id}], c.cut[[2]uint64{heir.id, m.id}] = true, true
	w.after(w.between(0, 50*time.Millisecond), func() {
		if m.life != nil && m.life.host != nil {
			m.life.host.Transfer(group, heir.id)
		}
	})
	w.after(w.between(100*time.Millisecond, 600*time.Millisecond), func() {
		if !c.peace {
			c.heal()
		}
	})
}

// relapse cuts off who leads: others take its place, and what it has proposed meanwhile is overruled. Its power goes when it has heard so, and has
// made a snapshot maybe.
func (c *groups) relapse(group int) {
	m := c.leads(group)
	if m == nil {
		return
	}
	w := c.w
	c.stats.Relapses++
	clear(c.cut)
	for _, o := range c.members {
		c.cut[[2]uint64{o.id, m.id}], c.cut[[2]uint64{m.id, o.id}] = true, true
	}
	w.after(w.between(100*time.Millisecond, 600*time.Millisecond), func() {
		if c.peace {
			return
		}
		c.heal()
		w.after(w.between(50*time.Millisecond, 900*time.Millisecond), func() {
			if !c.peace {
				m.die(w.chance(2))
			}
		})
	})
}

// amnesia has a leader with a slow disk lose power, be back soon, and not hear from one of those that heard it.
func (c *groups) amnesia(group int) {
	m := c.leads(group)
	if m == nil {
		return
	}
	c.stats.Amnesias++
	m.slow = true
	c.w.after(c.w.between(20*time.Millisecond, 300*time.Millisecond), func() {
		if c.peace {
			return
		}
		m.slow, m.quick = false, true
		m.die(true)
		clear(c.cut)
		other := c.members[c.w.rng.IntN(len(c.members))]
		for _, o := range c.members {
			if o != other && other != m {
				c.cut[[2]uint64{o.id, other.id}], c.cut[[2]uint64{other.id, o.id}] = true, true
			}
		}
		c.w.note("world", "%s is cut off", other.name)
		c.w.after(c.w.between(500*time.Millisecond, 2*time.Second), c.heal)
	})
}

// part cuts some members off, for packets in one direction or in both.
func (c *groups) part() {
	w := c.w
	clear(c.cut)
	oneWay, side := w.chance(2), make([]bool, len(c.members))
	for i := range side {
		side[i] = w.chance(2)
	}
	c.stats.Partitions++
	if oneWay {
		c.stats.OneWay++
	}
	for i, a := range c.members {
		for k, b := range c.members {
			if side[i] && !side[k] {
				c.cut[[2]uint64{a.id, b.id}] = true
				if !oneWay {
					c.cut[[2]uint64{b.id, a.id}] = true
				}
			}
		}
	}
	w.note("world", "parted: %v, one way: %v", side, oneWay)
	w.after(w.between(50*time.Millisecond, 4*time.Second), c.heal)
}

func (c *groups) heal() {
	clear(c.cut)
	c.w.note("world", "healed")
}
