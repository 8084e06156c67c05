package sim

import (
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
)

// A ledger is what everybody was told, and what must follow from it:
//
//   - The logs agree: the n-th batch that any process applies in a group, in any of its lives, is the same.
//   - What was committed is not lost: a process that starts again has it, or gets it again, at the same place; who has confirmed
//     a batch has applied it. What was refused or overruled is applied by nobody, ever.
//   - Who says that it leads has applied all of earlier leaders.
//   - In one leadership nothing is kept that was proposed behind something refused: who sends again what was refused would send it out of its order.
//   - There is one leader in a term at most; whoever has granted a vote in a term grants no other one in it, not after a restart either.
type ledger struct {
	c       *groups
	last    uint64           // the number given to a batch last
	closed  bool             // nothing is proposed any more
	order   map[int][]uint64 // by groupOwner.key
	sums    map[int][]uint64
	refused map[uint64]bool
	dropped map[uint64]bool // things that a batch drops, or would have
	drops   map[uint64][]uint64
	terms   map[uint64]uint64    // of the leadership in which a batch was proposed
	turned  map[[2]uint64]uint64 // by group and term: the first batch that was refused
	kept    map[[2]uint64]uint64 // and the last one that was confirmed
	leaders map[[2]uint64]uint64 // by group and term: the member that says it leads
	votes   map[[3]uint64]uint64 // by group, term and voter: whom it has elected
}

func newLedger(c *groups) *ledger {
	return &ledger{
		c: c, order: map[int][]uint64{}, sums: map[int][]uint64{}, refused: map[uint64]bool{}, dropped: map[uint64]bool{}, drops: map[uint64][]uint64{}, terms: map[uint64]uint64{},
		turned: map[[2]uint64]uint64{}, kept: map[[2]uint64]uint64{}, leaders: map[[2]uint64]uint64{}, votes: map[[3]uint64]uint64{},
	}
}

func (k *ledger) lengths() (out []int) {
	for g := range k.c.cfg.Groups {
		out = append(out, k.decidedIn(g))
	}
	return out
}

// decided: a process has applied a batch.
func (k *ledger) decided(o *groupOwner, id uint64) {
	s, g, at := &o.state, o.group, o.key()
	s.sum = s.sum*0x100000001b3 ^ id
	s.count++
	k.c.stats.Applied++
	if k.refused[id] {
		k.c.w.wrong("%s, group %d: batch %d was refused, and is applied all the same", o.l.m.name, g, id)
	}
	switch n := s.count; {
	case n > len(k.order[at])+1:
		k.c.w.wrong("P1: %s, group %d: it applies number %d, and nobody has applied number %d", o.l.m.name, g, n, n-1)
	case n == len(k.order[at])+1:
		k.order[at] = append(k.order[at], id)
		k.sums[at] = append(k.sums[at], s.sum)
	case k.order[at][n-1] != id || k.sums[at][n-1] != s.sum:
		k.c.w.wrong("P1: %s, group %d: as number %d it applies batch %d, where batch %d was applied before", o.l.m.name, g, n, id, k.order[at][n-1])
	}
}

// told: who has proposed a batch is told what came of it. It is applied right after.
func (k *ledger) told(o *groupOwner, id uint64, err error) {
	switch err {
	case nil:
		k.c.stats.Confirmed++
		key := k.leadership(o, id)
		k.kept[key] = max(k.kept[key], id)
		k.inOrder(o, key)
	case journal.ErrOverruled:
		k.c.stats.Overruled++
		k.refuse(o, id)
	case journal.ErrNotLeading:
		k.c.stats.Refused++
		k.refuse(o, id)
	case journal.ErrUnknown:
		k.c.stats.Unknown++
	default:
		k.c.w.wrong("batch %d: %v", id, err)
	}
}

// leadership is the one in which a batch was proposed.
func (k *ledger) leadership(o *groupOwner, id uint64) [2]uint64 {
	return [2]uint64{uint64(o.group), k.terms[id]}
}

// inOrder: what was proposed later has the greater number.
func (k *ledger) inOrder(o *groupOwner, key [2]uint64) {
	if first := k.turned[key]; first != 0 && first < k.kept[key] {
		k.c.w.wrong("P4: %s, group %d: in term %d batch %d is refused, and batch %d, which was proposed behind it, is kept", o.l.m.name, o.group, key[1], first, k.kept[key])
	}
}

func (k *ledger) refuse(o *groupOwner, id uint64) {
	k.refused[id] = true
	key := k.leadership(o, id)
	if first := k.turned[key]; first == 0 || id < first {
		k.turned[key] = id
	}
	k.inOrder(o, key)
	for _, thing := range k.drops[id] {
		delete(k.dropped, thing) // another batch may
	}
	for _, other := range k.order[o.key()] {
		if other == id {
			k.c.w.wrong("group %d: batch %d was applied, and %s says that it is not kept", o.group, id, o.l.m.name)
		}
	}
}

// leads: a process says that it leads. It has applied what was decided under earlier leaders, as far as anybody has.
func (k *ledger) leads(o *groupOwner, term uint64) {
	k.c.stats.Leaders++
	for _, id := range k.order[o.key()][min(o.state.count, len(k.order[o.key()])):] {
		if k.terms[id] < term {
			k.c.w.wrong("P5: %s leads group %d in term %d and lacks batch %d of term %d", o.l.m.name, o.group, term, id, k.terms[id])
		}
	}
	k.leader(uint64(o.group), term, o.l.m.id)
}

func (k *ledger) leader(group, term, member uint64) {
	key := [2]uint64{group, term}
	if other := k.leaders[key]; other != 0 && other != member {
		k.c.w.wrong("group %d has two leaders in term %d: m%d and m%d", group, term, other, member)
	}
	k.leaders[key] = member
}

// hear listens to what is sent.
func (k *ledger) hear(m *member, to uint64, packet []byte) {
	err := cluster.EachMessage(packet, func(group uint64, msg *raftpb.Message, _ uint64) error {
		term := msg.GetTerm()
		switch msg.GetType() {
		case raftpb.MsgApp, raftpb.MsgHeartbeat:
			k.leader(group, term, m.id)
			k.c.stats.Entries += len(msg.GetEntries())
		case raftpb.MsgVoteResp:
			if msg.GetReject() {
				break
			}
			k.c.stats.Votes++
			key := [3]uint64{group, term, msg.GetFrom()}
			if other := k.votes[key]; other != 0 && other != to {
				k.c.w.wrong("%s has voted twice in term %d of group %d: for m%d and for m%d", m.name, term, group, other, to)
			}
			k.votes[key] = to
			if m.nervous && k.c.w.chance(2) {
				m.nervous, m.quick = false, true
				if c := k.c; c.second != 0 && to != c.second { // whom it has elected does not tell it
					c.cut[[2]uint64{to, m.id}] = true
				}
				m.die(true)
			}
		}
		return nil
	})
	if err != nil {
		k.c.w.wrong("%s sends what nobody can read: %v", m.name, err)
	}
}

// decidedIn is how many batches a group has decided, in the epoch that was begun last.
func (k *ledger) decidedIn(group int) int { return len(k.order[group+era*k.c.epoch]) }
