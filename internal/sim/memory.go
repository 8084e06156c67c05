package sim

import (
	"slices"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
)

// In a world with a cluster queues in memory are replicated as well: each life of a node is another member of their groups, and what they begin anew
// from is a document of the first group on disks. What they have confirmed is held against them as what is on disks, until so many nodes
// have restarted that the groups begin anew: then they may have lost it, and are let be.

// memoryDocument keeps the epoch, as in production.
const memoryDocument = "cluster/memory"

// joinMemory makes the part of a process in the groups that are in memory.
func (l *life) joinMemory() (err error) {
	n, w := l.n, l.n.w
	boot := uint64(l.number)
	l.memoryWake, l.memoryPull = make(chan struct{}, 1), make(chan struct{}, 1)
	l.memory, err = cluster.New(cluster.Config{
		ID: cluster.MemberID(n.id, boot), Memory: true, Groups: broker.Shards, ElectionTicks: electionTicks, CacheBytes: 16 << 10, TrailBytes: 32 << 10, UncommittedBytes: 256 << 10,
		KeepBytes: 48 << 10, ImageRate: 64 << 10,
		Wake: func() { ring(l.memoryWake) }, WakeImages: func() { ring(l.memoryPull) },
		Logf:      func(format string, args ...any) { w.note(n.name, "cluster, in memory: "+format, args...) },
		Send:      func(to uint64, packet []byte) { l.keeper.Carry(to, packet) },
		SendImage: func(to uint64, frame []byte) { l.keeper.CarryImage(to, frame) },
	})
	if err != nil {
		return err
	}
	leader := func(shard int) uint64 {
		if l.broker == nil {
			return 0
		}
		node, _ := l.broker.Leader(shard)
		return node
	}
	l.keeper = cluster.NewKeeper(cluster.KeeperConfig{
		Node: n.id, Boot: boot, Host: l.memory, LeaderOf: leader,
		FirstLeads: func() bool { return leader(0) == n.id },
		Nodes: func() (ids []uint64) {
			for _, o := range w.nodes {
				ids = append(ids, o.id)
			}
			return ids
		},
		Decide: func(decision []byte, done func()) {
			scheduler{n}.Go(func() {
				_ = l.broker.PutDocument(memoryDocument, decision) // it is tried again
				done()
			})
		},
		Send: func(node uint64, packet []byte) {
			l.send(node, packet, func(t *life, b []byte) { t.keeper.Deliver(n.id, b) })
		},
		Held: func(group int, quorum bool) {
			stored := "memory"
			if quorum {
				stored = "memory_quorum"
			}
			l.broker.SetStoredOf(group, "memory", stored)
		},
	})
	return nil
}

// inMemory is a shard's journal of what is in memory.
func (l *life) inMemory(budget *journal.Budget) func(i int, wake func()) journal.Journal {
	return func(i int, wake func()) journal.Journal {
		if !l.n.w.cfg.Cluster {
			return journal.NewMemory(budget, wake)
		}
		return l.memory.Journal(i, wake, func(wake func()) cluster.Log { return journal.NewMemoryReplica(budget, wake) })
	}
}

// runMemory has the groups in memory take part.
func (l *life) runMemory() error {
	w := l.n.w
	l.broker.OnRole(l.keeper.Follow)
	for _, part := range []struct {
		wake chan struct{}
		turn func()
	}{{l.memoryWake, l.memory.Turn}, {l.memoryPull, l.memory.Images().Turn}} {
		scheduler{l.n}.Go(func() {
			for !l.leaving {
				w.await(part.wake, -1)
				part.turn()
			}
		})
	}
	if err := l.broker.Await("memory"); err != nil {
		return err
	}
	l.broker.WatchDocuments(memoryDocument, func(_ string, data []byte) {
		if len(data) == 0 {
			return
		}
		epoch, founders := parseDecision(data)
		if err := l.keeper.Decided(data); err != nil {
			w.wrong("%s: a decision: %v", l.n.name, err)
		}
		w.begunAnew(epoch, founders)
	})
	l.remembers = true
	return nil
}

// begunAnew is told that the groups in memory begin anew. The first of them had nothing before.
func (w *World) begunAnew(epoch int, founders []uint64) {
	if epoch <= w.epoch {
		return
	}
	w.epoch = epoch
	w.stats.Epochs++
	w.note("world", "epoch %d, founders %x", epoch, founders)
	if epoch > 2 {
		if w.gentle() && !w.dark && !w.refused() {
			w.wrong("the groups in memory begin anew, though a majority of the nodes was there all the time")
		}
		w.letBe()
	}
}

// letBe: queues in memory may have lost what they have confirmed, and nobody uses them any more.
func (w *World) letBe() {
	for _, q := range w.check.books {
		if !q.spec.file && w.cfg.Cluster {
			q.gone, q.kept = true, false
		}
	}
}

// inMemory are the names of the queues in memory that are held to their promises.
func (w *World) inMemory() (all []spec) {
	for _, s := range w.specs() {
		if !s.file {
			all = append(all, s)
		}
	}
	return all
}

// specs are the queues of a world that are used.
func (w *World) specs() []spec {
	if !w.cfg.Cluster || w.epoch <= 2 {
		return specs
	}
	return durableSpecs
}

var durableSpecs = slices.DeleteFunc(slices.Clone(specs), func(s spec) bool { return !s.file })

// emptyMemory: before the power of all nodes is cut what is in memory must be there, and the same everywhere.
func (w *World) emptyMemory() {
	if len(w.inMemory()) == 0 {
		return
	}
	w.check.over = false
	for _, n := range w.nodes {
		n.boot()
	}
	up := func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.life == nil || !n.life.remembers })
	}
	if !w.settle(30*time.Second, func() bool { return w.failure != "" || w.refused() || up() }) {
		w.wrong("P7: the nodes are not all there when the faults have ended")
	}
	w.run(w.now + 3*time.Second)
	if w.failure != "" || w.refused() || len(w.inMemory()) == 0 {
		return // they have begun anew meanwhile
	}
	w.agree()
	for _, n := range w.nodes {
		w.empty(n, w.inMemory())
	}
	if w.failure == "" && len(w.inMemory()) > 0 {
		w.stats.Remembered++
		w.check.everything(func(q *queueBook) bool { return !q.spec.file })
	}
	w.check.over = true
}

// gentle: in half of the worlds no more nodes are in trouble at a time than the others can do without, so that what is in memory has to be there all the time.
func (w *World) gentle() bool { return w.cfg.Cluster && w.Seed%2 == 1 }

// spares reports whether the others can do without a node as well, besides those that they do without already; nil: without any.
func (w *World) spares(n *Node) bool {
	ailing := 0
	for _, o := range w.nodes {
		if o == n || !w.sound(o) {
			ailing++
		}
	}
	most := (len(w.nodes) - 1) / 2
	if n == nil {
		most = 0
	}
	return ailing <= most && len(w.net.cut) == 0
}

// sound: a node is there, nothing is about to happen to it, and it votes in all groups in memory.
func (w *World) sound(n *Node) bool {
	l, f := n.life, &n.fault
	if l == nil || !l.ready || n.dying != nil || n.doomed || f.cut > 0 || f.eio > 0 || l.failed != 0 || len(n.flips) > 0 {
		return false
	}
	votes := 0
	for _, o := range w.nodes {
		if o.life == nil || o.life.memory == nil {
			continue
		}
		for _, s := range o.life.memory.Status() {
			if s.Leading && s.Epoch == uint64(max(w.epoch, 1)) && len(s.Outgoing) == 0 && slices.Contains(s.Voters, cluster.MemberID(n.id, uint64(l.number))) {
				votes |= 1 << s.Group
			}
		}
	}
	return votes == 1<<broker.Shards-1
}
