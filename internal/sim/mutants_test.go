package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is a fault as somebody could make it: a change of a line or two. The simulator must find it.
type mutant struct {
	name     string
	file     string // below the module's root, or below raft's where it begins with "raft/"
	old, new string
	more     [][3]string // file, old and new of further changes
	in       string      // the package whose own tests must find it; "": the simulator must
	probe    string      // the test that looks for it; catchAll says which
}

var probe = flag.Bool("sim-probe", false, "TestProbe: look for a fault that was put in")

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

// TestMutants builds the broker with one fault at a time, and lets the simulator find it. Production code holds no
// switches for that: the changed file stands in for the real one while the test binary is built.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a binary for each of the faults")
	}
	catchAll(t, mutants, "TestProbe")
}

// letProbe lets worlds happen in a binary that has a fault, until one of them shows it.
func letProbe(t *testing.T, world func(t *testing.T, seed uint64) (failure string)) {
	if !*probe {
		t.Skip("a test that puts faults in runs this")
	}
	begin := time.Now()
	for seed := uint64(1); seed <= mutantSeeds; seed++ {
		failure := ""
		t.Run(fmt.Sprint(seed), func(t *testing.T) { failure = world(t, seed) })
		if failure != "" {
			fmt.Printf("caught by seed %d after %s: %.200s\n", seed, time.Since(begin).Round(10*time.Millisecond), failure)
			return
		}
	}
	t.Fatal("not caught")
}

// catchAll builds a binary with each fault and has that test find it, two at a time.
func catchAll(t *testing.T, all []mutant, probe string) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, slots := t.TempDir(), make(chan struct{}, 2)
	caught := make([]string, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		if !strings.Contains(m.name, *onlyFlag) {
			continue
		}
		m.probe = probe
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			caught[i] = try(t, root, filepath.Join(dir, fmt.Sprint(i)), m)
		})
	}
	wg.Wait()
	for i, m := range all {
		t.Logf("%-70s %s", m.name, caught[i])
	}
}

// TestMutantsFit: what a fault changes is there, once. Most of the faults are put in by make groups and make cluster only.
func TestMutantsFit(t *testing.T) {
	for _, m := range slices.Concat(mutants, groupMutants, memoryMutants, placedMutants, clusterMutants) {
		texts := map[string]string{}
		for _, c := range append([][3]string{{m.file, m.old, m.new}}, m.more...) {
			if strings.HasPrefix(c[0], "raft/") {
				continue
			}
			if texts[c[0]] == "" {
				b, err := os.ReadFile(filepath.Join("../..", c[0]))
				if err != nil {
					t.Fatal(err)
				}
				texts[c[0]] = string(b)
			}
			if n := strings.Count(texts[c[0]], c[1]); n != 1 {
				t.Errorf("%s: %s holds %d times what is to be changed:\n%s", m.name, c[0], n, c[1])
			}
			texts[c[0]] = strings.Replace(texts[c[0]], c[1], c[2], 1)
		}
	}
}

var (
	caughtLine = regexp.MustCompile(`(?m)^caught by .*$`)
	failedLine = regexp.MustCompile(`(?m)^\s*--- FAIL: \S+|^panic: .*$`)
)

// try builds a mutant and runs it, and says how it was caught.
func try(t *testing.T, root, work string, m mutant) string {
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Error(err)
		return ""
	}
	overlay, modfile := map[string]string{}, ""
	for i, c := range append([][3]string{{m.file, m.old, m.new}}, m.more...) {
		name := filepath.Join(root, c[0])
		if strings.HasPrefix(c[0], "raft/") {
			if name = filepath.Join(work, c[0]); modfile == "" {
				if modfile = copyRaft(t, root, work); modfile == "" {
					return ""
				}
			}
		}
		from := name
		if overlay[name] != "" {
			from = overlay[name]
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Error(err)
			return ""
		}
		if n := strings.Count(string(text), c[1]); n != 1 {
			t.Errorf("%s: %s holds %d times what is to be changed:\n%s", m.name, c[0], n, c[1])
			return ""
		}
		overlay[name] = filepath.Join(work, fmt.Sprint(i, ".go"))
		if err := os.WriteFile(overlay[name], []byte(strings.Replace(string(text), c[1], c[2], 1)), 0o600); err != nil {
			t.Error(err)
			return ""
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err == nil {
		err = os.WriteFile(filepath.Join(work, "overlay.json"), text, 0o600)
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	binary := filepath.Join(work, "probe.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-modfile="+modfile, "-overlay", filepath.Join(work, "overlay.json"), "-o", binary, cmp.Or(m.in, "./internal/sim"))
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%s does not build: %v\n%s", m.name, err, out)
		return ""
	}
	defer os.Remove(binary)
	run, line := exec.Command(binary, "-test.run", "^"+m.probe+"$", "-sim-probe", "-test.timeout", "180s"), caughtLine
	if m.in != "" {
		run, line = exec.Command(binary, "-test.failfast", "-test.timeout", "60s"), failedLine
		run.Dir = filepath.Join(root, m.in)
	}
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	begin := time.Now()
	err = run.Run()
	if line := line.FindString(out.String()); line != "" && err != nil == (m.in != "") {
		return fmt.Sprintf("%s (%s)", line, time.Since(begin).Round(100*time.Millisecond))
	}
	t.Errorf("%s was not caught: %v\n%s", m.name, err, tail(out.Bytes(), 2000))
	return "NOT CAUGHT"
}

// copyRaft makes a copy of raft, as what is in the cache of modules must not be replaced, and a go.mod by which that is taken.
func copyRaft(t *testing.T, root, work string) (modfile string) {
	const raft = "go.etcd.io/raft/v3"
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", raft)
	list.Dir = root
	dir, err := list.Output()
	if err == nil {
		err = os.CopyFS(filepath.Join(work, "raft"), os.DirFS(strings.TrimSpace(string(dir))))
	}
	modfile = filepath.Join(work, "go.mod")
	for name, more := range map[string]string{"go.mod": "\nreplace " + raft + " => " + filepath.Join(work, "raft") + "\n", "go.sum": ""} {
		var text []byte
		if err == nil {
			text, err = os.ReadFile(filepath.Join(root, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), append(text, more...), 0o600)
		}
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	return modfile
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
