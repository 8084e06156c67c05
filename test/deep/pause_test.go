package deep

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// BenchmarkSnapshotPause publishes one message after another into a queue with a deep backlog: while nothing else happens; while a
// snapshot of it is written, because another queue has been purged; and while so much of it is drained that there is another
// snapshot. It reports the longest and the usual wait for a confirm of each:
// go test -run '^$' -bench SnapshotPause -benchtime 1x ./test/deep -messages 10000000
func BenchmarkSnapshotPause(b *testing.B) {
	s := harness.Start(b, "storage: {file: {sync: always}}\n")
	n := *messages
	for b.Loop() {
		fill(b, s, "q", n)
		fill(b, s, "old", 2*n)
		measure(b, s, "alone", func(p *probe) {
			for range 2000 {
				p.once()
			}
		})
		measure(b, s, "snapshot", func(p *probe) {
			before := snapshots(b, s)
			purge := dial(b, s)
			purge.send(`{"op":"queue.purge","queue":"old"}`)
			purge.ok()
			for slices.Equal(before, snapshots(b, s)) || writing(b, s) {
				p.once()
			}
		})
		fill(b, s, "q", 2*n)
		measure(b, s, "drain", func(p *probe) {
			before := snapshots(b, s)
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				drain(b, s, "q", 2*n)
			}()
			p.until(drained)
			if slices.Equal(before, snapshots(b, s)) {
				b.Fatal("no snapshot was written")
			}
		})
		b.ReportMetric(0, "ns/op") // of no meaning here
	}
}

// measure reports what a probe saw during f.
func measure(b *testing.B, s *harness.Server, name string, f func(*probe)) {
	p := newProbe(b, s)
	f(p)
	b.ReportMetric(p.quantile(1).Seconds()*1000, name+"-max-ms")
	b.ReportMetric(p.quantile(0.99).Seconds()*1000, name+"-p99-ms")
	b.ReportMetric(float64(len(p.took)), name+"-confirms")
}

// A probe measures confirms, one after another.
type probe struct {
	*link
	took []time.Duration
}

func newProbe(t testing.TB, s *harness.Server) *probe { return &probe{link: dial(t, s)} }

func (p *probe) once() {
	started := time.Now()
	p.send(`{"op":"publish","queue":"q","body":"probe"}`)
	p.ok()
	p.took = append(p.took, time.Since(started))
}

func (p *probe) until(end <-chan struct{}) {
	for {
		select {
		case <-end:
			return
		default:
			p.once()
		}
	}
}

func (p *probe) quantile(q float64) time.Duration {
	slices.Sort(p.took)
	return p.took[int(q*float64(len(p.took)-1))]
}

// snapshots are the names of the snapshot files, which say how much of the log they hold.
func snapshots(t testing.TB, s *harness.Server) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.Data, "snap", "*.snap"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// writing reports whether a snapshot is being written.
func writing(t testing.TB, s *harness.Server) bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.Data, "snap", "*.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names) > 0
}
