package sim

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is a fault as somebody could make it: a change of a line or two inside a function. The simulator must find it.
type mutant struct {
	name     string
	file     string // below the module's root
	old, new string
	more     [][3]string // file, old and new of further changes
	seed     uint64      // the world that shows it, so far as is known; the others are tried where it does not
}

// texts are the files that a mutant changes, by their names below the root.
func (m *mutant) texts(root string) (map[string]string, error) {
	texts := map[string]string{}
	for _, c := range append([][3]string{{m.file, m.old, m.new}}, m.more...) {
		if texts[c[0]] == "" {
			b, err := os.ReadFile(filepath.Join(root, c[0]))
			if err != nil {
				return nil, err
			}
			texts[c[0]] = string(b)
		}
		if n := strings.Count(texts[c[0]], c[1]); n != 1 {
			return nil, fmt.Errorf("%s holds %d times what is to be changed:\n%s", c[0], n, c[1])
		}
		texts[c[0]] = strings.Replace(texts[c[0]], c[1], c[2], 1)
	}
	return texts, nil
}

var probe = flag.Bool("sim-probe", false, "TestProbe: look for a fault that was put in")

var probeFirst = flag.Uint64("sim-probe-first", 0, "TestProbe: the world to begin with")

var onlyFlag = flag.String("sim-mutant", "", "TestMutants: only those whose names hold this")

// mutantSeeds is how many worlds may happen until a fault has shown: about ten seconds on a machine that has nothing else to
// do. A busy one takes longer and finds the same.
const mutantSeeds = 60

// TestProbe is run in a binary that has a fault: it lets worlds happen until one of them shows it.
func TestProbe(t *testing.T) {
	letProbe(t, func(_ *testing.T, seed uint64) string {
		cfg := world
		if seed%4 != 3 {
			cfg.For = 20 * time.Second // the end of a world shows much
		}
		return Run(seed, cfg).Failure
	})
}

// TestMutants has the simulator find one fault at a time. Production code holds no switches for that: files with all of
// the faults stand in for the real ones while a test binary is built, which is told the number of a fault when it is started.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a binary, and lets worlds happen for each of the faults")
	}
	catchAll(t, mutants, "TestProbe")
}

// letProbe lets worlds happen in a binary that has a fault, until one of them shows it.
func letProbe(t *testing.T, world func(t *testing.T, seed uint64) (failure string)) {
	if !*probe {
		t.Skip("a test that puts faults in runs this")
	}
	begin := time.Now()
	var seeds []uint64
	if *probeFirst != 0 {
		seeds = append(seeds, *probeFirst)
	}
	for seed := uint64(1); seed <= mutantSeeds; seed++ {
		if seed != *probeFirst {
			seeds = append(seeds, seed)
		}
	}
	for _, seed := range seeds {
		failure := ""
		t.Run(fmt.Sprint(seed), func(t *testing.T) { failure = world(t, seed) })
		if failure != "" {
			fmt.Printf("caught by seed %d after %s: %.200s\n", seed, time.Since(begin).Round(10*time.Millisecond), failure)
			return
		}
	}
	t.Fatal("not caught")
}

// catchAll builds a binary with the faults and has that test find each of them, two at a time.
func catchAll(t *testing.T, all []mutant, probe string) {
	binary := buildMutants(t, all)
	slots := make(chan struct{}, 2)
	caught := make([]string, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		if !strings.Contains(m.name, *onlyFlag) {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			caught[i] = try(t, binary, i+1, m, probe)
		})
	}
	wg.Wait()
	for i, m := range all {
		t.Logf("%-70s %s", m.name, caught[i])
	}
}

// TestMutantsFit: what a fault changes is there, once, and can be put in beside the others. Most of the faults are looked for by make groups and
// make cluster only.
func TestMutantsFit(t *testing.T) {
	for _, all := range [][]mutant{mutants, groupMutants, memoryMutants, placedMutants, clusterMutants} {
		if _, err := plant("../..", all); err != nil {
			t.Error(err)
		}
	}
}

var caughtLine = regexp.MustCompile(`(?m)^caught by .*$`)

// try runs the binary with one fault, and says how it was caught.
func try(t *testing.T, binary string, number int, m mutant, probe string) string {
	run := exec.Command(binary, "-test.run", "^"+probe+"$", "-sim-probe", "-sim-probe-first", fmt.Sprint(m.seed), "-test.timeout", "10m")
	run.Env = append(os.Environ(), fmt.Sprintf("%s=%d", faultVariable, number))
	begin := time.Now()
	out, err := run.CombinedOutput()
	if line := caughtLine.Find(out); line != nil && err == nil {
		return fmt.Sprintf("%s (%s)", line, time.Since(begin).Round(100*time.Millisecond))
	}
	t.Errorf("%s was not caught: %v\n%s", m.name, err, tail(out, 2000))
	return "NOT CAUGHT"
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
