package broker

import (
	"errors"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// A journal may have to fetch records before it can read them (journal.ErrNotYet). The shard waits for nothing: what it had
// taken for consumers goes back as if nobody had had it, requests are put aside, and all of it is tried again when the
// journal has woken it.

// fetching is what a store cannot do before its journal has fetched a record.
type fetching struct {
	ref     journal.Ref // 0: nothing is waited for
	parked  []*work     // controls
	again   []func()
	leaving []*Session // have ended; they are detached behind what of theirs is parked
}

// await notes that the record at ref has to be fetched first.
func (f *fetching) await(ref journal.Ref) {
	if f.ref == 0 {
		f.ref = ref
	}
}

// park puts a control aside until the record at ref is there.
func (f *fetching) park(ref journal.Ref, w *work) {
	f.await(ref)
	f.parked = append(f.parked, w)
}

// readable reports whether nothing is waited for any more, and goes on with what was put aside.
func (sh *shard) readable(st *store) bool {
	f := &st.fetching
	if f.ref == 0 {
		return true
	}
	if _, err := st.journal.Read([]journal.Ref{f.ref}, nil); errors.Is(err, journal.ErrNotYet) {
		return false
	}
	parked, again, leaving := f.parked, f.again, f.leaving
	*f = fetching{}
	for _, w := range parked {
		sh.goOn(w)
	}
	for _, s := range leaving {
		sh.detach(s)
	}
	for _, g := range again {
		g()
	}
	return true
}

// readSome is read where some of the records have to be fetched: the deliveries from the first of those on go back.
func (sh *shard) readSome(st *store) error {
	n := 0
	for n < len(sh.refs) {
		if _, err := st.journal.Read(sh.refs[n:n+1], nil); errors.Is(err, journal.ErrNotYet) {
			break
		}
		n++
	}
	if n < len(sh.refs) {
		st.fetching.await(sh.refs[n])
	}
	for i := len(sh.batch) - 1; i >= n; i-- {
		d := &sh.batch[i]
		st.state.Untake(d)
		s := d.C.Tag.(*tag).s
		sh.reply(s).promised -= int(d.Span.Size) + lineOverhead
		// What it was promised may be all that it had to carry, and nothing is sent that would tell when it has room again.
		if m := sh.member(s); m.blocked && !sh.crowded(s) {
			m.blocked = false
			sh.unblock(s)
		}
		*d = queue.Delivery{}
	}
	sh.batch, sh.refs = sh.batch[:n], sh.refs[:n]
	var err error
	sh.bodies, err = st.journal.Read(sh.refs, sh.bodies[:0])
	return err
}

// putAside lets a receive wait for the records of all that it would get: sh.took so far, the last of which could not be read.
func (sh *shard) putAside(st *store, wt *waiter, hold *queue.Consumer) {
	got, bytes := sh.took, 0
	for i := range got {
		bytes += int(got[i].Span.Size) // a line is longer, so that nothing is left out
	}
	for len(got) < wt.max && bytes < OutLimit && sh.mayLease(st) {
		d, ok := st.state.TakeFor(hold, sh.now)
		if !ok {
			break
		}
		got = append(got, d)
		bytes += int(d.Span.Size)
	}
	sh.refs = sh.refs[:0]
	for i := range got {
		sh.refs = append(sh.refs, journal.Ref(got[i].Span.Ref))
	}
	_, _ = st.journal.Read(sh.refs, nil) // so that all of them are fetched together
	for i := len(got) - 1; i >= 0; i-- {
		st.state.Untake(&got[i])
	}
	clear(got)
	sh.took = got
	wt.work.control.wait = time.Duration(max(wt.c.Until-sh.now, 0))
	st.fetching.park(sh.refs[len(sh.refs)-1], wt.work)
}
