package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/placement"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// GroupsConfig says how large a world of Raft groups is, and how long it lasts.
type GroupsConfig struct {
	Members, Groups int
	Memory          bool // what they have is gone when a process ends
	For             time.Duration
	// Changes has members come and go.
	Changes bool
	// Replicas is at how many of the members each group is; 0: at all. It needs Changes.
	Replicas int
	Trace    io.Writer
}

// GroupStats is what has really happened in such a world.
type GroupStats struct {
	Batches, Confirmed, Overruled, Refused, Replayed              int
	Crashes, PowerCuts, Partitions, OneWay, Stalls                int
	Lost, Doubled, Late, Leaders, Votes, Snapshots, Moves, Turned int
	Entries, Outages, Reads, Applied, CutTails, Transfered        int
	Contests, Amnesias, Joined, Left, Replaced                    int
	Images, ImagesOver, Fetched, Spared, Gone, Unknown            int
	Epochs, Vacated, Ambushes, Strays, Duels, Relapses            int
	Bequests, Exoduses, Snares, Flips, Damaged                    int
}

// A GroupReport is what came of it.
type GroupReport struct {
	Seed    uint64
	Failure string
	Sum     uint64
	Steps   uint64
	Stats   GroupStats
	Tail    func(lines int) string
}

// groups is a world of members that run the hosts of production, over the file journal and disks that lose power, and a network
// that loses, doubles and delays packets, and cuts members off, one way or both.
type groups struct {
	w       *World
	cfg     GroupsConfig
	members []*member
	first   []uint64       // those with whom the groups began
	wish    []uint64       // who the members shall be; nil: they do not change
	plan    placement.Plan // which of them shall have which groups; nil: all
	edition int            // of the wish
	mourned bool           // one was lost for good, and not all groups are whole again
	second  uint64         // of two who want to lead a group, who asks later
	alone   uint64         // nobody hears this member
	counted [][]uint64     // by group: who votes, as its leader knew last
	hush    time.Duration  // until when nothing is proposed
	// Of groups in memory: who decides for them, and what was decided last.
	chief    uint64
	epoch    int
	decision []byte
	founders []uint64
	cut      map[[2]uint64]bool // packets from one to the other are lost
	ledger   *ledger
	stats    GroupStats
	peace    bool
}

// A member is one machine.
type member struct {
	c       *groups
	id      uint64
	name    string
	disk    *vfs.Mem
	lives   int
	life    *memberLife
	dying   bool
	slow    bool
	nervous bool          // its power goes when it votes
	quick   bool          // it is back soon
	stall   time.Duration // until when its disk hangs
	decays  bool          // a byte of its disk is to change before the next process begins
	found   wal.Recovered // by the process before
	flip    *flip         // that has changed
	doom    int           // disk operations until its power goes; 0: it does not
	pace    float64       // of its clock
	told    []uint64      // who the members shall be, as far as it has heard
	plan    placement.Plan
	edition int  // of that
	gone    bool // for good
	moved   map[movedAt]bool
}

// A movedAt is a record of a member's log that says where a thing lies now; in member.moved, whether it found the thing when it was kept.
type movedAt struct {
	group int
	ref   journal.Ref
}

// A memberLife is one process.
type memberLife struct {
	m      *member
	log    *filejournal.Log
	host   *cluster.Host
	wake   chan struct{}
	images chan struct{}
	keeper *cluster.Keeper
	open   bool // owners and host are there
	owners []*groupOwner
	tasks  []*task
}

// RunGroups lets a world of groups happen. Raft takes its chances from crypto/rand, so one world at a time, and
// the caller sees to it that it gives the same again.
func RunGroups(seed uint64, cfg GroupsConfig) GroupReport {
	w := &World{Seed: seed, rng: rand.New(rand.NewPCG(seed, 0x72_61_66_74)), log: newHistory()}
	defer w.end()
	w.log.trace = cfg.Trace
	c := &groups{w: w, cfg: cfg, cut: map[[2]uint64]bool{}}
	c.ledger = newLedger(c)
	for range cfg.Members {
		c.first = append(c.first, c.addMember().id)
	}
	if cfg.Changes {
		c.wish = c.first
		c.bury()
	}
	if cfg.Replicas > 0 {
		c.first = c.first[:cfg.Replicas]
		c.plan = placement.Next(nil, cfg.Groups, c.wish, cfg.Replicas)
	}
	for _, m := range c.members {
		m.told, m.plan = c.wish, c.plan
		m.boot()
	}
	if cfg.Memory {
		c.epoch = 1
		c.reign()
	}
	c.trouble()
	w.run(cfg.For)
	c.finale()
	return GroupReport{Seed: seed, Failure: w.failure, Sum: w.log.sum.Sum64(), Steps: w.steps, Stats: c.stats, Tail: w.log.tail}
}

// finale ends all trouble: every member must come to hold the same, and take more.
func (c *groups) finale() {
	c.peace, c.alone, c.second, c.hush = true, 0, 0, 0
	if c.cfg.Replicas > 0 {
		c.decree(c.wish, c.wish)
	}
	clear(c.cut)
	for _, m := range c.members {
		m.slow, m.nervous, m.stall, m.doom = false, false, 0, 0
		m.hear(c.wish, c.plan, c.edition)
	}
	c.w.note("world", "peace")
	start := make([]int, c.cfg.Groups)
	for g := range start {
		start[g] = c.ledger.decidedIn(g)
	}
	ok := c.w.settle(60*time.Second, func() bool {
		for g := range start {
			if c.ledger.decidedIn(g) < start[g]+5 {
				return false
			}
		}
		return true
	})
	if !ok {
		c.w.wrong("P7: when all trouble is over, nothing is committed: %v, then %v: %s", start, c.ledger.lengths(), c.confs())
	}
	c.ledger.closed = true
	ok = c.w.settle(60*time.Second, func() bool {
		for _, m := range c.lasting() {
			for g := range start {
				if m.life == nil || len(m.life.owners) <= g {
					return false
				}
				want := c.ledger.decidedIn(g)
				if !c.has(m.id, g) {
					want = 0
				}
				if m.life.owners[g].state.count != want {
					return false
				}
			}
		}
		return true
	})
	if !ok {
		c.w.wrong("P7: when all trouble is over, members do not come to hold the same: %s", c.counts())
	}
	if c.wish != nil && !c.w.settle(60*time.Second, c.settled) {
		c.w.wrong("P7: when all trouble is over, the members do not come to be those that were wished, %v: %s", c.wish, c.confs())
	}
}

func (c *groups) counts() (s string) {
	for _, m := range c.members {
		s += m.name + ":"
		if m.life == nil {
			s += " down"
			continue
		}
		for g, o := range m.life.owners {
			s += fmt.Sprintf(" %d/%d", o.state.count, c.ledger.decidedIn(g))
		}
		s += "  "
	}
	return s
}

// confs are the members of all groups, as each member sees them, and how far its log goes.
func (c *groups) confs() (s string) {
	for _, m := range c.members {
		s += "\n" + m.name + ":"
		if m.life != nil && m.life.host != nil {
			for _, g := range m.life.host.Status() {
				s += fmt.Sprintf(" %v%v%v %d/%d in %d of %d", g.Voters, g.Outgoing, g.Learners, g.Committed, g.Last, g.Term, g.Leader)
			}
		}
		s += "  "
	}
	return s
}

// boot starts a process.
func (m *member) boot() {
	if m.life != nil || m.gone || m.c.w.failure != "" {
		return
	}
	m.lives++
	l := &memberLife{m: m, wake: make(chan struct{}, 1), images: make(chan struct{}, 1)}
	m.life = l
	m.disk.Fault = l.fault
	m.c.w.note(m.name, "life %d begins", m.lives)
	m.rot()
	l.Go(func() {
		err := l.start()
		damaged := err != nil && m.damaged(err)
		m.restore()
		if damaged {
			m.die(false)
		} else if err != nil {
			m.c.w.wrong("%s does not start: %v", m.name, err)
		}
	})
}

func (l *memberLife) start() (err error) {
	m, c := l.m, l.m.c
	logf := func(format string, args ...any) { c.w.note(m.name, "log: "+format, args...) }
	cfg := cluster.Config{
		ID: m.id, Groups: c.cfg.Groups, CacheBytes: 4 << 10, TrailBytes: 6 << 10, UncommittedBytes: 64 << 10,
		Wake: func() { signal(l.wake) }, Logf: logf, Send: func(to uint64, packet []byte) { l.send(to, packet) },
		KeepBytes: c.keep(), ImageRate: 4 << 10, WakeImages: func() { signal(l.images) }, SendImage: func(to uint64, frame []byte) { l.sendImage(to, frame) },
	}
	if c.cfg.Memory {
		if err := l.startInMemory(cfg); err != nil {
			return err
		}
		return l.serve()
	}
	l.log, err = filejournal.Open(m.disk, "data", filejournal.Options{
		Sync: true, Shards: c.cfg.Groups, SegmentBytes: 16 << 10, CacheBytes: 1, CompactSlack: 32 << 10, CompactEvery: 24 << 10,
		Scheduler: l, Random: worldRandom{c.w}, Logf: logf,
	})
	if err != nil {
		return err
	}
	if l.log.Recovered().Cut > 0 {
		c.stats.CutTails++
	}
	if l.host, err = cluster.New(cfg); err != nil {
		return err
	}
	l.host.Wish(c.wishFor(m))
	return l.serve()
}

// keep is how much of the log is kept for those that lack it: in some worlds all, so that they get it from there.
func (c *groups) keep() int64 {
	if c.w.Seed%3 == 1 {
		return 1 << 30
	}
	return 24 << 10
}

// serve lets the process run.
func (l *memberLife) serve() error {
	m, c := l.m, l.m.c
	for g := range c.cfg.Groups {
		o := &groupOwner{l: l, group: g, wake: make(chan struct{}, 1)}
		if err := o.open(c.first); err != nil {
			return err
		}
		l.owners = append(l.owners, o)
	}
	for _, o := range l.owners {
		l.Go(o.run)
	}
	l.tick()
	l.Go(func() {
		for {
			c.w.await(l.wake, -1)
			l.host.Turn()
			if err := l.host.Failed(); err != nil {
				c.w.wrong("%s has failed: %v", m.name, err)
			}
		}
	})
	l.Go(func() {
		for {
			c.w.await(l.images, -1)
			l.host.Images().Turn()
		}
	})
	l.open = true
	l.decided()
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tick lets this machine's time pass.
func (l *memberLife) tick() {
	w := l.m.c.w
	w.after(time.Duration(float64(10*time.Millisecond)*l.m.pace), func() {
		if l.m.life == l {
			l.host.Tick()
			l.host.Images().Tick()
			l.m.c.count(l)
			if l.keeper != nil {
				l.keeper.Tick()
			}
			l.tick()
		}
	})
}

// send loses, delays and doubles.
func (l *memberLife) send(to uint64, packet []byte) {
	l.m.c.ledger.hear(l.m, to, packet)
	l.carry(to, packet, func(t *memberLife, b []byte) { t.host.Deliver(l.m.id, b) })
}

// sendImage does the same, and changes a bit now and then.
func (l *memberLife) sendImage(to uint64, frame []byte) {
	if w := l.m.c.w; !l.m.c.peace && w.chance(60) {
		frame[w.rng.IntN(len(frame))] ^= 1 << w.rng.IntN(8)
	}
	l.carry(to, frame, func(t *memberLife, b []byte) { t.host.Images().Deliver(l.m.id, b) })
}

func (l *memberLife) carry(to uint64, packet []byte, take func(*memberLife, []byte)) {
	m, c := l.m, l.m.c
	w := c.w
	if c.cut[[2]uint64{m.id, to}] || c.alone == m.id || c.alone == to || !c.peace && w.chance(50) {
		c.stats.Lost++
		return
	}
	delay := w.between(50*time.Microsecond, 2*time.Millisecond)
	if !c.peace && w.chance(30) {
		delay = w.between(time.Millisecond, 300*time.Millisecond)
		c.stats.Late++
	}
	deliver := func() {
		if target := c.members[to-1].life; target != nil && target.host != nil {
			take(target, append([]byte(nil), packet...))
		}
	}
	w.after(delay, deliver)
	if !c.peace && w.chance(50) {
		w.after(delay+w.between(0, 100*time.Millisecond), deliver)
		c.stats.Doubled++
	}
}

// fault is asked before every operation of the process on its disk.
func (l *memberLife) fault(op vfs.Op) error {
	m := l.m
	w := m.c.w
	if op.Kind != vfs.OpRead && op.Kind != vfs.OpOpen {
		w.note(m.name, "disk: %s %s %d+%d", op.Kind, op.Path, op.Offset, op.Size)
	}
	if w.current == nil || m.life != l {
		return nil
	}
	if m.stall > w.now {
		w.sleep(m.stall - w.now)
	}
	switch {
	case op.Kind == vfs.OpSync && m.slow:
		w.sleep(w.between(2*time.Millisecond, 100*time.Millisecond))
	case op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir:
		w.sleep(w.between(50*time.Microsecond, 3*time.Millisecond))
	case w.chance(4):
		w.sleep(w.between(0, 50*time.Microsecond))
	}
	if m.doom > 0 {
		if m.doom--; m.doom == 0 {
			m.die(true)
			w.await(nil, -1) // for ever
		}
	}
	return nil
}

// die ends the process before anything else happens; with the power goes what was not synced.
func (m *member) die(power bool) {
	if m.dying || m.life == nil {
		return
	}
	m.dying, m.doom = true, 0
	left := m.disk.Kill
	if power {
		m.c.stats.PowerCuts++
		left = func() *vfs.Mem { return m.disk.Crash(m.c.w.rng) }
	}
	m.c.stats.Crashes++
	disk, l := left(), m.life
	w := m.c.w
	w.graves = append(w.graves, func() {
		m.dying, m.life = false, nil
		w.note(m.name, "life %d ends, power cut: %v", m.lives, power)
		killAll(l.tasks)
		m.disk = disk
		m.restore()
		back := time.Second
		if m.quick {
			m.quick, back = false, 15*time.Millisecond
		}
		w.after(w.between(time.Millisecond, back), m.boot)
	})
}

// worldRandom gives chance to a journal that is being made.
type worldRandom struct{ w *World }

func (r worldRandom) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.w.rng.Uint32())
	}
	return len(p), nil
}
