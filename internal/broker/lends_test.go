package broker

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// A late journal has kept nothing until the test says so.
type late struct {
	*journal.Memory
	wake func()
	kept atomic.Bool
}

func (l *late) Committed(into []*journal.Batch) []*journal.Batch {
	if !l.kept.Load() {
		return into
	}
	return l.Memory.Committed(into)
}

// TestLends: who says that something is kept, and has the time for it, answers whoever has waited for that, unless somebody takes the shard's turn
// already, or the broker has ended.
func TestLends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late1 *late
		lends := true
		r := &rig{t: t}
		budget := journal.NewBudget(1 << 20)
		var err error
		r.b, err = Start(Options{Boot: 7, Limits: Limits{MaxQueues: 10, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true,
			Defaults: queue.Settings{Storage: "file", Lease: time.Minute}}, Fail: func(err error) { r.fail = err },
			Storages: []Storage{{Name: "file", Stored: "disk", Lends: func() bool { return lends }, Open: func(i int, wake func()) journal.Journal {
				l := &late{Memory: journal.NewMemory(budget, func() {}), wake: wake}
				l.kept.Store(true)
				if i == shardOf([]byte("q")) {
					late1 = l
				}
				return l
			}}}})
		if err != nil {
			t.Fatal(err)
		}
		p := r.peer()
		sent := ""
		p.s.Direct(func(b []byte) int { sent += string(b); return len(b) })
		keep := func() string {
			late1.kept.Store(true)
			late1.wake()
			now := sent
			sent = ""
			return now
		}
		publish := func() {
			late1.kept.Store(false)
			p.send(`{"op":"publish","queue":"q","body":1}`)
			synctest.Wait()
			if sent != "" || p.take() != nil {
				t.Errorf("confirmed before it was kept")
			}
		}
		publish()
		keep() // the queue
		synctest.Wait()
		p.take()
		sent = ""

		publish()
		if now := keep(); !strings.Contains(now, `"seq":2`) {
			t.Errorf("who has kept it has sent %q", now)
		}
		lends = false
		publish()
		if now := keep(); now != "" {
			t.Errorf("who has no time has sent %q", now)
		}
		if later := p.take(); len(later) != 1 || !strings.Contains(later[0], `"seq":3`) {
			t.Errorf("then %q was sent", later)
		}
		lends = true
		publish()
		baton := &r.b.shards[shardOf([]byte("q"))].baton
		if !baton.take() {
			t.Fatal("somebody has the baton")
		}
		if now := keep(); now != "" {
			t.Errorf("beside another one %q was sent", now)
		}
		if baton.give() {
			signal(baton.wake)
		}
		if later := p.take(); len(later) != 1 || !strings.Contains(later[0], `"seq":4`) {
			t.Errorf("then %q was sent", later)
		}
		r.close()
		late1.wake()
	})
}
