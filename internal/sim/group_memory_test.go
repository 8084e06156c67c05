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
	memorySeedFlag  = flag.Uint64("memory-seed", 0, "let the world of groups in memory of this seed happen alone")
	memorySeedsFlag = flag.Int("memory-seeds", 6, "how many worlds TestMemoryGroups lets happen")
)

// memoryWorld is the world of a seed. One in three has five nodes.
func memoryWorld(t *testing.T, seed uint64) GroupReport {
	cfg := GroupsConfig{Members: 3, Groups: 3, Memory: true, For: 20 * time.Second}
	if seed%3 == 0 {
		cfg.Members = 5
	}
	if name := *traceFlag; name != "" && *memorySeedFlag != 0 {
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

// memoryFloors are what must have happened in each world, on the average, times ten.
var memoryFloors = map[string]int{"Confirmed": 3_000, "Crashes": 50, "Partitions": 10, "Leaders": 50, "Votes": 100, "Images": 50, "Fetched": 500, "Epochs": 5}

// TestMemoryGroups lets worlds happen whose nodes forget all when they end. In each epoch nothing that was promised may be broken.
func TestMemoryGroups(t *testing.T) {
	from, n := uint64(1), *memorySeedsFlag
	if *memorySeedFlag != 0 {
		from, n = *memorySeedFlag, 1
	}
	begin := time.Now()
	var all GroupStats
	sum := reflect.ValueOf(&all).Elem()
	for seed := from; seed < from+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := memoryWorld(t, seed)
			one := reflect.ValueOf(r.Stats)
			for i := range one.NumField() {
				sum.Field(i).SetInt(sum.Field(i).Int() + one.Field(i).Int())
			}
			if r.Failure != "" {
				t.Errorf("%s\n%s\nagain: go test ./internal/sim -run TestMemoryGroups -memory-seed %d", r.Tail(60), r.Failure, r.Seed)
			}
		})
	}
	t.Logf("%d worlds in %s: %+v", n, time.Since(begin).Round(time.Millisecond), all)
	for name, least := range memoryFloors {
		if got := int(sum.FieldByName(name).Int()); n > 3 && got*10 < least*n {
			t.Errorf("%s: %d in %d worlds; with fewer than %d nothing is proven", name, got, n, least*n/10)
		}
	}
}

const memberGo = "internal/cluster/keeper.go"

// memoryMutants are faults in how members are told apart that forget.
var memoryMutants = []mutant{
	{name: "in memory: a forgetful node votes", file: memberGo, old: "binary.LittleEndian.AppendUint64(nil, node), boot)", new: "binary.LittleEndian.AppendUint64(nil, node), boot*0)"},
	{name: "in memory: packets of an epoch that is over count", file: "internal/cluster/host.go", old: "p.epoch != h.Epoch() }", new: "p.epoch == 1<<62 }"},
}

// TestMemoryProbe is TestGroupProbe for them.
func TestMemoryProbe(t *testing.T) {
	letProbe(t, func(t *testing.T, seed uint64) string { return memoryWorld(t, seed).Failure })
}

// TestMemoryMutants builds groups in memory with one fault at a time.
func TestMemoryMutants(t *testing.T) {
	if *groupSeedsFlag < 100 {
		t.Skip("it lets worlds happen for each of the faults; make groups does")
	}
	catchAll(t, memoryMutants, "TestMemoryProbe")
}
