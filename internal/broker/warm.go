package broker

import (
	"bytes"

	"github.com/gmq/gmq/internal/queue"
)

// warmMost is how many queues are looked at side by side, at the most; fewer than warmLeast are not worth it.
const warmMost, warmLeast = 64, 4

// A warmth is what warm works with. It belongs to who holds the shard's baton.
type warmth struct {
	n      int
	sets   [warmMost]*[4]nearby
	tags   [warmMost]uint32
	seqs   [warmMost]uint64 // of acks, their first; 0 of publishes
	queues [warmMost]*queue.Queue
	sum    uint64 // of no meaning: so that what was read was read for something
}

// warm looks at the queues that works are about before any of them is dealt with: see queue.State.Warm.
func (sh *shard) warm(works []*work) {
	if len(sh.near) < warmMost { // so few queues are in the caches
		return
	}
	for _, w := range works {
		var last []byte
		for i := range w.acks {
			a := &w.acks[i]
			if name := w.str(a.name); !bytes.Equal(name, last) && a.from < a.to {
				last = name
				sh.toWarm(name, w.seqs[a.from])
			}
		}
		before := span{}
		for i := range w.pubs {
			if s := w.pubs[i].name; s != before {
				before = s
				sh.toWarm(w.str(s), 0)
			}
		}
	}
	sh.warmUp()
}

func (sh *shard) toWarm(name []byte, seq uint64) {
	k := &sh.warmth
	k.sets[k.n], k.tags[k.n] = sh.near.set(name)
	k.seqs[k.n] = seq
	if k.n++; k.n == warmMost {
		sh.warmUp()
	}
}

// warmUp looks at those that have come together.
func (sh *shard) warmUp() {
	k := &sh.warmth
	n := k.n
	if k.n = 0; n < warmLeast {
		return
	}
	sum := uint64(0)
	for _, set := range k.sets[:n] {
		sum += uint64(set[0].tag)
	}
	qs, store := k.queues[:0], uint32(0)
	for i, set := range k.sets[:n] {
		for j := range set {
			if e := &set[j]; e.tag == k.tags[i] && e.queue != nil {
				if e.store != store {
					sum += sh.stores[store].state.Warm(qs, k.seqs[:])
					qs, store = qs[:0], e.store
				}
				k.seqs[len(qs)] = k.seqs[i] // not behind it
				qs = append(qs, e.queue)
				break
			}
		}
	}
	k.sum = sum + sh.stores[store].state.Warm(qs, k.seqs[:])
	clear(k.queues[:n])
}
