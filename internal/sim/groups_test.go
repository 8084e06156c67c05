package sim

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	groupSeedFlag  = flag.Uint64("groups-seed", 0, "let the world of groups of this seed happen alone")
	groupSeedsFlag = flag.Int("groups-seeds", 20, "how many worlds TestGroups lets happen")
	groupFromFlag  = flag.Uint64("groups-from", 1, "the seed of the first of them")
)

// groupWorld is the world of a seed: what it stands for must not depend on who asks. One in three has five members.
func groupWorld(t *testing.T, seed uint64) GroupReport {
	cfg := GroupsConfig{Members: 3, Groups: 3, For: 20 * time.Second}
	if seed%3 == 0 {
		cfg.Members = 5
	}
	cfg.Changes = seed%2 == 0
	if name := *traceFlag; name != "" && *groupSeedFlag != 0 {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cfg.Trace = f
	}
	cryptotest.SetGlobalRandom(t, seed)
	return RunGroups(seed, cfg)
}

// groupFloors are what must have happened in each world, on the average: else nothing is proven. Times ten.
var groupFloors = map[string]int{
	"Confirmed": 5_000, "Overruled": 10, "Replayed": 500, "Crashes": 80, "PowerCuts": 50, "Partitions": 15, "OneWay": 6, "Stalls": 2, "Outages": 2,
	"Lost": 2_000, "Doubled": 1_000, "Late": 1_000, "Leaders": 100, "Votes": 200, "Snapshots": 100, "Moves": 50, "Turned": 500, "Transfered": 4,
	"Joined": 5, "Left": 5,
}

// TestGroups lets many worlds happen. Nothing that was promised may be broken in any of them.
func TestGroups(t *testing.T) {
	n, from := *groupSeedsFlag, *groupFromFlag
	if testing.Short() {
		n = min(n, 6)
	}
	if *groupSeedFlag != 0 {
		n, from = 1, *groupSeedFlag
	}
	begin := time.Now()
	var all GroupStats
	sum := reflect.ValueOf(&all).Elem()
	for seed := from; seed < from+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := groupWorld(t, seed)
			one := reflect.ValueOf(r.Stats)
			for i := range one.NumField() {
				sum.Field(i).SetInt(sum.Field(i).Int() + one.Field(i).Int())
			}
			if r.Failure != "" {
				t.Errorf("%s\n%s\nagain: go test ./internal/sim -run TestGroups -groups-seed %d", r.Tail(60), r.Failure, r.Seed)
			}
		})
	}
	t.Logf("%d worlds in %s: %+v", n, time.Since(begin).Round(time.Millisecond), all)
	for name, least := range groupFloors {
		if got := int(sum.FieldByName(name).Int()); n > 5 && got*10 < least*n {
			t.Errorf("%s: %d in %d worlds; with fewer than %d nothing is proven", name, got, n, least*n/10)
		}
	}
}

// TestSameGroups: a seed stands for one history, byte for byte.
func TestSameGroups(t *testing.T) {
	var reports [2]GroupReport
	for i := range reports {
		t.Run(fmt.Sprint(i), func(t *testing.T) { reports[i] = groupWorld(t, 7) })
	}
	if a, b := reports[0], reports[1]; a.Sum != b.Sum || a.Steps != b.Steps || a.Stats != b.Stats {
		t.Errorf("the first time %d steps, sum %x, the second time %d steps, sum %x", a.Steps, a.Sum, b.Steps, b.Sum)
	}
}
