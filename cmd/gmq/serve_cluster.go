package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/member"
	"github.com/gmq/gmq/internal/cluster/transport"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/relay"
)

const (
	// clusterTick and electionTicks are when a leader is missed: after 0.6 to 1.2 s without a word.
	clusterTick, electionTicks = 50 * time.Millisecond, 12
	// imageQueue is how much of an image may wait for a connection, bytes.
	imageQueue = 8 << 20
	// handOverTime is how long a server that stops waits until others lead what it leads.
	handOverTime = 3 * time.Second
)

// A node is what a server has of its cluster. A server alone has all of it as well, idle: another one may join at any time.
type node struct {
	member       *member.Manager
	host         *cluster.Host
	raft, images *transport.Transport
	relay        *relay.Relay
	memory       *memory
	stored       stored
	wake, pull   chan struct{} // there is something for the host, and for who makes and takes images
	stop         chan struct{}
	over         sync.WaitGroup
}

// openNode finds out which node this is, and joins a cluster where it is told to. Nothing of the journal has been opened.
func (in *instance) openNode(data string) error {
	n := &node{wake: make(chan struct{}, 1), pull: make(chan struct{}, 1), stop: make(chan struct{})}
	opt := in.memberOptions(data)
	opt.Put = func(name string, data []byte) error { return in.broker.PutDocument(name, data) }
	opt.Leader = func() uint64 { id, _ := in.broker.Leader(0); return id }
	opt.Begin = func() error { return in.broker.Begin([]uint64{n.member.ID()}) }
	opt.Wish = func(w cluster.Wish) { n.host.Wish(w) }
	opt.Status = func() []cluster.GroupStatus { return n.host.Status() }
	opt.Removed = func() {
		in.log.Error("this node has been taken out of its cluster, and stops")
		in.signals <- syscall.SIGTERM
	}
	m, err := member.Open(opt)
	if err != nil {
		return err
	}
	n.member = m
	if err := in.wantJoin(m, data); err != nil {
		return err
	}
	n.raft = transport.New(transport.Options{
		Dial: n.dial(member.Raft), Logf: in.debugCluster,
		Deliver:     func(from uint64, packet []byte) { n.host.Deliver(from, packet) },
		Unreachable: func(node uint64) { n.host.Unreachable(node) },
	})
	n.images = transport.New(transport.Options{
		Dial: n.dial(member.Image), Logf: in.debugCluster, QueueBytes: imageQueue,
		Deliver: func(from uint64, frame []byte) { n.host.Images().Deliver(from, frame) },
	})
	n.host, err = cluster.New(cluster.Config{
		ID: m.ID(), Groups: broker.Shards, ElectionTicks: electionTicks, Now: sinceStart(),
		Send: n.raft.Send, SendImage: n.images.Send,
		MayLead: func(group int, node uint64) bool {
			return n.memory.keeper.MayLead(group, node) && in.mayLead(group, node)
		},
		Gathered: in.gathered,
		Wake:     func() { poke(n.wake) }, WakeImages: func() { poke(n.pull) },
		Logf:   func(format string, args ...any) { in.log.Info("cluster: " + fmt.Sprintf(format, args...)) },
		Tracef: in.debugCluster,
	})
	if err != nil {
		return err
	}
	if err := in.openMemory(n); err != nil {
		return err
	}
	m.Handle(member.Raft, n.raft.Serve)
	m.Handle(member.Image, n.images.Serve)
	m.Handle(member.Relay, func(c net.Conn, node uint64) { n.relay.Serve(c, node) })
	in.node = n
	if in.join == "" {
		return nil
	}
	return in.joinCluster(m)
}

func (in *instance) debugCluster(format string, args ...any) {
	in.log.Debug("cluster: " + fmt.Sprintf(format, args...))
}

func (n *node) dial(k member.Kind) func(context.Context, uint64) (net.Conn, error) {
	return func(ctx context.Context, node uint64) (net.Conn, error) { return n.member.Dial(ctx, node, k) }
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Nodes implements broker.Peers.
func (n *node) Nodes() []uint64 { return n.others() }

func (n *node) others() []uint64 {
	return slices.DeleteFunc(n.all(), func(id uint64) bool { return id == n.member.ID() })
}

func (n *node) all() (ids []uint64) {
	for _, o := range n.member.Nodes() {
		ids = append(ids, o.ID)
	}
	return ids
}

// addresses are where clients reach the nodes, this one first; none where there is no cluster.
func (n *node) addresses() (all []string) {
	if !n.member.Member() {
		return nil
	}
	for _, o := range n.member.Nodes() {
		if o.Client == "" {
			continue
		}
		if o.ID == n.member.ID() {
			all = slices.Insert(all, 0, o.Client)
		} else {
			all = append(all, o.Client)
		}
	}
	return all
}

// clients yields the nodes, with the addresses at which clients reach them.
func (n *node) clients(yield func(node uint64, addr string) bool) {
	if !n.member.Member() {
		return
	}
	for _, o := range n.member.Nodes() {
		if o.Client != "" && !yield(o.ID, o.Client) {
			return
		}
	}
}

// journal is shard i's, with replicas where the node is one of a cluster's.
func (in *instance) journal(i int, wake func()) journal.Journal {
	return in.node.host.Journal(i, wake, func(wake func()) cluster.Log { return in.wal.Replica(i, wake) })
}

// takePart has the node take part in its cluster: the broker is there, clients are not yet.
func (in *instance) takePart(stored string) error {
	n := in.node
	n.relay = relay.New(relay.Options{
		Nodes: n.others, Dial: n.dial(member.Relay), Logf: in.debugCluster,
		Up: func(node uint64, l *relay.Line) (func([]byte), func()) {
			c := in.broker.LineUp(node, l)
			return c.Receive, c.Close
		},
		Accept: func(node uint64, l *relay.Line) (func([]byte), func()) {
			g := in.broker.Accept(node, l)
			return g.Receive, g.Close
		},
	})
	n.stored.alone = stored
	in.broker.OnRole(n.memory.keeper.Follow)
	n.memory.run(in)
	n.over.Go(func() { n.host.Run(n.wake, clusterTick, n.stop) })
	n.over.Go(func() { n.host.Images().Run(n.pull, clusterTick, n.stop) })
	if n.member.Joined() {
		if err := in.broker.Await(); err != nil {
			return err
		}
	} else if in.broker.Grouped() {
		if err := in.broker.Await("memory"); err != nil { // this life has nothing of it yet
			return err
		}
	}
	if h := in.tables.holder; h != nil && in.broker.Grouped() {
		h.Share()
	}
	if in.broker.Grouped() && !n.member.Member() {
		return errors.New("the data directory is a replica of a cluster, and its cluster.json is not there: to make it a cluster of one, run gmq cluster recover --data DIR")
	}
	n.member.OnNodes(func([]member.Node) {
		n.relay.Look()
		n.stored.look(n, in.broker)
	})
	n.over.Go(func() { n.stored.run(n, in.broker) })
	in.broker.WatchDocuments(member.Prefix, n.member.Changed)
	in.broker.WatchDocuments(memoryDocument, in.decided)
	if err := in.sameStorages(); err != nil {
		return err
	}
	in.takeTurns()
	return nil
}

// handOver has others lead what this node leads, before it stops.
func (in *instance) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	h := in.node.host
	if len(in.node.others()) == 0 {
		return
	}
	in.node.member.Yield(ctx) // so that nobody gives any of it back meanwhile
	tick := time.NewTicker(clusterTick)
	defer tick.Stop()
	for h.Leads() > 0 || in.node.memory.host.Leads() > 0 { // what is in memory follows
		h.HandOver()
		select {
		case <-ctx.Done():
			in.log.Warn("some queues had no other node to lead them, and wait for an election", "shards", h.Leads())
			return
		case <-tick.C:
		}
	}
}

// closeRelay ends what goes to the brokers of other nodes and comes from them: before this one ends.
func (n *node) closeRelay() error {
	if n.relay != nil {
		n.relay.Close()
	}
	return nil
}

// leave ends the node's part in the cluster; the broker has ended.
func (n *node) leave() error {
	close(n.stop)
	n.over.Wait()
	n.host.Close()
	err := n.member.Close()
	n.raft.Close()
	n.images.Close()
	n.memory.close()
	return err
}

// sinceStart is a clock that tells how long it has been running.
func sinceStart() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
