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
	placedSeedFlag  = flag.Uint64("placed-seed", 0, "let the world of placed groups of this seed happen alone")
	placedSeedsFlag = flag.Int("placed-seeds", 15, "how many worlds TestPlacedGroups lets happen")
	placedFromFlag  = flag.Uint64("placed-from", 1, "the seed of the first of them")
)

// placedWorld is the world of a seed: groups of three replicas at some of five members or of seven, who come and go, and are lost for good one at a time, whatever
// is under way.
func placedWorld(t *testing.T, seed uint64) GroupReport {
	cfg := GroupsConfig{Members: 5, Groups: 4, Changes: true, Replicas: 3, For: 20 * time.Second}
	if seed%2 == 0 {
		cfg.Members = 7
	}
	if name := *traceFlag; name != "" && *placedSeedFlag != 0 {
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

// placedFloors are what must have happened in each world, on the average, times ten.
var placedFloors = map[string]int{"Confirmed": 3_000, "Crashes": 80, "PowerCuts": 50, "Partitions": 10, "Leaders": 100, "Images": 50, "Joined": 5, "Left": 5, "Replaced": 2, "Vacated": 20}

// TestPlacedGroups lets worlds happen whose groups are at some of the members. Besides what TestGroups checks there are never fewer voters than replicas, and who is no
// member of a group has nothing of it in the end.
func TestPlacedGroups(t *testing.T) {
	n, from := *placedSeedsFlag, *placedFromFlag
	if *placedSeedFlag != 0 {
		n, from = 1, *placedSeedFlag
	}
	begin := time.Now()
	var all GroupStats
	sum := reflect.ValueOf(&all).Elem()
	for seed := from; seed < from+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := placedWorld(t, seed)
			one := reflect.ValueOf(r.Stats)
			for i := range one.NumField() {
				sum.Field(i).SetInt(sum.Field(i).Int() + one.Field(i).Int())
			}
			if r.Failure != "" {
				t.Errorf("%s\n%s\nagain: go test ./internal/sim -run TestPlacedGroups -placed-seed %d", r.Tail(60), r.Failure, r.Seed)
			}
		})
	}
	t.Logf("%d worlds in %s: %+v", n, time.Since(begin).Round(time.Millisecond), all)
	for name, least := range placedFloors {
		if got := int(sum.FieldByName(name).Int()); n > 5 && got*10 < least*n {
			t.Errorf("%s: %d in %d worlds; with fewer than %d nothing is proven", name, got, n, least*n/10)
		}
	}
}

const (
	vacateGo = "internal/cluster/vacate.go"
	heraldGo = "internal/cluster/herald.go"
)

// placedMutants are faults in how groups move from member to member.
var placedMutants = []mutant{
	{name: "placed: two replicas move at once, before those that come count", file: confGo,
		old: "	for keep := min(len(w.voters)-sure, len(out)); keep > 0; keep-- {\n", new: "	for keep := 0; keep > 0; keep-- {\n"},
	{name: "placed: a learner counts", file: confGo,
		old: "	out := w.out(self, c, len(stay)+len(come))\n", new: "	out := w.out(self, c, len(stay)+len(c.learners))\n"},
	{name: "placed: a learner votes before it has caught up", seed: 6, file: confGo,
		old: "return before > 0 && pr.RecentActive && pr.State == tracker.StateReplicate && pr.Match >= before", new: "return before > 0"},
	{name: "placed: who is out forgets before others know", seed: 5, file: vacateGo,
		old: "	s.done = !slices.ContainsFunc(", new: "	s.done = true || !slices.ContainsFunc("},
	{name: "placed: who has forgotten votes", file: installGo, old: "		if g.vacant() {\n", new: "		if g.vacant() && g.raw == nil {\n"},
	{name: "placed: who is out keeps what it had", file: heraldGo, old: "	if m.GetReject() {\n", new: "	if m.GetReject() && g.raw == nil {\n"},
}

// TestPlacedProbe is TestGroupProbe for them.
func TestPlacedProbe(t *testing.T) {
	letProbe(t, func(t *testing.T, seed uint64) string { return placedWorld(t, seed).Failure })
}

// TestPlacedMutants builds the groups with one fault at a time, as TestMutants does.
func TestPlacedMutants(t *testing.T) {
	if *groupSeedsFlag < 100 {
		t.Skip("it lets worlds happen for each of the faults; make groups does")
	}
	catchAll(t, placedMutants, "TestPlacedProbe")
}
