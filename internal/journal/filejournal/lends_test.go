package filejournal

import (
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

// TestLends: the committer has time for who waits for it while it tells of few batches, and nothing else is to be written.
func TestLends(t *testing.T) {
	l, err := Open(vfs.NewMem(), "/data", Options{Sync: true, Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	batch := func() *journal.Batch {
		data := append(journal.BeginRecord(nil), "x"...)
		journal.EndRecord(data, 0)
		return &journal.Batch{Data: data}
	}
	type told struct{ before, after bool }
	tell := make(chan told, 10)
	var j journal.Journal
	more := false
	j = l.Shard(0, func() { // the committer's goroutine
		if len(j.Committed(nil)) == 0 {
			return
		}
		is := told{before: l.Lends()}
		if more {
			more = false
			j.Propose(batch())
		}
		is.after = l.Lends()
		tell <- is
	})
	if err := j.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if l.Lends() {
		t.Error("it lends time while it has nothing to tell")
	}
	more = true
	j.Propose(batch())
	if is := <-tell; is != (told{true, false}) {
		t.Errorf("of one batch, behind which another is proposed, it tells with %v", is)
	}
	if is := <-tell; is != (told{true, true}) {
		t.Errorf("of the last batch it tells with %v", is)
	}
	l.mu.Lock()
	for range fewBatches + 1 { // as if they had been proposed while it was busy
		l.pending = append(l.pending, item{shard: l.shards[0], batch: batch()})
		l.proposed++
	}
	l.work.Signal()
	l.mu.Unlock()
	if is := <-tell; is != (told{}) {
		t.Errorf("of many batches it tells with %v", is)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
