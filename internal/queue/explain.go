package queue

import "slices"

// What can be seen of messages, without changing any.

// A View is one message as Peek shows it.
type View struct {
	Seq     uint64
	Span    Span
	State   string // ready, delayed, leased
	Until   int64  // delayed: due; leased: the lease's end; unix ns, 0: none
	Attempt uint32 // attempts counted, the one that is out included
	Dead    *Dead
}

// stateNames are the states as clients know them.
var stateNames = [...]string{gone: "settled", ready: "ready", leased: "leased", delayed: "delayed", behind: "ready"}

// peekScan bounds how many messages one Peek looks at.
const peekScan = 1_000_000

// Peek shows up to limit messages of q behind seq after, in order of seq; those in the state of that
// name, or all where it is "".
func (st *State) Peek(q *Queue, state string, after uint64, limit int) (views []View) {
	var tmp [chunkLen]msg
	for c, looked := q.chunkFrom(after), 0; c != nil && looked < peekScan && len(views) < limit; c = c.next {
		for i, ms := 0, c.look(&tmp); i < chunkLen; i++ {
			m, seq := &ms[i], c.key<<chunkBits|uint64(i)
			if looked++; m.state == gone || seq <= after || len(views) == limit || state != "" && stateNames[m.state] != state {
				continue
			}
			v := View{Seq: seq, Span: m.span(), State: stateNames[m.state], Attempt: uint32(m.attempts)}
			switch m.state {
			case leased:
				v.Attempt++
				v.Until = c.lease(seq).at
			case delayed:
				v.Until = c.due(seq).at
			}
			if m.flags&msgDead != 0 {
				v.Dead = q.dead[seq]
			}
			views = append(views, v)
		}
	}
	return views
}

// chunkFrom is the chunk of the first message behind seq after, or the next there is.
func (q *Queue) chunkFrom(after uint64) *chunk {
	if c := q.byKey[(after+1)>>chunkBits]; c != nil {
		return c
	}
	c := q.head
	for c != nil && c.key < (after+1)>>chunkBits {
		c = c.next
	}
	return c
}

// An Event is something that happened to a message.
type Event struct {
	Seq      uint64
	At       int64 // unix ns
	Attempts uint32
	What     string // acked, returned, expired, …
	Reason   string
}

// pastEvents is how many of a queue's events are remembered.
const pastEvents = 256

// What can happen to a message.
type happening uint8

const (
	wasAcked happening = iota
	wasReturned
	hasExpired
	wasCancelled
	wasDropped
	hasDied
	wasPurged
	wasRedriven
)

var happenings = [...]string{
	wasAcked: "acked", wasReturned: "returned", hasExpired: "expired", wasCancelled: "cancelled", wasDropped: "dropped",
	hasDied: "dead", wasPurged: "purged", wasRedriven: "redriven",
}

// An event is an Event in its ring: small and without pointers, so that the garbage collector
// looks into no ring, however many queues there are.
type event struct {
	seq      uint64
	at       int64
	attempts uint16
	what     happening
	reasoned bool // past.reasons has its reason
}

// A past is the latest events of one queue, in a ring. It is the owner's view and is in no snapshot.
type past struct {
	ring    []event
	next    int
	reasons map[int]string // by place in the ring
}

func (p *past) add(e event, reason string) {
	at := len(p.ring)
	switch {
	case at == pastEvents:
		at = p.next
		if p.next = (p.next + 1) % pastEvents; p.ring[at].reasoned {
			delete(p.reasons, at)
		}
	case at == cap(p.ring): // it grows in few steps: what it grows out of is garbage, of each of many queues
		p.ring = append(make([]event, 0, min(max(4*at, 4), pastEvents)), p.ring...)
		fallthrough
	default:
		p.ring = p.ring[:at+1]
	}
	if e.reasoned = reason != ""; e.reasoned {
		if p.reasons == nil {
			p.reasons = map[int]string{}
		}
		p.reasons[at] = reason
	}
	p.ring[at] = e
}

// of lists what is remembered of a message, the oldest first.
func (p *past) of(seq uint64) (es []Event) {
	for i := range p.ring {
		at := (p.next + i) % len(p.ring)
		if e := &p.ring[at]; e.seq == seq {
			es = append(es, Event{Seq: seq, At: e.at, Attempts: uint32(e.attempts), What: happenings[e.what], Reason: p.reasons[at]})
		}
	}
	return es
}

// happened remembers something for Explain.
func (st *State) happened(q *Queue, seq uint64, m *msg, what happening, reason string) {
	if st.rows != nil {
		return // nobody asks
	}
	q.past.add(event{seq: seq, at: st.now, attempts: m.attempts, what: what}, reason)
}

// A Reason says why a message is not being delivered.
type Reason uint8

// The reasons.
const (
	Unknown    Reason = iota // no such message was ever there, or it is forgotten
	Over                     // settled; the last of History says how
	Delayed                  // since it was published, or its time was moved
	Retrying                 // after a failed attempt
	Out                      // leased
	BehindKey                // another message of its key goes first
	Ended                    // its end or its new time is being recorded
	IsPaused                 // its queue is
	NoConsumer               // nobody has subscribed, or waits
	NoCredit                 // those who have cannot take more
	NotRead                  // those who could take more do not read what is sent to them
	BehindPriority
	BehindOlder
	Next // it is about to be delivered
)

// An Explanation is why a message is where it is.
type Explanation struct {
	Reason   Reason
	State    string
	Until    int64     // Delayed, Retrying: due; Out: the lease's end; unix ns, 0: none
	Consumer *Consumer // Out: who has it
	Ahead    uint64    // BehindKey, BehindPriority, BehindOlder: the message that goes first
	Attempts uint32
	History  []Event
}

// Explain tells why message seq of q is not being delivered. It changes nothing that can be observed.
func (st *State) Explain(q *Queue, seq uint64) Explanation {
	c, m := q.find(seq)
	x := Explanation{History: q.past.of(seq)}
	if m == nil {
		if seq > 0 && seq <= q.last && len(x.History) > 0 {
			x.Reason = Over
			x.Attempts = x.History[len(x.History)-1].Attempts
		}
		x.State = stateNames[gone]
		return x
	}
	x.State, x.Attempts = stateNames[m.state], uint32(m.attempts)
	switch {
	case m.state == leased:
		l := c.lease(seq)
		x.Reason, x.Until, x.Consumer = Out, l.at, l.c
		x.Attempts++
	case m.state == delayed:
		if x.Reason, x.Until = Retrying, c.due(seq).at; m.delivery() == 1 {
			x.Reason = Delayed
		}
	case m.flags&msgEnding != 0:
		x.Reason = Ended
	case m.state == behind:
		l, _ := q.lineOf(seq, m)
		x.Reason, x.Ahead = BehindKey, l.head
	default:
		x.Reason, x.Ahead = q.whyReady(seq, m)
	}
	return x
}

// whyReady is why a message that is ready is not delivered.
func (q *Queue) whyReady(seq uint64, m *msg) (Reason, uint64) {
	switch {
	case q.Paused:
		return IsPaused, 0
	case len(q.subs) == 0:
		return NoConsumer, 0
	}
	first, _, f, _ := q.nextReady()
	switch {
	case f != nil && f.priority() > m.priority():
		return BehindPriority, first
	case !slices.ContainsFunc(q.subs, func(c *Consumer) bool { return !c.held() && c.Leased() < c.Limit }):
		if slices.ContainsFunc(q.subs, func(c *Consumer) bool { return c.Leased() < c.Limit }) {
			return NotRead, 0
		}
		return NoCredit, 0
	case f != nil && first != seq:
		return BehindOlder, first
	}
	return Next, 0
}
