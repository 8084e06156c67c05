package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A journal may have to fetch records before it can read them (journal.ErrNotYet). The shard waits for nothing: what it had
// taken for consumers goes back as if nobody had had it, requests are put aside, and all of it is tried again when the
// journal has woken it. Who asks for what cannot be had for long (journal.ErrUnavailable) is told so; what consumers get goes on waiting.

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

// unread reports whether an error of Read says that a record is still to come.
func unread(err error) bool {
	return errors.Is(err, journal.ErrNotYet) || errors.Is(err, journal.ErrUnavailable)
}

// readable reports whether nothing is waited for any more, and goes on with what was put aside. Where a record is long in coming, only
// with requests: each of them is answered.
func (sh *shard) readable(st *store) bool {
	f := &st.fetching
	if f.ref == 0 {
		return true
	}
	_, err := st.journal.Read([]journal.Ref{f.ref}, nil)
	if errors.Is(err, journal.ErrNotYet) {
		return false
	}
	there := !unread(err)
	parked, leaving, again := f.parked, f.leaving, f.again
	f.parked, f.leaving = nil, nil
	if there {
		*f = fetching{}
	}
	for _, w := range parked {
		sh.goOn(w)
	}
	for _, s := range leaving {
		sh.detach(s)
	}
	if !there {
		return false
	}
	for _, g := range again {
		g()
	}
	return true
}

// unavailable tells a client that what it asks for cannot be read now.
func (st *store) unavailable(cause error) *wire.Error {
	return wire.Errorf(wire.CodeOverloaded, "storage %s: %v", st.Name, cause)
}

// readSome is read where some of the records have to be fetched: the deliveries from the first of those on go back.
func (sh *shard) readSome(st *store) error {
	n := 0
	for n < len(sh.refs) {
		if _, err := st.journal.Read(sh.refs[n:n+1], nil); unread(err) {
			break
		}
		n++
	}
	var err error
	if sh.bodies, err = st.journal.Read(sh.refs[:n], sh.bodies[:0]); unread(err) {
		n, err = 0, nil // what could be read a moment ago cannot be now
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
	return err
}

// unreadable is the end: a message that was kept is not what it was.
func unreadable(q *queue.Queue, seq uint64, cause error) error {
	return fmt.Errorf("queue %q, message %d: %w", q.Name, seq, cause)
}

// blame names the message of sh.batch that cannot be read.
func (sh *shard) blame(st *store, err error) error {
	for i, ref := range sh.refs {
		if _, cause := st.journal.Read([]journal.Ref{ref}, nil); cause != nil && !unread(cause) {
			return unreadable(sh.batch[i].Queue, sh.batch[i].Seq, cause)
		}
	}
	return err
}

// putAside lets a receive wait for the records of all that it would get: sh.took so far, the last of which could not be read.
func (sh *shard) putAside(st *store, wt *waiter, hold *queue.Consumer) {
	got, bytes := sh.took, 0
	missing := journal.Ref(got[len(got)-1].Span.Ref) // of those behind it some may be there already
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
	st.fetching.park(missing, wt.work)
}
