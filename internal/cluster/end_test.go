package cluster

import (
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

// TestEnd: when the others are lost for good, a member has all that it ever had, and goes on alone; and may begin a group again.
func TestEnd(t *testing.T) {
	disks := []*vfs.Mem{vfs.NewMem(), vfs.NewMem(), vfs.NewMem()}
	fs := func(i int) (vfs.FS, string) { return disks[i], "/data" }
	opt := filejournal.Options{Sync: true, SegmentBytes: 64 << 10}
	r := openRig(t, fs, 3, 1, opt)
	var tellers []*teller
	for _, n := range r.nodes {
		n.run()
		o := openTeller(t, n, 0)
		if err := o.j.Begin(r.voters()); err != nil {
			t.Fatal(err)
		}
		tellers = append(tellers, o)
	}
	one := tellers[0]
	r.nodes[0].lead(one.j, one.woken)
	one.propose("a", "b")
	one.wait(2)
	s := one.j.Snapshot()
	s.Write([]byte("a b"))
	s.Commit()
	r.cut.Store(true)
	one.propose("never committed")
	n := r.nodes[0]
	for sure := make(chan bool, 1); ; { // until its own log has it
		n.host.post(func() {
			st := &n.host.groups[0].storage
			st.mu.Lock()
			defer st.mu.Unlock()
			sure <- st.last() > n.host.groups[0].raw.BasicStatus().GetCommit()
		})
		if <-sure {
			break
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}

	r = openRig(t, fs, 1, 1, opt)
	o := openTeller(t, r.nodes[0], 0)
	if e := o.j.Ending(); !e.Group || e.Empty || e.Unknown == 0 {
		t.Errorf("before the end: %+v", e)
	}
	for range 2 { // the second time there is nothing to end
		if err := o.j.End(o.woken); err != nil {
			t.Fatal(err)
		}
		if err := r.nodes[0].log.Close(); err != nil {
			t.Fatal(err)
		}
		r = openRig(t, fs, 1, 1, opt)
		o = openTeller(t, r.nodes[0], 0)
		if e := o.j.Ending(); e.Group {
			t.Errorf("after the end: %+v", e)
		}
	}
	want := []string{"snapshot a b", "never committed"}
	if !slices.Equal(o.told, want) {
		t.Fatalf("it has %q, want %q", o.told, want)
	}
	r.nodes[0].run()
	o.propose("alone") // without a group, and a leader
	o.wait(1)
	if err := o.j.Begin([]uint64{1}); err != nil {
		t.Fatal(err)
	}
	r.nodes[0].lead(o.j, o.woken)
	o.propose("again")
	o.wait(1)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = openRig(t, fs, 1, 1, opt)
	r.nodes[0].run()
	o = openTeller(t, r.nodes[0], 0)
	if want := append(want, "alone", "again"); !slices.Equal(o.told, want) {
		t.Errorf("it has %q, want %q", o.told, want)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
}

// A group that ends at another entry than its last one was not ended by End: what lies behind would be lost.
func TestEndInTheMiddle(t *testing.T) {
	st := &storage{}
	p := &replayer{st: st, record: func(journal.Ref, []byte) error { return nil }}
	for _, m := range []mark{{kind: markOrigin, term: 1, index: 1}, {kind: markEntry, term: 2, index: 2}, {kind: markEntry, term: 2, index: 3}} {
		if err := p.mark(1, m, 20); err != nil {
			t.Fatal(err)
		}
	}
	if p.mark(2, mark{kind: markEnd, index: 2}, 20) == nil {
		t.Error("it ended before its last entry")
	}
	if err := p.mark(2, mark{kind: markEnd, index: 3}, 20); err != nil {
		t.Error(err)
	}
	if err := p.mark(3, mark{kind: markOrigin, term: 1, index: 1}, 20); err != nil {
		t.Errorf("it does not begin again: %v", err)
	}
}
