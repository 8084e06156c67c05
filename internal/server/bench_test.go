package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/loadgen"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/internal/vfs"
)

// BenchmarkSockets takes messages from lines to lines over loopback sockets, with the server and the load generator in this
// process. The processor's time is that of both; what the generator costs, internal/loadgen's benchmarks tell.
func BenchmarkSockets(b *testing.B) {
	base := loadgen.Settings{Publishers: 1, Consumers: 1, Queues: 1, Window: 1000, Batch: 1, Size: 100, Ack: loadgen.AckReceipt, Credit: 1000, Backlog: 10_000}
	for _, storage := range []string{"memory", "file"} {
		addr := benchServer(b, storage)
		for _, c := range []struct {
			name   string
			change func(*loadgen.Settings)
		}{
			{"publish", func(s *loadgen.Settings) { s.Consumers = 0 }},
			{"through", func(*loadgen.Settings) {}},
			{"pingpong", func(s *loadgen.Settings) { s.Window, s.Credit = 1, 1 }},
			{"batches", func(s *loadgen.Settings) { s.Batch = 100 }},
			{"large", func(s *loadgen.Settings) { s.Size, s.Window, s.Credit, s.Backlog = 64<<10, 64, 64, 256 }},
			{"fanout", func(s *loadgen.Settings) { s.Topics, s.Queues = 1, 10 }},
		} {
			set := base
			c.change(&set)
			b.Run(fmt.Sprintf("%s/%s", storage, c.name), func(b *testing.B) { benchSockets(b, addr, set) })
		}
	}
}

func benchSockets(b *testing.B, addr string, set loadgen.Settings) {
	set.Messages = int64(b.N)
	b.SetBytes(int64(set.Size))
	before := cpuTime()
	r, err := loadgen.Run(b.Context(), loadgen.Options{Settings: set, Patience: time.Minute, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}})
	if err != nil || !r.OK {
		b.Fatal(err, r)
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/msg")
	b.ReportMetric(float64(b.N)/r.Seconds, "msgs/s")
}

// cpuTime is what this process has used of the processors.
func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// benchServer starts a server as cmd does, and gives its address. Its files are on a real disk, also where the temporary
// directory is not.
func benchServer(b *testing.B, storage string) string {
	st := broker.Storage{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
		return journal.NewMemory(journal.NewBudget(1<<30), wake)
	}}
	end := func() error { return nil }
	if storage == "file" {
		dir, err := os.MkdirTemp(os.Getenv("GMQ_BENCH_DIR"), "gmq-bench-")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		log, err := filejournal.Open(vfs.OS(), dir, filejournal.Options{Sync: true, Shards: broker.Shards, CacheBytes: 128 << 20})
		if err != nil {
			b.Fatal(err)
		}
		end = log.Close
		st = broker.Storage{Name: "file", Stored: "disk", Shared: true, Spread: log.Spread, Open: func(i int, wake func()) journal.Journal { return log.Shard(i, wake) }}
	}
	br, err := broker.Start(broker.Options{
		Storages: []broker.Storage{st}, Fail: func(err error) { b.Error(err) },
		Limits: broker.Limits{MaxQueues: 20000, MaxMessageBytes: 2 << 20, MaxInFlight: 1e6, AutoCreate: true, Defaults: queue.Settings{
			Storage: storage, Lease: time.Minute, MaxDeliveries: 3, RetryFactor: 1,
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := server.New(server.Options{Broker: br, Log: slog.New(slog.DiscardHandler), MaxConnections: 20000})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, err := range []error{s.Drain(ctx), <-served, br.Close(), end()} {
			if err != nil {
				b.Error(err)
			}
		}
	})
	return l.Addr().String()
}
