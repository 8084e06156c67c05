package deep

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// BenchmarkSnapshotPause publishes one message after another into a queue with a deep backlog: while nothing else happens; while a
// snapshot of it is written, because another queue has been purged; and while so much of it is drained that there is another
// snapshot. It reports the longest and the usual wait for a confirm of each, and the
// longest fsync of a file of its own beside it:
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
	b.ReportMetric(quantile(p.took, 1), name+"-max-ms")
	b.ReportMetric(quantile(p.took, 0.99), name+"-p99-ms")
	b.ReportMetric(quantile(p.synced, 1), name+"-fsync-max-ms")
	b.ReportMetric(float64(len(p.took)), name+"-confirms")
}

// A probe measures confirms, one after another, and after each what a write and fsync of its own takes on the same disk: a
// confirm cannot be had for less.
type probe struct {
	*link
	t      testing.TB
	own    *os.File
	took   []time.Duration
	synced []time.Duration
}

func newProbe(t testing.TB, s *harness.Server) *probe {
	own, err := os.Create(filepath.Join(filepath.Dir(s.Data), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	return &probe{link: dial(t, s), t: t, own: own}
}

func (p *probe) once() {
	started := time.Now()
	p.send(`{"op":"publish","queue":"q","body":"probe"}`)
	p.ok()
	p.took = append(p.took, time.Since(started))
	started = time.Now()
	if _, err := p.own.WriteAt(make([]byte, 4096), 0); err != nil {
		p.t.Fatal(err)
	}
	if err := p.own.Sync(); err != nil {
		p.t.Fatal(err)
	}
	p.synced = append(p.synced, time.Since(started))
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

// quantile is that of the times, ms.
func quantile(of []time.Duration, q float64) float64 {
	slices.Sort(of)
	return of[int(q*float64(len(of)-1))].Seconds() * 1000
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
