package member

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/wire"
)

// A node that comes back at another address is reached again, and it is known where; also when the others have moved meanwhile, but not all.
func TestAddressesChange(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts three nodes twice, which takes long under the race detector; TestTransfer starts one twice")
	}
	all := newCluster(t, 3)
	before := all[0].m.Report(all[0].m.ctx)
	for k, i := range []int{1, 2, 0} {
		all[i].kill()
		all[i].opt.Client = fmt.Sprint("10.0.0.", i, ":4567")
		if err := all[i].start("", nil); err != nil {
			t.Fatal(err)
		}
		// The next one goes when this one's address is kept: what happens where they move at once TestTwoMove shows.
		until(t, "all know where those are that have moved", func() bool {
			for _, n := range all {
				moved := 0
				for _, node := range n.m.Report(n.m.ctx).Nodes {
					old := before.Nodes[slices.IndexFunc(before.Nodes, func(o NodeStatus) bool { return o.ID == node.ID })]
					if node.Address != old.Address && node.Client != old.Client {
						moved++
					}
				}
				if moved != k+1 {
					return false
				}
			}
			return true
		})
		all[i].settled(t, 3)
	}
	if err := all[1].m.Put("after", []byte("x")); err != nil {
		t.Error(err)
	}
}

// A node that is asked to lead nothing leads nothing, until it starts again.
func TestTransfer(t *testing.T) {
	all := newCluster(t, 2)
	one := all[0]
	leads := func(name string) int {
		r := one.m.Report(one.m.ctx)
		n := r.Nodes[slices.IndexFunc(r.Nodes, func(o NodeStatus) bool { return o.Name == name })]
		return n.Leads
	}
	until(t, "each leads its share", func() bool { return leads("n1") == rigGroups/2 && leads("n2") == rigGroups/2 })
	if _, err := all[1].request(&wire.Request{Op: wire.OpClusterTransfer, Name: []byte("n1")}); err != nil {
		t.Fatal(err)
	}
	until(t, "n2 leads all", func() bool { return leads("n2") == rigGroups })
	if _, err := one.request(&wire.Request{Op: wire.OpClusterTransfer, Name: []byte("n2")}); err == nil || err.Code != wire.CodeBadRequest {
		t.Errorf("nobody would be left to lead: %v", err)
	}
	one.kill()
	if err := one.start("", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "each leads its share again", func() bool { return leads("n1") == rigGroups/2 && leads("n2") == rigGroups/2 })
}

// Certificates are renewed before they end, by each node for itself, and are good.
func TestCertificatesAreRenewed(t *testing.T) {
	var later atomic.Int64 // than the clock says
	clock := func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) } }
	one, two := newMachine(t, clock), newMachine(t, clock)
	if err := one.start("", nil); err != nil {
		t.Fatal(err)
	}
	defer one.kill()
	if err := two.start(one.token(t), one); err != nil {
		t.Fatal(err)
	}
	defer two.kill()
	one.settled(t, 2)
	ends := func(n *machine) time.Time {
		c, err := x509.ParseCertificate(n.m.cert.Load().Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return c.NotAfter
	}
	for _, days := range []int{25, 50, 75} {
		was := []time.Time{ends(one), ends(two)}
		later.Store(int64(days) * int64(24*time.Hour))
		until(t, fmt.Sprint("new certificates after ", days, " days"), func() bool { return ends(one).After(was[0]) && ends(two).After(was[1]) })
		one.settled(t, 2) // it asks the other one, over new connections
	}
	// One that was off for longer than its certificate holds signs another for itself.
	two.kill()
	later.Store(int64(500 * 24 * time.Hour))
	if err := two.start("", nil); err != nil {
		t.Fatal(err)
	}
	one.settled(t, 2)
}

// What a node is survives a power cut at any moment, as it was or as it is now.
func TestIdentitySurvivesPowerCuts(t *testing.T) {
	for cut := 1; ; cut++ {
		disk, calls := vfs.NewMem(), 0
		if err := errors.Join(disk.MkdirAll("data"), disk.SyncDir(".")); err != nil {
			t.Fatal(err)
		}
		first := &identity{id: newID()}
		if err := first.write(disk, "data"); err != nil {
			t.Fatal(err)
		}
		over := false
		disk.Fault = func(op vfs.Op) error {
			if calls++; calls >= cut {
				over = true
				return errPower
			}
			return nil
		}
		second := *first
		second.name = "later"
		err := second.write(disk, "data")
		disk.Fault = nil
		disk = disk.Crash(rand.New(rand.NewPCG(uint64(cut), 1)))
		got, isNew, readErr := readIdentity(disk, "data")
		if readErr != nil || isNew || got.id != first.id {
			t.Fatalf("cut at call %d: %+v, new: %v, %v", cut, got, isNew, readErr)
		}
		if err == nil && got.name != "later" {
			t.Fatalf("cut at call %d: it was said to be kept", cut)
		}
		if !over {
			return
		}
	}
}

// Two of three nodes are at other addresses at the same time. The one that comes back last knows the third one only, which does not lead, as a rule:
// from it it learns where the leader is.
func TestTwoMove(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts three nodes, and two of them twice, which takes long under the race detector")
	}
	all := newCluster(t, 3)
	stays, leads, last := all[0], all[1], all[2]
	if _, err := stays.request(&wire.Request{Op: wire.OpClusterTransfer, Name: []byte("n1")}); err != nil {
		t.Fatal(err)
	}
	leads.kill()
	last.kill()
	if err := leads.start("", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the one that has moved leads", func() bool { return stays.shards[0].leader() == leads.m.ID() })
	if err := last.start("", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the last one knows who leads", func() bool {
		leader := leads.shards[0].leader() // on a busy machine the lead may move
		return leader != 0 && last.shards[0].leader() == leader
	})
	last.settled(t, 3)
}

// A node that has not heard of another one asks the rest, and lets it in where they know it: that one may be who leads the group of documents, and so the only
// one who could tell. One that they do not know stays outside.
func TestAsksAboutStrangers(t *testing.T) {
	all := newCluster(t, 3)
	two, three := all[1], all[2]
	until(t, "two nodes have a lead each", func() bool { // no lead moves from there on
		one, other := two.shards[0].leader(), two.shards[1].leader()
		return one != 0 && other != 0 && one != other
	})
	if two.shards[0].leader() == two.m.ID() { // it keeps the documents, and has all that have come
		two = all[0]
	}
	two.m.mu.Lock()
	delete(two.m.nodes, three.m.ID()) // as if the document had not come
	delete(two.m.told, three.m.ID())
	two.m.mu.Unlock()
	until(t, "n2 has asked, and lets n3 in", func() bool {
		_, err := three.m.ask(three.m.ctx, two.m.ID(), &message{Op: askStatus})
		return err == nil
	})
	if err := two.m.admit(77); !errors.Is(err, errEarly) {
		t.Errorf("one of whom nobody knows: %v", err)
	}
}
