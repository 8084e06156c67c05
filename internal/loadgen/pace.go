package loadgen

import "time"

// lateAfter is how long after its time a message may leave before it counts as late.
const lateAfter = time.Millisecond

// A pace says when the requests of one publisher are due in an open loop: at a fixed rate, in turn with the other
// publishers, whatever the server does. Latency is counted from these times, not from when a request could be sent, so
// that a server which holds the generator up is charged for every message that had to wait (no coordinated omission;
// after Gil Tene, "How NOT to Measure Latency").
type pace struct {
	every float64       // between two requests of this publisher, nanoseconds
	first time.Duration // when its first is due
}

// newPace shares rate messages a second, which go in requests of batch, among publishers.
func newPace(rate float64, batch, publishers, publisher int, start time.Duration) pace {
	each := 1e9 * float64(batch) / rate
	return pace{every: each * float64(publishers), first: start + time.Duration(each*float64(publisher))}
}

// due is when the request k, from 0, is to be sent.
func (p pace) due(k uint64) time.Duration {
	return p.first + time.Duration(float64(k)*p.every)
}
