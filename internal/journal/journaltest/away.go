package journaltest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// testAway: while the storage cannot be reached what may be refused is, and of that nothing is kept, then or later; everything else
// is kept when it can be reached again.
func testAway(t *testing.T, h *Harness) {
	if h.Away == nil {
		t.Skip("this storage is always there")
	}
	o := openOwner(t, h, 0)
	o.propose([]byte("before"))
	refs := o.settle()
	want := [][]byte{[]byte("before")}
	h.Away(true)
	outcome := map[*journal.Batch]error{}
	var sent []*journal.Batch
	take := func() (refused bool) {
		for _, b := range o.j.Committed(nil) {
			outcome[b] = b.Err
			refused = refused || b.Err != nil
		}
		return refused
	}
	propose := func(essential bool, format string, args ...any) {
		b := batch(fmt.Appendf(nil, format, args...))
		b.Essential = essential
		sent = append(sent, b)
		o.j.Propose(b)
	}
	propose(false, "caught, or refused")
	for i := 0; !take(); i++ {
		propose(false, "until one is refused %d", i)
		select {
		case <-o.woken:
		case <-time.After(time.Millisecond):
		}
	}
	essential := len(sent)
	propose(true, "waits")
	h.Away(false)
	for len(outcome) < len(sent) {
		take()
		if err := o.j.Failed(); err != nil {
			t.Fatal(err)
		}
		if len(outcome) < len(sent) {
			<-o.woken
		}
	}
	refused := 0
	for i, b := range sent {
		switch err := outcome[b]; {
		case err == nil:
			payload, _ := journal.NextRecord(b.Data, 0)
			refs, want = append(refs, b.Base), append(want, payload)
			o.j.Retain([]journal.Span{{Ref: b.Base, Size: uint32(len(b.Data))}})
		case i == essential || !errors.Is(err, journal.ErrUnavailable):
			t.Errorf("batch %d is refused: %v", i, err)
		default:
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	equal(t, o.read(refs), want)
	shut(t, h, o)
	wantReplayed(t, h.Reopen(t), refs)
}

// wantReplayed opens shard 0 and expects records at refs.
func wantReplayed(t *testing.T, h *Harness, refs []journal.Ref) {
	t.Helper()
	o, n := newOwner(t, h, 0), 0
	err := o.j.Replay(func([]byte) error { return nil }, func(ref journal.Ref, _ []byte) error {
		if n >= len(refs) || ref != refs[n] {
			t.Errorf("record %d is at %d", n, ref)
		}
		n++
		return nil
	})
	if err != nil || n != len(refs) {
		t.Errorf("%d records are replayed, not %d: %v", n, len(refs), err)
	}
	shut(t, h, o)
}
