package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster/placement"
	"github.com/gmq/gmq/internal/vfs"
)

// mostWished is how many members a world that changes them has at most.
const mostWished = 5

// most and least are how many members there may be.
func (c *groups) most() int {
	if c.cfg.Replicas > 0 {
		return mostWished + 2
	}
	return mostWished
}

func (c *groups) least() int { return max(1, c.cfg.Replicas) }

// addMember makes another machine, which nobody knows yet.
func (c *groups) addMember() *member {
	m := &member{c: c, id: uint64(len(c.members) + 1), disk: vfs.NewMem(), pace: 0.85 + 0.3*c.w.rng.Float64(), told: c.wish, plan: c.plan, moved: map[movedAt]bool{}}
	m.name = fmt.Sprint("m", m.id)
	c.members = append(c.members, m)
	return m
}

// resettle changes who the members shall be: a new one comes, one goes, or one takes another's place. Everybody hears of it in
// his own time, and may hear of the next change before.
func (c *groups) resettle() {
	w := c.w
	wish := slices.Clone(c.wish)
	if c.cfg.Replicas == 0 && w.chance(4) {
		c.exodus()
		return
	}
	if n := w.rng.IntN(3); n > 0 && len(wish) > c.least() {
		at := w.rng.IntN(len(wish))
		out := c.members[wish[at]-1]
		wish = slices.Delete(wish, at, at+1)
		c.stats.Left++
		if len(wish) > 1 && w.chance(2) && c.bears(out) { // the others are a majority without it
			c.lose(out, w.chance(2))
		}
		if n == 2 && len(wish) < c.most() {
			wish = append(wish, c.addMember().id)
			c.stats.Joined++
		}
	} else if len(wish) < c.most() {
		wish = append(wish, c.addMember().id)
		c.stats.Joined++
	}
	c.decree(wish, wish)
}

// exodus has others take the place of all members, as when somebody moves to other machines.
func (c *groups) exodus() {
	c.stats.Exoduses++
	c.stats.Left += len(c.wish)
	var wish []uint64
	for range 1 + c.w.rng.IntN(2) {
		wish = append(wish, c.addMember().id)
		c.stats.Joined++
	}
	c.decree(wish, wish)
}

// decree has these be the members, and groups at some of those that may have any.
func (c *groups) decree(wish, may []uint64) {
	w := c.w
	w.note("world", "the members shall be %v", wish)
	c.wish = wish
	c.edition++
	if c.cfg.Replicas > 0 {
		c.plan = placement.Next(c.plan, c.cfg.Groups, may, c.cfg.Replicas)
		w.note("world", "where the groups shall be: %v", c.plan)
	}
	edition, plan := c.edition, c.plan
	for _, m := range c.members {
		if m.life == nil && !m.gone && m.lives == 0 {
			m.told, m.plan, m.edition = wish, plan, edition
			m.boot()
			continue
		}
		w.after(w.between(0, 3*time.Second), func() { m.hear(wish, plan, edition) })
	}
}

// hear is told who the members shall be. It hears no news twice, and none that is older than what it has heard.
func (m *member) hear(wish []uint64, plan placement.Plan, edition int) {
	if edition <= m.edition {
		return
	}
	m.told, m.plan, m.edition = wish, plan, edition
	if m.life != nil && m.life.host != nil {
		m.life.host.Wish(m.c.wishFor(m))
	}
}

// settled reports whether the members of all groups are those that are wished, as far as each of them knows, and all are there.
func (c *groups) settled() bool {
	all := slices.Sorted(slices.Values(c.wish))
	for _, id := range c.wish {
		m := c.members[id-1]
		if m.life == nil || m.life.host == nil || len(m.life.host.Status()) == 0 {
			return false
		}
		for g, s := range m.life.host.Status() {
			want := all
			if c.plan != nil && g > 0 {
				want = c.plan[g]
			}
			if !c.has(id, g) {
				if len(s.Voters) > 0 {
					return false
				}
				continue
			}
			if !slices.Equal(s.Members(), want) || len(s.Outgoing) > 0 {
				return false
			}
			if c.plan != nil && !slices.Equal(slices.Sorted(slices.Values(s.Voters)), c.plan[g]) || c.plan == nil && len(s.Learners) > 0 {
				return false
			}
		}
	}
	return true
}

// bury ends those that nobody wants and no group has any more.
func (c *groups) bury() {
	c.w.after(500*time.Millisecond, func() {
		if c.peace {
			return
		}
		c.mourned = c.mourned && !c.settled()
		for _, m := range c.members {
			if !m.gone && !slices.Contains(c.wish, m.id) && !c.needed(m.id) {
				m.gone = true
				c.w.note(m.name, "is no member any more")
				m.die(false)
			}
		}
		c.bury()
	})
}

// needed reports whether a member may count in some group: only who leads it can tell.
func (c *groups) needed(id uint64) bool {
	free := make([]bool, c.cfg.Groups)
	for _, m := range c.members {
		if m.life == nil || m.life.host == nil {
			continue
		}
		for g, s := range m.life.host.Status() {
			free[g] = free[g] || s.Leading && s.Sealed && !slices.Contains(s.Members(), id)
		}
	}
	return slices.Contains(free, false)
}

// lasting are the members that must hold everything in the end.
func (c *groups) lasting() []*member {
	if c.wish == nil {
		return c.members
	}
	var all []*member
	for _, id := range c.wish {
		all = append(all, c.members[id-1])
	}
	return all
}
