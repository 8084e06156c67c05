package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	clusterSeedFlag   = flag.Uint64("cluster-seed", 0, "let the world of a cluster of this seed happen alone")
	clusterSeedsFlag  = flag.Int("cluster-seeds", 100, "how many worlds TestCluster lets happen")
	placedClusterFlag = flag.Int("placed-cluster-seeds", 50, "how many worlds TestPlacedCluster lets happen")
	clusterFromFlag   = flag.Uint64("cluster-from", 1, "the seed of the first of them")
)

// clusterWorld is the world of a seed. One in three has five nodes.
func clusterWorld(t *testing.T, seed uint64) Report {
	cfg := Config{Nodes: 3, Clients: 6, Cluster: true, For: time.Minute}
	if seed%3 == 0 {
		cfg.Nodes = 5
	}
	return clusterRun(t, seed, cfg)
}

func clusterRun(t *testing.T, seed uint64, cfg Config) Report {
	if name := *traceFlag; name != "" && *clusterSeedFlag != 0 {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cfg.Trace = f
	}
	cryptotest.SetGlobalRandom(t, seed)
	return Run(seed, cfg)
}

// TestCluster lets worlds of three and five brokers that are one cluster happen.
func TestCluster(t *testing.T) {
	n, from := *clusterSeedsFlag, *clusterFromFlag
	if *clusterSeedFlag != 0 {
		n, from = 1, *clusterSeedFlag
	}
	clusters(t, from, n, "make cluster SEED=%d", clusterWorld, clusterFloors)
}

// clusters lets worlds happen, and sees to it that enough has happened in them.
func clusters(t *testing.T, from uint64, n int, again string, world func(t *testing.T, seed uint64) Report, floors map[string]int) {
	if *apartFlag {
		serveWorlds(t, world)
		return
	}
	begin := time.Now()
	all := apart(t, from, n, again, world)
	t.Logf("%d worlds in %s: %s", n, time.Since(begin).Round(time.Millisecond), all)
	for name, least := range floors {
		if got := all.Count(name); n > 3 && got*10 < least*n {
			t.Errorf("%s: %d in %d worlds; with fewer than %d nothing is proven", name, got, n, least*n/10)
		}
	}
}

// clusterFloors are what must have happened in each world, on the average: else nothing is proven. Times ten.
var clusterFloors = map[string]int{
	"Confirmed": 4_000, "Acked": 2_000, "Deliveries": 5_000, "Topics": 300, "Crashes": 80, "PowerCuts": 50, "Partitions": 10, "Transfers": 10, "Unknown": 10, "NoQuorum": 10,
	"LostPackets": 1_000, "Snapshots": 300, "Epochs": 10, "Remembered": 2, "Stills": 10,
}

// placedCluster is the world of a seed in which shards are at three of five or seven nodes.
func placedCluster(t *testing.T, seed uint64) Report {
	cfg := Config{Nodes: 5, Clients: 6, Cluster: true, Replicas: 3, For: time.Minute}
	if seed%3 == 0 {
		cfg.Nodes = 7
	}
	return clusterRun(t, seed, cfg)
}

// TestPlacedCluster lets worlds of more nodes than replicas happen: clients come to any node, and shards move.
func TestPlacedCluster(t *testing.T) {
	n, from := *placedClusterFlag, *clusterFromFlag
	if *clusterSeedFlag != 0 {
		n, from = 1, *clusterSeedFlag
	}
	clusters(t, from, n, "go test ./internal/sim -run TestPlacedCluster -cluster-seed %d", placedCluster, placedClusterFloors)
}

// placedClusterFloors are clusterFloors for these worlds.
var placedClusterFloors = map[string]int{
	"Confirmed": 2_000, "Acked": 1_000, "Deliveries": 2_000, "Crashes": 80, "Partitions": 10, "Plans": 30, "Vacated": 50, "Images": 50, "Stills": 10,
}

// TestSameCluster: a seed stands for one history, byte for byte.
func TestSameCluster(t *testing.T) {
	var reports [2]Report
	for i := range reports {
		t.Run(fmt.Sprint(i), func(t *testing.T) { reports[i] = clusterWorld(t, 1) })
	}
	if a, b := reports[0], reports[1]; a.Sum != b.Sum || a.Steps != b.Steps || a.Stats != b.Stats {
		t.Errorf("the first time %d steps, sum %x, the second time %d steps, sum %x", a.Steps, a.Sum, b.Steps, b.Sum)
	}
}
