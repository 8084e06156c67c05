package broker

import (
	"math/bits"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A fan at a node, of its own conduct or of another node's: it claims, waits for a word, and goes on or gives back.

// newFan makes the fanout of what a claim asks for; nil where that is not what it must be.
func (b *Broker) newFan(r *reader, by conductor) *fanout {
	f := &fanout{by: by, terms: new([Shards]uint64)}
	for i := range b.shards {
		if lead := b.seats[i].whole.Load(); lead != 0 { // else there may be bindings that are not known here
			f.leads |= 1 << i
			f.terms[i] = lead
		}
	}
	type claimed struct {
		topic   []byte
		n, ids  int
		demands byte
	}
	units := make([]claimed, 0, 16)
	for range r.count(workBytes) {
		units = append(units, claimed{r.textOf(), r.count(wire.MaxBatch), r.count(wire.MaxBatch), r.byte()})
		if r.bad {
			return nil
		}
	}
	f.bodies = slices.Clone(r.b)
	at := 0
	for k, c := range units {
		f.units = append(f.units, unit{from: int32(len(f.at)), n: int32(c.n), ids: c.ids, demands: c.demands})
		u := &f.units[k]
		for range c.n {
			payload, next := recordAt(f.bodies, at)
			if next == 0 {
				return nil
			}
			s, err := queue.ParseSource(payload, next-at)
			if err != nil {
				return nil
			}
			f.at, f.sheets = append(f.at, int32(at)), append(f.sheets, s)
			u.bytes += int64(s.BodyBytes())
			at = next
		}
		f.aim(b, k, c.topic)
	}
	if at != len(f.bodies) {
		return nil
	}
	return f
}

// aim finds the queues of a unit that this node has: those of the shards that it leads, and its own sessions'.
func (f *fanout) aim(b *Broker, k int, topic []byte) {
	u := &f.units[k]
	if err := b.unsure(); err != nil {
		u.refuse(err)
		return
	}
	first := len(f.goals)
	for _, to := range b.topics.match(topic, nil) {
		if to.ephemeral || f.leads&(1<<to.shard) != 0 {
			f.goals = append(f.goals, goal{unit: int32(k), to: to})
		}
	}
	if n := (len(f.goals) - first) * int(u.n); n > maxCopies {
		u.refuse(wire.Errorf(wire.CodeBadRequest, "%d messages to %d queues would be %d copies; one request makes %d at most", int(u.n), len(f.goals)-first, n, maxCopies))
		f.goals = f.goals[:first]
	}
	for i := first; i < len(f.goals); i++ {
		to := f.goals[i].to
		u.goals++
		f.parts[to.shard] = append(f.parts[to.shard], int32(i))
		f.shards |= 1 << to.shard
		f.stores |= 1 << to.store
	}
}

// ask has the shards claim room.
func (f *fanout) ask(b *Broker) {
	if f.shards == 0 {
		f.allClaimed(b)
		return
	}
	f.left.Store(int32(bits.OnesCount32(f.shards)))
	for i, sh := range b.shards {
		if f.shards&(1<<i) != 0 {
			w := sh.newWork()
			w.fan = f
			sh.post(w)
		}
	}
}

// in has call run in one of the fan's shards.
func (f *fanout) in(b *Broker, call func(*shard)) {
	sh := b.shards[bits.TrailingZeros32(f.shards|1<<(Shards-1))]
	w := sh.newWork()
	w.call = call
	sh.post(w)
}

// goOn proposes all but what was refused elsewhere.
func (f *fanout) goOn(b *Broker, refused *reader) {
	for len(refused.b) > 0 {
		if i := refused.count(int64(len(f.units)) - 1); !refused.bad {
			f.units[i].refuse(errNoQuorum)
		}
	}
	f.in(b, func(sh *shard) { sh.advance(f) })
}

// drop gives back the room, when all of it has been claimed.
func (f *fanout) drop(b *Broker) {
	if f.dropped.Add(1) == 2 {
		f.in(b, func(sh *shard) { sh.unclaim(f) })
	}
}

// allClaimed is called when all shards have claimed room, or refused.
func (f *fanout) allClaimed(b *Broker) {
	f.by.fanClaimed(f)
	f.drop(b)
}

// A conductor is told how a fan fares.
type conductor interface {
	fanClaimed(f *fanout)
	fanLaunched(f *fanout)
	fanPublished(f *fanout, weakest []*store)
}

// refused is why a unit cannot be published, and the queue that refuses it.
func (u *unit) refused() (err *wire.Error, by string) {
	if err = u.refusal.Load(); err != nil {
		if name := u.by.Load(); name != nil {
			by = *name
		}
	}
	return err, by
}

// A guestFan is the conductor of a fan that another node has asked for.
type guestFan struct {
	g      *Guest
	number uint64
}

func (c guestFan) say(kind byte) []byte { return appendUvarint([]byte{kind}, c.number) }

func (c guestFan) fanClaimed(f *fanout) {
	m := appendUvarint(nil, uint64(f.leads))
	for i := range f.units {
		err, by := f.units[i].refused()
		m = appendRefusal(appendUvarint(m, uint64(f.units[i].goals)), err, by)
	}
	c.g.line.Send(c.say(sayClaimed), m)
}

func (c guestFan) fanLaunched(*fanout) { c.g.line.Send(c.say(sayLaunched), nil) }

func (c guestFan) fanPublished(f *fanout, weakest []*store) {
	var m []byte
	for i := range f.units {
		u := &f.units[i]
		stored := ""
		if weakest[i] != nil {
			stored = weakest[i].Stored
		}
		m = appendTextOf(appendUvarint(appendUvarint(m, uint64(u.took.Load())), uint64(u.repeated.Load())), stored)
		err, by := u.refused()
		m = appendRefusal(m, err, by)
	}
	c.g.line.Send(c.say(sayPublished), m)
}

func (g *Guest) claim(number uint64, r *reader) {
	c := guestFan{g, number}
	f := g.b.newFan(r, c)
	if f == nil || g.fans[number] != nil {
		g.line.Send(c.say(sayClaimed), nil) // which says that it is lost
		return
	}
	g.fans[number] = f
	f.ask(g.b)
}

func (g *Guest) launch(number uint64, r *reader) {
	if f := g.fans[number]; f != nil {
		delete(g.fans, number)
		f.goOn(g.b, r)
	}
}

func (g *Guest) forget(number uint64) {
	if f := g.fans[number]; f != nil {
		delete(g.fans, number)
		f.drop(g.b)
	}
}

// composeFor writes the copies that go to storage k of one shard, with what they refer to in front of them, up to bodies.
func (f *fanout) composeFor(k, shard int, now int64) (data []byte, bodies int) {
	at, copies := make([]int32, len(f.at)), make([]int32, len(f.units))
	for _, i := range f.parts[shard] {
		g := &f.goals[i]
		if !f.goes(g, k) {
			continue
		}
		if copies[g.unit]++; copies[g.unit] > 1 {
			continue
		}
		u := &f.units[g.unit]
		for n := u.from; n < u.from+u.n; n++ {
			_, end := journal.NextRecord(f.bodies, int(f.at[n]))
			at[n] = int32(len(data))
			data = append(data, f.bodies[f.at[n]:end]...)
			payload, _ := journal.NextRecord(data, int(at[n]))
			queue.Address(payload, 0, now)
		}
	}
	bodies = len(data)
	for _, i := range f.parts[shard] {
		if g := &f.goals[i]; f.goes(g, k) {
			g.at = int32(len(data))
			data = f.appendCopies(data, at, g, int(copies[g.unit]), now)
		}
	}
	return data, bodies
}
