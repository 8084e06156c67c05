package queue

// near finds queues by id without the map, as every record does: where many queues take turns, a lookup in the map is
// two or three lines of memory that are in no cache. It has room for the ids that follow each other; others share places.
type near []*Queue

// nearMost is the size that it grows to at the most.
const nearMost = 1 << 15

// byID returns the queue of that id, or nil.
func (st *State) byID(id uint32) *Queue {
	if q := st.near[id&uint32(len(st.near)-1)]; q != nil && q.ID == id {
		return q
	}
	q := st.ids[id]
	if q != nil {
		st.near[id&uint32(len(st.near)-1)] = q
	}
	return q
}

// enter makes a queue known by id and name.
func (st *State) enter(q *Queue) {
	st.ids[q.ID], st.names[q.Name] = q, q
	if n := len(st.near); n < nearMost && n < 2*len(st.ids) {
		st.near = make(near, 2*n)
	}
}

// leave undoes enter.
func (st *State) leave(q *Queue) {
	delete(st.ids, q.ID)
	delete(st.names, q.Name)
	if i := q.ID & uint32(len(st.near)-1); st.near[i] == q {
		st.near[i] = nil
	}
}
