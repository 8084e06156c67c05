package broker

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// A shard that lacks what its group's log no longer has takes an image: the leader's state, and of the records that it refers to
// those that this node does not have under the same queue and seq. The old state goes on until the new one is whole; then that takes its place.

// wantsAtOnce is about how many messages that lack their records are listed at a time: so memory is bounded, whatever the depth, and a turn.
const wantsAtOnce = 16 << 10

// A taking is an image on its way into a store.
type taking struct {
	img      journal.Image
	heir     *queue.State      // what it becomes, when it is loaded; nil until what was on its way when it came is kept
	loaded   chan error        // when it is
	next     *queue.State      // the same, from then on
	adopting []*queue.Adoption // of what is here already
	listing  *queue.Listing    // of what lacks, when that is done
	listed   bool              // all of the state has been looked at
	wants    []queue.Want      // what is listed, in the order of the other node's records
	room     []queue.Want      // what it is in
	asked    []queue.Want      // their records are on their way from the other node
	batch    journal.Batch     // records on their way into the journal
	moved    [][2]int          // where in the batch those are that next is to apply
	busy     bool              // the batch is on its way
	whole    bool              // nothing lacks but what is gone
	retry    int64             // there was no space: not before then
}

// takeImage goes on with the store's image, if there is one.
func (sh *shard) takeImage(st *store) {
	t := st.taking
	if t == nil {
		if st.replicas == nil || st.compaction != nil {
			return // what a compaction moves has its place when that is over
		}
		img := st.replicas.Image()
		if img == nil {
			return
		}
		t = &taking{img: img}
		st.taking = t
		t.batch.Data = journal.BeginRecord(nil)
		t.batch.Data = queue.AppendNoop(t.batch.Data)
		journal.EndRecord(t.batch.Data, 0)
		t.propose(st) // behind whatever was on its way
		return
	}
	switch {
	case t.img.Over():
		sh.dropImage(st, t)
	case t.img.Installed():
		sh.replaceState(st, t)
	case t.whole || t.retry > sh.now:
	case !t.listed && t.busy:
	case !t.listed:
		if err := sh.beginImage(st, t); err != nil {
			sh.b.fail(fmt.Errorf("storage %s, shard %d: an image of another node's state: %w", st.Name, sh.index, err))
		}
	case t.asked == nil: // while those before are on their way into the journal
		if t.ask(); t.asked == nil && !t.busy {
			t.whole = true
			t.img.Install()
		}
	case !t.busy:
		if records, ok := t.img.Fetched(); ok {
			sh.writeFetched(st, t, records)
		}
	}
}

// propose hands the batch to the journal.
func (t *taking) propose(st *store) {
	t.busy = true
	t.batch.Local, t.batch.Essential, t.batch.Owner = true, true, t
	t.batch.Base, t.batch.Err = 0, nil
	st.journal.Propose(&t.batch)
}

// adoptStep is how many messages are looked at in a turn.
const adoptStep = 16 << 10

// beginImage makes the new state, elsewhere, and then takes over what this node has already, some of it in each turn.
func (sh *shard) beginImage(st *store, t *taking) error {
	if t.heir == nil {
		t.heir, t.loaded = st.state.Heir(), make(chan error, 1)
		load := func() {
			var err error
			if !t.img.Empty() {
				err = t.heir.LoadImage(t.img.State())
			}
			t.loaded <- err
			sh.signal()
		}
		if s := sh.b.opt.Scheduler; s != nil {
			s.Go(load)
		} else {
			go load()
		}
		return nil
	}
	if t.adopting == nil {
		select {
		case err := <-t.loaded:
			if err != nil {
				return err
			}
		default:
			return nil
		}
		t.next, t.adopting = t.heir, []*queue.Adoption{}
		if t.img.Alike() {
			here := func(r queue.Ref) bool { return t.img.Here(journal.Ref(r)) }
			t.adopting = append(t.adopting, t.next.Adopt(st.state, here))
			if st.partial != nil {
				t.adopting = append(t.adopting, t.next.Adopt(st.partial, here))
			}
		}
	}
	sh.signal()
	if len(t.adopting) > 0 {
		if t.adopting[0].Next(adoptStep, func(spans []queue.Span) { st.journal.Retain(sh.convert(spans)) }) {
			t.adopting = t.adopting[1:]
		}
		return nil
	}
	if old := st.partial; old != nil {
		st.partial = nil
		sh.forgo(st, old)
	}
	if t.listing == nil {
		t.listing = t.next.List()
	}
	t.listed = t.listing.Next(adoptStep)
	return nil
}

// forgo gives up what a state refers to that was never put in place: what it lacked was never retained.
func (sh *shard) forgo(st *store, old *queue.State) {
	old.Stakes(func(spans []queue.Span) { st.journal.Release(sh.convert(domestic(spans))) })
}

// domestic are the spans in this node's journal; it changes the slice.
func domestic(spans []queue.Span) []queue.Span {
	return slices.DeleteFunc(spans, func(s queue.Span) bool { return s.Ref&queue.Foreign != 0 })
}

func abroad(spans []queue.Span) []queue.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s queue.Span) bool { return s.Ref&queue.Foreign == 0 })
}

// dropImage forgets an image that came to nothing. What was fetched for it is kept for the next one.
func (sh *shard) dropImage(st *store, t *taking) {
	if t.busy {
		return // until the journal has given the batch back
	}
	st.taking = nil
	if old := st.partial; t.next != nil {
		if st.partial = t.next; old != nil {
			sh.forgo(st, old) // it was to be adopted
		}
	}
	sh.signal()
}

// ask asks for the next records; for none where there are no more.
func (t *taking) ask() {
	if len(t.wants) == 0 {
		t.room = t.listing.Wants(t.room[:0], wantsAtOnce)
		t.wants = t.room
	}
	var refs []journal.Ref
	bytes, n := 0, 0
	for n < len(t.wants) {
		w := &t.wants[n]
		if ref := journal.Ref(w.Span.Ref); len(refs) == 0 || refs[len(refs)-1] != ref {
			if bytes += int(w.Span.Size); len(refs) > 0 && bytes > journal.FetchBytes || len(refs) == journal.FetchRefs {
				break
			}
			refs = append(refs, ref)
		}
		n++
	}
	if n == 0 {
		return
	}
	t.asked, t.wants = t.wants[:n:n], t.wants[n:]
	t.img.Fetch(refs)
}

// writeFetched has the records kept that have come. Copies of one message go on sharing it.
func (sh *shard) writeFetched(st *store, t *taking, records [][]byte) {
	data := t.batch.Data[:0]
	t.moved = t.moved[:0]
	at, err := 0, error(nil)
	for len(t.asked) > 0 {
		same := 1
		for same < len(t.asked) && t.asked[same].Span.Ref == t.asked[0].Span.Ref {
			same++
		}
		if record := records[at]; record != nil {
			if data, err = t.write(data, t.asked[:same], record); err != nil {
				sh.b.fail(fmt.Errorf("storage %s, shard %d: a record of another node: %w", st.Name, sh.index, err))
				return
			}
		}
		t.asked = t.asked[same:]
		at++
	}
	t.asked, t.batch.Data = nil, data
	if len(data) > 0 {
		t.propose(st)
	}
	sh.signal()
}

func (t *taking) write(data []byte, wants []queue.Want, record []byte) (_ []byte, err error) {
	start := len(data)
	data = journal.BeginRecord(data)
	if len(wants) == 1 {
		if data, err = queue.AppendRelocate(data, wants[0].Queue.ID, wants[0].Seq, record); err != nil {
			return data, err
		}
		journal.EndRecord(data, start)
		t.moved = append(t.moved, [2]int{start, len(data)})
		return data, nil
	}
	data = append(data, record...)
	journal.EndRecord(data, start)
	size := len(data) - start
	for _, w := range wants {
		at := len(data)
		data = queue.AppendRebase(journal.BeginRecord(data), w.Queue.ID, 0, w.Seq, at-start, size, len(wants))
		journal.EndRecord(data, at)
		t.moved = append(t.moved, [2]int{at, len(data)})
	}
	return data, nil
}

// applyTaken lets the new state refer to what has been kept.
func (sh *shard) applyTaken(st *store, t *taking) error {
	t.busy = false
	if t.batch.Err != nil { // there is no space: what was fetched is listed again, later
		t.retry = sh.now + retryAfter
		t.wants, t.listing, t.listed = nil, nil, false
		return nil
	}
	if t.next == nil {
		return nil
	}
	for _, m := range t.moved {
		if err := sh.moveTaken(st, t, &t.batch, m[0]); err != nil {
			return err
		}
	}
	return nil
}

// alsoMoved lets the state that is to come refer to a place as well to which the state of now does.
func (sh *shard) alsoMoved(st *store, b *journal.Batch, off int) error {
	if t := st.taking; t != nil && t.next != nil && t.img.Alike() {
		return sh.moveTaken(st, t, b, off)
	}
	return nil
}

// moveTaken lets the state that is to come refer to a place.
func (sh *shard) moveTaken(st *store, t *taking, b *journal.Batch, off int) error {
	payload, next := journal.NextRecord(b.Data, off)
	if _, err := t.next.Apply(queue.Span{Ref: queue.Ref(b.Base) + queue.Ref(off), Size: uint32(next - off)}, payload); err != nil {
		return err
	}
	retained, released := t.next.Spans()
	st.journal.Retain(sh.convert(retained))
	if released = domestic(released); len(released) > 0 {
		st.journal.Release(sh.convert(released))
	}
	return nil
}

// replaceState puts the new state in the place of the old one, and begins the snapshot that makes it so.
func (sh *shard) replaceState(st *store, t *taking) {
	old, next := st.state, t.next
	st.taking = nil
	next.Resume(func(spans []queue.Span) { st.journal.Retain(sh.convert(abroad(spans))) })
	old.Stakes(func(spans []queue.Span) { st.journal.Release(sh.convert(spans)) })
	st.state, st.owed = next, nil
	st.era++
	for _, q := range old.Queues() {
		sh.unindex(q)
		delete(sh.updates, q)
		delete(sh.condemned, q)
	}
	for _, q := range next.Queues() {
		for _, pattern := range q.Bindings {
			sh.b.topics.bind(pattern, sh.boundOf(st, q), true)
		}
	}
	sh.countQueues()
	if sh.index == 0 && st == sh.documents() {
		names := map[string]struct{}{}
		for _, name := range append(old.DocumentNames(), next.DocumentNames()...) {
			names[name] = struct{}{}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			sh.tellDocument(st, name)
		}
	}
	st.compaction = &compaction{state: next.BeginSnapshot(nil, nil), to: st.journal.Snapshot()}
	sh.signal()
}
