package sim

import (
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster"
)

// Worlds in which each group is at some of the members only.

// wishFor is what a member wishes, as far as it has heard. Where groups are at some of the members the first one is at all of them.
func (c *groups) wishFor(m *member) cluster.Wish {
	w := cluster.Wish{Members: m.told}
	if m.plan != nil {
		w.Groups, w.Everywhere = m.plan, []int{0}
	}
	return w
}

// has reports whether a member shall have a group.
func (c *groups) has(id uint64, group int) bool {
	return c.plan == nil || group == 0 || slices.Contains(c.plan[group], id)
}

// bears reports whether a member may be lost for good. Where there are replicas enough at any time, whatever is under way; but one at a time.
func (c *groups) bears(*member) bool {
	if c.cfg.Replicas > 1 {
		return !c.mourned
	}
	return c.settled()
}

// count: there are never fewer voters than replicas.
func (c *groups) count(l *memberLife) {
	if c.cfg.Replicas == 0 {
		return
	}
	for _, s := range l.host.Status() {
		c.snare(l, &s)
		if n, old := len(s.Voters), len(s.Outgoing); n > 0 && n < c.cfg.Replicas || old > 0 && old < c.cfg.Replicas {
			c.w.wrong("%s: group %d has %d replicas that count, before %d, and is to have %d", l.m.name, s.Group, n, old, c.cfg.Replicas)
		}
	}
}

// relocate is trouble that only such worlds know.
func (c *groups) relocate() {
	w := c.w
	c.hush = w.now + w.between(0, 4*time.Second)
	if w.chance(2) || len(c.wish) <= c.cfg.Replicas {
		c.resettle()
	} else {
		c.hermit()
	}
}

// hermit has a member that nobody hears for long, while the groups that it has move away from all that had them with it. When it is back it knows nothing
// of that.
func (c *groups) hermit() {
	w := c.w
	h := c.wish[w.rng.IntN(len(c.wish))]
	may := slices.DeleteFunc(slices.Clone(c.wish), func(id uint64) bool { return id == h })
	with := slices.Clone(c.plan[w.rng.IntN(len(c.plan))])
	for len(may) > c.cfg.Replicas && len(with) > 0 {
		may = slices.DeleteFunc(may, func(id uint64) bool { return id == with[0] })
		with = with[1:]
	}
	c.alone = h
	w.note("world", "nobody hears m%d", h)
	c.decree(c.wish, may)
	w.after(w.between(4*time.Second, 9*time.Second), func() {
		if c.alone != h || c.peace {
			return
		}
		c.alone = 0
		w.note("world", "m%d is heard again", h)
		w.after(w.between(500*time.Millisecond, 3*time.Second), func() {
			if !c.peace {
				c.decree(c.wish, c.wish)
			}
		})
	})
}

// ambush: when a member has forgotten a group, now and then who leads it is lost for good, and the power of all others goes.
func (c *groups) ambush(group int) {
	w := c.w
	if c.peace || c.mourned || !w.chance(3) {
		return
	}
	w.after(w.between(3*time.Millisecond, 60*time.Millisecond), func() { c.bereave(group) })
}

// bereave has who leads a group be lost for good, and the power of all others go.
func (c *groups) bereave(group int) {
	out := c.leads(group)
	if c.peace || c.mourned || out == nil || len(c.wish) <= c.cfg.Replicas || !slices.Contains(c.wish, out.id) {
		return
	}
	c.stats.Ambushes++
	c.lose(out, true)
	for _, m := range c.members {
		m.die(true)
	}
	wish := slices.DeleteFunc(slices.Clone(c.wish), func(id uint64) bool { return id == out.id })
	if len(wish) < c.most() {
		wish = append(wish, c.addMember().id)
	}
	c.decree(wish, wish)
}

// snare: a change of members counts, as far as who leads knows, while one of those that counted before hears of nothing. From then on the disks of all others that count
// hang, so that who leads is the only one to have anything behind the change; and that one is lost for good. The others must be able to go on, with those who
// were taken out.
func (c *groups) snare(l *memberLife, s *cluster.GroupStatus) {
	if c.counted == nil {
		c.counted = make([][]uint64, c.cfg.Groups)
	}
	if !s.Leading || len(s.Outgoing) > 0 {
		return
	}
	before := c.counted[s.Group]
	c.counted[s.Group] = s.Voters
	if slices.Equal(before, s.Voters) || c.alone == 0 || !slices.Contains(before, c.alone) || c.peace || c.mourned {
		return
	}
	w := c.w
	c.stats.Snares++
	until := w.now + w.between(900*time.Millisecond, 1500*time.Millisecond)
	for _, id := range s.Voters {
		if m := c.members[id-1]; m != l.m {
			m.stall = until
			w.note(m.name, "the disk hangs until %s, before it has anything behind a change of group %d", until, s.Group)
		}
	}
	w.after(until-w.now-time.Millisecond, func() {
		if c.leads(s.Group) == l.m {
			c.bereave(s.Group)
		}
	})
}

// lose has a member be gone for good.
func (c *groups) lose(m *member, power bool) {
	c.w.note(m.name, "is gone for good")
	c.mourned = true
	c.stats.Replaced++
	m.gone = true
	m.die(power)
}
