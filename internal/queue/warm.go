package queue

// Warm reads what publishes, deliveries and settles need of each of qs. Where many queues take turns that is in no cache, and one line of memory
// says where the next one is: a processor that deals with one queue after another waits for each of them, and for many at a time where it looks
// at all queues side by side. seqs are of messages that are about to be settled, 0 for a queue to which something is published. What it returns is
// of no meaning, but that the reads are not left out.
func (st *State) Warm(qs []*Queue, seqs []uint64) (sum uint64) {
	for _, q := range qs {
		sum += uint64(q.ID) + uint64(q.stored) + uint64(q.Bytes) + q.Delivered + uint64(q.Settings.TTL)
	}
	for i, q := range qs {
		if st.near[q.ID&uint32(len(st.near)-1)] == q {
			sum++
		}
		if len(q.Name) > 0 {
			sum += uint64(q.Name[len(q.Name)-1])
		}
		if c := q.tail; c != nil {
			sum += c.key
		}
		if c := q.ring; c != nil {
			sum += c.leases
		}
		if seqs[i] == 0 {
			continue
		}
		if p := &q.past; p.next > 0 {
			sum += p.ring[p.next].seq
		} else if n := len(p.ring); n > 0 {
			sum += p.ring[n-1].seq
		}
	}
	for i, q := range qs {
		c, seq := q.tail, seqs[i]
		if c == nil || c.m == nil {
			continue
		}
		if seq == 0 {
			seq = q.last + 1
		} else if c.few != nil {
			sum += uint64(c.few.n)
		}
		if i := seq&(chunkLen-1) - uint64(c.low); i < uint64(len(c.m)) {
			sum += uint64(c.m[i].ref)
		} else if seq > q.last {
			sum += uint64(c.m[0].ref)
		}
	}
	return sum
}
