package cluster

import (
	"cmp"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/spare"
	"go.etcd.io/raft/v3/raftpb"
)

// An offer is a group that needs an image, and the node that has said so: its leader.
type offer struct {
	group int
	from  uint64
	at    uint64 // the tick
}

// An image is one on its way to this node. What is not guarded by mu belongs to Images.
type image struct {
	i           *Images
	g           *group
	from        uint64
	id          uint64
	index, term uint64
	conf        *raftpb.ConfState
	size, sum   uint64
	asked       uint64 // the tick of the latest question, and of the latest answer
	heard       uint64
	whole       bool   // the state is there
	serial      uint64 // of the latest question for records

	empty   bool   // nobody sends it: this node is to forget what it has (vacate.go)
	applied uint64 // as its leader has said, who had applied all up to this entry

	behind journal.Ref // the new state has all before it: when the owner put it in the old one's place. The owner's

	over      atomic.Bool // it is of no use any more
	life      int64       // of the group, when it was begun
	alike     atomic.Bool // what the owner has under a seq is what the image has under it
	installed atomic.Bool // the shard's owner is to put the new state in the place of the old one

	mu    sync.Mutex
	state []byte
	refs  []journal.Ref // the owner asks for these
	got   [][]byte
	have  bool   // got is there
	frame []byte // that got lies in
}

var _ journal.Image = (*image)(nil)

// offered is told that a group of this node needs an image.
func (i *Images) offered(group int, from uint64) {
	i.post(func() {
		at := slices.IndexFunc(i.offers, func(o offer) bool { return o.group == group })
		if at < 0 {
			i.offers = append(i.offers, offer{group, from, i.now})
			return
		}
		i.offers[at].from, i.offers[at].at = from, i.now
	})
}

// take goes on with the image that is on its way, or begins the next.
func (i *Images) take() {
	t := i.taking
	if t != nil && t.over.Load() {
		if t.installed.Load() && !t.empty {
			i.send(t.from, &frame{kind: frameDone, group: uint64(t.g.number), image: t.id})
		}
		i.offers = slices.DeleteFunc(i.offers, func(o offer) bool { return o.group == t.g.number })
		i.taking, t = nil, nil
	}
	if t == nil {
		i.offers = slices.DeleteFunc(i.offers, func(o offer) bool { return i.now-o.at > patience })
		if len(i.offers) == 0 {
			return
		}
		o := i.offers[0]
		t = &image{i: i, g: i.h.groups[o.group], from: o.from, heard: i.now}
		t.life = t.g.life.Load()
		i.taking = t
		i.question(t)
		return
	}
	if t.installed.Load() {
		return
	}
	t.mu.Lock()
	news := t.refs != nil && t.serial == 0
	t.mu.Unlock()
	switch {
	case news:
		i.question(t)
	case i.now-t.heard > patience && (!t.whole || t.serial != 0): // the owner may take its time, who is asked may not
		i.giveUp(t)
	case i.now-t.asked >= askAgain && (!t.whole || t.serial != 0):
		i.question(t)
	}
}

// giveUp ends an image that cannot be got. Another offer will come.
func (i *Images) giveUp(t *image) {
	i.h.cfg.Tracef("group %d: the image from node %d is given up", t.g.number, t.from)
	t.end()
}

// end says that the image is of no use any more, or has served its purpose.
func (t *image) end() {
	t.over.Store(true)
	t.i.post(func() {})
	t.g.journal.wake()
}

// question asks for what is needed next.
func (i *Images) question(t *image) {
	if t.asked = i.now; !t.whole {
		i.send(t.from, &frame{kind: frameAskState, group: uint64(t.g.number), image: t.id, offset: uint64(len(t.state))})
		return
	}
	t.mu.Lock()
	refs := t.refs
	t.mu.Unlock()
	if t.serial == 0 {
		i.serial++
		t.serial, t.heard = i.serial, i.now
	}
	i.send(t.from, &frame{kind: frameAskRecords, group: uint64(t.g.number), image: t.id, serial: t.serial, refs: refs})
}

// answered takes what another node has said to a question.
func (i *Images) answered(from uint64, f frame) {
	t := i.taking
	if t == nil || t.from != from || t.g.number != int(f.group) || t.over.Load() || t.installed.Load() || t.id != 0 && f.image != t.id {
		return // an answer to an earlier question
	}
	switch f.kind {
	case frameLater:
		t.heard = i.now
	case frameNone:
		i.giveUp(t)
	case frameState:
		i.addState(t, &f)
	case frameRecords:
		i.addRecords(t, &f)
	}
}

// addState takes a part of the state.
func (i *Images) addState(t *image, f *frame) {
	if t.whole {
		return
	}
	if t.id == 0 {
		conf, ok := member(f.conf, i.h.cfg.ID)
		if !ok || f.index == 0 || f.image == 0 { // from before this node was made a member; or of no use
			i.giveUp(t)
			return
		}
		t.id, t.index, t.term, t.conf, t.size, t.sum = f.image, f.index, f.term, conf, f.size, f.sum
	}
	if f.index != t.index || f.term != t.term || f.size != t.size || f.sum != t.sum || f.offset != uint64(len(t.state)) {
		return // another part comes
	}
	t.state, t.heard = append(t.state, f.data...), i.now
	if uint64(len(t.state)) < t.size {
		i.question(t)
		return
	}
	if uint64(crc32.Checksum(t.state, castagnoli)) != t.sum {
		i.h.cfg.Logf("group %d: the checksum of the state from node %d is wrong", t.g.number, t.from)
		i.giveUp(t)
		return
	}
	t.whole = true
	t.g.post(func(g *group) {
		t.alike.Store(!g.alien)
		g.journal.image.Store(t)
		g.journal.wake()
	})
}

// Empty implements journal.Image.
func (t *image) Empty() bool { return t.empty }

// Alike implements journal.Image.
func (t *image) Alike() bool { return t.alike.Load() }

// Here implements journal.Image.
func (t *image) Here(ref journal.Ref) bool { return t.g.log.Here(ref) }

// addRecords takes the records that were asked for last.
func (i *Images) addRecords(t *image, f *frame) {
	t.mu.Lock()
	fits := t.serial != 0 && f.serial == t.serial && len(f.records) == len(t.refs)
	if fits {
		t.got, t.have, t.refs, t.frame = f.records, true, nil, f.whole
	}
	t.mu.Unlock()
	if fits {
		t.serial, t.heard = 0, i.now
		t.g.journal.wake()
	}
}

// State implements journal.Image. It is handed over once.
func (t *image) State() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.state
	t.state = nil
	return b
}

// Fetch implements journal.Image.
func (t *image) Fetch(refs []journal.Ref) {
	t.mu.Lock()
	t.refs = slices.Clone(refs)
	spare.Put(t.frame) // the owner has kept what was in it
	t.frame = nil
	t.mu.Unlock()
	t.i.post(func() {})
}

// Fetched implements journal.Image.
func (t *image) Fetched() ([][]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got, have := t.got, t.have
	t.got, t.have = nil, false
	return got, have
}

// Install implements journal.Image.
func (t *image) Install() { t.g.post(func(g *group) { g.install(t) }) }

// Installed implements journal.Image. It is not as long as something that this node alone has kept is on its way to the owner: what shards have in
// common one of them moves for all, at any time. The new state's snapshot would begin behind it without having it.
func (t *image) Installed() bool {
	if !t.installed.Load() {
		return false
	}
	end, told := t.g.log.End() // first, as in Journal.place
	if told = told && t.g.idle(); told {
		t.behind = end
	}
	return told
}

// Over implements journal.Image.
func (t *image) Over() bool { return t.over.Load() && !t.installed.Load() }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	if len(m) == 0 {
		return nil // as for most groups in most ticks
	}
	return slices.Sorted(maps.Keys(m))
}
