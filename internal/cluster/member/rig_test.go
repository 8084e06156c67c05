package member

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/transport"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/wire"
)

const (
	rigGroups = 2
	rigTick   = 5 * time.Millisecond
	rigEvery  = 20 * time.Millisecond
)

// A machine is a node: the manager, hosts and logs of production over a disk in memory, real sockets on loopback, and shards of which
// the first keeps documents.
type machine struct {
	t       *testing.T
	disk    *vfs.Mem
	m       *Manager
	log     *filejournal.Log
	host    *cluster.Host
	raft    *transport.Transport
	shards  []*shard
	stop    chan struct{}
	over    sync.WaitGroup
	removed chan struct{}
	opt     Options

	mu   sync.Mutex // guards the following
	logs []string
}

// A shard applies what its group decides: names and data of documents.
type shard struct {
	n    *machine
	j    *cluster.Journal
	wake chan struct{}
	do   chan func()
	docs map[string]string
	sent map[*journal.Batch]chan error
	role journal.Role // as it was last
	mu   sync.Mutex   // guards leader
	lead uint64
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newMachine is one that has a disk and nothing on it.
func newMachine(t *testing.T, change func(*Options)) *machine {
	n := &machine{t: t, disk: vfs.NewMem(), removed: make(chan struct{}, 1)}
	n.opt = Options{
		FS: n.disk, Dir: "data", Listen: "127.0.0.1:0", Client: "127.0.0.1:1", Groups: rigGroups, Every: rigEvery, Version: "test",
		Put: n.put, Leader: func() uint64 { return n.shards[0].leader() }, Begin: n.begin,
		Wish: func(w cluster.Wish) { n.host.Wish(w) }, Status: func() []cluster.GroupStatus { return n.host.Status() },
		Removed: func() { signal(n.removed) }, Logf: n.logf,
	}
	if change != nil {
		change(&n.opt)
	}
	return n
}

func (n *machine) logf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logs = append(n.logs, fmt.Sprintf(format, args...))
}

func (n *machine) logged(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.logs, func(l string) bool { return strings.Contains(l, text) })
}

// start starts a process. With a token it joins the cluster that first has begun.
func (n *machine) start(token string, first *machine) error {
	if err := n.disk.MkdirAll("data"); err != nil {
		return err
	}
	m, err := Open(n.opt)
	if err != nil {
		return err
	}
	n.m, n.stop = m, make(chan struct{})
	wake := make(chan struct{}, 1)
	n.raft = transport.New(transport.Options{
		Dial:        func(ctx context.Context, node uint64) (net.Conn, error) { return m.Dial(ctx, node, Raft) },
		Deliver:     func(from uint64, packet []byte) { n.host.Deliver(from, packet) },
		Unreachable: func(node uint64) { n.host.Unreachable(node) },
		RetryAfter:  rigEvery, Logf: n.logf,
	})
	n.host, err = cluster.New(cluster.Config{ID: m.ID(), Groups: rigGroups, Wake: func() { signal(wake) }, Send: n.raft.Send, Logf: n.logf})
	if err != nil {
		return err
	}
	n.log, err = filejournal.Open(n.disk, "data", filejournal.Options{Sync: true, Shards: rigGroups, SegmentBytes: 1 << 20})
	if err != nil {
		return err
	}
	m.Handle(Raft, n.raft.Serve)
	if token != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Join(ctx, token); err != nil {
			n.abandon()
			return err
		}
	}
	n.shards = nil
	for i := range rigGroups {
		s := &shard{n: n, wake: make(chan struct{}, 1), do: make(chan func()), docs: map[string]string{}, sent: map[*journal.Batch]chan error{}}
		n.shards = append(n.shards, s)
		if err := s.open(i, first); err != nil {
			return err
		}
	}
	for _, s := range n.shards {
		n.over.Go(s.run)
	}
	stop, host := n.stop, n.host
	n.over.Go(func() { host.Run(wake, rigTick, stop) })
	if err := m.Start(); err != nil {
		return err
	}
	if first == nil { // as nobody sends images, all that is ever kept has to be in the group's log
		return n.begin()
	}
	return nil
}

// abandon ends what start has begun.
func (n *machine) abandon() {
	err := n.m.Close()
	n.raft.Close()
	if err2 := n.log.Close(); err != nil || err2 != nil {
		n.t.Error(err, err2)
	}
	n.m = nil
}

// kill ends the process.
func (n *machine) kill() {
	if n.m == nil {
		return
	}
	m := n.m
	close(n.stop)
	n.over.Wait()
	n.m = nil
	err := m.Close()
	n.raft.Close()
	if err2 := n.log.Close(); err != nil || err2 != nil {
		n.t.Error(err, err2)
	}
}

func (s *shard) open(i int, first *machine) error {
	s.j = s.n.host.Journal(i, func() { signal(s.wake) }, func(wake func()) cluster.Log { return s.n.log.Replica(i, wake) })
	err := s.j.Replay(func([]byte) error { return nil }, func(_ journal.Ref, payload []byte) error {
		s.apply(payload)
		return nil
	})
	if err == nil && first != nil { // as nobody sends images here, it begins as the first has begun, and gets all of the log
		err = s.j.Begin([]uint64{first.m.ID()})
	}
	return err
}

func (s *shard) apply(payload []byte) {
	k := binary.LittleEndian.Uint16(payload)
	name, data := string(payload[2:2+k]), payload[2+k:]
	s.docs[name] = string(data)
	if strings.HasPrefix(name, Prefix) {
		s.n.m.Changed(name, slices.Clone(data))
	}
}

func (s *shard) leader() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lead
}

func (s *shard) run() {
	for {
		for _, b := range s.j.Committed(nil) {
			for at := 0; b.Err == nil && at < len(b.Data); {
				var payload []byte
				payload, at = journal.NextRecord(b.Data, at)
				s.apply(payload)
			}
			if done := s.sent[b]; done != nil {
				delete(s.sent, b)
				done <- b.Err
			}
		}
		if role := s.j.Role(); role != s.role {
			if s.role.Leading && !role.Leading {
				for b, done := range s.sent {
					delete(s.sent, b)
					done <- wire.Errorf(wire.CodeUnknownOutcome, "another node leads")
				}
			}
			s.role = role
		}
		s.mu.Lock()
		if s.lead = s.role.Leader; s.role.Leading {
			s.lead = s.n.m.ID()
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case f := <-s.do:
			f()
		case <-s.n.stop:
			return
		}
	}
}

// put keeps a document.
func (n *machine) put(name string, data []byte) error {
	s := n.shards[0]
	done := make(chan error, 1)
	f := func() {
		b := &journal.Batch{Data: binary.LittleEndian.AppendUint16(journal.BeginRecord(nil), uint16(len(name)))}
		b.Data = append(append(b.Data, name...), data...)
		journal.EndRecord(b.Data, 0)
		s.sent[b] = done
		s.j.Propose(b)
	}
	select {
	case s.do <- f:
	case <-n.stop:
		return wire.Errorf(wire.CodeShuttingDown, "over")
	}
	select {
	case err := <-done:
		if err == journal.ErrNotLeading || err == journal.ErrOverruled {
			return wire.Errorf(wire.CodeNoQuorum, "%s", err.Error())
		}
		return err
	case <-n.stop:
		return wire.Errorf(wire.CodeShuttingDown, "over")
	}
}

// begin makes groups of a node alone.
func (n *machine) begin() error {
	for _, s := range n.shards {
		done := make(chan error, 1)
		s.do <- func() { done <- s.j.Begin([]uint64{n.m.ID()}) }
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}
