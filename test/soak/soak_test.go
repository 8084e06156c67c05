//go:build unix

package soak_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/disk"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/load"
)

var (
	hours = flag.Float64("hours", 0, "how long to go on, fractions allowed; the round that has begun then is the last")
	seed  = flag.Uint64("seed", 0, "of everything that goes wrong; 0: a new one")
	first = flag.Int("round", 1, "the round to begin with: one that failed, to repeat it")
	out   = flag.String("out", "", "directory of the report, and of the data that a failure leaves; default gmq-soak-SEED where temporary files go")
)

func TestMain(m *testing.M) { os.Exit(disk.Main(m)) }

const imageSize = 512 << 20 // sparse; for a tmpfs it is memory

// A soak is one run: a server on a disk, and what has become of it.
type soak struct {
	t      *testing.T
	disk   *disk.Disk // nil where the machine allows none
	server *harness.Server
	report report
}

func TestSoak(t *testing.T) {
	if *hours <= 0 {
		t.Skip("it takes as long as it is told, and was not: make soak HOURS=n, or go test ./test/soak -hours n")
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	if *out == "" {
		*out = filepath.Join(os.TempDir(), fmt.Sprintf("gmq-soak-%d", *seed))
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("go test -count=1 -timeout 0 -v ./test/soak -hours %g -seed %d; the report is going to be in %s", *hours, *seed, *out)
	s := &soak{t: t, report: newReport()}
	s.place()
	defer s.end()
	deadline := s.report.began.Add(time.Duration(*hours * float64(time.Hour)))
	for n := *first; n == *first || time.Now().Before(deadline); n++ {
		s.report.round = n
		if !t.Run(fmt.Sprintf("round-%d", n), func(t *testing.T) { s.round(t, n) }) {
			return
		}
		s.report.rounds++
	}
	if s.report.rounds >= 10 && s.report.dropped == 0 { // in a few, no life may last long enough
		t.Error("no slow subscriber to a topic has missed anything: they were not slow")
	}
}

// place gets a disk that can be broken, as far as the machine allows it, and starts the server there.
func (s *soak) place() {
	s.t.Helper()
	data := filepath.Join(s.t.TempDir(), "data")
	kinds := []string{"ext4", "xfs"}
	if *seed%2 == 0 {
		kinds = []string{"xfs", "ext4"}
	}
	var refused []string
	for _, kind := range append(kinds, "tmpfs") {
		d, err := disk.Try(s.t, kind, s.t.TempDir(), imageSize)
		if err == nil {
			s.disk, data = d, filepath.Join(d.Dir, "data")
			break
		}
		refused = append(refused, fmt.Sprintf("%s: %v", kind, err))
	}
	for _, f := range faults {
		if !f.possible(s.disk) {
			s.report.leftOut = append(s.report.leftOut, f.name)
		}
	}
	s.report.disk = "that of the machine"
	if s.disk != nil {
		s.report.disk = s.disk.Kind
	}
	if len(s.report.leftOut) > 0 {
		s.report.disk += " (" + strings.Join(refused, "; ") + ")"
	}
	s.server = harness.StartOn(s.t, data, "queue_defaults: {storage: file, max_deliveries: 0}\n")
}

// end writes the report, and keeps everything where something was wrong.
func (s *soak) end() {
	s.report.took = time.Since(s.report.began)
	if s.t.Failed() {
		s.server.Kill() // so that the copy is of one moment
		again := fmt.Sprintf("go test -count=1 -timeout 0 -v ./test/soak -hours %g -seed %d -round %d", *hours, *seed, s.report.round)
		s.report.failure = fmt.Sprintf("FAILED in round %d, after: %s\nagain: %s\n", s.report.round, strings.Join(s.report.lately, ", "), again)
		kept, err := os.MkdirTemp(*out, fmt.Sprintf("data-round-%d-", s.report.round))
		if err == nil {
			err = os.CopyFS(kept, os.DirFS(s.server.Data))
		}
		if err != nil {
			s.report.failure += fmt.Sprintf("the data directory could not be kept: %v\n", err)
		} else {
			s.report.failure += fmt.Sprintf("the data directory: %s\n", kept)
		}
		log := filepath.Join(*out, "server.log")
		if err := os.WriteFile(log, []byte(strings.Join(s.server.Log(), "\n")+"\n"), 0o644); err != nil {
			s.t.Error(err)
		}
	}
	name := filepath.Join(*out, "report.txt")
	if err := os.WriteFile(name, []byte(s.report.String()), 0o644); err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%s\n%s", name, s.report.String())
}

// A round is clients at work on new queues while each fault happens once at least.
type round struct {
	*load.Trial
	*soak
	t      *testing.T
	chance *rand.Rand
	bulk   string // a queue of large messages, many of which wait
	life   int
}

func (s *soak) round(t *testing.T, n int) {
	queue := func(name string) string { return fmt.Sprintf("soak.%d.%s", n, name) }
	refusals := []string{"disk_full"}
	main := load.Team{Kind: load.Kind{Queue: queue("main"), Publishers: 2, Fate: load.Accepted, Size: load.Small, Room: 20_000, Refusals: refusals}, Consumers: 2}
	bulk := load.Team{Kind: load.Kind{Queue: queue("bulk"), Publishers: 1, Fate: load.Accepted, Size: load.Large, Room: 6000, Refusals: refusals}, Consumers: 1}
	mortal := load.Mortal(queue("mortal"))
	mortal.Refusals = refusals
	r := &round{soak: s, t: t, chance: rand.New(rand.NewPCG(*seed, uint64(n))), bulk: bulk.Queue, Trial: load.NewTrial(t, s.server, main, bulk, mortal)}
	talk := r.Talk(queue("topic"), 2)
	defer func() {
		for _, fault := range r.Faults() {
			t.Error(fault)
		}
	}()
	r.life = r.Begin()
	s.report.lately = nil
	for _, f := range r.plan() {
		r.work()
		s.report.lately = append(s.report.lately, f.name)
		began := time.Now()
		f.do(r)
		s.report.happened(f.name, time.Since(began))
		if len(r.Faults()) > 0 {
			return // with the data as it is now
		}
	}
	r.work()
	r.measure()
	v := r.Finish()
	_, _, heard, dropped, _ := talk.Said()
	s.report.add(v, r.Acked(), heard, dropped)
	t.Logf("%s: %v", strings.Join(s.report.lately, " "), v)
	if v.Lost+v.Resurrected+v.Damaged > 0 {
		t.Error("the ledger is not clean")
	}
	r.clear(main.Queue, bulk.Queue, mortal.Queue, mortal.Queue+".dlq", talk.Bound)
}

// plan is every fault that is possible here, some of them twice, in an order that follows from the seed.
func (r *round) plan() []fault {
	var plan []fault
	for _, f := range faults {
		again := r.chance.IntN(2) == 0 // asked for all, so that a round is the same where fewer are possible
		if !f.possible(r.disk) {
			continue
		}
		if plan = append(plan, f); again {
			plan = append(plan, f)
		}
	}
	r.chance.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	return plan
}

// work waits until some hundred more messages have been confirmed, and for a moment that comes as it will.
func (r *round) work() {
	r.t.Helper()
	r.confirms(500+r.chance.IntN(3000), "there is work between the faults")
	<-time.After(time.Duration(r.chance.IntN(300)) * time.Millisecond)
}

// confirms waits for so many more confirms.
func (r *round) confirms(n int, what string) {
	r.t.Helper()
	from := r.Main.Counts().Confirmed
	r.until(what, func(c load.Counts) bool { return c.Confirmed >= from+n })
}

func (r *round) until(what string, ok func(load.Counts) bool) {
	r.t.Helper()
	select {
	case <-r.Main.Reached(ok):
	case <-r.server.Exited():
		r.t.Fatalf("the server ended by itself with exit code %d before %s", r.server.ExitCode(), what)
	case <-time.After(harness.Patience):
		r.t.Fatalf("waited %v in vain until %s: %+v", harness.Patience, what, r.Main.Counts())
	}
}

// clear deletes the round's queues and looks at what is left of them.
func (r *round) clear(queues ...string) {
	r.t.Helper()
	c := r.server.Dial(r.t)
	for _, q := range queues {
		c.OK(`{"op":"queue.delete","queue":"%s"}`, q)
	}
	if left := c.OK(`{"op":"queue.list"}`).Each("queues"); len(left) > 0 {
		r.t.Errorf("a queue that nobody knows of: %s", left[0].Raw)
	}
	r.report.left = max(r.report.left, r.report.size(r.server.Data))
}

func (r *round) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
