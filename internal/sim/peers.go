package sim

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
)

// In a world with a cluster the nodes are replicas of each other: each runs the broker, the host and the log of production, and
// packets travel between them in the world's time, some late, some twice, some not at all.

// network is what lies between the nodes.
type network struct {
	cut    map[[2]uint64]bool // packets from one to the other are lost
	cables []*cable
}

// tickTime is a host's tick, electionTicks how many make an election's time: a fifth of a second, which is a hundred times as long as packets take, as in
// production. What a cluster does where nothing happens is by the tick, and most of what a world costs.
const tickTime, electionTicks = 40 * time.Millisecond, 5

// join makes the process one of a cluster's, before its broker is started.
func (l *life) join() (err error) {
	n, w := l.n, l.n.w
	l.hostWake, l.imageWake = make(chan struct{}, 1), make(chan struct{}, 1)
	l.host, err = cluster.New(cluster.Config{
		ID: n.id, Groups: broker.Shards, ElectionTicks: electionTicks, CacheBytes: 16 << 10, TrailBytes: 32 << 10, UncommittedBytes: 256 << 10,
		MayLead: func(group int, node uint64) bool { return l.keeper.MayLead(group, node) },
		Wake:    func() { ring(l.hostWake) },
		Logf: func(format string, args ...any) {
			w.note(n.name, "cluster: "+format, args...)
			if strings.Contains(format, "is installed") {
				w.stats.Images++
			}
			if strings.Contains(format, "has forgotten") {
				w.stats.Vacated++
			}
		},
		Send: func(to uint64, packet []byte) {
			l.send(to, packet, func(t *life, b []byte) { t.host.Deliver(n.id, b) })
		},
		// So little that nodes lack what is not there any more.
		KeepBytes: 48 << 10, ImageRate: 64 << 10, WakeImages: func() { ring(l.imageWake) },
		SendImage: func(to uint64, frame []byte) {
			l.send(to, frame, func(t *life, b []byte) { t.host.Images().Deliver(n.id, b) })
		},
	})
	if err != nil {
		return err
	}
	l.host.Wish(n.wish())
	return l.joinMemory()
}

func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// replica is a shard's journal in the cluster.
func (l *life) replica(i int, wake func()) journal.Journal {
	return l.host.Journal(i, wake, func(wake func()) cluster.Log { return l.log.Replica(i, wake) })
}

// takePart has the host run, and its groups begin where they have not.
func (l *life) takePart() error {
	w := l.n.w
	l.tick()
	scheduler{l.n}.Go(func() {
		for !l.leaving {
			w.await(l.hostWake, -1)
			l.host.Turn()
		}
		close(l.left)
	})
	scheduler{l.n}.Go(func() {
		for !l.leaving {
			w.await(l.imageWake, -1)
			l.host.Images().Turn()
		}
	})
	voters := w.founders()
	if err := l.runMemory(); err != nil {
		return err
	}
	if !slices.Contains(voters, l.n.id) {
		return l.broker.Await()
	}
	return l.broker.Begin(voters)
}

// tick lets the host's time pass.
func (l *life) tick() {
	w := l.n.w
	w.afterAt(l.n, time.Duration(float64(tickTime)*l.n.pace), func() {
		if l.n.life == l && l.n.dying == nil {
			l.host.Tick()
			l.host.Images().Tick()
			l.memory.Tick()
			l.memory.Images().Tick()
			if l.remembers {
				l.keeper.Tick()
			}
			l.tick()
		}
	})
}

// leave hands over what the process leads, and ends its part in the cluster.
func (l *life) leave() error {
	w := l.n.w
	for range 20 {
		if l.host.Leads()+l.memory.Leads() == 0 {
			break
		}
		l.host.HandOver()
		w.sleep(2 * tickTime)
	}
	err := l.broker.Close()
	l.leaving = true
	ring(l.hostWake)
	w.await(l.left, -1)
	ring(l.memoryWake)
	ring(l.memoryPull)
	l.host.Close()
	return err
}

// send loses, delays and doubles.
func (l *life) send(to uint64, packet []byte, take func(*life, []byte)) {
	w := l.n.w
	if w.net.cut[[2]uint64{l.n.id, to}] || !w.peace && w.chance(100) {
		w.stats.LostPackets++
		return
	}
	delay := w.between(50*time.Microsecond, 2*time.Millisecond)
	if !w.peace && w.chance(60) {
		delay = w.between(time.Millisecond, 200*time.Millisecond)
	}
	deliver := func(delay time.Duration, packet []byte) {
		w.afterAt(w.nodes[to-1], delay, func() {
			if t := w.nodes[to-1]; t.life != nil && t.life.keeper != nil && t.dying == nil {
				take(t.life, packet)
			}
		})
	}
	deliver(delay, packet)
	if !w.peace && w.chance(100) {
		deliver(delay+w.between(0, 50*time.Millisecond), bytes.Clone(packet))
	}
}

// quarrel parts the nodes now and then, and lets them be led from elsewhere.
func (w *World) quarrel() {
	w.after(w.between(300*time.Millisecond, 4*time.Second), func() {
		if w.peace {
			return
		}
		switch w.rng.IntN(4) {
		case 0, 1:
			if w.still() {
				break
			}
			if !w.gentle() || w.spares(nil) {
				w.part()
			}
		default:
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			if l := n.life; l != nil && l.ready {
				w.stats.Transfers++
				for range 1 + w.rng.IntN(4) {
					l.host.Transfer(w.rng.IntN(broker.Shards), w.nodes[w.rng.IntN(len(w.nodes))].id)
				}
			}
		}
		w.quarrel()
	})
}

// part cuts some nodes off, for packets in one direction or in both, for a while.
func (w *World) part() {
	clear(w.net.cut)
	side, oneWay := w.rng.Uint64(), w.chance(3)
	w.stats.Partitions++
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side>>a.id&1 != 0 && side>>b.id&1 == 0 {
				w.net.cut[[2]uint64{a.id, b.id}] = true
				if !oneWay {
					w.net.cut[[2]uint64{b.id, a.id}] = true
				}
			}
		}
	}
	w.note("world", "parted: %x, one way: %v", side&(1<<(len(w.nodes)+1)-1), oneWay)
	w.after(w.between(50*time.Millisecond, 3*time.Second), func() {
		clear(w.net.cut)
		w.note("world", "healed")
	})
}

// agree: when everything has come to rest, all nodes that have a shard hold the same, and no other has anything of it. What is in memory
// is at all nodes.
func (w *World) agree() {
	same := func(storage string) bool {
		var want [broker.Shards]uint64
		var known [broker.Shards]bool
		for _, n := range w.nodes {
			for shard, got := range w.digests(n, storage) {
				switch {
				case storage == "file" && !w.has(n, shard):
					if !n.empty(shard) {
						return false
					}
				case !known[shard]:
					want[shard], known[shard] = got, true
				case got != want[shard]:
					return false
				}
			}
		}
		return true
	}
	for range 600 { // what moves to other nodes moves one after the other
		if same("file") && same("memory") || w.failure != "" {
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
	text := ""
	for _, n := range w.nodes {
		text += fmt.Sprintf("\n%s: %x and in memory %x", n.name, w.digests(n, "file"), w.digests(n, "memory"))
		if w.plan != nil {
			for _, g := range n.life.host.Status() {
				text += fmt.Sprintf(" %d:%v%v%v", g.Group, g.Voters, g.Outgoing, g.Learners)
			}
		}
	}
	w.wrong("when all trouble is over, the nodes do not hold the same:%s", text)
}

func (w *World) digests(n *Node, storage string) (sums [broker.Shards]uint64) {
	if n.life == nil {
		w.wrong("P7: %s is not there when the faults have ended", n.name)
		return sums
	}
	done := false
	t := n.home.start(n.name, func() {
		sums = n.life.broker.Digests(storage, n.time()+int64(time.Hour))
		done = true
	})
	n.life.tasks = append(n.life.tasks, t)
	w.settle(10*time.Second, func() bool { return done || w.failure != "" })
	return sums
}

// reign is the leadership under which a delivery was made, as its receipt says.
func (d *delivery) reign() string {
	boot, _, _ := strings.Cut(d.receipt, ".")
	return boot
}

// sameOwner reports whether who has given two deliveries knows of both.
func (w *World) sameOwner(a, b *delivery) bool {
	if w.cfg.Cluster {
		return a.reign() == b.reign()
	}
	return a.k.life == b.k.life
}
