package cluster

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

const (
	// oldTicks is after how many ticks an entry is old: a member that lacks an old one is behind, one that lacks only younger ones is not.
	oldTicks = 4
	// portionBytes is how much of old entries is sent at a time while there is other load.
	portionBytes = 256 << 10
	// pauseTimes is how many times as long as a portion took the pause behind it is.
	pauseTimes = 2
)

// A pace is how fast members that are behind get what they lack while new entries come: one portion at a time, of all groups together, and after each a pause
// of twice the time that it took to be kept there. So what goes into it of this node's processors, of the lines and of the members' disks is a third, on slow
// machines as on fast ones, and a group that has nothing to do with it waits for one portion at most. A portion is larger by twice what has come meanwhile: who is behind comes nearer
// at any load.
//
// Without other load there is no pace, and none in a group that needs the member for its majority. It belongs to the host's owner.
type pace struct {
	loaded  uint64        // the tick in which new entries came last
	fresh   int64         // bytes of new entries since the last portion began
	late    bool          // some group has a member that is behind, and is paced
	heard   bool          // such a member has given a sign of life
	left    int64         // how much may still be read of the portion
	read    bool          // something was, in this turn
	flights []flight      // what was sent of the portion and is not known to be kept
	open    bool          // a portion is under way, since
	began   time.Duration // then
	beganIn uint64        // and in this tick
	until   time.Duration // the end of the pause
	next    int           // the group that is first in the next portion

	busy    atomic.Bool  // new entries come; as of the last tick, anybody's
	entered atomic.Int64 // bytes of new entries, ever; anybody's
}

// A flight is a message with old entries, up to an index.
type flight struct {
	group     int
	to, index uint64
}

// clock is the time since any moment. Without a clock, ticks are all that is known.
func (h *Host) clock() time.Duration {
	if h.cfg.Now != nil {
		return h.cfg.Now()
	}
	return time.Duration(h.now) * nominalTick
}

// nominalTick is how long a tick is taken to be where there is no clock.
const nominalTick = 50 * time.Millisecond

// load notes new entries.
func (p *pace) load(entries []*raftpb.Entry, now uint64) {
	if len(entries) == 0 {
		return
	}
	n := int64(0)
	for _, e := range entries {
		n += int64(len(e.GetData())) + slotBytes
	}
	p.loaded, p.fresh = now, p.fresh+n
	p.entered.Add(n)
}

// age finds out, once in a tick, which entries are old, which members lack some, and whether they get them at a pace.
func (g *group) age() {
	st := &g.storage
	st.mu.Lock()
	st.old = min(g.lasts[0], st.last())
	copy(g.lasts[:], g.lasts[1:])
	g.lasts[oldTicks-1] = st.last()
	st.mu.Unlock()
	st.paced = false
	if !g.leading || !g.host.pace.busy.Load() {
		return
	}
	for i := range g.pushed {
		g.pushed[i].late = false
	}
	late, voters, there := false, 0, 0
	g.raw.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		behind := pr.Match < st.old
		if kind == raft.ProgressTypePeer {
			if voters++; !behind {
				there++
			}
		}
		if behind && pr.State != tracker.StateSnapshot && id != g.host.cfg.ID {
			p := g.push(id)
			p.late, p.probed, late = true, pr.State == tracker.StateProbe, true
		}
	})
	if !late || 2*there <= voters {
		return
	}
	st.mu.Lock()
	st.paced = len(st.members().GetVotersOutgoing()) == 0
	st.mu.Unlock()
	g.host.pace.late = g.host.pace.late || st.paced
}

// sends reports whether raft may send entries on hearing a message, and does nothing else for which it reads them.
func (g *group) sends(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgProp, raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgStorageAppendResp:
		return g.raw.BasicStatus().RaftState == raft.StateLeader
	}
	return false
}

// portion is how many bytes of entries raft may read to send them, beginning with an old one; 0: none now. Raft sends none then, and asks again with
// the next answer of the member.
func (s *storage) portion(lo uint64, most uint64) uint64 {
	if !s.sending || lo > s.old {
		return most
	}
	return min(most, uint64(max(s.pace.left, 0)))
}

// took notes what was read of a portion.
func (s *storage) took(lo uint64, n int64) {
	if s.sending && lo <= s.old {
		s.pace.left, s.pace.read = s.pace.left-n, true
	}
}

// answers keeps a member's last sign of life, for when there is a portion: raft hears it once more then, as if the network had doubled it, and sends.
func (g *group) answers(m *raftpb.Message) {
	switch {
	case !g.storage.paced:
	case m.GetType() == raftpb.MsgHeartbeatResp:
		p := g.push(m.GetFrom())
		p.answer, p.answered, g.host.pace.heard = m, g.host.now, true
	case m.GetType() == raftpb.MsgAppResp:
		g.host.landed(g.number, m)
	}
}

// feed begins a portion when it is time.
func (h *Host) feed() {
	p := &h.pace
	if p.open && h.now-p.beganIn >= uint64(h.cfg.ElectionTicks) { // lost, or the group has another leader
		p.over(h.clock())
	}
	if p.open || !p.late || !p.heard {
		return
	}
	now := h.clock()
	if now < p.until {
		return
	}
	p.left, p.fresh, p.read = min(portionBytes+2*p.fresh, h.cfg.InflightBytes), 0, false
	for range h.groups {
		g := h.groups[p.next]
		p.next = (p.next + 1) % len(h.groups)
		if g.feed(); p.left <= 0 {
			break
		}
	}
	p.left = 0
	p.open, p.began, p.beganIn = p.read, now, h.now
	p.heard = p.open // else nobody has answered lately, and there is nothing to be sent before somebody does
}

// feed has raft send what is left of a portion to who is behind in the group, as far as it lacks so much.
func (g *group) feed() {
	p := &g.host.pace
	if !g.storage.paced {
		return
	}
	for i := range g.pushed {
		m := &g.pushed[i]
		if !m.late || m.answer == nil || g.host.now-m.answered > 2 {
			continue
		}
		g.due = true
		for before := int64(0); p.left > 0 && p.left != before; { // a message at a time
			before = p.left
			_ = g.stepRaw(m.answer) // as in step
			if m.probed {
				break // more would be the same again
			}
		}
	}
}

// flies notes that a message with entries was sent.
func (h *Host) flies(g *group, m *raftpb.Message) {
	if e := m.GetEntries(); h.pace.read && len(e) > 0 && g.storage.paced && e[0].GetIndex() <= g.storage.old {
		h.pace.flights = append(h.pace.flights, flight{g.number, m.GetTo(), e[len(e)-1].GetIndex()})
	}
}

// sent ends the turn for the portion.
func (h *Host) sent() {
	p := &h.pace
	if p.read = false; p.open && len(p.flights) == 0 { // the member has had it before
		p.open, p.until = false, h.clock()+nominalTick
	}
}

// landed notes what a member has kept.
func (h *Host) landed(group int, m *raftpb.Message) {
	p := &h.pace
	left := p.flights[:0]
	for _, f := range p.flights {
		if f.group != group || f.to != m.GetFrom() || !m.GetReject() && m.GetIndex() < f.index {
			left = append(left, f)
		}
	}
	if p.flights = left; p.open && len(left) == 0 {
		p.over(h.clock())
	}
}

// over ends a portion.
func (p *pace) over(now time.Duration) {
	p.open, p.flights = false, p.flights[:0]
	p.until = now + pauseTimes*(now-p.began)
}

// pause is how long it takes until there is a portion to be sent; false: until then something else comes.
func (h *Host) pause() (time.Duration, bool) {
	p := &h.pace
	if !p.late || !p.heard || p.open {
		return 0, false
	}
	return max(p.until-h.clock(), 0), true
}

// An imagePace does the same for images, with an answer for a portion: behind each the node that sends has a pause of twice the time until its member asked
// for more, as long as the host has other load, and less of that than comes nearer with each answer. It belongs to Images.
type imagePace struct {
	open    bool          // an answer is on its way, since
	began   time.Duration // then
	until   time.Duration // the end of the pause
	entered int64         // pace.entered when the answer was sent
}

// mostPause is how many ticks a pause behind an answer takes at most: who is not answered asks once more.
const mostPause = askAgain / 2

// clock is as Host.clock.
func (i *Images) clock() time.Duration {
	if i.h.cfg.Now != nil {
		return i.h.cfg.Now()
	}
	return time.Duration(i.now) * nominalTick
}

// answered notes that n bytes were sent.
func (p *imagePace) answered(i *Images, n int64) {
	if n > 0 {
		p.open, p.began, p.entered = true, i.clock(), i.h.pace.entered.Load()
	}
}

// asked notes that a member asks for more.
func (p *imagePace) asked(i *Images) {
	if !p.open {
		return
	}
	p.open = false
	if load := &i.h.pace; load.busy.Load() && 2*(load.entered.Load()-p.entered) < portionBytes {
		now := i.clock()
		p.until = now + min(pauseTimes*(now-p.began), mostPause*nominalTick)
	}
}

// pause is how long questions that wait do so for the pace's sake.
func (i *Images) pause() time.Duration {
	if len(i.asks) == 0 || i.pace.until == 0 {
		return 0
	}
	return max(i.pace.until-i.clock(), 0)
}
