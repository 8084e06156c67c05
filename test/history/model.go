// Package history records what a few clients do to one queue of a cluster, and has a checker of linearizability look whether some order of it
// is one that a queue could have had. It is a module of its own, as nothing else needs the checker.
//
// It owns the words in which a queue is described as one thing that does one step at a time. It knows nothing of the server's code.
package history

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

// What a client asks.
const (
	publish = iota
	receive
	ack
	nack
)

// An input is a request. Receipts are the test's own numbers of deliveries.
type input struct {
	op      int
	message int // of publish: which
	receipt int // of ack and nack
}

// An output is a reply.
type output struct {
	seq         int // of publish and receive; 0: there was nothing to receive
	receipt     int // of receive
	redelivered bool
	lost        bool // of ack and nack: it was delivered again
}

// A message is one in the queue.
type message struct {
	given bool // to somebody
	held  bool // by somebody who has not said what became of it
	done  bool
	last  int // the receipt of its latest delivery
}

// A state is a queue: messages by their number, from 1 on. Nobody changes one that exists.
type state struct {
	messages []message
	receipts []int // of all deliveries
	of       []int // and which message each was of
	untold   int   // messages that were given to somebody who lost his node before he heard of it, and asked again
}

// clients is how many there are. Each of them loses its node once at the most, and had asked for one message then.
const clients = 4

// model is a queue one of whose nodes may be lost, where lossy, and whose leader does not change otherwise. When he is lost all messages may have been
// delivered, to nobody who has told, and leases end; what was confirmed and acked stays so.
func model(lossy bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, out any) (bool, any) {
			return step(s.(state), in.(input), out.(output), lossy)
		},
		Equal: func(a, b any) bool {
			x, y := a.(state), b.(state)
			return slices.Equal(x.messages, y.messages) && slices.Equal(x.receipts, y.receipts) && slices.Equal(x.of, y.of) && x.untold == y.untold
		},
	}
}

func step(s state, in input, out output, lossy bool) (bool, state) {
	next := state{slices.Clone(s.messages), s.receipts, s.of, s.untold}
	switch in.op {
	case publish: // a number is given once, and none is left out
		next.messages = append(next.messages, message{})
		return out.seq == len(next.messages), next
	case receive:
		return s.give(next, out, lossy)
	}
	k := slices.Index(s.receipts, in.receipt)
	if k < 0 {
		return false, s
	}
	m := &next.messages[s.of[k]-1]
	if out.lost {
		return !m.done && m.last != in.receipt, s
	}
	if m.done {
		return true, s
	}
	if m.last != in.receipt && !lossy { // with another leader, a receipt is as good as another one while nobody has the message
		return false, s
	}
	m.held, m.done = false, in.op == ack
	return true, next
}

// give is a delivery.
func (s state) give(next state, out output, lossy bool) (bool, state) {
	before := len(s.messages) // all of them, where there was nothing to receive
	if out.seq > len(s.messages) || out.seq > 0 && s.messages[out.seq-1].done {
		return false, s
	}
	if out.seq > 0 {
		if before = out.seq - 1; s.messages[before].given {
			before = 0
		}
	}
	for i := range next.messages[:before] {
		if m := &next.messages[i]; !m.given { // whoever has it has not told
			m.given = true
			next.untold++
		}
	}
	if next.untold > 0 && !lossy || next.untold > clients {
		return false, s
	}
	if out.seq == 0 {
		return true, next
	}
	m := &next.messages[out.seq-1]
	switch {
	case lossy && out.redelivered:
	case out.redelivered != m.given, m.held:
		return false, s
	}
	m.given, m.held, m.last = true, true, out.receipt
	next.receipts, next.of = append(slices.Clone(s.receipts), out.receipt), append(slices.Clone(s.of), out.seq)
	return true, next
}
