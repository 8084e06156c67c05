package broker

import (
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A storage that nodes have in turn comes with what others have kept there. A state is made of it beside everything else, and takes
// the place of the one that this node had when it had the storage last.

// An inheriting is an estate on its way into a store.
type inheriting struct {
	estate journal.Estate
	loaded chan *queue.State // holds one: what is to be the state; nil where the estate was over before
}

// inherit goes on with the store's estate, if there is one.
func (sh *shard) inherit(st *store) {
	if st.turns == nil {
		return
	}
	if st.inheriting == nil {
		e := st.turns.Estate()
		if e == nil {
			return
		}
		st.inheriting = &inheriting{e, make(chan *queue.State, 1)}
		sh.load(st.inheriting, st.state.Heir())
		return
	}
	select {
	case next := <-st.inheriting.loaded:
		e := st.inheriting.estate
		st.inheriting = nil
		if next != nil && !e.Over() {
			sh.succeed(st, e, next)
		}
		sh.signal() // there may be another
	default:
	}
}

// load makes the state, elsewhere.
func (sh *shard) load(in *inheriting, next *queue.State) {
	sh.b.begin(func() {
		for {
			err := in.estate.Replay(next.LoadSnapshot, func(ref journal.Ref, payload []byte) error {
				_, err := next.Apply(queue.Span{Ref: queue.Ref(ref), Size: uint32(len(payload) + journal.HeaderBytes)}, payload)
				next.Spans() // Resume retains what is left in the end
				return err
			})
			if err == nil {
				break
			}
			if in.estate.Over() {
				next = nil
				break
			}
			next = next.Heir()
		}
		in.loaded <- next
		sh.signal()
	})
}

// succeed puts the new state in the place of the old one. What that referred to is not released: it is not this node's any more, or is what the
// new one refers to.
func (sh *shard) succeed(st *store, e journal.Estate, next *queue.State) {
	old := st.state
	e.Taken()
	st.state, st.owed, st.tasks, st.compaction = next, nil, nil, nil // tasks were there none: resign has dropped them
	st.era++
	next.Resume(func(spans []queue.Span) { st.journal.Retain(sh.convert(spans)) })
	for _, q := range old.Queues() {
		sh.unindex(q)
		delete(sh.updates, q)
		delete(sh.condemned, q)
	}
	for _, q := range next.Queues() {
		for _, pattern := range q.Bindings {
			sh.b.topics.bind(pattern, sh.boundOf(st, q), true)
		}
	}
	sh.countQueues()
	if st.leads { // without the storage, so far
		next.Lead(st.reign())
		sh.account(st)
	}
}

// lacking is the refusal of what names a queue that is not found, where this node leads without having one of the storages: nobody knows
// whether the queue is there. nil where nothing is lacking.
func (sh *shard) lacking(name []byte) *wire.Error {
	if len(name) > 0 && name[0] == '.' {
		return nil
	}
	for _, st := range sh.stores {
		if st.turns == nil {
			continue
		}
		if why := st.turns.Lacking(); why != nil {
			return wire.Errorf(wire.CodeOverloaded, "storage %s cannot be reached, so that it is not known whether queue %q is there: %v", st.Name, name, why)
		}
	}
	return nil
}

// notFound is the refusal of what is about a queue that is not there.
func (sh *shard) notFound(name []byte) *wire.Error {
	if err := sh.lacking(name); err != nil {
		return err
	}
	return wire.Errorf(wire.CodeNotFound, "queue %q does not exist", name)
}

// unsure is the refusal of a publish to a topic where some queues that this node leads may be bound to it and are not known; nil where none is.
func (b *Broker) unsure() *wire.Error {
	for _, sh := range b.shards {
		for _, st := range sh.stores {
			if st.turns == nil {
				continue
			}
			if why := st.turns.Lacking(); why != nil {
				return wire.Errorf(wire.CodeOverloaded, "storage %s cannot be reached, so that it is not known which of its queues are bound to the topic; nothing was stored: %v", st.Name, why)
			}
		}
	}
	return nil
}
