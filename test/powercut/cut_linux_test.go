package powercut_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
)

func TestMain(m *testing.M) { os.Exit(disk.Main(m)) }

var (
	cutsOf = map[string]*int{
		"ext4": flag.Int("ext4", 4, "how often the power is cut with the data on ext4"),
		"xfs":  flag.Int("xfs", 2, "how often the power is cut with the data on xfs"),
	}
	seed = flag.Uint64("seed", 0, "of the moments and kinds of the cuts; 0: a new one")
)

const (
	imageSize = 512 << 20 // sparse; xfs takes no less than 300 MiB
	leastLoad = 1000      // confirms in each life, without which the load was not real
)

// A trial is what the power cuts add to the clients' work.
type trial struct {
	*load.Trial
	t      *testing.T
	disk   *disk.Disk
	server *harness.Server
	life   int

	least      int               // confirms in any life
	at         map[disk.Loss]int // cuts, by what they forget
	running    int               // cuts under a server that was running, which ended by itself
	amid       int               // cuts after a write to the log and before its sync
	turning    int               // cuts just after the log had gone on in a new file
	starting   int               // cuts while it started
	forgotten  int               // cuts that a file which was not synced did not survive
	forgetting int               // cuts that it should not survive
	serving    time.Duration     // and what the cuts took, in their order
	dying      time.Duration
	mounting   time.Duration
	rising     time.Duration
}

func TestPowerCuts(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			n := *cutsOf[kind]
			r := newTrial(t, kind, "always", load.Mortal("cut.mortal"))
			again := fmt.Sprintf("go test -count=1 ./test/powercut -run PowerCuts/%s -%s %d -seed %d", kind, kind, n, *seed)
			defer func() {
				for _, fault := range r.Faults() {
					t.Error(fault)
				}
				if t.Failed() {
					t.Log("again: ", again)
				}
			}()
			t.Log(again)
			began := time.Now()
			r.cuts(n)
			v := r.Finish()
			t.Logf("%s: %d cuts, %v", kind, n, v)
			r.report(n, time.Since(began))
		})
	}
}

// A server that confirms before it syncs must lose what it confirmed, or the cuts above have shown nothing.
func TestPowerCutsFindWhatIsNotSynced(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			r := newTrial(t, kind, "never")
			r.cuts(4)
			if v := r.Finish(); v.Lost == 0 {
				t.Errorf("4 cuts and nothing was lost, with sync: never: %v", v)
			} else {
				t.Logf("%s: with sync: never, 4 cuts: %v; the first of %d faults: %s", kind, v, len(r.Faults()), r.Faults()[0])
			}
		})
	}
}

func newTrial(t *testing.T, kind, sync string, more ...load.Team) *trial {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	d := disk.New(t, kind, t.TempDir(), imageSize)
	server := harness.StartOn(t, filepath.Join(d.Dir, "data"), fmt.Sprintf("queue_defaults: {storage: file}\nstorage: {file: {sync: %s}}\n", sync))
	teams := []load.Team{{Kind: load.Kind{Queue: "cut.main", Publishers: 3, Fate: load.Accepted, Size: load.Small, Room: 50_000}, Consumers: 3},
		{Kind: load.Kind{Queue: "cut.large", Publishers: 1, Fate: load.Accepted, Size: load.Large, Room: 200}, Consumers: 1}}
	return &trial{t: t, disk: d, server: server, least: 1 << 30, at: map[disk.Loss]int{},
		Trial: load.NewTrial(t, server, append(teams, more...)...)}
}

// A plan is everything about a life that the seed decides.
type plan struct {
	confirms int           // so many first
	moment   time.Duration // then as long
	how      manner        // of the cut
	late     time.Duration // after the turn, where it is one
	loss     disk.Loss
	starting bool          // whether the next start is cut too
	started  time.Duration // when
	pages    *rand.Rand    // decides which are written back
}

// A manner is a kind of moment for the cut.
type manner int

const (
	running manner = iota // the server goes on, notices and must end
	amid                  // the server is stopped between a write to the log and its sync, if that can be had
	turning               // the server is stopped when the log goes on in another file, if that is soon
)

func (r *trial) plan() plan {
	chance := rand.New(rand.NewPCG(*seed, uint64(r.life)))
	upTo := func(d time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(d))) }
	return plan{
		confirms: leastLoad + chance.IntN(2*leastLoad),
		moment:   upTo(5 * time.Millisecond),
		how:      []manner{running, running, amid, turning}[chance.IntN(4)],
		late:     upTo(4 * time.Millisecond),
		loss:     []disk.Loss{disk.SyncAll, disk.FlushLog, disk.FlushLog, disk.FlushLog, disk.FlushNone}[min(chance.IntN(20), 4)],
		starting: chance.IntN(4) == 0,
		started:  upTo(60 * time.Millisecond),
		pages:    chance,
	}
}

// cuts cuts the power n times, and lets the server serve after each.
func (r *trial) cuts(n int) {
	r.t.Helper()
	r.life = r.Begin()
	for range n {
		plan := r.plan()
		r.work(plan)
		r.cut(plan)
		if plan.starting {
			r.cutStart(plan)
		}
		began := time.Now()
		if err := r.server.Up(); err != nil {
			r.t.Fatalf("after %d cuts: %v", r.life, err)
		}
		r.rising += time.Since(began)
		r.life = r.Begin()
	}
	r.work(r.plan()) // what came back must be fit for more
}

// work waits until the load was real in this life, and for a moment that comes as it will.
func (r *trial) work(p plan) {
	r.t.Helper()
	began, life := time.Now(), r.life
	select {
	case <-r.Main.Reached(func(c load.Counts) bool { return c.Life == life && c.InLife >= p.confirms }):
	case <-r.server.Exited():
		r.t.Fatalf("life %d: the server ended by itself with exit code %d", r.life, r.server.ExitCode())
	case <-time.After(harness.Patience):
		r.t.Fatalf("life %d: %v for %d confirms was not enough: %+v", r.life, harness.Patience, p.confirms, r.Main.Counts())
	}
	<-time.After(p.moment)
	r.least = min(r.least, r.Main.Counts().InLife)
	r.serving += time.Since(began)
}

// cut takes the disk away, either from under a server that was stopped in the same moment, or from under one that
// goes on, notices and must end. In the end the power is back and the server is not.
func (r *trial) cut(p plan) {
	r.t.Helper()
	began, witness := time.Now(), r.witness()
	switch p.how {
	case running:
		r.Over(r.life)
		r.must(r.disk.Cut(p.loss))
		r.Gone()
		r.notices()
		r.running++
	case amid:
		r.must(r.freezeAmid(p))
		r.must(r.disk.Cut(p.loss))
		r.server.Kill()
	case turning:
		r.turn(p)
		r.must(disk.Freeze(r.server.PID()))
		r.must(r.disk.Cut(p.loss))
		r.server.Kill()
	}
	r.at[p.loss]++
	r.dying += time.Since(began)
	r.remount()
	if p.loss != disk.SyncAll {
		r.forgetting++
		if !survived(witness) {
			r.forgotten++
		}
	}
	if err := os.Remove(witness); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Error(err)
	}
}

// log is the name of the segment that is being written.
func (r *trial) log() string {
	r.t.Helper()
	logs, err := filepath.Glob(filepath.Join(r.server.Data, "wal", "*.seg"))
	if err != nil || len(logs) == 0 {
		r.t.Fatalf("life %d: there is no log: %v", r.life, err)
	}
	return slices.Max(logs)
}

// freezeAmid stops the server, if it can amid a write to the log that is not synced, of which the disk then has a part.
func (r *trial) freezeAmid(p plan) error {
	log, err := os.Open(r.log())
	if err != nil {
		return err
	}
	defer log.Close()
	for range 40 {
		await(log, 5*time.Millisecond)
		if err := disk.Freeze(r.server.PID()); err != nil {
			return err
		}
		n, err := unsynced(log)
		if err != nil { // the kernel is too old to tell
			return nil
		}
		if n > 0 {
			r.amid++
			return scatter(log, p.pages)
		}
		if err := syscall.Kill(r.server.PID(), syscall.SIGCONT); err != nil { // its sync was quicker
			return err
		}
	}
	return disk.Freeze(r.server.PID())
}

// turn waits until the log goes on in its next segment, if that is soon, and for the first confirms from there. Before
// and after, files get their names.
func (r *trial) turn(p plan) {
	r.t.Helper()
	now := r.log()
	for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); runtime.Gosched() {
		if r.log() != now {
			r.turning++
			<-time.After(p.late)
			return
		}
	}
}

// notices waits for a server without a disk to end.
func (r *trial) notices() {
	r.t.Helper()
	select {
	case <-r.server.Exited():
		if code := r.server.ExitCode(); code != 1 {
			r.t.Errorf("life %d: without a disk the server ended with exit code %d", r.life, code)
		}
	case <-time.After(harness.Patience):
		r.t.Errorf("life %d: the server goes on without its disk", r.life)
		r.server.Kill()
	}
}

// cutStart lets the server start and cuts the power while it does, or just after. Clients do not know of it.
func (r *trial) cutStart(p plan) {
	r.t.Helper()
	r.must(r.server.Spawn())
	select {
	case <-r.server.Exited():
		r.t.Fatalf("the server ended by itself with exit code %d while it started after %d cuts", r.server.ExitCode(), r.life)
	case <-time.After(p.started):
	}
	r.must(disk.Freeze(r.server.PID()))
	r.must(r.disk.Cut(disk.FlushNone))
	r.server.Kill()
	r.starting++
	r.remount()
}

func (r *trial) remount() {
	r.t.Helper()
	began := time.Now()
	r.must(r.disk.Remount())
	r.mounting += time.Since(began)
}

func (r *trial) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("life %d: %v", r.life, err)
	}
}

var testimony = bytes.Repeat([]byte("witness "), 1000)

// witness writes a file that nobody syncs. Where it is there after the cut, the cut has cost nothing. It is the
// only thing that the test itself writes: a sync of its own could save what the server forgot to sync.
func (r *trial) witness() string {
	r.t.Helper()
	name := filepath.Join(r.disk.Dir, fmt.Sprintf("witness-%d", r.life))
	r.must(os.WriteFile(name, testimony, 0o600))
	return name
}

func survived(witness string) bool {
	got, err := os.ReadFile(witness)
	return err == nil && bytes.Equal(got, testimony)
}

// report says what was done, and fails where it was not what it should have been.
func (r *trial) report(n int, took time.Duration) {
	r.t.Helper()
	torn := 0
	for _, line := range r.server.Log() {
		if strings.Contains(line, "are cut off") {
			torn++
		}
	}
	r.t.Logf("%v; under a running server %d, between a write to the log and its sync %d, after a turn of the log %d, while it started %d more; "+
		"at least %d confirms a life; %d of %d cuts forgot what was not synced, %d starts found a torn write; the log ends in %s",
		r.at, r.running, r.amid, r.turning, r.starting, r.least, r.forgotten, r.forgetting, torn, filepath.Base(r.log()))
	r.t.Logf("seconds %.1f: serving %.1f, dying %.1f, mounting %.1f, starting %.1f",
		took.Seconds(), r.serving.Seconds(), r.dying.Seconds(), r.mounting.Seconds(), r.rising.Seconds())
	if r.least < leastLoad {
		r.t.Errorf("a life with %d confirms: the load was not real, it takes %d", r.least, leastLoad)
	}
	if r.forgotten*2 < r.forgetting {
		r.t.Errorf("%d of %d cuts forgot what was not synced: the cuts were not real", r.forgotten, r.forgetting)
	}
	if cuts := r.at[disk.SyncAll] + r.at[disk.FlushLog] + r.at[disk.FlushNone]; cuts != n {
		r.t.Errorf("%d cuts, not %d", cuts, n)
	}
}
