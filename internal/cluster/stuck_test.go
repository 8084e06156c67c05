package cluster

import (
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// A scriptLog keeps and refuses what the test says, when it says so.
type scriptLog struct {
	journal.Journal // what is not here is not called
	appended        []*journal.Batch
	told            []*journal.Batch
	kept            func()
	records         []scriptRecord
	end             journal.Ref
	snapAt          journal.Ref // of the snapshot that there is, and that is made
	snapHead        []byte
}

type scriptRecord struct {
	ref     journal.Ref
	mark    bool
	payload []byte
}

func (l *scriptLog) Append(b *journal.Batch)     { l.appended = append(l.appended, b) }
func (l *scriptLog) Settle()                     {}
func (l *scriptLog) Whole()                      {}
func (l *scriptLog) Scarce() bool                { return false }
func (l *scriptLog) Hold(journal.Ref)            {}
func (l *scriptLog) Want()                       {}
func (l *scriptLog) Full() error                 { return journal.ErrDiskFull }
func (l *scriptLog) Recycle(*journal.Batch) bool { return true }
func (l *scriptLog) Unsure() bool                { return false }
func (l *scriptLog) Failed() error               { return nil }

func (l *scriptLog) End() (journal.Ref, bool) { return l.end, len(l.told) == 0 }

func (l *scriptLog) Since(journal.Ref) int64                 { return 0 }
func (l *scriptLog) Here(journal.Ref) bool                   { return true }
func (l *scriptLog) Behind()                                 {}
func (l *scriptLog) Newest() (journal.Stored, error)         { return journal.Stored{}, journal.ErrDiskFull }
func (l *scriptLog) Pin() (func() bool, func())              { return func() bool { return true }, func() {} }
func (l *scriptLog) Records([]journal.Ref) ([][]byte, error) { return nil, journal.ErrDiskFull }

func (l *scriptLog) SnapshotAt(at journal.Ref, head []byte, _ func(bool)) journal.Snapshot {
	l.snapAt, l.snapHead = at, head
	return nil
}

func (l *scriptLog) ReadRun(journal.Ref, int) ([]byte, error) { return nil, journal.ErrDiskFull }

func (l *scriptLog) Kept(into []*journal.Batch) []*journal.Batch {
	into = append(into, l.told...)
	l.told = nil
	return into
}

// answer keeps the oldest batch, or refuses it.
func (l *scriptLog) answer(err error) {
	b := l.appended[0]
	l.appended = l.appended[1:]
	b.Err, b.Base = err, 0
	if err == nil {
		b.Base = l.end
		at, from := 0, 0
		for _, p := range b.Parts {
			for at = from; at < p.End; {
				payload, next := journal.NextRecord(b.Data, at)
				l.records = append(l.records, scriptRecord{l.end + journal.Ref(at), p.Mark, slices.Clone(payload)})
				at = next
			}
			from = p.End
		}
		l.end += journal.Ref(len(b.Data))
	}
	l.told = append(l.told, b)
	l.kept()
}

func (l *scriptLog) ReplayMarked(snapshot func(journal.Ref, []byte, []byte) error, record func(journal.Ref, bool, []byte) error) error {
	if l.snapHead != nil {
		if err := snapshot(l.snapAt, l.snapHead, nil); err != nil {
			return err
		}
	}
	for _, r := range l.records {
		if r.ref < l.snapAt {
			continue
		}
		if err := record(r.ref, r.mark, r.payload); err != nil {
			return err
		}
	}
	return nil
}

// soloHost is a host with one group of one, over a scriptLog.
func soloHost(t *testing.T, log *scriptLog) (*Host, *Journal, []string) {
	t.Helper()
	h, err := New(Config{ID: 1, Groups: 1, Wake: func() {}, Send: func(uint64, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	var replayed []string
	j := h.Journal(0, func() {}, func(func()) Log { return log })
	if err := j.Replay(func([]byte) error { return nil }, func(_ journal.Ref, payload []byte) error {
		replayed = append(replayed, string(payload))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return h, j, replayed
}

// settle lets the host and its log do all there is to do.
func settle(h *Host, log *scriptLog) {
	for h.Turn(); len(log.appended) > 0 || len(log.told) > 0; h.Turn() {
		for len(log.appended) > 0 {
			log.answer(nil)
		}
	}
}

func tell(t *testing.T, j *Journal) (told []string) {
	t.Helper()
	for range 3 {
		for _, b := range j.Committed(nil) {
			if b.Err != nil {
				t.Fatal(b.Err)
			}
			payload, _ := journal.NextRecord(b.Data, 0)
			told = append(told, string(payload))
		}
	}
	return told
}

// TestRefusedForSpace: what the log has no room for, and what comes behind it, is appended again in its order; what it has kept
// behind a gap meanwhile counts for nothing, now or after a restart.
func TestRefusedForSpace(t *testing.T) {
	log := &scriptLog{end: 1 << 32}
	h, j, _ := soloHost(t, log)
	if err := j.Begin([]uint64{1}); err != nil {
		t.Fatal(err)
	}
	settle(h, log)
	h.Campaign(0)
	settle(h, log)
	if tell(t, j); !j.Role().Leading {
		t.Fatal("it does not lead")
	}
	for _, text := range []string{"a", "b", "c"} {
		j.Propose(batchOf(text))
		h.Turn()
	}
	if len(log.appended) != 3 {
		t.Fatalf("%d writes, want 3", len(log.appended))
	}
	log.answer(journal.ErrDiskFull)
	log.answer(nil)
	h.Turn()
	j.Propose(batchOf("d"))
	h.Turn()
	if h.Tick(); len(log.appended) != 1 {
		t.Fatalf("%d writes are on their way, want c alone", len(log.appended))
	}
	log.answer(nil)
	h.Turn()
	if got := tell(t, j); got != nil {
		t.Fatalf("told %q before it was kept", got)
	}
	h.Tick()
	h.Turn()
	if len(log.appended) != 4 {
		t.Fatalf("%d writes come again, want 4", len(log.appended))
	}
	log.answer(nil)
	log.answer(journal.ErrDiskFull) // the second time b has no room
	log.answer(nil)
	log.answer(nil)
	h.Turn()
	h.Tick()
	settle(h, log)
	want := []string{"a", "b", "c", "d"}
	if got := tell(t, j); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	h.Close()
	settle(h, log)
	if _, _, got := soloHost(t, log); !slices.Equal(got, want) {
		t.Errorf("replayed %q, want %q", got, want)
	}
}

// TestSnapshotsDoNotGoBack: the log before a snapshot may be gone, so the next one must not begin before it, also where nothing
// was applied since a restart and the group's end is not known.
func TestSnapshotsDoNotGoBack(t *testing.T) {
	log := &scriptLog{end: 1 << 32}
	h, j, _ := soloHost(t, log)
	if err := j.Begin([]uint64{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	settle(h, log)
	tell(t, j)
	j.Snapshot() // nothing is behind it
	first := log.snapAt
	if first != log.end {
		t.Fatalf("the snapshot of an idle group begins at %d, the log's end is %d", first, log.end)
	}
	for range 2 {
		h, j, _ = soloHost(t, log)
		h.Campaign(0) // it votes for itself, and nobody answers
		settle(h, log)
		log.told = append(log.told, &journal.Batch{}) // something that the host has not taken yet
		j.Snapshot()
		log.told = nil
		if log.snapAt < first {
			t.Fatalf("a snapshot begins at %d, the one before at %d", log.snapAt, first)
		}
	}
}

// A leader that may not lead all of the shard gives the lead to the one that may: rather to a node that is to lead nothing than to nobody.
func TestCede(t *testing.T) {
	c := newTrio(t)
	may := uint64(1)
	for _, h := range c.hosts {
		h.cfg.MayLead = func(_ int, node uint64) bool { return node == may }
		h.Wish(Wish{Members: []uint64{1, 2, 3}})
	}
	c.tick(60)
	if !c.journals[0].Role().Leading {
		t.Fatal("who may lead has given the lead away")
	}
	for _, next := range []uint64{3, 2} {
		if may = next; next == 2 {
			for _, h := range c.hosts {
				h.Wish(Wish{Members: []uint64{1, 2, 3}, Avoid: []uint64{1, 2}})
			}
		}
		c.tick(60)
		if !c.journals[next-1].Role().Leading {
			t.Errorf("node %d may lead, and does not", next)
		}
	}
}
