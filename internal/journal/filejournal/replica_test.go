package filejournal

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A replicaRig is a log of one shard whose records a consensus decides about: the test.
type replicaRig struct {
	t     *testing.T
	l     *Log
	r     *Replica
	woken chan struct{}
	heads []string
	got   []string // "mark …" and "record …"
	refs  []journal.Ref
}

func openReplica(t *testing.T, fs vfs.FS) *replicaRig {
	t.Helper()
	l, err := Open(fs, "/data", Options{Sync: true, SegmentBytes: 32 << 10, CacheBytes: 1, CompactSlack: 1 << 30, Logf: t.Logf})
	must(t, err)
	g := &replicaRig{t: t, l: l, woken: make(chan struct{}, 1)}
	g.r = l.Replica(0, func() {
		select {
		case g.woken <- struct{}{}:
		default:
		}
	})
	must(t, g.r.ReplayMarked(func(_ journal.Ref, head, data []byte) error {
		g.heads = append(g.heads, string(head)+"|"+string(data))
		return nil
	}, func(ref journal.Ref, mark bool, payload []byte) error {
		kind := "record "
		if mark {
			kind = "mark "
		}
		g.got = append(g.got, kind+string(payload[:min(len(payload), 8)]))
		g.refs = append(g.refs, ref)
		return nil
	}))
	return g
}

// append keeps a mark and a record behind it, and returns the record's ref.
func (g *replicaRig) append(mark, record []byte) journal.Ref {
	g.t.Helper()
	b := &journal.Batch{Essential: true}
	for i, payload := range [][]byte{mark, record} {
		start := len(b.Data)
		b.Data = append(journal.BeginRecord(b.Data), payload...)
		journal.EndRecord(b.Data, start)
		b.Parts = append(b.Parts, journal.Part{Shard: 0, End: len(b.Data), Mark: i == 0})
	}
	g.r.Append(b)
	for {
		if kept := g.r.Kept(nil); len(kept) > 0 {
			if !slices.Equal(kept, []*journal.Batch{b}) || b.Err != nil {
				g.t.Fatalf("kept %v: %v", kept, b.Err)
			}
			return b.Base + journal.Ref(b.Parts[0].End)
		}
		<-g.woken
	}
}

func TestMarks(t *testing.T) {
	disk := vfs.NewMem()
	g := openReplica(t, disk)
	g.r.Settle()
	one, two := bytes.Repeat([]byte("1"), 300), bytes.Repeat([]byte("2"), 300)
	first := g.append([]byte("m1"), one)
	g.append([]byte("m2"), two)
	own := &journal.Batch{Data: append(journal.BeginRecord(nil), "own"...)}
	journal.EndRecord(own.Data, 0)
	g.r.Append(own)
	must(t, g.r.Close())

	record, err := g.r.Read([]journal.Ref{first}, nil)
	must(t, err)
	run, err := g.r.ReadRun(first, len(one)+journal.HeaderBytes)
	must(t, err)
	want := append(journal.BeginRecord(nil), one...)
	journal.EndRecord(want, 0)
	if !bytes.Equal(record[0], one) || !bytes.Equal(run, want) {
		t.Errorf("read %q and %q", record, run)
	}
	if _, err := g.r.ReadRun(first-journal.Ref(len("m1")+journal.HeaderBytes), 100); err == nil {
		t.Error("a mark was read as a record")
	}
	must(t, g.l.Close())

	g = openReplica(t, disk)
	if want := []string{"mark m1", "record 11111111", "mark m2", "record 22222222", "record own"}; !slices.Equal(g.got, want) || g.refs[1] != first {
		t.Errorf("replayed %q at %v", g.got, g.refs)
	}
	must(t, g.l.Close())

	// Whoever does not know marks refuses them all.
	l, err := Open(disk, "/data", Options{})
	must(t, err)
	err = l.Shard(0, func() {}).Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil })
	if !errors.Is(err, errReplica) {
		t.Errorf("a journal that knows no marks: %v", err)
	}
	must(t, l.Close())
	_, err = Play(disk, "/data", Until{Records: -1, Shard: -1}, func(int) State { return nothingState{} })
	if !errors.Is(err, errReplica) {
		t.Errorf("replaying it without its node: %v", err)
	}
}

type nothingState struct{ State }

func (nothingState) Load([]byte) error               { return nil }
func (nothingState) Apply(journal.Ref, []byte) error { return nil }

// A state that lags behind one that this node had may refer to what is gone, until Whole.
func TestReplicaLagsBehind(t *testing.T) {
	for _, caughtUp := range []bool{true, false} {
		disk := vfs.NewMem()
		g := openReplica(t, disk)
		g.r.Settle()
		old := g.append([]byte("m"), make([]byte, 1000))
		span := []journal.Span{{Ref: old, Size: 1000 + journal.HeaderBytes}}
		g.r.Retain(span)
		at := old
		for at.Segment() < 3 {
			at = g.append([]byte("m"), make([]byte, 4000))
		}
		s := g.r.SnapshotAt(at, []byte("head"), nil)
		s.Write([]byte("state"))
		s.Commit()
		g.append([]byte("drop"), []byte("the old one"))
		g.r.Release(span)
		g.l.mu.Lock()
		for g.l.segs.find(old.Segment()) != nil && g.l.Failed() == nil {
			g.l.idle.Wait()
		}
		g.l.mu.Unlock()
		must(t, g.l.Close())

		g = openReplica(t, disk)
		if want := []string{"head|state"}; !slices.Equal(g.heads, want) {
			t.Fatalf("the snapshot is %q", g.heads)
		}
		if g.r.Here(old) || !g.r.Here(at) {
			t.Errorf("what was given back is here: %v; what is left: %v", g.r.Here(old), g.r.Here(at))
		}
		g.r.Retain(span) // that the drop is committed nobody says yet
		g.r.Settle()
		if err := g.l.Failed(); err != nil {
			t.Fatalf("before it has caught up: %v", err)
		}
		if caughtUp {
			g.r.Release(span)
		}
		g.r.Whole()
		damage := (*wal.Damage)(nil)
		if err := g.l.Failed(); caughtUp && err != nil || !caughtUp && !errors.As(err, &damage) {
			t.Errorf("caught up: %v, failed: %v", caughtUp, err)
		}
		_ = g.l.Close() // it says why it has failed
	}
}
