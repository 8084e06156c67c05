//go:build unix

package soak_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gmq/gmq/test/load"
)

// A report is what is told in the end.
type report struct {
	began       time.Time
	took        time.Duration
	round       int // the one of now
	rounds      int // that are over and were clean
	disk        string
	leftOut     []string
	lately      []string // the faults of this round, in order
	faults      map[string]int
	spent       map[string]time.Duration
	starts      []time.Duration
	connections int

	all            load.Verdict
	acked          int
	heard, dropped int
	memory         int64 // resident, at most
	space          int64 // of the data directory, at most
	left           int64 // the same, at the end of a round, when all is deleted
	failure        string
}

func newReport() report {
	return report{began: time.Now(), faults: map[string]int{}, spent: map[string]time.Duration{}}
}

func (r *report) happened(fault string, took time.Duration) {
	r.faults[fault]++
	r.spent[fault] += took
}

func (r *report) restarted(took time.Duration) { r.starts = append(r.starts, took) }

func (r *report) add(v load.Verdict, acked, heard, dropped int) {
	r.acked += acked
	r.all = r.all.And(v)
	r.heard, r.dropped = r.heard+heard, r.dropped+dropped
}

// size is how much the files below dir take. Those that come and go meanwhile may count or not.
func (r *report) size(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func (r *report) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s"+format+"\n", append([]any{name}, args...)...)
	}
	b.WriteString(r.failure)
	line("seed", "%d", *seed)
	line("time", "%v, from %s", r.took.Round(time.Second), r.began.Format(time.RFC3339))
	line("disk", "%s", r.disk)
	if len(r.leftOut) > 0 {
		line("left out", "%s: this machine allows no disk for it", strings.Join(r.leftOut, ", "))
	}
	line("rounds", "%d clean", r.rounds)
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(r.faults)) {
		sum += r.faults[name]
		line("  "+name, "%d in %v", r.faults[name], r.spent[name].Round(time.Millisecond))
	}
	line("faults", "%d; %d connections in storms", sum, r.connections)
	v := r.all
	line("messages", "%.0f confirmed a second; confirmed %d, acked %d, delivered %d, again %d, dead %d, refused %d, unanswered and not stored %d", float64(v.Confirmed)/r.took.Seconds(), v.Confirmed, r.acked, v.Delivered, v.Redone, v.Dead, v.Refused, v.Unanswered)
	line("wrong", "lost %d, resurrected %d, damaged %d", v.Lost, v.Resurrected, v.Damaged)
	line("topics", "slow subscribers heard %d and were told of %d more", r.heard, r.dropped)
	line("at most", "memory %d MiB resident, disk %d MiB; %d MiB at the end of a round, all queues deleted", r.memory>>20, r.space>>20, r.left>>20)
	if n := len(r.starts); n > 0 {
		slices.Sort(r.starts)
		line("restarts", "%d: half within %v, 99 %% within %v, the longest %v", n, r.starts[n/2].Round(time.Millisecond), r.starts[n*99/100].Round(time.Millisecond), r.starts[n-1].Round(time.Millisecond))
	}
	return b.String()
}
