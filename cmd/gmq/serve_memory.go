package main

import (
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/member"
	"github.com/gmq/gmq/internal/cluster/transport"
	"github.com/gmq/gmq/internal/journal"
)

// memoryDocument keeps which epoch the groups in memory are in.
const memoryDocument = member.Prefix + "memory"

// What the groups in memory keep of their log for members that lag is memory, and counts towards limits.memory: no more than these parts of it.
const (
	memoryKeepPart, memoryTrailPart = 8, 32
	mostMemoryKeep, mostMemoryTrail = 128 << 20, 8 << 20
	// memoryCache is how much of it is kept a second time, ready to be sent.
	memoryCache = 8 << 20
)

// A memory is a node's part in the groups that its cluster keeps in memory: queues with storage memory.
type memory struct {
	node         *node
	host         *cluster.Host
	keeper       *cluster.Keeper
	raft, images *transport.Transport
	wake, pull   chan struct{}
}

// openMemory makes what a life of this node needs, idle until there is a cluster.
func (in *instance) openMemory(n *node) error {
	m := &memory{node: n, wake: make(chan struct{}, 1), pull: make(chan struct{}, 1)}
	self, boot := n.member.ID(), n.member.Boot()
	deliver := func(from uint64, packet []byte) { m.keeper.Deliver(from, packet) }
	m.raft = transport.New(transport.Options{
		Dial: n.dial(member.Memory), Logf: in.debugCluster, Deliver: deliver,
		Unreachable: func(node uint64) { m.keeper.Unreachable(node) },
	})
	m.images = transport.New(transport.Options{Dial: n.dial(member.MemoryImage), Logf: in.debugCluster, QueueBytes: imageQueue, Deliver: deliver})
	budget := queueMemory(&in.cfg)
	var err error
	m.host, err = cluster.New(cluster.Config{
		ID: cluster.MemberID(self, boot), Memory: true, Groups: broker.Shards, ElectionTicks: electionTicks, Now: sinceStart(),
		KeepBytes: min(budget/memoryKeepPart, mostMemoryKeep), TrailBytes: min(budget/memoryTrailPart, mostMemoryTrail), CacheBytes: memoryCache,
		Send:      func(to uint64, packet []byte) { m.keeper.Carry(to, packet) },
		SendImage: func(to uint64, frame []byte) { m.keeper.CarryImage(to, frame) },
		Wake:      func() { poke(m.wake) }, WakeImages: func() { poke(m.pull) },
		Logf:   func(format string, args ...any) { in.log.Info("cluster, in memory: " + fmt.Sprintf(format, args...)) },
		Tracef: func(format string, args ...any) { in.debugCluster("in memory: "+format, args...) },
	})
	if err != nil {
		return err
	}
	m.keeper = cluster.NewKeeper(cluster.KeeperConfig{
		Node: self, Boot: boot, Host: m.host, Nodes: n.all, Leaves: n.member.Leaving,
		FirstLeads: func() bool { return in.leaderOf(0) == self }, LeaderOf: in.leaderOf,
		Decide: func(decision []byte, done func()) {
			go func() {
				defer done()
				if err := in.broker.PutDocument(memoryDocument, decision); err != nil {
					in.log.Warn("that the queues in memory begin anew is not kept, and tried again", "err", err)
				}
			}()
		},
		Send: m.raft.Send, SendImage: m.images.Send,
		Held: func(group int, quorum bool) {
			stored := "memory"
			if quorum {
				stored = "memory_quorum"
			}
			in.broker.SetStoredOf(group, "memory", stored)
		},
	})
	n.member.Handle(member.Memory, m.raft.Serve)
	n.member.Handle(member.MemoryImage, m.images.Serve)
	n.memory = m
	return nil
}

// leaderOf is the node that leads a shard's group on disks.
func (in *instance) leaderOf(shard int) uint64 {
	node, _ := in.broker.Leader(shard)
	return node
}

// inMemory is shard i's journal of what is in memory.
func (in *instance) inMemory(i int, wake func()) journal.Journal {
	return in.node.memory.host.Journal(i, wake, func(wake func()) cluster.Log { return journal.NewMemoryReplica(in.budget, wake) })
}

// memoryStorages are where queues in memory are kept: those of clients, and those of subscriptions to topics, which are each node's own.
func (in *instance) memoryStorages() []broker.Storage {
	return []broker.Storage{
		{Name: "memory", Stored: "memory", Replicated: true, Room: in.budget.Room, Open: in.inMemory},
		{Name: "ephemeral", Stored: "memory", Ephemeral: true, Room: in.budget.Room, Open: func(_ int, wake func()) journal.Journal { return journal.NewMemory(in.budget, wake) }},
	}
}

// run has the groups in memory take part, in goroutines that end with the node.
func (m *memory) run(in *instance) {
	n := m.node
	n.over.Go(func() { m.host.Run(m.wake, clusterTick, n.stop) })
	n.over.Go(func() { m.host.Images().Run(m.pull, clusterTick, n.stop) })
	n.over.Go(func() {
		tick := time.NewTicker(clusterTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n.member.Member() && in.broker.Grouped() {
					m.keeper.Tick()
				}
			case <-n.stop:
				return
			}
		}
	})
}

// decided takes over what was decided about the groups in memory.
func (in *instance) decided(_ string, data []byte) {
	if len(data) == 0 {
		return
	}
	if err := in.node.memory.keeper.Decided(data); err != nil {
		in.log.Error("cluster, in memory", "err", err)
	}
}

func (m *memory) close() {
	m.host.Close()
	m.raft.Close()
	m.images.Close()
}
