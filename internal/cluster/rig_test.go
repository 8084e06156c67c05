package cluster

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

const rigTick = 10 * time.Millisecond

// A rig is nodes in this process, over real goroutines and a network that loses nothing.
type rig struct {
	tb     testing.TB
	nodes  []*rigNode
	cut    atomic.Bool     // nobody hears anybody
	memory *journal.Budget // the shards are kept in memory; nil: on disk
}

type rigNode struct {
	r        *rig
	id       uint64
	log      *filejournal.Log
	host     *Host
	wake     chan struct{}
	stop     chan struct{}
	over     sync.WaitGroup
	journals []*Journal
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// openRig opens a node for each of the logs' directories.
func openRig(tb testing.TB, fs func(i int) (vfs.FS, string), nodes, shards int, opt filejournal.Options) *rig {
	r := &rig{tb: tb}
	for i := range nodes {
		n := &rigNode{r: r, id: uint64(i + 1), wake: make(chan struct{}, 1), stop: make(chan struct{})}
		fsys, dir := fs(i)
		opt.Shards = shards
		opt.Logf = func(f string, v ...any) { tb.Logf("node %d: "+f, append([]any{n.id}, v...)...) }
		var err error
		if n.log, err = filejournal.Open(fsys, dir, opt); err != nil {
			tb.Fatal(err)
		}
		// The first is to lead, and to go on leading on a busy machine, as whoever proposes cannot look elsewhere.
		ticks := 100
		if i > 0 {
			ticks = 500
		}
		trail := int64(0)
		if testing.Short() { // the race detector looks at who meets whom, not at how many bytes it takes until a log is compacted
			trail = 4 << 20
		}
		n.host, err = New(Config{ID: n.id, Groups: shards, ElectionTicks: ticks, TrailBytes: trail, Wake: func() { signal(n.wake) }, Logf: opt.Logf, Send: func(to uint64, packet []byte) {
			if to := int(to) - 1; to < len(r.nodes) && r.nodes[to] != nil && !r.cut.Load() {
				r.nodes[to].host.Deliver(n.id, packet)
			}
		}})
		if err != nil {
			tb.Fatal(err)
		}
		n.journals = make([]*Journal, shards)
		r.nodes = append(r.nodes, n)
	}
	return r
}

func (n *rigNode) run() { n.over.Go(func() { n.host.Run(n.wake, rigTick, n.stop) }) }

// journal is shard i's. It has not been replayed.
func (n *rigNode) journal(i int, wake func()) *Journal {
	n.journals[i] = n.host.Journal(i, wake, func(w func()) Log {
		if n.r.memory != nil {
			return journal.NewMemoryReplica(n.r.memory, w)
		}
		return n.log.Replica(i, w)
	})
	return n.journals[i]
}

// follow is a shard's owner that refers to nothing.
func (n *rigNode) follow(i int) {
	woken := make(chan struct{}, 1)
	j := n.journal(i, func() { signal(woken) })
	nothing := func([]byte) error { return nil }
	if err := j.Replay(nothing, func(journal.Ref, []byte) error { return nil }); err != nil {
		n.r.tb.Errorf("node %d, shard %d: %v", n.id, i, err)
		return
	}
	if !j.replicated.Load() {
		if err := j.Begin(n.r.voters()); err != nil {
			n.r.tb.Error(err)
		}
	}
	n.over.Go(func() {
		for {
			select {
			case <-woken:
			case <-n.stop:
				return
			}
			j.Committed(nil)
			if _, ok := j.Compact(); ok {
				j.Snapshot().Commit()
			}
		}
	})
}

func (r *rig) voters() (ids []uint64) {
	for i := range r.nodes {
		ids = append(ids, uint64(i+1))
	}
	return ids
}

func (r *rig) close() error {
	for _, n := range r.nodes {
		close(n.stop)
		n.over.Wait()
		n.host.Close()
		if err := n.log.Close(); err != nil {
			return err
		}
	}
	return nil
}

// lead waits until a journal's node leads its group.
func (n *rigNode) lead(j *Journal, woken <-chan struct{}) {
	tb := n.r.tb
	n.host.Campaign(j.g.number)
	for !j.Role().Leading {
		if got := j.Committed(nil); len(got) > 0 {
			tb.Errorf("%d batches before anybody leads", len(got))
			return
		}
		if err := j.Failed(); err != nil {
			tb.Error(err)
			return
		}
		if other := j.Role().Leader; other != 0 && other != n.id {
			n.r.nodes[other-1].host.Transfer(j.g.number, n.id)
		}
		if !j.Role().Leading {
			<-woken
		}
	}
}

func tempDirs(tb testing.TB) func(i int) (vfs.FS, string) {
	root, err := os.MkdirTemp(os.Getenv("GMQ_BENCH_DIR"), "gmq-cluster-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(root) })
	return func(i int) (vfs.FS, string) { return vfs.OS(), fmt.Sprintf("%s/%d", root, i) }
}
