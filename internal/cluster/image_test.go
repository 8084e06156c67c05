package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// A keepingOwner refers to every record that was ever decided, by its text, and takes images.
type keepingOwner struct {
	t     *testing.T
	j     *Journal
	woken chan struct{}
	spans map[string]journal.Span
	img   journal.Image
	next  map[string]journal.Span
	lacks []journal.Span
	batch *journal.Batch
}

func (o *keepingOwner) apply(spans map[string]journal.Span, b *journal.Batch) {
	for at := 0; at < len(b.Data); {
		payload, next := journal.NextRecord(b.Data, at)
		span := journal.Span{Ref: b.Base + journal.Ref(at), Size: uint32(next - at)}
		spans[string(payload)] = span
		o.j.Retain([]journal.Span{span})
		at = next
	}
}

// turn does what there is to do.
func (o *keepingOwner) turn() {
	for _, b := range o.j.Committed(nil) {
		switch {
		case b.Err != nil:
			o.t.Error(b.Err)
		case b == o.batch:
			o.batch = nil
			o.apply(o.next, b)
		default:
			o.apply(o.spans, b)
		}
	}
	if o.img == nil {
		if o.img = o.j.Image(); o.img != nil {
			o.begin()
		}
	}
	if o.img != nil {
		o.take()
		return
	}
	if _, ok := o.j.Compact(); ok {
		o.snapshot()
	}
}

// begin asks for all that the image refers to.
func (o *keepingOwner) begin() {
	o.next = map[string]journal.Span{}
	var refs []journal.Ref
	for b := o.img.State(); len(b) > 0; b = b[12:] {
		refs = append(refs, journal.Ref(binary.LittleEndian.Uint64(b)))
	}
	slices.Sort(refs)
	if len(refs) > 0 {
		o.img.Fetch(refs)
	} else {
		o.img.Install()
	}
}

func (o *keepingOwner) take() {
	if o.img.Over() {
		o.img = nil
		return
	}
	if got, ok := o.img.Fetched(); ok {
		o.batch = &journal.Batch{Local: true, Essential: true}
		for _, payload := range got {
			start := len(o.batch.Data)
			o.batch.Data = append(journal.BeginRecord(o.batch.Data), payload...)
			journal.EndRecord(o.batch.Data, start)
		}
		o.j.Propose(o.batch)
		return
	}
	if len(o.next) > 0 && o.batch == nil && o.lacks == nil {
		o.lacks = []journal.Span{{}}
		o.img.Install()
	}
	if o.img.Installed() {
		o.spans, o.img, o.lacks = o.next, nil, nil
		o.snapshot()
	}
}

func (o *keepingOwner) snapshot() {
	s := o.j.Snapshot()
	var b []byte
	for _, text := range slices.Sorted(maps.Keys(o.spans)) {
		b = binary.LittleEndian.AppendUint64(b, uint64(o.spans[text].Ref))
		b = binary.LittleEndian.AppendUint32(b, o.spans[text].Size)
	}
	s.Write(b)
	s.Commit()
}

// TestJoinByImage: over real goroutines, a node that has nothing is made a member, comes to all that was decided before, and follows. In
// memory and on disks.
func TestJoinByImage(t *testing.T) {
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprint("memory ", memory), func(t *testing.T) {
			disks := []*vfs.Mem{vfs.NewMem(), vfs.NewMem()}
			r := openRig(t, func(i int) (vfs.FS, string) { return disks[i], "/data" }, 2, 1, filejournal.Options{Sync: true})
			if memory {
				r.memory = journal.NewBudget(0)
			}
			var owners []*keepingOwner
			for i, n := range r.nodes {
				n.host.cfg.SendImage = func(to uint64, frame []byte) { r.nodes[to-1].host.Images().Deliver(n.id, frame) }
				pull := make(chan struct{}, 1)
				n.host.cfg.WakeImages = func() { signal(pull) }
				n.host.groups[0].storage.images = true
				o := &keepingOwner{t: t, woken: make(chan struct{}, 1), spans: map[string]journal.Span{}}
				o.j = n.journal(0, func() { signal(o.woken) })
				if err := o.j.Replay(nil, nil); err != nil {
					t.Fatal(err)
				}
				owners = append(owners, o)
				begin := o.j.Await
				if i == 0 {
					begin = func() error { return o.j.Begin([]uint64{1}) }
				}
				if err := begin(); err != nil {
					t.Fatal(err)
				}
				n.run()
				n.over.Go(func() { n.host.Images().Run(pull, rigTick, n.stop) })
			}
			one, two := owners[0], owners[1]
			for i := range 100 {
				one.j.Propose(batchOf(fmt.Sprintf("message %d", i)))
			}
			for len(one.spans) < 100 {
				<-one.woken
				one.turn()
			}
			r.nodes[0].host.Wish(Wish{Members: []uint64{1, 2}})
			one.j.Propose(batchOf("the last one"))
			for len(two.spans) < 101 {
				select {
				case <-one.woken:
					one.turn()
				case <-two.woken:
					two.turn()
				}
				if err := r.nodes[1].host.Failed(); err != nil {
					t.Fatal(err)
				}
			}
			for text, span := range two.spans {
				if got, err := two.j.Read([]journal.Ref{span.Ref}, nil); err != nil || string(got[0]) != text {
					t.Fatalf("%q, %v, want %q", got, err, text)
				}
			}
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A state takes another's place only when nothing that this node alone has kept is on its way: the new one's snapshot would begin behind it without having it.
func TestMovedWhileStatesChange(t *testing.T) {
	c := newTrio(t)
	j, log, h := c.journals[1], c.logs[1], c.hosts[1]
	img := &image{g: h.groups[0]}
	img.installed.Store(true)
	if !img.Installed() {
		t.Fatal("it waits for nothing")
	}
	b := batchOf("moved")
	b.Local = true
	j.Propose(b)
	if !img.Installed() {
		t.Fatal("it waits for what lies behind where the snapshot begins")
	}
	for len(log.appended) > 0 {
		log.answer(nil)
	}
	if img.Installed() {
		t.Fatal("it does not wait for what the log has kept")
	}
	h.Turn()
	if img.Installed() {
		t.Fatal("it does not wait for what is on its way to the owner")
	}
	j.Committed(nil)
	if !img.Installed() || img.behind != log.end {
		t.Fatalf("the snapshot begins at %d, want %d", img.behind, log.end)
	}
}

// TestImageKeepsTheVote: who has voted in a term votes for nobody else in it, though its log is replaced; an image of a later term knows no vote.
func TestImageKeepsTheVote(t *testing.T) {
	j := &Journal{g: &group{}}
	j.g.storage.hard.Term, j.g.storage.hard.Vote = new(uint64(7)), new(uint64(3))
	for _, c := range []struct{ term, want, vote uint64 }{{6, 7, 3}, {7, 7, 3}, {8, 8, 0}} {
		j.installing = &image{index: 40, term: c.term, conf: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}
		if h, _ := j.installHead(); h.term != c.want || h.vote != c.vote || h.commit != 40 || h.baseTerm != c.term {
			t.Errorf("an image of term %d: %+v", c.term, h)
		}
	}
}
