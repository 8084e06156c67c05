package cluster

import (
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/internal/vfs"
)

const suiteShards = 4

// led is a journal whose node leads before its owner begins: the suite's owners propose at once.
type led struct {
	*Journal
	n     *rigNode
	woken chan struct{}
}

func (l *led) Replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	err := l.Journal.Replay(snapshot, record)
	if err == nil && !l.replicated.Load() {
		err = l.Begin(l.n.r.voters())
	}
	if err == nil {
		l.n.lead(l.Journal, l.woken)
	}
	return err
}

func TestSuite(t *testing.T) {
	opt := filejournal.Options{Sync: true, SegmentBytes: 1 << 20, CacheBytes: 2 << 20, CompactSlack: 4 << 20, CompactEvery: 2 << 20}
	if testing.Short() { // as in openRig
		opt.SegmentBytes, opt.CacheBytes, opt.CompactSlack, opt.CompactEvery = opt.SegmentBytes/4, opt.CacheBytes/4, opt.CompactSlack/4, opt.CompactEvery/4
	}
	for _, c := range []struct {
		name   string
		nodes  int
		memory bool
	}{
		{"a node alone", 0, false}, {"a group of one", 1, false}, {"a leader of three", 3, false},
		{"a node alone, in memory", 0, true}, {"a leader of three, in memory", 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			journaltest.Run(t, func(t *testing.T) *journaltest.Harness {
				disks := []*vfs.Mem{vfs.NewMem(), vfs.NewMem(), vfs.NewMem()}
				return harness(t, disks, c.nodes, opt, c.memory)
			})
		})
	}
}

func harness(t *testing.T, disks []*vfs.Mem, nodes int, opt filejournal.Options, memory bool) *journaltest.Harness {
	t.Helper()
	r := openRig(t, func(i int) (vfs.FS, string) { return disks[i], "/data" }, max(nodes, 1), suiteShards, opt)
	if memory {
		r.memory = journal.NewBudget(0)
	}
	for i, n := range r.nodes {
		n.run()
		for shard := range suiteShards {
			if i > 0 {
				n.follow(shard)
			}
		}
	}
	h := &journaltest.Harness{
		Shards: suiteShards,
		Journal: func(i int, wake func()) journal.Journal {
			l := &led{n: r.nodes[0], woken: make(chan struct{}, 1)}
			l.Journal = l.n.journal(i, func() { signal(l.woken); wake() })
			if nodes == 0 {
				return l.Journal
			}
			return l
		},
		Close: r.close,
	}
	if !memory {
		h.Reopen = func(t *testing.T) *journaltest.Harness { return harness(t, disks, nodes, opt, false) }
	}
	return h
}
