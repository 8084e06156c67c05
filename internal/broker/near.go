package broker

import "encoding/binary"

// near is where find looks before it asks the storages' maps of names: one place for each hash of a name, which holds the queue
// found last. It is emptied whenever queues have come or gone.
type near []target

// nearMost is the size that it grows to at the most.
const nearMost = 1 << 13

func (n near) place(name []byte) *target {
	var h uint64
	if l := len(name); l >= 8 { // both ends: names of many queues differ in the last bytes, as a rule
		h = binary.LittleEndian.Uint64(name[l-8:])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(name)*0xbf58476d1ce4e5b9 ^ uint64(l)
	} else {
		for _, c := range name {
			h = h<<8 | uint64(c)
		}
	}
	return &n[h*0x9e3779b97f4a7c15>>32&uint64(len(n)-1)]
}

// forget empties it and makes it fit for that many queues.
func (n *near) forget(queues int) {
	size := 16
	for size < 2*queues && size < nearMost {
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
	n := sh.near.place(name)
	if q := n.queue; q != nil && !q.Deleting && !q.Gone() && string(name) == q.Name {
		return *n, true
	}
	for _, st := range sh.stores {
		if q := st.state.Find(name); q != nil && !q.Deleting {
			*n = target{st, q.ID, q}
			return *n, true
		}
	}
	return target{}, false
}
