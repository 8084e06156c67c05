package bench_test

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/loadgen"
	"github.com/gmq/gmq/test/harness"
)

// scaleConfig lets a server have what BenchmarkScale asks for.
const scaleConfig = "limits: {max_queues: 20000, max_connections: 20000}\nqueue_defaults: {max_deliveries: 0}\n"

// A variant is one of two loads that are measured side by side.
type variant struct {
	name string
	set  loadgen.Settings
}

// few is the load that the others are compared with.
func few(storage string) loadgen.Settings {
	return loadgen.Settings{
		Publishers: 2, Consumers: 2, Queues: 1, Window: 1000, Batch: 1, Size: bodySize, Ack: loadgen.AckReceipt, Credit: 1000,
		Storage: storage, Backlog: 10_000, Warmup: 300 * time.Millisecond, Duration: time.Second,
	}
}

// BenchmarkScale measures two loads in turn on one server, and reports how many messages a second each of them gets
// through, their ratio, and that of what a message costs the server's process. The generator shares the machine, and
// what more queues or connections cost it counts as the server's in the first ratio, and not in the second.
func BenchmarkScale(b *testing.B) {
	many := func(change func(*loadgen.Settings)) loadgen.Settings {
		s := few("memory")
		change(&s)
		return s
	}
	files := few("file")
	files.Queues = 10_000
	// Each connection has as many messages on its way, however many connections there are: how many go with one
	// system call is not what is measured.
	active := func(connections int) loadgen.Settings {
		return many(func(s *loadgen.Settings) {
			s.Publishers, s.Consumers, s.Queues, s.Window, s.Credit, s.Backlog = connections/2, connections/2, 16, 100, 100, 0
			s.Warmup = 3 * time.Second // the first windows alone are 250,000 messages
		})
	}
	for _, c := range []struct {
		name      string
		one, many variant
	}{
		{"queues", variant{"1-queue", few("memory")}, variant{"10000-queues", many(func(s *loadgen.Settings) { s.Queues = 10_000 })}},
		{"filequeues", variant{"1-queue", few("file")}, variant{"10000-queues", files}},
		{"idle", variant{"0-idle", few("memory")}, variant{"5000-idle", many(func(s *loadgen.Settings) { s.Idle = 5000 })}},
		{"active", variant{"32-connections", active(32)}, variant{"5000-connections", active(5000)}},
		{"topics", variant{"1-topic", many(func(s *loadgen.Settings) { s.Topics = 1 })}, variant{"1000-topics", many(func(s *loadgen.Settings) { s.Topics, s.Queues = 1000, 1000 })}},
	} {
		b.Run(c.name, func(b *testing.B) {
			needFiles(b, c.many.set.Publishers+c.many.set.Consumers+c.many.set.Idle)
			s := harness.Start(b, scaleConfig)
			rates, costs := map[string][]float64{}, map[string][]float64{}
			for b.Loop() {
				for range 3 {
					for _, v := range []variant{c.one, c.many} {
						r := measure(b, s, v.set)
						rates[v.name] = append(rates[v.name], r.Delivered.PerSecond)
						costs[v.name] = append(costs[v.name], r.CPU.ServerSeconds/float64(r.Delivered.Messages)*1e6)
					}
				}
			}
			one, more := c.one.name, c.many.name
			b.ReportMetric(median(rates[one]), one+"-msgs/s")
			b.ReportMetric(median(rates[more]), more+"-msgs/s")
			b.ReportMetric(median(rates[more])/median(rates[one]), "many/one")
			b.ReportMetric(median(costs[one]), one+"-cpu-µs/msg")
			b.ReportMetric(median(costs[more]), more+"-cpu-µs/msg")
			b.ReportMetric(0, "ns/op") // of no meaning here
		})
	}
}

// measure runs a load, which must lose nothing.
func measure(b *testing.B, s *harness.Server, set loadgen.Settings) *loadgen.Report {
	r, err := loadgen.Run(b.Context(), loadgen.Options{
		Settings: set, Patience: harness.Patience, ServerCPU: loadgen.CPUOf(s.PID()),
		Dial: func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", s.Addr) },
	})
	if err != nil {
		b.Fatal(err)
	}
	if !r.OK || r.Delivered.Messages == 0 {
		b.Fatal(strings.Join(r.Problems, "; "))
	}
	return r
}

// needFiles skips what the system does not allow this process to open.
func needFiles(b *testing.B, connections int) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Skip("this system does not tell how many files may be open: ", err)
	}
	if need := uint64(connections + 100); l.Cur < need {
		b.Skipf("a process may open %d files here, and this needs %d", l.Cur, need)
	}
}

// BenchmarkLarge moves bodies of 1 MiB through a queue in memory, and beside that the same bytes through one bare
// connection of this process, and smaller bodies through the server. All are bytes of bodies a second.
func BenchmarkLarge(b *testing.B) {
	const large = 1 << 20
	s := harness.Start(b, scaleConfig)
	load := func(size int) loadgen.Settings {
		set := few("memory")
		set.Publishers, set.Consumers, set.Size = 1, 1, size
		set.Window, set.Credit, set.Backlog = 16, 16, 32
		if size < large {
			set.Window, set.Credit, set.Backlog = 64, 64, 128
		}
		return set
	}
	var through, smaller, bare, relayed []float64
	for b.Loop() {
		for range 3 {
			through = append(through, measure(b, s, load(large)).Delivered.BytesPerSecond)
			smaller = append(smaller, measure(b, s, load(16<<10)).Delivered.BytesPerSecond)
			bare = append(bare, bareCopy(b, large, 1))
			relayed = append(relayed, bareCopy(b, large, 2))
		}
	}
	mega := func(v []float64) float64 { return median(v) / 1e6 }
	b.ReportMetric(mega(through), "1MiB-MB/s")
	b.ReportMetric(mega(smaller), "16KiB-MB/s")
	b.ReportMetric(mega(bare), "bare-MB/s")
	b.ReportMetric(mega(relayed), "bare-relay-MB/s")
	b.ReportMetric(mega(through)/mega(bare), "1MiB/bare")
	b.ReportMetric(mega(through)/mega(relayed), "1MiB/bare-relay")
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// bareCopy writes bodies of a size into a loopback connection for a second, whose other end reads each whole, and with
// two hops writes it into a second one, as a server has to. It gives bytes a second.
func bareCopy(b *testing.B, size, hops int) float64 {
	var total int64
	first, from := pair(b)
	for range hops - 1 {
		to, next := pair(b)
		go relay(to, from, size)
		from = next
	}
	end := time.Now().Add(time.Second)
	go func() {
		body := make([]byte, size)
		for time.Now().Before(end) {
			if _, err := first.Write(body); err != nil {
				return
			}
		}
		first.Close()
	}()
	started := time.Now()
	buf := make([]byte, size)
	for {
		n, err := io.ReadFull(from, buf)
		total += int64(n)
		if err != nil {
			return float64(total) / time.Since(started).Seconds()
		}
	}
}

// relay moves bodies from one connection to another until the first ends.
func relay(to, from net.Conn, size int) {
	defer to.Close()
	buf := make([]byte, size)
	for {
		if _, err := io.ReadFull(from, buf); err != nil {
			return
		}
		if _, err := to.Write(buf); err != nil {
			return
		}
	}
}

// pair is a connection of this process with itself, over loopback.
func pair(b *testing.B) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err == nil {
		server, err = l.Accept()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
