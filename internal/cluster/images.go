package cluster

import (
	"sync"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// Images makes images of this node's groups for members that lack what the log no longer has (make.go), and takes those that
// this node needs (take.go). It belongs to the goroutine that calls Turn, which must not be the host's: it reads the disk. Only the
// inputs come from any goroutine, and each image has a part that its shard's owner sees.
//
// A frame may be lost, or come twice: whoever asks, asks again; whoever answers remembers nothing but what images there are.
type Images struct {
	h    *Host
	now  uint64 // ticks so far
	made map[int]*making
	asks []ask // to be answered when the budget allows
	left int64 // of the budget
	pace imagePace

	offers []offer // groups that need one, in the order in which that became known
	taking *image  // one at a time, so that memory is bounded
	serial uint64  // of questions for records

	mu     sync.Mutex
	inputs imageInputs
}

// imageInputs are what has come up since the last turn. Guarded by Images.mu.
type imageInputs struct {
	ticks  int
	frames []received
	posts  []func()
}

// An ask is a question of a member.
type ask struct {
	from uint64
	f    frame
}

const (
	// askAgain is after how many ticks without an answer a question is said again; patience, after how many an image is given up.
	askAgain, patience = 10, 200
	// unused is after how many ticks without a question an image is forgotten.
	unused = 2 * patience
	// stateBytes is how much of a state goes into a frame.
	stateBytes = 512 << 10
	// maxAsks is how many questions wait; what is more is left out, and comes again.
	maxAsks = 256
)

// Images is this host's. There is one; nothing happens in it unless Config.SendImage is set.
func (h *Host) Images() *Images { return h.images }

// Deliver takes a frame that another node has sent. The bytes are its own from here on.
func (i *Images) Deliver(from uint64, frame []byte) {
	i.deliver(0, from, frame)
}

// deliver takes what was said in that epoch of the host's.
func (i *Images) deliver(epoch, from uint64, frame []byte) {
	i.input(func(in *imageInputs) { in.frames = append(in.frames, received{epoch, from, frame}) })
}

// Tick says that a tick's time has passed.
func (i *Images) Tick() { i.input(func(in *imageInputs) { in.ticks++ }) }

func (i *Images) post(f func()) { i.input(func(in *imageInputs) { in.posts = append(in.posts, f) }) }

func (i *Images) input(f func(*imageInputs)) {
	i.mu.Lock()
	f(&i.inputs)
	i.mu.Unlock()
	if i.h.cfg.WakeImages != nil {
		i.h.cfg.WakeImages()
	}
}

// Run is its owner where nothing else is, as Host.Run.
func (i *Images) Run(wake <-chan struct{}, tick time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	pause := time.NewTimer(tick)
	defer pause.Stop()
	for {
		select {
		case <-wake:
		case <-pause.C:
		case <-ticker.C:
			i.Tick()
		case <-stop:
			i.close()
			return
		}
		i.Turn()
		if d := i.pause(); d > 0 {
			pause.Reset(d)
		}
	}
}

// close lets go of what is open.
func (i *Images) close() {
	for group := range i.h.groups { // in order, as a map has none
		if m := i.made[group]; m != nil {
			i.forget(m)
		}
	}
}

// Turn deals with all that has come up.
func (i *Images) Turn() {
	if i.h.Failed() != nil || i.h.cfg.SendImage == nil {
		return
	}
	i.mu.Lock()
	in := i.inputs
	i.inputs = imageInputs{}
	i.mu.Unlock()
	for _, f := range in.posts {
		f()
	}
	for _, p := range in.frames {
		if p.late(i.h) {
			continue
		}
		f, err := parseFrame(p.data)
		if err != nil || f.group >= uint64(len(i.h.groups)) {
			i.h.cfg.Logf("a frame of an image from node %d is left out: %v", p.from, err)
			continue
		}
		i.receive(p.from, f)
	}
	for range in.ticks {
		i.now++
		i.left = min(i.left+i.h.cfg.ImageRate, i.h.cfg.ImageRate)
	}
	if in.ticks > 0 {
		i.look()
	}
	i.answer()
	i.take()
}

func (i *Images) receive(from uint64, f frame) {
	switch f.kind {
	case frameAskState, frameAskRecords:
		if i.pace.asked(i); len(i.asks) < maxAsks {
			i.asks = append(i.asks, ask{from, f})
		}
	case frameDone:
		i.done(from, f)
	default:
		i.answered(from, f)
	}
}

func (i *Images) send(to uint64, f *frame) { i.h.cfg.SendImage(to, f.encode()) }

// A making is an image of a group that members ask for.
type making struct {
	g           *group
	id          uint64 // 0: the snapshot is on its way
	index, term uint64
	stored      journal.Stored
	conf        []byte
	held        func() bool // its records are still there
	release     func()
	asked       uint64            // the tick in which somebody asked for it last
	members     map[uint64]uint64 // who asks, and when they did last
	since       uint64            // the tick in which it began
	appended    int64             // storage.appended then
}
