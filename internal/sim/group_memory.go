package sim

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
)

// In a world in memory a process forgets all when it ends. Its members are lives of the nodes; what a group on disks would decide
// for them, the world decides, and everybody hears of it in his own time.

// era is how the ledger tells the histories of one group apart: one in each epoch.
const era = 1000

// key is where the ledger keeps what a process' state is made of.
func (o *groupOwner) key() int { return o.group + era*o.era }

// epochOf is the epoch of a leadership.
func epochOf(term uint64) int {
	if term == 0 {
		return 0
	}
	return int((term-1)>>16) + 1
}

// startInMemory makes the host of a life, and its keeper.
func (l *memberLife) startInMemory(cfg cluster.Config) (err error) {
	m, c := l.m, l.m.c
	boot := uint64(m.lives)
	cfg.ID, cfg.Memory = cluster.MemberID(m.id, boot), true
	cfg.Send = func(to uint64, packet []byte) {
		c.ledger.hear(m, to, packet)
		l.keeper.Carry(to, packet)
	}
	cfg.SendImage = func(to uint64, frame []byte) { l.keeper.CarryImage(to, frame) }
	if l.host, err = cluster.New(cfg); err != nil {
		return err
	}
	l.keeper = cluster.NewKeeper(cluster.KeeperConfig{
		Node: m.id, Boot: boot, Host: l.host,
		Nodes: func() (ids []uint64) {
			for _, o := range c.members {
				ids = append(ids, o.id)
			}
			return ids
		},
		FirstLeads: func() bool { return c.chief == m.id },
		LeaderOf:   func(g int) uint64 { return uint64(g+int(c.w.now/(4*time.Second)))%uint64(len(c.members)) + 1 },
		Decide:     c.decide,
		Send: func(node uint64, packet []byte) {
			l.carry(node, packet, func(t *memberLife, b []byte) {
				if t.keeper != nil {
					t.keeper.Deliver(m.id, b)
				}
			})
		},
	})
	return nil
}

// reign lets somebody decide for the groups in memory, now this one, now that.
func (c *groups) reign() {
	if m := c.members[c.w.rng.IntN(len(c.members))]; m.life != nil {
		c.chief = m.id
	}
	c.w.after(c.w.between(200*time.Millisecond, 3*time.Second), c.reign)
}

// decide keeps a decision, if it is the next one.
func (c *groups) decide(decision []byte, done func()) {
	c.w.after(c.w.between(time.Millisecond, 50*time.Millisecond), func() {
		done()
		epoch, founders := parseDecision(decision)
		if epoch != c.epoch+1 {
			return
		}
		c.epoch, c.decision, c.founders = epoch, decision, founders
		c.stats.Epochs++
		c.w.note("world", "epoch %d, founders %x", epoch, founders)
		for _, m := range c.members {
			c.w.after(c.w.between(0, 300*time.Millisecond), func() { m.life.decided() })
		}
	})
}

// decided tells a process what was decided last.
func (l *memberLife) decided() {
	if l == nil || l.keeper == nil || !l.open || l.m.c.decision == nil {
		return
	}
	if err := l.keeper.Decided(l.m.c.decision); err != nil {
		l.m.c.w.wrong("%s: a decision: %v", l.m.name, err)
	}
}

func parseDecision(b []byte) (epoch int, founders []uint64) {
	var list []uint64
	for b = b[1:]; len(b) > 0; {
		v, n := binary.Uvarint(b)
		list = append(list, v)
		b = b[n:]
	}
	return int(list[0]), list[2:]
}

// renewed: the group of a process has begun anew, maybe from what the process has.
func (o *groupOwner) renewed(epoch int) {
	if epoch != o.l.m.c.epoch || cluster.MemberID(o.l.m.id, uint64(o.l.m.lives)) != o.l.m.c.founders[o.group] {
		return // its state is to come
	}
	k, old := o.l.m.c.ledger, o.key()
	o.era = epoch
	k.order[o.key()] = slices.Clone(k.order[old][:o.state.count])
	k.sums[o.key()] = slices.Clone(k.sums[old][:o.state.count])
	o.l.m.c.w.note(o.l.m.name, "group %d begins anew in epoch %d with %d batches", o.group, epoch, o.state.count)
}

// log is this owner's group's.
func (o *groupOwner) log(wake func()) cluster.Log {
	if o.l.m.c.cfg.Memory {
		return journal.NewMemoryReplica(journal.NewBudget(0), wake)
	}
	return o.l.log.Replica(o.group, wake)
}
