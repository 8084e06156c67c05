package powercut_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
)

const (
	narrow = 60 << 20 // room for the log, until the disk is full
	plenty = 96 << 20 // more, when it is not any more
)

// A crowd is publishers that never stop, and consumers that come and go.
type crowd struct {
	t      *testing.T
	server *harness.Server
	ledger *load.Ledger
	lives  *load.Lives // of the publishers
	done   sync.WaitGroup

	consuming sync.WaitGroup
	leave     context.CancelFunc // of the consumers
}

// gather lets publishers come, who may be told that the disk is full.
func gather(t *testing.T, server *harness.Server) *crowd {
	c := &crowd{t: t, server: server, lives: load.NewLives(t.Context()), ledger: load.NewLedger(load.Kind{
		Queue: "full", Publishers: 2, Fate: load.Accepted, Size: load.Large, Room: 1 << 30, Refusals: []string{"disk_full"}})}
	for p := range 2 {
		c.done.Go(func() { load.Publish(c.lives, c.ledger, p) })
	}
	c.lives.Begin(server.Addr)
	return c
}

// consume lets consumers come, until they are told to leave.
func (c *crowd) consume() {
	ctx, leave := context.WithCancel(c.t.Context())
	c.leave = leave
	here := c.lives.Here(ctx)
	for range 2 {
		c.consuming.Go(func() { load.Consume(here, c.ledger, false) })
	}
}

func (c *crowd) left() {
	c.leave()
	c.consuming.Wait()
}

// until waits for counts while the server works.
func (c *crowd) until(what string, ok func(load.Counts) bool) load.Counts {
	c.t.Helper()
	select {
	case <-c.ledger.Reached(ok):
	case <-c.server.Exited():
		c.t.Fatalf("the server ended with exit code %d before %s", c.server.ExitCode(), what)
	case <-time.After(harness.Patience):
		c.t.Fatalf("waited %v in vain until %s: %+v", harness.Patience, what, c.ledger.Counts())
	}
	now := c.ledger.Counts()
	c.t.Logf("%s: %+v", what, now)
	return now
}

// full waits until publishes are refused for want of space, again and again.
func (c *crowd) full() load.Counts {
	c.t.Helper()
	before := c.ledger.Counts()
	return c.until("the disk is full", func(n load.Counts) bool { return n.Refused >= before.Refused+500 })
}

// judge waits until everything is consumed and says whether it was all that was promised.
func (c *crowd) judge() {
	c.t.Helper()
	c.ledger.Stop()
	c.done.Wait()
	conn := c.server.Dial(c.t)
	var counts harness.Line
	harness.Eventually(c.t, "the queue is empty", func() bool {
		counts = conn.OK(`{"op":"queue.info","queue":"full"}`).At("counts")
		return counts.Int("ready")+counts.Int("leased") == 0
	})
	c.left()
	v := c.ledger.Close()
	c.t.Log(v)
	faults, n := c.ledger.Faults()
	for _, fault := range faults {
		c.t.Error(fault)
	}
	if n > len(faults) {
		c.t.Errorf("and %d faults more", n-len(faults))
	}
	if got := counts.Int("published"); got != int64(v.Stored) || got != counts.Int("acked") {
		c.t.Errorf("clients know of %d stored; the server says %s", v.Stored, counts.Raw)
	}
}

// On a full disk publishes are refused, deliveries and acks go on, a killed server starts again, and what
// consumers free or somebody else gives back is used at once.
func TestDiskFull(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			size := int64(imageSize)
			if kind == "tmpfs" {
				size = narrow + plenty
			}
			d := disk.New(t, kind, t.TempDir(), size)
			ballast := d.Ballast(t, narrow)
			server := harness.StartOn(t, filepath.Join(d.Dir, "data"), "queue_defaults: {storage: file}\n")
			c := gather(t, server)
			full := c.full()
			if full.Confirmed < leastLoad {
				t.Errorf("%d were confirmed before the disk was full: the load was not real, it takes %d", full.Confirmed, leastLoad)
			}

			c.consume()
			c.until("acks go on", func(n load.Counts) bool { return n.Acked >= 500 })
			c.until("what is acked makes room", func(n load.Counts) bool { return n.Confirmed >= full.Confirmed+500 })
			c.left()
			c.full()

			server.Restart()
			life := c.lives.Begin(server.Addr)
			full = c.full()
			c.consume()
			c.until("acks go on after a restart on the full disk", func(n load.Counts) bool { return n.Acked >= full.Acked+100 })
			c.left()

			full = c.full()
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			c.until("publishes go on by themselves", func(n load.Counts) bool {
				return n.Life == life && n.Confirmed >= full.Confirmed+leastLoad
			})
			c.consume()
			c.judge()
		})
	}
}

// A disk that has promised more than it has takes writes that its sync then refuses, and turns read-only sooner
// or later. The server may say that it is full, and must end where it cannot know what it has. What was
// confirmed before is there when the disk is mended.
func TestThinDisk(t *testing.T) {
	under := disk.New(t, "tmpfs", "", narrow)
	d := disk.New(t, "ext4", under.Dir, imageSize)
	server := harness.StartOn(t, filepath.Join(d.Dir, "data"), "queue_defaults: {storage: file}\n")
	c := gather(t, server)
	select {
	case <-server.Exited():
		t.Logf("the server has ended: %s", strings.Join(server.Log(), "\n"))
		if code := server.ExitCode(); code != 1 {
			t.Errorf("it ended with exit code %d", code)
		}
	case <-c.ledger.Reached(func(n load.Counts) bool { return n.Refused > 10_000 }):
		server.Kill()
	case <-time.After(harness.Patience):
		t.Fatalf("the server goes on with a disk that fails: %+v", c.ledger.Counts())
	}
	before := c.ledger.Counts()
	t.Logf("until then: %+v", before)
	if before.Confirmed < leastLoad {
		t.Errorf("%d confirms before the disk failed: the load was not real, it takes %d", before.Confirmed, leastLoad)
	}
	if err := syscall.Mount("", under.Dir, "", syscall.MS_REMOUNT, "size=1g"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remount(); err != nil {
		t.Fatal(err)
	}
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}
	life := c.lives.Begin(server.Addr)
	c.until("it serves again", func(n load.Counts) bool { return n.Life == life && n.InLife >= leastLoad })
	c.consume()
	c.judge()
}
