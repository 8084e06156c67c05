package sim

import (
	"flag"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("sim-seed", 0, "let the world of this seed happen alone")
	seedsFlag = flag.Int("sim-seeds", 150, "how many worlds TestSimulation lets happen")
	fromFlag  = flag.Uint64("sim-from", 1, "the seed of the first of them")
	traceFlag = flag.String("sim-trace", "", "write the whole history of sim-seed to this file")
)

// world is what every test runs: what a seed stands for must not depend on who asks.
var world = Config{Nodes: 1, Clients: 5, For: time.Minute}

// TestMain gives memory for time: a world makes much garbage, and keeps little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// floors are what must have happened in each world, on the average: else nothing is proven. Times ten.
var floors = map[string]int{
	"Confirmed": 30_000, "Acked": 30_000, "Quiet": 500, "Deliveries": 50_000, "Topics": 2_000, "Duplicates": 200, "Sessions": 1_000,
	"Crashes": 200, "PowerCuts": 100, "Kills": 20, "Torn": 5, "Errors": 10, "Failed": 10, "Flips": 10, "Found": 3, "Jumps": 15,
	"Squeezes": 8, "DiskFull": 50, "Snapshots": 2_000, "Compactions": 500, "Lies": 1,
	"NotYet": 10, "Vain": 1, "Unavailable": 10,
}

// TestSimulation lets many worlds happen. Nothing that was promised may be broken in any of them.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		one(t, *seedFlag)
		return
	}
	n := *seedsFlag
	if testing.Short() {
		n = min(n, 8)
	}
	begin := time.Now()
	reports := make([]Report, n)
	var wg sync.WaitGroup
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				reports[i] = Run(*fromFlag+uint64(i), world)
			}
		})
	}
	wg.Wait()
	var all Stats
	for _, r := range reports {
		all.Add(r.Stats)
		if r.Failure != "" {
			t.Errorf("%s\n%s\nagain: make sim SEED=%d", r.Tail(40), r.Failure, r.Seed)
		}
	}
	t.Logf("%d worlds of %s in %s, with %d crashes: %s", n, world.For, time.Since(begin).Round(time.Second), all.Crashes(), all)
	for name, least := range floors {
		if got := all.Count(name); got*10 < least*n {
			t.Errorf("%s: %d in %d worlds; with fewer than %d nothing is proven", name, got, n, least*n/10)
		}
	}
}

func one(t *testing.T, seed uint64) {
	cfg := world
	if *traceFlag != "" {
		f, err := os.Create(*traceFlag)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cfg.Trace = f
	}
	r := Run(seed, cfg)
	t.Logf("seed %d: %s of simulated time, %d steps, sum %016x: %s", seed, r.Time, r.Steps, r.Sum, r.Stats)
	if r.Failure != "" {
		t.Errorf("%s\n%s\nagain: make sim SEED=%d", r.Tail(200), r.Failure, seed)
	}
}

// TestSameSeed: a seed stands for one history, byte for byte.
func TestSameSeed(t *testing.T) {
	for seed := range uint64(4) {
		cfg := world
		cfg.For = 15 * time.Second
		a, b := Run(1000+seed, cfg), Run(1000+seed, cfg)
		if a.Sum != b.Sum || a.Steps != b.Steps || a.Stats != b.Stats {
			t.Errorf("seed %d: the first time %d steps, sum %x, the second time %d steps, sum %x", 1000+seed, a.Steps, a.Sum, b.Steps, b.Sum)
		}
	}
}
