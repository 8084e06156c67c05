package queue

// Warm reads what publishes, deliveries and settles need of each of qs. Where many queues take turns that is in no cache, and one line of memory
// says where the next one is: a processor that deals with one queue after another waits for each of them, and for many at a time where it looks
// at all queues side by side. What it returns is of no meaning, but that the reads are not left out.
func Warm(qs []*Queue) (sum uint64) {
	for _, q := range qs {
		sum += uint64(q.stored) + uint64(q.Bytes) + uint64(q.Counts.Ready) + uint64(q.Settings.MaxMessages) + uint64(q.Settings.TTL) + q.restored
		if len(q.Name) > 0 {
			sum += uint64(q.Name[len(q.Name)-1])
		}
	}
	for _, q := range qs {
		if c := q.tail; c != nil {
			sum += c.key + uint64(c.epoch)
		}
		if c := q.ring; c != nil {
			sum += uint64(c.Limit) + c.leases
		}
		if n := len(q.past.ring); n > 0 {
			sum += q.past.ring[q.past.next%n].seq
		}
	}
	for _, q := range qs {
		c := q.tail
		if c == nil {
			continue
		}
		if c.m != nil {
			sum += uint64(c.m[q.last&(chunkLen-1)].ref)
		}
		if c.few != nil {
			sum += uint64(c.few.n)
		}
	}
	return sum
}
