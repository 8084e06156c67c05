package broker

import "sync/atomic"

// A lead says who leads a shard.
type lead struct {
	node, term uint64
	here       bool
}

// leads is who leads the shards.
type leads struct {
	of    [Shards]atomic.Pointer[lead]
	hooks []func(shard int) // set before the first session
}

func (b *Broker) leader(shard int) (node uint64, here bool) {
	if l := b.leads.of[shard].Load(); l != nil {
		return l.node, l.here
	}
	return b.opt.ID, true
}

func (b *Broker) term(shard int) uint64 {
	if l := b.leads.of[shard].Load(); l != nil {
		return l.term
	}
	return 0
}

func (b *Broker) onRole(f func(shard int)) { b.leads.hooks = append(b.leads.hooks, f) }

// setLeader lets a shard have another leader.
func (b *Broker) setLeader(index int, node, term uint64, here bool) {
	b.shards[index].call(func(sh *shard) {
		sh.stepDown()
		b.leads.of[index].Store(&lead{node, term, here})
		for _, f := range b.leads.hooks {
			f(index)
		}
	})
}

// stepDown ends what the shard has promised.
func (sh *shard) stepDown() {
	for s, m := range sh.members {
		var subs []uint64
		for sub, c := range m.subs {
			if c.Queue.Name[0] == '.' {
				continue
			}
			delete(m.subs, sub)
			sh.storeOf(c.Queue).state.Unsubscribe(c)
			subs = append(subs, sub)
		}
		for _, wt := range m.waiters() {
			sh.storeOf(wt.c.Queue).state.Unsubscribe(wt.c)
			sh.drop(wt)
			sh.fail(s, wt.id, errNoQuorum)
		}
		if s.lost != nil && len(subs) > 0 {
			s.lost(sh.index, subs)
		}
	}
}
