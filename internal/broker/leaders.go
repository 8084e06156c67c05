package broker

import (
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A client of a cluster may go straight to the nodes that lead its queues. It learns here who does, and moves its subscriptions without
// giving back what it has of them.

// leaders answers with the addresses of the nodes that lead the groups, as far as this node knows, and with the group of a queue.
func (s *Session) leaders(r *wire.Request) {
	if r.Quiet {
		return
	}
	b := s.b
	var at [Shards]string
	nodes := 0
	if b.opt.Clients != nil {
		for node, addr := range b.opt.Clients {
			nodes++
			for i := range at {
				if leader, _ := b.leader(i); leader == node {
					at[i] = addr
				}
			}
		}
	}
	s.Reply(func(dst []byte) []byte {
		dst = append(wire.AppendOK(dst, r.ID), `,"leaders":[`...)
		for i, addr := range at {
			if nodes == 0 { // nobody to choose from
				break
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = wire.AppendString(dst, addr)
		}
		dst = append(dst, ']')
		if len(r.Queue) > 0 && nodes > 0 {
			dst = appendNumber(dst, "group", uint64(shardOf(r.Queue)))
		}
		return append(dst, "}\n"...)
	})
}

// drain ends the deliveries of a subscription and leaves it what it has leased, until a plain unsubscribe or the end of the session.
func (sh *shard) drain(w *work, c *control, st *store, cons *queue.Consumer) {
	st.state.Drain(cons)
	if w.s.route != nil {
		w.s.route.ended(c.sub) // it is not to be made again
	}
	if !c.quiet {
		r := sh.reply(w.s)
		r.b = wire.AppendDone(r.b, c.id)
	}
}

// ending is told that the client wants a subscription to end, and says whether it is there. One that is drained gets
// what is on its way to it.
func (rt *route) ending(c *control) bool {
	if !c.drain {
		return rt.ended(c.sub)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.subs[c.sub] != nil
}

// unsubscribe notes that a subscription is to end, or to get nothing more.
func (in *Intake) unsubscribe(c *control, at home) {
	if !c.drain {
		delete(in.subs, c.sub)
	}
	if at.topic {
		if !c.drain {
			in.topical--
		}
		in.s.awaitBindings() // it may not have begun yet
		c.name = in.s.ephemeralName(c.sub)
	} else if in.s.route != nil {
		c.living = in.s.route.ending(c)
	}
}
