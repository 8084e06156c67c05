package deep

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// BenchmarkSnapshotPause publishes one message after another into a queue with a deep backlog, while so much of that is drained
// that its snapshot is written and its segments are given back. It reports the longest and the usual wait for a confirm, with
// and without: go test -run '^$' -bench SnapshotPause -benchtime 1x ./test/deep -messages 10000000
func BenchmarkSnapshotPause(b *testing.B) {
	s := harness.Start(b, "storage: {file: {sync: always}}\n")
	n := *messages
	for b.Loop() {
		fill(b, s, "q", 3*n)
		quiet := newProbe(b, s)
		for range 2000 {
			quiet.once()
		}
		busy := newProbe(b, s)
		before := snapshots(b, s)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			drain(b, s, "q", 2*n)
		}()
		busy.until(drained)
		after := snapshots(b, s)
		if slices.Equal(before, after) {
			b.Fatalf("no snapshot was written: %v", after)
		}
		for name, p := range map[string]*probe{"alone": quiet, "beside": busy} {
			b.ReportMetric(p.quantile(1).Seconds()*1000, name+"-max-ms")
			b.ReportMetric(p.quantile(0.99).Seconds()*1000, name+"-p99-ms")
		}
		b.ReportMetric(0, "ns/op") // of no meaning here
	}
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
