package transport

import (
	"sync"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

// An owner is a shard of a node: it counts what is decided, and says when it leads.
type owner struct {
	j    *cluster.Journal
	wake chan struct{}
	seen chan string
}

func (o *owner) run(stop <-chan struct{}) {
	for {
		select {
		case <-o.wake:
		case <-stop:
			return
		}
		before := o.j.Role().Leading
		for _, b := range o.j.Committed(nil) {
			for at := 0; b.Err == nil && at < len(b.Data); { // what was proposed together may come together
				var payload []byte
				payload, at = journal.NextRecord(b.Data, at)
				o.seen <- string(payload)
			}
		}
		if o.j.Role().Leading && !before {
			o.seen <- "leads"
		}
	}
}

// TestThreeNodes: hosts, logs and transports as in production, but for the disks.
func TestThreeNodes(t *testing.T) {
	addresses, stop := &sync.Map{}, make(chan struct{})
	var over sync.WaitGroup
	owners := make([]*owner, 3)
	hosts := make([]*cluster.Host, 3)
	for i := range owners {
		id, wake := uint64(i+1), make(chan struct{}, 1)
		signal := func(c chan struct{}) func() {
			return func() {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
		var station *station
		host := must[*cluster.Host](t)(cluster.New(cluster.Config{
			ID: id, Groups: 1, Wake: signal(wake), Send: func(to uint64, packet []byte) { station.t.Send(to, packet) },
		}))
		station = open(t, id, addresses, func(o *Options) { o.Deliver, o.Unreachable = host.Deliver, host.Unreachable })
		log := must[*filejournal.Log](t)(filejournal.Open(vfs.NewMem(), "/data", filejournal.Options{Sync: true, SegmentBytes: 1 << 20}))
		o := &owner{wake: make(chan struct{}, 1), seen: make(chan string, 1000)}
		o.j = host.Journal(0, signal(o.wake), func(wake func()) cluster.Log { return log.Replica(0, wake) })
		err := o.j.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil })
		if err == nil {
			err = o.j.Begin([]uint64{1, 2, 3})
		}
		if err != nil {
			t.Fatal(err)
		}
		owners[i], hosts[i] = o, host
		over.Go(func() { host.Run(wake, 10*time.Millisecond, stop) })
		over.Go(func() { o.run(stop) })
		t.Cleanup(func() {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { close(stop); over.Wait() })

	leader := -1
	for leader < 0 {
		for i, o := range owners {
			select {
			case <-o.seen: // "leads": nothing else can be, yet
				leader = i
			case <-time.After(time.Millisecond):
			}
		}
	}
	for _, text := range []string{"one", "two", "three"} {
		b := &journal.Batch{Data: append(journal.BeginRecord(nil), text...)}
		journal.EndRecord(b.Data, 0)
		owners[leader].j.Propose(b)
	}
	for i, o := range owners {
		for _, want := range []string{"one", "two", "three"} {
			if got := <-o.seen; got != want {
				t.Fatalf("node %d has %q, want %q", i+1, got, want)
			}
		}
	}
}
