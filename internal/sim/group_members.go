package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/vfs"
)

// mostWished is how many members a world that changes them has at most.
const mostWished = 5

// addMember makes another machine, which nobody knows yet.
func (c *groups) addMember() *member {
	m := &member{c: c, id: uint64(len(c.members) + 1), disk: vfs.NewMem(), pace: 0.85 + 0.3*c.w.rng.Float64(), told: c.wish}
	m.name = fmt.Sprint("m", m.id)
	c.members = append(c.members, m)
	return m
}

// resettle changes who the members shall be: a new one comes, one goes, or one takes another's place. Everybody hears of it in
// his own time, and may hear of the next change before.
func (c *groups) resettle() {
	w := c.w
	wish := slices.Clone(c.wish)
	if n := w.rng.IntN(3); n > 0 && len(wish) > 1 {
		at := w.rng.IntN(len(wish))
		out := c.members[wish[at]-1]
		wish = slices.Delete(wish, at, at+1)
		c.stats.Left++
		if len(wish) > 1 && w.chance(2) && c.settled() { // the others are a majority without it
			w.note(out.name, "is gone for good")
			c.stats.Replaced++
			out.gone = true
			out.die(w.chance(2))
		}
		if n == 2 && len(wish) < mostWished {
			wish = append(wish, c.addMember().id)
			c.stats.Joined++
		}
	} else if len(wish) < mostWished {
		wish = append(wish, c.addMember().id)
		c.stats.Joined++
	}
	w.note("world", "the members shall be %v", wish)
	c.wish = wish
	c.edition++
	edition := c.edition
	for _, m := range c.members {
		if m.life == nil && !m.gone && m.lives == 0 {
			m.told, m.edition = wish, edition
			m.boot()
			continue
		}
		w.after(w.between(0, 3*time.Second), func() { m.hear(wish, edition) })
	}
}

// hear is told who the members shall be. It hears no news twice, and none that is older than what it has heard.
func (m *member) hear(wish []uint64, edition int) {
	if edition <= m.edition {
		return
	}
	m.told, m.edition = wish, edition
	if m.life != nil && m.life.host != nil {
		m.life.host.Wish(cluster.Wish{Members: wish})
	}
}

// settled reports whether the members of all groups are those that are wished, as far as each of them knows, and all are there.
func (c *groups) settled() bool {
	want := slices.Sorted(slices.Values(c.wish))
	for _, id := range c.wish {
		m := c.members[id-1]
		if m.life == nil || m.life.host == nil || len(m.life.host.Status()) == 0 {
			return false
		}
		for _, s := range m.life.host.Status() {
			if !slices.Equal(s.Members(), want) || len(s.Learners) > 0 || len(s.Outgoing) > 0 {
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
			free[g] = free[g] || s.Leading && !slices.Contains(s.Members(), id)
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
