package broker

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/wire"
)

// A sparseStub wishes for a compaction of all that there is, once, and notes what is kept on this node alone.
type sparseStub struct {
	*groupStub
	all *sparseLog

	mu     sync.Mutex // guards wished
	wished bool
	full   bool // nothing more of that is kept
}

// A sparseLog is what the stubs of a storage have in common.
type sparseLog struct {
	mu     sync.Mutex // guards events
	events []string
}

func (l *sparseLog) note(event string) {
	l.mu.Lock()
	l.events = append(l.events, event)
	l.mu.Unlock()
}

func (s *sparseStub) Compact() (journal.Compaction, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wished := s.wished
	s.wished = false
	return journal.Compaction{Round: 1, Sparse: func(journal.Ref) bool { return true }}, wished
}

func (s *sparseStub) Propose(b *journal.Batch) {
	if !b.Local {
		s.groupStub.Propose(b)
		return
	}
	s.all.note("local")
	if s.full {
		s.groupStub.mu.Lock()
		b.Err = journal.ErrDiskFull
		s.no = append(s.no, b)
		s.groupStub.mu.Unlock()
		s.wake()
		return
	}
	s.Memory.Propose(b)
}

// TestSharedMovesAreNoted: in a cluster a shard has something kept on its node, so that the journal notes how far entries are applied, before another shard says
// where its messages lie now. Where that is not kept they stay where they are.
func TestSharedMovesAreNoted(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			storages, _ := stubbed(1)
			log, lead := &sparseLog{}, journal.Role{Leading: true, Leader: 1, Term: 1}
			var stubs []*sparseStub
			storages[0].Spread = func(*journal.Batch) { log.note("spread") }
			storages[0].Open = func(_ int, wake func()) journal.Journal {
				g := &groupStub{Memory: journal.NewMemory(journal.NewBudget(64<<20), wake), wake: wake, role: lead, told: lead}
				stubs = append(stubs, &sparseStub{groupStub: g, all: log, full: full})
				return stubs[len(stubs)-1]
			}
			r := &rig{t: t}
			var err error
			if r.b, err = Start(Options{Version: "test", ID: 1, Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err }, Storages: storages,
				Limits: Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000}}); err != nil {
				t.Fatal(err)
			}
			defer r.close()
			p := &peer{r, r.b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
			defer p.s.Close()
			queues := []string{"a"}
			for i := 0; len(queues) < 4; i++ { // of one shard
				if name := fmt.Sprint("b", i); shardOf([]byte(name)) == shardOf([]byte("a")) {
					queues = append(queues, name)
				}
			}
			p.bindAll("file", "t", queues...)
			p.want(`{"op":"publish","topic":"t","body":1}`, "queues", 4)
			for _, s := range stubs {
				s.mu.Lock()
				s.wished = true
				s.mu.Unlock()
				s.wake()
			}
			synctest.Wait()
			log.mu.Lock()
			defer log.mu.Unlock()
			if want := map[bool]string{false: "[local spread]", true: "[local]"}[full]; fmt.Sprint(log.events) != want {
				t.Errorf("full: %v: %v, want %s", full, log.events, want)
			}
		})
	}
}
