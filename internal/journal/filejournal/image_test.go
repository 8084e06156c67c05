package filejournal

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io/fs"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

// snapshotNow has a snapshot kept that begins at the log's end.
func (g *replicaRig) snapshotNow(head, data string) {
	g.t.Helper()
	told := make(chan bool, 1)
	end, _ := g.r.End()
	s := g.r.SnapshotAt(end, []byte(head), func(kept bool) { told <- kept })
	s.Write([]byte(data))
	s.Commit()
	if !<-told {
		g.t.Fatal("the snapshot is not kept")
	}
}

// fill writes as much as some segments hold, of which nothing is needed.
func (g *replicaRig) fill() {
	for from := g.append([]byte("m"), []byte("first")); ; {
		if at := g.append([]byte("m"), make([]byte, 4000)); at.Segment() > from.Segment()+3 {
			return
		}
	}
}

// What was there when it was pinned stays, whatever is released, until it is let go.
func TestPinnedRecordsStay(t *testing.T) {
	g := openReplica(t, vfs.NewMem())
	defer func() { must(t, g.l.Close()) }()
	g.r.Settle()
	old := g.append([]byte("m"), []byte("what another node needs"))
	span := []journal.Span{{Ref: old, Size: 23 + journal.HeaderBytes}}
	g.r.Retain(span)
	held, release := g.r.Pin()
	g.r.Release(span)
	g.fill()
	g.snapshotNow("head", "state")
	later := g.append([]byte("m"), []byte("later"))
	got, err := g.r.Records([]journal.Ref{old, later, later | 1<<62})
	if err != nil || !held() || string(got[0]) != "what another node needs" || string(got[1]) != "later" || got[2] != nil {
		t.Fatalf("%q, %v, held: %v", got, err, held())
	}
	release()
	g.l.mu.Lock()
	for g.l.segs.find(old.Segment()) != nil && g.l.Failed() == nil {
		g.l.idle.Wait()
	}
	g.l.mu.Unlock()
	if got, err := g.r.Records([]journal.Ref{old, later}); err != nil || got[0] != nil || string(got[1]) != "later" {
		t.Errorf("%q, %v", got, err)
	}
	if held() {
		t.Error("it is held, and was let go")
	}
}

// Where there is no space, this node goes before others.
func TestPinsGiveWay(t *testing.T) {
	g := openReplica(t, vfs.NewMem())
	defer func() { must(t, g.l.Close()) }()
	held, release := g.r.Pin()
	g.l.scarce.Store(true)
	if n := g.l.pinned(); n != 0 || held() {
		t.Errorf("segments before %d are kept, held: %v", n, held())
	}
	release()
}

// The newest snapshot can be read while it is replaced, and one that is damaged is not handed out.
func TestNewestSnapshot(t *testing.T) {
	disk := vfs.NewMem()
	g := openReplica(t, disk)
	defer func() { must(t, g.l.Close()) }()
	g.r.Settle()
	if _, err := g.r.Newest(); err == nil {
		t.Fatal("there is none")
	}
	g.append([]byte("m"), []byte("x"))
	g.snapshotNow("head", "the state")
	s, err := g.r.Newest()
	if err != nil {
		t.Fatal(err)
	}
	g.append([]byte("m"), []byte("y"))
	g.snapshotNow("other", "another state")
	got := make([]byte, s.Size)
	err = s.ReadAt(got, 0)
	if err != nil || string(s.Head) != "head" || string(got) != "the state" || s.Sum != crc32.Checksum(got, castagnoli) {
		t.Errorf("%q, %q, %v", s.Head, got, err)
	}
	if s.ReadAt(make([]byte, 2), s.Size-1) == nil || s.ReadAt(make([]byte, 1), -1) == nil {
		t.Error("more is read than there is")
	}
	s.Close()
	name := *g.r.newest.Load()
	whole, err := vfs.ReadFile(disk, name, 1<<20)
	must(t, err)
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 4
		must(t, vfs.WriteFileAtomic(disk, name, bad))
		if s, err := g.r.Newest(); err == nil {
			t.Errorf("byte %d is changed, and it is handed out with the head %q", i, s.Head)
		}
	}
	must(t, disk.Remove(name))
	if _, err := g.r.Newest(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, vfs.WriteFileAtomic(disk, name, whole))
}
