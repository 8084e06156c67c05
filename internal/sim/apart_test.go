package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Raft takes its chances from crypto/rand, of which a process has one. So the worlds of a cluster happen one at a time in a process, and there are as many
// processes as processors: the test binary itself, again.

var apartFlag = flag.Bool("sim-apart", false, "the test lets worlds happen whose seeds it reads, for the process that has started this one")

// An outcome is what came of a world elsewhere.
type outcome struct {
	Seed    uint64
	Failure string
	Tail    string
	Stats   Stats
}

const outcomeMark = "outcome: " // a line of a process that holds one

// apart lets the worlds of a test happen in processes of their own, and adds up what has really happened in them. How a world that fails
// happens again is said by a format for its seed.
func apart(t *testing.T, from uint64, n int, again string, world func(t *testing.T, seed uint64) Report) (all Stats) {
	if n == 1 {
		r := world(t, from)
		tell(t, outcome{r.Seed, r.Failure, r.Tail(60), r.Stats}, again)
		return r.Stats
	}
	seeds := make(chan uint64, n)
	for seed := range uint64(n) {
		seeds <- from + seed
	}
	close(seeds)
	var mu sync.Mutex // guards all
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			err := elsewhere(t, seeds, func(o outcome) {
				mu.Lock()
				defer mu.Unlock()
				all.Add(o.Stats)
				tell(t, o, again)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return all
}

func tell(t *testing.T, o outcome, again string) {
	if o.Failure != "" {
		t.Errorf("%s\n%s\nagain: "+again, o.Tail, o.Failure, o.Seed)
	}
}

// serveWorlds lets the worlds of the seeds happen that are read.
func serveWorlds(t *testing.T, world func(t *testing.T, seed uint64) Report) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		seed := uint64(0)
		if _, err := fmt.Sscan(in.Text(), &seed); err != nil {
			t.Fatal(err)
		}
		var r Report
		t.Run(in.Text(), func(t *testing.T) { r = world(t, seed) })
		o := outcome{Seed: seed, Failure: r.Failure, Stats: r.Stats}
		if r.Failure != "" {
			o.Tail = r.Tail(60)
		}
		line, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s%s\n", outcomeMark, line)
	}
}

// elsewhere starts one process, and has the worlds of seeds happen there until there are no more.
func elsewhere(t *testing.T, seeds <-chan uint64, tell func(outcome)) (err error) {
	patience := time.Duration(0) // for ever
	if d, ok := t.Deadline(); ok {
		patience = time.Until(d)
	}
	c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", patience.String(), "-sim-apart")
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	var said, cried bytes.Buffer
	c.Stderr = &cried
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for seed := range seeds {
		said.Reset()
		if _, err = fmt.Fprintln(in, seed); err == nil {
			err = outcomeOf(lines, &said, tell)
		}
		if err != nil {
			err = fmt.Errorf("the world of seed %d: %w", seed, err)
			break
		}
	}
	in.Close() // it ends
	_, _ = io.Copy(&said, lines)
	if err = errors.Join(err, c.Wait()); err != nil {
		err = fmt.Errorf("%w\n%s%.8000s", err, tail(said.Bytes(), 2000), cried.Bytes())
	}
	return err
}

// outcomeOf reads up to the next outcome; what a process says besides is kept.
func outcomeOf(lines *bufio.Reader, said *bytes.Buffer, tell func(outcome)) error {
	for {
		line, err := lines.ReadString('\n')
		text, ok := strings.CutPrefix(line, outcomeMark)
		switch {
		case err != nil:
			return err
		case !ok:
			said.WriteString(line)
			continue
		}
		var o outcome
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return err
		}
		tell(o)
		return nil
	}
}
