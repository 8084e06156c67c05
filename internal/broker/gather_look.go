package broker

import (
	"math"
	"slices"
	"time"
)

// What only a queue's leader knows: leases, consumers, and what has been delivered. Operators see it on any node.

// LeaderOf is the node that leads a queue, 0 where none is known. here says that it is this one.
func (b *Broker) LeaderOf(name string) (node uint64, here bool) {
	return b.leader(shardOf([]byte(name)))
}

// Look is Queues with every prefix, of the whole cluster: what this node does not know by itself leaders are asked for. Of queues whose
// leader does not answer it is what this node knows.
func (b *Broker) Look() []QueueStats {
	all := b.Queues("")
	if b.forward == nil {
		return all
	}
	for node, answer := range b.forward.ask([]byte{askLook}) {
		b.addTold(all, node, answer)
	}
	return all
}

// addTold puts what a node tells of the queues that it leads to what is known of them. Both are in order of names.
func (b *Broker) addTold(all []QueueStats, node uint64, answer []byte) {
	r := reader{b: answer}
	for at := 0; !r.bad && len(r.b) > 0; {
		name := string(r.textOf())
		var n [6]int
		for i := range n {
			n[i] = r.count(math.MaxInt64)
		}
		for at < len(all) && all[at].Name < name {
			at++
		}
		if r.bad || at == len(all) || all[at].Name != name {
			continue // it is new, and not here yet
		}
		if leader, here := b.LeaderOf(name); here || leader != node {
			continue // it has changed hands meanwhile
		}
		q := &all[at]
		q.Counts.Ready, q.Counts.Leased, q.Counts.Delayed = n[0], n[1], n[2]
		q.Consumers, q.Delivered, q.Returned = n[3], uint64(n[4]), uint64(n[5])
	}
}

// tellQueues is the answer to askLook.
func (g *Guest) tellQueues() (told []byte) {
	for _, q := range g.b.Queues("") {
		if _, here := g.b.LeaderOf(q.Name); !here {
			continue
		}
		told = appendTextOf(told, q.Name)
		for _, n := range [...]uint64{uint64(q.Counts.Ready), uint64(q.Counts.Leased), uint64(q.Counts.Delayed), uint64(q.Consumers), q.Delivered, q.Returned} {
			told = appendUvarint(told, n)
		}
	}
	return told
}

// ConsumersOf is Consumers of a queue of which another node may know them.
func (b *Broker) ConsumersOf(name string, most int) []ConsumerStats {
	node, here := b.LeaderOf(name)
	if here || node == 0 || b.forward == nil {
		return b.Consumers(name, most)
	}
	c := b.forward.caller(node)
	if c == nil {
		return nil
	}
	q := &question{left: 1, got: map[uint64][]byte{}, whole: make(chan struct{})}
	if !c.ask(q, appendUvarint(appendTextOf([]byte{askConsumers}, name), uint64(most))) {
		return nil
	}
	b.awaitFor(q.whole, time.Duration(patience))
	q.mu.Lock()
	answer := slices.Clone(q.got[node])
	q.mu.Unlock()
	var all []ConsumerStats
	for r := (reader{b: answer}); !r.bad && len(r.b) > 0; {
		is := ConsumerStats{Client: string(r.textOf()), Sub: r.uvarint(), Credit: r.count(math.MaxInt64), Leased: r.count(math.MaxInt64)}
		flags := r.byte()
		is.Auto, is.Waiting = flags&1 != 0, flags&2 != 0
		if !r.bad {
			all = append(all, is)
		}
	}
	return all[:min(len(all), most)]
}

// tellConsumers is the answer to askConsumers.
func (g *Guest) tellConsumers(name string, most int) (told []byte) {
	for _, c := range g.b.Consumers(name, most) {
		var flags byte
		if c.Auto {
			flags |= 1
		}
		if c.Waiting {
			flags |= 2
		}
		told = appendTextOf(told, c.Client)
		for _, n := range [...]uint64{c.Sub, uint64(c.Credit), uint64(c.Leased)} {
			told = appendUvarint(told, n)
		}
		told = append(told, flags)
	}
	return told
}
