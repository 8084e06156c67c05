package broker

import (
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A part of a journey whose destination another node leads is published there first and taken away here then, as between two storages: when
// one of the nodes is lost in between, messages may be in both queues, and none is in neither.

// emigrants are a part of a journey that is at another node.
type emigrants struct{ j *journey }

// sendAbroad sends the part under way to the node that leads its destination. It is false where this node does.
func (sh *shard) sendAbroad(j *journey) bool {
	f, to := sh.b.forward, j.control.to
	if f == nil {
		return false
	}
	node, here := sh.b.leader(shardOf(to))
	if here {
		return false
	}
	m := appendTextOf([]byte{askSettle}, to)
	m = append(appendUvarint(m, uint64(len(j.part))), j.batch.Data...)
	if c := f.caller(node); c == nil || !c.ask(emigrants{j}, m) {
		j.failure = errNoQuorum
		sh.sendHome(j)
	}
	return true
}

// answer is told which of the messages have been stored there, by their numbers in the part; with nil that nobody knows.
func (a emigrants) answer(_ uint64, b []byte) {
	j := a.j
	r := reader{b: b}
	if b == nil {
		j.failure = errUnknownOutcome
	} else {
		j.failure, _ = readRefusal(&r)
		for len(r.b) > 0 && !r.bad {
			if i := r.count(int64(len(j.part)) - 1); !r.bad {
				j.kept = append(j.kept, j.part[i])
			}
		}
	}
	j.home.sendHome(j)
}

// takeIn publishes what has come from a dead-letter queue at another node, as far as there is room.
func (g *Guest) takeIn(number uint64, r *reader) {
	to, n := clone(r.textOf()), r.count(journeyMessages)
	j := &journey{control: &control{to: to}, batch: &journal.Batch{Data: slices.Clone(r.b)}}
	j.batch.Owner = j
	at := 0
	for i := range n {
		payload, next := recordAt(j.batch.Data, at)
		if next == 0 {
			break
		}
		e, err := queue.ParseEnvelope(payload)
		if err != nil {
			break
		}
		at = next
		j.part, j.sizes, j.ends = append(j.part, uint64(i)), append(j.sizes, int64(len(e.Body))), append(j.ends, at)
	}
	j.reply = func() {
		m := appendRefusal(appendUvarint([]byte{sayAnswer}, number), j.failure, "")
		for _, i := range j.kept {
			m = appendUvarint(m, i)
		}
		g.line.Send(m, nil)
	}
	if len(j.part) != n || at != len(j.batch.Data) || !wire.ValidQueueName(to) {
		j.failure = wire.Errorf(wire.CodeInternal, "what another node has sent cannot be read")
		j.reply()
		return
	}
	sh := g.b.shards[shardOf(to)]
	w := sh.newWork()
	w.call = func(sh *shard) { sh.immigrate(j) }
	sh.post(w)
}
