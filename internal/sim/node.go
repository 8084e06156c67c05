package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/placement"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// epoch is the wall clock's time when a world begins, unix ns.
const epoch = int64(1_800_000_000e9)

// A Node is one machine: a disk, a clock, and the process that runs on it now, if one does.
type Node struct {
	w     *World
	home  *home
	name  string
	id    uint64
	pace  float64        // of its host's clock
	plan  placement.Plan // where the shards shall be, as far as it has heard; nil: everywhere
	disk  *vfs.Mem
	ahead time.Duration // of the wall clock: it jumps
	wall  int64         // the latest time that it has shown

	before   time.Duration // ahead before the latest jump
	jumpedAt time.Duration
	lives    int
	life     *life
	dying    *death
	flips    []flip

	elsewhere bool // its disk is reached as a database is: remote.go

	doomed  bool // the power goes soon after the next start
	refused bool // to start, or to go on, after its disk had lied
	fault   faults
}

// A life is one process.
type life struct {
	n       *Node
	number  int
	log     *filejournal.Log
	broker  *broker.Broker
	journal journal.Journal // of one of the shards
	remotes [broker.Shards]*remote
	tasks   []*task
	conns   []*conn

	host                   *cluster.Host // in a cluster
	hostWake               chan struct{}
	imageWake              chan struct{}
	memory                 *cluster.Host // of the groups in memory
	keeper                 *cluster.Keeper
	memoryWake, memoryPull chan struct{}
	remembers              bool // its groups in memory are there
	leaving                bool
	broke                  uint64        // the step in which a line to another node has broken last
	arrivals               []arrival     // of what other nodes' brokers have said
	left                   chan struct{} // closed when the host has ended

	ready  bool   // clients may come
	failed uint64 // the step in which it said that nothing can be promised any more; 0: it has not
	before *vfs.Mem
}

// A death is how a process ends, and what it leaves on the disk.
type death struct {
	how  string
	left *vfs.Mem
}

// A flip is a byte of the disk that has changed by itself.
type flip struct {
	file string
	at   int64
	mask byte
}

func (w *World) addNode() *Node {
	n := &Node{w: w, home: w.addHome(), name: fmt.Sprint("n", len(w.nodes)+1), id: uint64(len(w.nodes) + 1), pace: 1, disk: vfs.NewMem(), wall: epoch, elsewhere: w.Seed%4 == 2 && !w.cfg.alone() && !w.cfg.Cluster}
	if w.cfg.Cluster {
		n.pace = 0.85 + 0.3*w.rng.Float64()
	}
	w.nodes = append(w.nodes, n)
	return n
}

// time is what the node's clock shows.
func (n *Node) time() int64 {
	t := epoch + int64(n.w.now+n.ahead)
	n.wall = max(n.wall, t)
	if n.w.cfg.Cluster { // who leads may be another
		for _, o := range n.w.nodes {
			o.wall = max(o.wall, t)
		}
	}
	return t
}

// jump moves the node's clock.
func (n *Node) jump(d time.Duration) {
	n.before, n.jumpedAt = n.ahead, n.w.now
	n.ahead += d
	n.w.stats.Jumps++
	n.w.note(n.name, "the clock jumps by %s", d)
	n.w.check.jumped(n)
}

// Read gives chance to the journal that is being made.
func (n *Node) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n.w.rng.Uint32())
	}
	return len(p), nil
}

func logOptions(n *Node) filejournal.Options {
	return filejournal.Options{
		Sync: true, Shards: broker.Shards, SegmentBytes: 32 << 10, CacheBytes: 1, CompactSlack: 32 << 10, CompactEvery: 24 << 10,
		Scheduler: scheduler{n}, Random: n,
		Logf: func(format string, args ...any) { n.w.note(n.name, "log: "+format, args...) },
	}
}

// boot starts a process.
func (n *Node) boot() {
	if n.life != nil || n.w.failure != "" {
		return
	}
	n.lives++
	l := &life{n: n, number: n.lives, before: n.disk.Kill(), left: make(chan struct{})}
	n.life = l
	n.disk.Fault = l.fault
	n.w.note(n.name, "life %d begins", l.number)
	scheduler{n}.Go(func() {
		if err := l.start(); err != nil {
			n.cannotStart(err)
		}
	})
}

func (l *life) start() (err error) {
	n := l.n
	if l.log, err = filejournal.Open(n.disk, "data", logOptions(n)); err != nil {
		return err
	}
	cut := l.log.Recovered()
	if cut.Cut > 0 {
		n.w.stats.Torn++
		for _, f := range n.flips {
			if f.file == cut.CutFile && f.at >= cut.End {
				return &wal.Damage{File: f.file, Offset: f.at, Why: "simulated, and taken for a torn tail"}
			}
		}
	}
	boot := uint32(l.number)
	if n.w.cfg.Cluster {
		boot |= uint32(n.id)<<16 | 1<<31
		if err := l.join(); err != nil {
			return err
		}
	}
	budget := journal.NewBudget(16 << 20)
	opt := broker.Options{
		Version: "sim", Node: n.name, ID: n.id, Boot: boot, Seed: n.w.rng.Uint64(), Now: n.time, Scheduler: scheduler{n},
		Fail: l.fail,
		Limits: broker.Limits{MaxQueues: 200, MaxMessageBytes: 1 << 20, MaxInFlight: 500, AutoCreate: true, Defaults: queue.Settings{
			Storage: "file", Lease: 5 * time.Second, MaxDeliveries: 5, RetryMin: 100 * time.Millisecond, RetryMax: 2 * time.Second, RetryFactor: 2, RetryJitter: 0.2, DedupWindow: 24 * time.Hour,
		}},
		Storages: []broker.Storage{
			{Name: "file", Stored: "disk", Shared: true, Syncs: true, Replicated: n.w.cfg.Cluster, Spread: l.spread, Open: l.open},
			{Name: "memory", Stored: "memory", Replicated: n.w.cfg.Cluster, Open: l.inMemory(budget), Room: budget.Room},
			{Name: "ephemeral", Stored: "memory", Ephemeral: true, Open: func(_ int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) }, Room: budget.Room},
		},
	}
	if n.w.cfg.Cluster {
		opt.Peers = l
	}
	b, err := broker.Start(opt)
	if err != nil {
		return err
	}
	l.broker = b
	if n.w.cfg.Cluster {
		if err := l.takePart(); err != nil {
			return err
		}
	}
	n.flips = slices.DeleteFunc(n.flips, func(f flip) bool { // where nothing is yet, and where something will be
		return f.at >= cut.End && strings.HasSuffix(f.file, fmt.Sprintf("%010d.seg", cut.Segment))
	})
	n.w.stats.Starts++
	n.w.note(n.name, "life %d serves, log %+v", l.number, l.log.Recovered())
	if n.doomed {
		n.fault.cut = 1 + n.w.rng.IntN(100)
	}
	n.w.check.started(n)
	return nil
}

// cannotStart: a start that is refused says so, and there must be a reason for it.
func (n *Node) cannotStart(err error) {
	n.w.note(n.name, "does not start: %v", err)
	damage := (*wal.Damage)(nil)
	switch {
	case n.fault.struck && isFault(err):
		n.die("exit")
	case errors.As(err, &damage) && len(n.flips) > 0:
		n.w.stats.Found++
		n.dying = &death{how: "damage", left: n.life.before}
	case n.fault.lied:
		n.w.stats.Refused++
		n.refused = true
	default:
		n.w.wrong("a start was refused for no reason: %v", err)
	}
}

func isFault(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.EIO.Error())
}

// fail is the broker's last word.
func (l *life) fail(err error) {
	n, damage := l.n, (*wal.Damage)(nil)
	n.w.note(n.name, "FAILED: %v", err)
	l.failed = max(n.w.steps, 1)
	switch {
	case n.fault.struck && isFault(err):
		n.w.stats.Failed++
	case errors.As(err, &damage) && len(n.flips) > 0:
		n.w.stats.Found++
	case n.fault.lied:
		n.w.stats.Refused++
		n.refused = true
	default:
		n.w.wrong("the broker failed for no reason: %v", err)
	}
	n.w.after(n.w.between(0, 5*time.Millisecond), func() { // meanwhile it must not promise anything
		if n.life == l {
			n.die("exit")
		}
	})
}

// die ends the process before anything else happens.
func (n *Node) die(how string) {
	if n.dying != nil || n.life == nil {
		return
	}
	d := &death{how: how}
	if how == "power cut" {
		d.left = n.disk.Crash(n.w.rng)
	} else {
		d.left = n.disk.Kill()
	}
	n.dying = d
}

// bury ends what was left of a process, and has another one started.
func (n *Node) bury() {
	d, l := n.dying, n.life
	n.dying, n.life = nil, nil
	n.w.note(n.name, "life %d ends: %s", l.number, d.how)
	n.w.stats.ends(d.how)
	killAll(l.tasks)
	for _, c := range l.conns {
		c.lose()
	}
	n.w.check.died()
	n.disk = d.left
	n.fault.reborn()
	n.doomed = d.how == "exit" && !n.w.peace && n.w.chance(2) // troubles seldom come alone
	if l.failed != 0 || d.how == "damage" {                   // whoever runs it has the bad bytes replaced
		n.repair()
	}
	if !n.w.check.over && !n.refused {
		n.w.after(n.w.between(time.Millisecond, 700*time.Millisecond), n.boot)
	}
}

// stop ends the process in good order.
func (n *Node) stop() {
	l := n.life
	if l == nil || l.broker == nil || !l.ready {
		return
	}
	l.ready = false
	n.w.note(n.name, "is told to stop")
	scheduler{n}.Go(func() {
		err := l.broker.Drain(nil)
		for _, c := range l.conns {
			c.close()
		}
		for _, c := range l.conns {
			n.w.await(c.over, -1)
		}
		if l.host != nil {
			err = errors.Join(err, l.leave())
		} else {
			err = errors.Join(err, l.broker.Close())
		}
		err = errors.Join(err, l.log.Close())
		if err != nil && l.failed == 0 && !n.fault.struck && len(n.flips) == 0 {
			n.w.wrong("a stop in good order: %v", err)
		}
		n.die("stop")
	})
}
