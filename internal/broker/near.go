package broker

import (
	"encoding/binary"

	"github.com/gmq/gmq/internal/queue"
)

// near is where find looks before it asks the storages' maps of names: for the hashes of names sets of four places, which hold
// the queues found last, the latest first. It is emptied whenever queues have come or gone.
type near [][4]nearby

type nearby struct {
	queue *queue.Queue
	store uint32 // index in shard.stores
	tag   uint32 // of the name's hash: other queues are not looked at
}

// nearMost is the number of sets that it grows to at the most.
const nearMost = 1 << 12

func (n near) set(name []byte) (*[4]nearby, uint32) {
	var h uint64
	if l := len(name); l >= 8 { // both ends: names of many queues differ in the last bytes, as a rule
		h = binary.LittleEndian.Uint64(name[l-8:])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(name)*0xbf58476d1ce4e5b9 ^ uint64(l)
	} else {
		for _, c := range name {
			h = h<<8 | uint64(c)
		}
	}
	h ^= h >> 32 // what differs at the end of a name is in the highest bits, and a product takes nothing down
	h *= 0x9e3779b97f4a7c15
	return &n[h>>32&uint64(len(n)-1)], uint32(h)
}

// forget empties it and makes it fit for that many queues.
func (n *near) forget(queues int) {
	size := 4
	for size < queues && size < nearMost {
		size *= 2
	}
	if len(*n) != size {
		*n = make(near, size)
	} else {
		clear(*n)
	}
}

// find returns the queue of that name, if it is there and not about to be deleted.
func (sh *shard) find(name []byte) (target, bool) {
	set, tag := sh.near.set(name)
	for i := range set {
		if e := &set[i]; e.tag == tag && e.queue != nil && string(name) == e.queue.Name && !e.queue.Deleting && !e.queue.Gone() {
			return target{sh.stores[e.store], e.queue.ID, e.queue}, true
		}
	}
	for i, st := range sh.stores {
		if q := st.state.Find(name); q != nil && !q.Deleting {
			copy(set[1:], set[:])
			set[0] = nearby{q, uint32(i), tag}
			return target{st, q.ID, q}, true
		}
	}
	return target{}, false
}
