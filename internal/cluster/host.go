package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	// maxMessage is how many bytes of entries one message holds, unless one entry is larger.
	maxMessage = 1 << 20
	// entryBytes is where an entry takes no further batch.
	entryBytes = 128 << 10
	// maxInflight is how many messages with entries may be on their way to one member, besides InflightBytes.
	maxInflight = 1024
	// maxQueued is how many bytes of committed entries wait for a shard before raft hands over no more.
	maxQueued = 4 << 20
)

// Config says what a host is. All but ID, Send and Wake have defaults.
type Config struct {
	// ID is the node's, never 0, and never another node's, not even after this one is gone for good.
	ID uint64
	// Groups is how many there are.
	Groups int
	// ElectionTicks is after how many ticks without a leader one is elected, 10; HeartbeatTicks how often a leader says that it is there, 1.
	ElectionTicks, HeartbeatTicks int
	// InflightBytes is how many bytes of entries of a group may be on their way to one member, 8 MiB.
	InflightBytes int64
	// UncommittedBytes is how many bytes a group may have proposed and not committed, 32 MiB; what is more waits.
	UncommittedBytes int64
	// CacheBytes is how much of the latest entries all groups together keep in memory, 32 MiB.
	CacheBytes int64
	// TrailBytes is how much of the latest entries of all groups together the log keeps in any case, 64 MiB. What a member is
	// known to lack it keeps besides.
	TrailBytes int64
	// IndexEntries is how many entries all groups together have in their index before snapshots are asked for that make it shorter, 1 Mi:
	// they take about 48 bytes each.
	IndexEntries int
	// Send sends a packet to another node. It must not wait, and may lose it. The bytes are its own.
	Send func(to uint64, packet []byte)
	// Wake says that there is something for Turn. It is called from any goroutine, and must not wait.
	Wake func()
	// KeepBytes is how much of its log a leader keeps for members that lag or are away, 128 MiB. Who lacks more needs an image.
	KeepBytes int64
	// SendImage sends a frame of an image to another node, WakeImages says that there is something for Images.Turn, both as Send and Wake do. Without
	// them there are no images, and the log is kept for as long as somebody lacks it.
	SendImage  func(to uint64, frame []byte)
	WakeImages func()
	// ImageRate is how many bytes of images this node sends in a tick, 2 MiB.
	ImageRate int64
	// MayLead reports whether a node may lead a group, so far as others than raft have a say in it: nil, and any may. Who may not, and was elected, gives
	// the lead to one who may. It must not wait.
	MayLead func(group int, node uint64) bool
	// Gathered reports whether all groups are to be led by who leads the first one: then leads are not balanced, and are given away with that one. nil: they are
	// not. MayLead has to say the same. It must not wait.
	Gathered func() bool
	// Now is the time since any moment, which paces what members get that are behind; nil: ticks are all that is known.
	Now func() time.Duration
	// Memory says that the groups' logs are in memory: the id is that of one life of a node (MemberID).
	Memory bool
	// Logf is told what an operator should know; nil tells nobody.
	Logf func(format string, args ...any)
	// Tracef is told what happens to each group whenever nodes come and go, which is for who looks for a fault; nil, and Logf is.
	Tracef func(format string, args ...any)
}

func (c Config) withDefaults() Config {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.InflightBytes, 8<<20)
	set(&c.UncommittedBytes, 32<<20)
	set(&c.CacheBytes, 32<<20)
	set(&c.TrailBytes, 64<<20)
	if c.IndexEntries == 0 {
		c.IndexEntries = 1 << 20
	}
	set(&c.KeepBytes, 128<<20)
	set(&c.ImageRate, 2<<20)
	if c.ElectionTicks == 0 {
		c.ElectionTicks = 10
	}
	if c.HeartbeatTicks == 0 {
		c.HeartbeatTicks = 1
	}
	if c.MayLead == nil {
		c.MayLead = func(int, uint64) bool { return true }
	}
	if c.Gathered == nil {
		c.Gathered = func() bool { return false }
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Tracef == nil {
		c.Tracef = c.Logf
	}
	c.InflightBytes = max(c.InflightBytes, maxMessage)
	return c
}

// A Host steps all groups of a node. Turn is called by one goroutine at a time, its owner; what is in inputs comes from any.
type Host struct {
	cfg     Config
	groups  []*group
	out     map[uint64]*packet // what this turn sends, by node
	targets []uint64           // the keys of out, in order
	now     uint64             // ticks so far
	leads   atomic.Int32
	wish    Wish
	status  atomic.Pointer[[]GroupStatus] // as of the last tick; anybody's
	failure atomic.Pointer[error]
	images  *Images
	renewal *renewal // decided, and not done yet
	epoch   atomic.Uint64
	pace    pace

	mu     sync.Mutex
	inputs inputs
}

// inputs are what has come up since the last turn. Guarded by Host.mu.
type inputs struct {
	ticks    int
	packets  []received
	posts    []func()
	campaign []int
}

type received struct {
	epoch uint64 // in which it was said; 0: the groups have none, and it counts
	from  uint64
	data  []byte
}

// late reports whether it was said in another epoch than that of now.
func (p *received) late(h *Host) bool { return p.epoch != 0 && p.epoch != h.Epoch() }

// New makes a host without groups.
func New(cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	if cfg.ID == 0 || raft.IsLocalMsgTarget(cfg.ID) {
		return nil, fmt.Errorf("cluster: %d is no node's id", cfg.ID)
	}
	if cfg.ElectionTicks <= cfg.HeartbeatTicks {
		return nil, errors.New("cluster: an election must take more ticks than a heartbeat")
	}
	h := &Host{cfg: cfg, out: map[uint64]*packet{}}
	h.images = &Images{h: h, made: map[int]*making{}}
	for i := range cfg.Groups {
		g := &group{host: h, number: i}
		g.storage.cacheLimit = max(cfg.CacheBytes/int64(cfg.Groups), 1)
		g.storage.trailLimit = max(cfg.TrailBytes/int64(cfg.Groups), 1)
		g.storage.indexLimit = max(cfg.IndexEntries/cfg.Groups, 1)
		g.storage.pace = &h.pace
		g.storage.images = cfg.SendImage != nil
		h.groups = append(h.groups, g)
	}
	return h, nil
}

// Journal is shard i's journal over its part of the node's log. It wakes its owner through wake. The log is opened with what is
// returned beside it, which must be called when the log has something new.
func (h *Host) Journal(i int, wake func(), open func(wake func()) Log) *Journal {
	g := h.groups[i]
	j := &Journal{g: g, wake: wake}
	g.journal = j
	g.log = open(wake)
	g.log.Notify(func() {
		if j.replicated.Load() {
			g.stirred.Store(true)
			h.cfg.Wake() // the shard hears of it when it counts
		} else {
			wake()
		}
	})
	j.log, g.storage.log = g.log, g.log
	return j
}

// Deliver takes a packet that another node has sent. The bytes are the host's from here on.
func (h *Host) Deliver(from uint64, packet []byte) { h.deliver(0, from, packet) }

// deliver takes what was said in that epoch. The host may be in another one when it comes to it.
func (h *Host) deliver(epoch, from uint64, packet []byte) {
	h.input(func(in *inputs) { in.packets = append(in.packets, received{epoch, from, packet}) })
}

// Tick says that a tick's time has passed.
func (h *Host) Tick() { h.input(func(in *inputs) { in.ticks++ }) }

// Campaign has a group elect a leader now, this node if it may: for tests, and to spread leaders.
func (h *Host) Campaign(group int) {
	h.input(func(in *inputs) { in.campaign = append(in.campaign, group) })
}

// Transfer asks that another node leads a group that this one leads.
func (h *Host) Transfer(group int, to uint64) {
	h.post(func() {
		if raw := h.groups[group].raw; raw != nil && raw.BasicStatus().Lead != to { // it may do already, since this was asked for
			raw.TransferLeader(to)
		}
	})
}

// Unreachable says that what was sent to a node may not have arrived.
func (h *Host) Unreachable(node uint64) {
	h.post(func() {
		for _, g := range h.groups {
			if g.raw != nil {
				g.raw.ReportUnreachable(node)
				g.mayLack(node)
			}
		}
	})
}

func (h *Host) post(f func()) { h.input(func(in *inputs) { in.posts = append(in.posts, f) }) }

func (h *Host) input(f func(*inputs)) {
	h.mu.Lock()
	f(&h.inputs)
	h.mu.Unlock()
	h.cfg.Wake()
}

// Failed is why nothing can be promised any more, or nil: the process must end.
func (h *Host) Failed() error {
	if p := h.failure.Load(); p != nil {
		return *p
	}
	return nil
}

func (h *Host) fail(err error) {
	if !h.failure.CompareAndSwap(nil, &err) {
		return
	}
	h.cfg.Logf("this node of the cluster has failed: %v", err)
	for _, g := range h.groups {
		if g.live {
			g.journal.wake()
		}
	}
}

// Turn deals with all that has come up. It never waits for a disk, but where an entry is no longer in memory that a member lacks.
func (h *Host) Turn() {
	if h.Failed() != nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			err, ours := r.(fatal)
			if !ours {
				panic(r) // not what raft says when it cannot go on: a fault in the program
			}
			h.fail(err.error)
		}
	}()
	h.mu.Lock()
	in := h.inputs
	h.inputs = inputs{}
	h.mu.Unlock()

	for _, f := range in.posts {
		f()
	}
	all := in.ticks > 0 || len(in.posts) > 0 || len(in.campaign) > 0 || h.renewal != nil
	for _, g := range h.groups {
		if g.due = all || g.stirs(); g.due && g.live {
			g.kept()
		}
	}
	for _, p := range in.packets {
		h.receive(p)
	}
	for range in.ticks {
		h.tick()
	}
	h.renew()
	for _, i := range in.campaign {
		if g := h.groups[i]; g.raw != nil {
			_ = g.raw.Campaign() // it is refused where this node may not lead
		}
	}
	h.feed()
	for _, g := range h.groups {
		if g.due {
			g.admit()
			g.ready()
			g.halt()
		}
	}
	h.sent()
	h.countLeads()
	h.flush()
}

func (h *Host) tick() {
	h.now++
	h.pace.late = false
	h.pace.busy.Store(h.pace.loaded > 0 && h.now-h.pace.loaded < uint64(h.cfg.ElectionTicks))
	for _, g := range h.groups {
		if g.raw != nil {
			g.retry()
			g.age()
			if g.installing == nil {
				g.raw.Tick()
			}
			g.note()
			g.trim()
			g.relieve()
			g.expire()
			g.reconcile()
			g.beFrank()
			g.cede()
			g.herald()
			g.hush()
		}
	}
	if !h.cfg.Memory { // those in memory are led from where the others are
		h.balance()
	}
	h.report()
}

// receive takes the messages of a packet. One that is not whole is as good as lost.
func (h *Host) receive(p received) {
	if p.late(h) {
		return
	}
	err := EachMessage(p.data, func(group uint64, m *raftpb.Message, needed uint64) error {
		if group >= uint64(len(h.groups)) || m.GetFrom() != p.from || m.GetTo() != h.cfg.ID {
			return fmt.Errorf("a message for group %d from node %d to node %d", group, m.GetFrom(), m.GetTo())
		}
		g := h.groups[group]
		g.due = true
		if needed > 0 && m.GetTerm() >= g.term {
			g.told = needed
		}
		switch {
		case m.GetType() == msgLead:
			g.heralded(m)
		case m.GetType() == raftpb.MsgSnap:
			g.needs(m)
		case !hint(m, g.term) && g.hears(m):
			g.step(m)
		}
		return nil
	})
	if err != nil {
		h.cfg.Logf("a packet from node %d is left out: %v", p.from, err)
	}
}

// hint reports whether a message is only what raft says to somebody whose term is over, and came when that was known. Raft would take
// it for the answer of a member that has nothing at all, and go back to the first entry, which the log no longer has.
func hint(m *raftpb.Message, term uint64) bool {
	return m.GetType() == raftpb.MsgAppResp && !m.GetReject() && m.GetIndex() == 0 && m.GetTerm() <= term
}

// send adds a message to what this turn sends.
func (h *Host) send(group int, m *raftpb.Message) {
	to := m.GetTo()
	if to == raft.None {
		return // an answer to nobody: the leader asks again
	}
	if m.GetType() == raftpb.MsgSnap { // only an offer: the member asks for the image
		h.groups[group].offer(to)
		m.Index = new(m.GetSnapshot().GetMetadata().GetIndex())
	}
	p := h.out[to]
	if p == nil {
		p = newPacket()
		h.out[to] = p
		at, _ := slices.BinarySearch(h.targets, to)
		h.targets = slices.Insert(h.targets, at, to)
	}
	needed := uint64(0)
	if m.GetType() == raftpb.MsgHeartbeat {
		needed = h.groups[group].lacking
	}
	p.add(group, m, needed)
	if p.size() >= fullPacket {
		h.cfg.Send(to, p.bytes())
		*p = *newPacket()
	}
}

// flush sends what is left: one packet for each node, the heartbeats of all groups among it.
func (h *Host) flush() {
	for _, to := range h.targets {
		if p := h.out[to]; p.size() > 0 {
			h.cfg.Send(to, p.bytes())
		}
		delete(h.out, to)
	}
	h.targets = h.targets[:0]
}

// Close notes how far each group is committed, so that the next start hands all of it on at once. The log keeps it when it is closed;
// nothing else of the host is called again.
func (h *Host) Close() {
	for _, g := range h.groups {
		if g.raw == nil || h.Failed() != nil || len(g.writes) > 0 {
			continue // without it the next start finds out from the others
		}
		w := &write{}
		hard := &g.storage.hard
		w.mark(g.number, &mark{kind: markState, term: hard.GetTerm(), vote: hard.GetVote(), commit: hard.GetCommit()})
		w.batch.Essential, w.batch.Owner = true, w
		g.write(w)
	}
}

// fatal is thrown where raft says that it cannot go on: what it was promised to be kept is not there.
type fatal struct{ error }

// logger passes on what raft says when something is wrong.
type logger struct{ g *group }

func (l logger) Debug(...any)            {}
func (l logger) Debugf(string, ...any)   {}
func (l logger) Info(...any)             {}
func (l logger) Infof(string, ...any)    {}
func (l logger) Warning(...any)          {}
func (l logger) Warningf(string, ...any) {}
func (l logger) Error(v ...any)          { l.say(fmt.Sprint(v...)) }
func (l logger) Errorf(f string, v ...any) {
	l.say(fmt.Sprintf(f, v...))
}
func (l logger) Fatal(v ...any)            { l.Panic(v...) }
func (l logger) Fatalf(f string, v ...any) { l.Panicf(f, v...) }
func (l logger) Panic(v ...any)            { l.Panicf("%s", fmt.Sprint(v...)) }
func (l logger) Panicf(f string, v ...any) {
	panic(fatal{fmt.Errorf("cluster: group %d: "+f, append([]any{l.g.number}, v...)...)}) // Turn recovers it
}

func (l logger) say(text string) { l.g.host.cfg.Logf("group %d: %s", l.g.number, text) }
