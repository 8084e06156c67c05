package cluster

import (
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// A teller is a shard's owner that notes what it is told.
type teller struct {
	j     *Journal
	woken chan struct{}
	told  []string
	errs  []error
}

func openTeller(t *testing.T, n *rigNode, shard int) *teller {
	t.Helper()
	o := &teller{woken: make(chan struct{}, 1)}
	o.j = n.journal(shard, func() { signal(o.woken) })
	err := o.j.Replay(func(data []byte) error {
		o.told = append(o.told, "snapshot "+string(data))
		return nil
	}, func(_ journal.Ref, payload []byte) error {
		o.told = append(o.told, string(payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func batchOf(text string) *journal.Batch {
	b := &journal.Batch{Data: append(journal.BeginRecord(nil), text...), Owner: text}
	journal.EndRecord(b.Data, 0)
	return b
}

// wait waits until n more records were told, or so many batches refused.
func (o *teller) wait(n int) {
	for have := len(o.told) + len(o.errs); len(o.told)+len(o.errs) < have+n; {
		got := o.j.Committed(nil)
		for _, b := range got {
			if b.Err != nil {
				o.errs = append(o.errs, b.Err)
			}
			for at := 0; b.Err == nil && at < len(b.Data); {
				var payload []byte
				payload, at = journal.NextRecord(b.Data, at)
				o.told = append(o.told, string(payload))
			}
		}
		if len(got) == 0 {
			<-o.woken
		}
	}
}

func (o *teller) propose(texts ...string) {
	for _, text := range texts {
		o.j.Propose(batchOf(text))
	}
}

// TestAloneBecomesGroup: what a node has kept alone is the beginning of its group, while it goes on, and after restarts, with a
// snapshot at any moment.
func TestAloneBecomesGroup(t *testing.T) {
	for snapshot := range 6 {
		t.Run(fmt.Sprint("snapshot at ", snapshot), func(t *testing.T) {
			disk := vfs.NewMem()
			fs := func(int) (vfs.FS, string) { return disk, "/data" }
			r := openRig(t, fs, 1, 1, filejournal.Options{Sync: true, SegmentBytes: 64 << 10})
			n := r.nodes[0]
			n.run()
			o := openTeller(t, n, 0)
			snap := func(at int) {
				if at != snapshot {
					return
				}
				s := o.j.Snapshot()
				s.Write(fmt.Append(nil, o.told))
				s.Commit()
			}
			snap(0)
			o.propose("a", "b")
			o.wait(2)
			snap(1)
			o.propose("c") // is on its way when the group begins
			if err := o.j.Begin([]uint64{1}); err != nil {
				t.Fatal(err)
			}
			snap(2)
			o.wait(1)
			snap(3)
			n.lead(o.j, o.woken)
			o.propose("d", "e")
			o.wait(2)
			snap(4)
			o.propose("f")
			o.wait(1)
			snap(5)
			want := []string{"a", "b", "c", "d", "e", "f"}
			if !slices.Equal(o.told, want) || o.errs != nil {
				t.Fatalf("told %q, %v", o.told, o.errs)
			}
			if err := o.j.Begin([]uint64{1}); err != nil {
				t.Errorf("a group that is there is not let be: %v", err)
			}
			if err := r.close(); err != nil {
				t.Fatal(err)
			}

			r = openRig(t, fs, 1, 1, filejournal.Options{Sync: true, SegmentBytes: 64 << 10})
			n = r.nodes[0]
			n.run()
			o = openTeller(t, n, 0)
			had := []int{0, 2, 2, 3, 5, 6}[snapshot]
			again := append([]string{"snapshot " + fmt.Sprint(want[:had])}, want[had:]...)
			if !slices.Equal(o.told, again) {
				t.Errorf("replayed %q, want %q", o.told, again)
			}
			// A snapshot of what nobody has changed since begins no earlier than the one before.
			s := o.j.Snapshot()
			s.Write([]byte("all"))
			s.Commit()
			if err := r.close(); err != nil {
				t.Fatal(err)
			}

			r = openRig(t, fs, 1, 1, filejournal.Options{Sync: true, SegmentBytes: 64 << 10})
			n = r.nodes[0]
			n.run()
			if o = openTeller(t, n, 0); !slices.Equal(o.told, []string{"snapshot all"}) {
				t.Errorf("replayed %q behind a snapshot of everything", o.told)
			}
			n.lead(o.j, o.woken)
			o.propose("g")
			o.wait(1)
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFollowersRefuse: only who leads takes batches; all are told of them.
func TestFollowersRefuse(t *testing.T) {
	disks := []*vfs.Mem{vfs.NewMem(), vfs.NewMem(), vfs.NewMem()}
	r := openRig(t, func(i int) (vfs.FS, string) { return disks[i], "/data" }, 3, 1, filejournal.Options{Sync: true, SegmentBytes: 64 << 10})
	var tellers []*teller
	for _, n := range r.nodes {
		n.run()
		o := openTeller(t, n, 0)
		if err := o.j.Begin(r.voters()); err != nil {
			t.Fatal(err)
		}
		tellers = append(tellers, o)
	}
	r.nodes[0].lead(tellers[0].j, tellers[0].woken)
	tellers[1].propose("no")
	tellers[1].wait(1)
	if !slices.Equal(tellers[1].errs, []error{journal.ErrNotLeading}) {
		t.Errorf("a follower's batch: %v, %q", tellers[1].errs, tellers[1].told)
	}
	tellers[0].propose("yes")
	for i, o := range tellers {
		o.wait(1)
		if !slices.Equal(o.told, []string{"yes"}) {
			t.Errorf("node %d has %q", i+1, o.told)
		}
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// TestFullDisk: what a group's log has no room for comes later, in its order; what would need room is refused, and nothing that
// was kept in between counts.
func TestFullDisk(t *testing.T) {
	disk := vfs.NewMem()
	var full atomic.Bool
	disk.Fault = func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpAllocate {
			return syscall.ENOSPC
		}
		return nil
	}
	fs := func(int) (vfs.FS, string) { return disk, "/data" }
	opt := filejournal.Options{Sync: true, SegmentBytes: 32 << 10}
	r := openRig(t, fs, 1, 1, opt)
	n := r.nodes[0]
	n.run()
	o := openTeller(t, n, 0)
	if err := o.j.Begin([]uint64{1}); err != nil {
		t.Fatal(err)
	}
	n.lead(o.j, o.woken)
	var want []string
	big := make([]byte, 5000)
	full.Store(true)
	refused := 0
	for i := 0; refused == 0 && i < 100; i++ {
		text := fmt.Sprintf("%d %s", i, big)
		o.propose(text)
		o.wait(1)
		if refused = len(o.errs); refused == 0 {
			want = append(want, text)
		}
	}
	if refused == 0 || o.errs[0] != journal.ErrDiskFull {
		t.Fatalf("refused: %v", o.errs)
	}
	// What must be kept: it waits until there is room.
	var late []*journal.Batch
	for i := range 12 {
		text := fmt.Sprintf("late %d %s", i, big)
		if i%3 == 2 {
			text = fmt.Sprintf("late %d", i) // fits in where a larger one before it did not
		}
		b := batchOf(text)
		b.Essential = true
		late = append(late, b)
		want = append(want, text)
		o.j.Propose(b)
	}
	full.Store(false)
	o.wait(len(late))
	if !slices.Equal(o.told, want) {
		t.Errorf("%d records were told, want %d", len(o.told), len(want))
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = openRig(t, fs, 1, 1, opt)
	n = r.nodes[0]
	n.run()
	if o = openTeller(t, n, 0); !slices.Equal(o.told, want) {
		t.Errorf("%d records were replayed, want %d", len(o.told), len(want))
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
}

// An entry of an earlier lead, which the log does not have any more, must not hide those of a later one.
func TestOwnEntriesAreInOrder(t *testing.T) {
	var list []own
	for _, o := range []own{{index: 90, term: 6}, {index: 100, term: 6}, {index: 101, term: 6}, {index: 95, term: 10}, {index: 96, term: 10}, {index: 100, term: 10}} {
		list = insertOwn(list, o)
	}
	got := ""
	for _, o := range list {
		got += fmt.Sprintf("%d/%d ", o.index, o.term)
	}
	if want := "90/6 95/10 96/10 100/6 100/10 101/6 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What raft says to a node whose term is over is no answer about its log, if it comes when the term is known.
func TestHints(t *testing.T) {
	message := func(kind raftpb.MessageType, term, index uint64, reject bool) *raftpb.Message {
		return &raftpb.Message{Type: kind.Enum(), Term: &term, Index: &index, Reject: &reject}
	}
	for _, c := range []struct {
		m    *raftpb.Message
		want bool
	}{
		{message(raftpb.MsgAppResp, 5, 0, false), true},
		{message(raftpb.MsgAppResp, 6, 0, false), false}, // news: this node must give up its term
		{message(raftpb.MsgAppResp, 5, 1, false), false},
		{message(raftpb.MsgAppResp, 5, 0, true), false},
		{message(raftpb.MsgHeartbeatResp, 5, 0, false), false},
	} {
		if got := hint(c.m, 5); got != c.want {
			t.Errorf("%v: %v", c.m, got)
		}
	}
}
