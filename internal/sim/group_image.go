package sim

import (
	"bytes"
	"maps"
	"slices"

	"github.com/gmq/gmq/internal/journal"
)

// foreign marks a place in another member's log.
const foreign = journal.Ref(1) << 63

// fetchAtOnce is how many things are asked for at a time: few, so that much can happen in between.
const fetchAtOnce = 12

// A groupTaking is an image on its way into a member's state, as a shard takes one.
type groupTaking struct {
	img     journal.Image
	next    groupState
	fetched []journal.Span // retained for next, or an earlier one that came to nothing
	lacking []uint64       // things whose record is to be fetched
	asked   []uint64
	writing int // things whose records are on their way into the log
	whole   bool
}

// takeImage goes on with the image that there is.
func (o *groupOwner) takeImage() bool {
	t := o.taking
	if t == nil {
		if t = o.beginImage(); t == nil {
			return false
		}
		o.taking = t
	}
	switch {
	case t.img.Over():
		o.l.m.c.stats.ImagesOver++
		o.taking, o.partial = nil, t
	case t.img.Installed():
		o.swap(t)
	case t.whole || t.writing > 0:
		return false
	case t.asked != nil:
		return o.fetched(t)
	case len(t.lacking) > 0:
		n := min(len(t.lacking), fetchAtOnce)
		t.asked, t.lacking = t.lacking[:n], t.lacking[n:]
		var refs []journal.Ref
		for _, id := range t.asked {
			refs = append(refs, t.next.things[id].Ref&^foreign)
		}
		t.img.Fetch(refs)
		return false
	default:
		t.whole = true
		t.img.Install()
	}
	return true
}

// beginImage takes over what is there already.
func (o *groupOwner) beginImage() *groupTaking {
	if o.moving > 0 {
		return nil // what is moved has its place when that is kept
	}
	img := o.j.Image()
	if img == nil {
		return nil
	}
	t := &groupTaking{img: img, next: groupState{things: map[uint64]journal.Span{}}}
	if img.Empty() { // this member is none any more
	} else if err := t.next.decode(img.State()); err != nil {
		o.l.m.c.w.wrong("%s, group %d: an image: %v", o.l.m.name, o.group, err)
	}
	if p := o.partial; p != nil {
		t.fetched = p.fetched
	}
	old := o.state.things
	if !img.Alike() {
		old, o.partial = nil, nil
	}
	for id, span := range t.next.things {
		if own, there := old[id]; there && img.Here(own.Ref) {
			t.next.things[id] = own
			o.l.m.c.stats.Spared++
			continue
		}
		if o.partial != nil {
			if own, there := o.partial.next.things[id]; there && own.Ref&foreign == 0 && img.Here(own.Ref) {
				t.next.things[id] = own
				o.l.m.c.stats.Spared++
				continue
			}
		}
		span.Ref |= foreign
		t.next.things[id] = span
		t.lacking = append(t.lacking, id)
	}
	slices.SortFunc(t.lacking, func(a, b uint64) int { return int(int64(t.next.things[a].Ref - t.next.things[b].Ref)) })
	o.l.m.c.w.note(o.l.m.name, "group %d: an image of %d batches, %d things, lacking %d", o.group, t.next.count, len(t.next.things), len(t.lacking))
	o.partial = nil
	return t
}

// fetched has what has come written.
func (o *groupOwner) fetched(t *groupTaking) bool {
	got, ok := t.img.Fetched()
	if !ok {
		return false
	}
	b := &journal.Batch{Local: true, Essential: true}
	for i, id := range t.asked {
		if got[i] == nil {
			o.l.m.c.stats.Gone++
			continue
		}
		if len(got[i]) < 9 || !bytes.Equal(got[i][9:], thing(id)) {
			o.l.m.c.w.wrong("P6: %s, group %d: as thing %d it gets something else", o.l.m.name, o.group, id)
			return false
		}
		b.Data = record(b.Data, opMove, id, got[i][9:])
		t.writing++
	}
	t.asked = nil
	o.l.m.c.stats.Fetched += t.writing
	if t.writing > 0 {
		o.fetches[b] = t
		o.j.Propose(b)
	}
	return true
}

// keep takes over what was fetched and is kept now.
func (o *groupOwner) keep(t *groupTaking, b *journal.Batch) {
	if b.Err != nil {
		o.l.m.c.w.wrong("%s, group %d: what was fetched is not kept: %v", o.l.m.name, o.group, b.Err)
		return
	}
	t.writing = 0
	for at := 0; at < len(b.Data); {
		payload, next := journal.NextRecord(b.Data, at)
		span := journal.Span{Ref: b.Base + journal.Ref(at), Size: uint32(next - at)}
		t.next.things[thingOf(payload)] = span
		t.fetched = append(t.fetched, span)
		o.j.Retain([]journal.Span{span})
		at = next
	}
}

// swap puts the new state in the place of the old one.
func (o *groupOwner) swap(t *groupTaking) {
	if o.l.m.c.cfg.Memory {
		if e := epochOf(o.j.Role().Term); e > o.era {
			o.era, o.state.count = e, 0
		}
	}
	if t.img.Empty() {
		o.l.m.c.stats.Vacated++
		o.l.m.c.ambush(o.group)
	} else {
		o.l.m.c.stats.Images++
		o.l.m.c.ledger.taken(o, &t.next)
	}
	old := o.state.things
	o.state, o.taking = t.next, nil
	for _, id := range slices.Sorted(maps.Keys(o.state.things)) {
		o.j.Retain([]journal.Span{o.state.things[id]})
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		o.j.Release([]journal.Span{old[id]})
	}
	for _, span := range t.fetched {
		o.j.Release([]journal.Span{span})
	}
	s := o.j.Snapshot()
	s.Write(o.state.encode())
	s.Commit()
	o.l.m.c.w.note(o.l.m.name, "group %d: the image of %d batches is in place", o.group, o.state.count)
}

// taken: a process has taken over the state after some batch.
func (k *ledger) taken(o *groupOwner, s *groupState) {
	g, at := o.group, o.key()
	if s.count > len(k.order[at]) || s.count > 0 && k.sums[at][s.count-1] != s.sum {
		k.c.w.wrong("P1: %s, group %d: an image of %d batches is not what they make", o.l.m.name, g, s.count)
	}
	if s.count < o.state.count {
		k.c.w.wrong("%s, group %d: an image of %d batches takes the place of %d", o.l.m.name, g, s.count, o.state.count)
	}
}

// stray moves something while an image is on its way: what shards share is moved by one of them for all, whatever they are doing.
func (o *groupOwner) stray() {
	t := o.taking
	if t == nil || !t.whole || o.l.m.c.cfg.Memory || len(o.state.things) == 0 || !o.l.m.c.w.chance(2) {
		return
	}
	ids := slices.Sorted(maps.Keys(o.state.things))
	id := ids[o.l.m.c.w.rng.IntN(len(ids))]
	b := &journal.Batch{Local: true, Essential: true, Data: record(nil, opMove, id, thing(id))}
	o.l.m.c.stats.Strays++
	o.j.Propose(b)
}

// alsoMoved lets the state that is to come refer to a place as well to which the state of now does.
func (o *groupOwner) alsoMoved(payload []byte, span journal.Span) {
	if t := o.taking; t != nil && payload[0] == opMove && t.img.Alike() {
		if _, there := t.next.things[thingOf(payload)]; there {
			t.next.things[thingOf(payload)] = span
		}
	}
}
