package loadgen

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/gmq/gmq/client/gmqtest"
)

// settings are those of a short run.
func settings() Settings {
	return Settings{Publishers: 2, Consumers: 2, Queues: 1, Window: 100, Batch: 1, Size: 100, Ack: AckReceipt, Credit: 100, Messages: 2000}
}

func runOn(t *testing.T, addr string, set Settings) *Report {
	t.Helper()
	r, err := Run(t.Context(), optionsFor(addr, set))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func optionsFor(addr string, set Settings) Options {
	return Options{Settings: set, Version: "v1", Patience: 30 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}}
}

func TestShapes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Settings){
		"plain":           func(*Settings) {},
		"batches":         func(s *Settings) { s.Batch = 7 },
		"auto":            func(s *Settings) { s.Ack = AckAuto },
		"seq":             func(s *Settings) { s.Ack = AckSeq },
		"window of one":   func(s *Settings) { s.Window, s.Messages = 1, 100 },
		"smallest bodies": func(s *Settings) { s.Size = MinSize },
		"large bodies":    func(s *Settings) { s.Size, s.Messages = 500_000, 20 },
		"many queues":     func(s *Settings) { s.Queues = 50 },
		"few queues":      func(s *Settings) { s.Queues, s.Consumers = 2, 5 },
		"no consumer":     func(s *Settings) { s.Consumers = 0 },
		"named queue":     func(s *Settings) { s.Queue = "mine" },
		"idle":            func(s *Settings) { s.Idle = 10 },
		"rate":            func(s *Settings) { s.Rate, s.Messages = 20_000, 1000 },
		"rate in batches": func(s *Settings) { s.Rate, s.Messages, s.Batch = 20_000, 1000, 3 },
		"backlog":         func(s *Settings) { s.Backlog, s.Credit = 10, 1 },
		"fan-out":         func(s *Settings) { s.Topics, s.Queues = 1, 3 },
		"many topics":     func(s *Settings) { s.Topics, s.Queues = 20, 40 },
		"named topic":     func(s *Settings) { s.Topics, s.Topic = 1, "a.b" },
		"subscribers":     func(s *Settings) { s.Topics, s.Queues, s.Consumers, s.Subscribers = 3, 0, 0, 2 },
		"both":            func(s *Settings) { s.Topics, s.Queues, s.Subscribers = 2, 2, 1 },
		"warm-up":         func(s *Settings) { s.Warmup = 20 * time.Millisecond },
		"duration":        func(s *Settings) { s.Messages, s.Duration = 0, 50*time.Millisecond },
		"stored":          func(s *Settings) { s.Stored = "memory" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := gmqtest.NewServer(t)
			set := settings()
			change(&set)
			r := runOn(t, srv.Addr(), set)
			if !r.OK || !r.Accounting.Judged {
				t.Fatalf("%+v", r)
			}
			a, copies := r.Accounting, int64(set.streams())
			if set.Messages > 0 && r.Confirm.Messages != set.Messages {
				t.Errorf("%d messages were measured, not %d", r.Confirm.Messages, set.Messages)
			}
			if set.Consumers == 0 {
				copies = int64(set.Subscribers)
			} else if a.Left != 0 {
				t.Errorf("%d messages are left", a.Left)
			}
			// In a given time a busy machine may get nothing done.
			if a.Confirmed == 0 && set.Messages > 0 || a.Delivered != a.Confirmed*copies || a.Unknown+a.Refused+a.Redelivered+a.Dropped+a.Unsettled != 0 {
				t.Errorf("%+v", a)
			}
			if copies > 0 && (r.EndToEnd.Messages != r.Confirm.Messages*copies || r.EndToEnd.MaxMicro <= 0) {
				t.Errorf("%+v, and %+v", r.Confirm, r.EndToEnd)
			}
			if set.Messages > 0 && r.Published.PerSecond <= 0 {
				t.Errorf("%+v", r.Published)
			}
			for q, err := range srv.Client(t).ListQueues(t.Context(), "") {
				t.Error("there is still a queue: ", q.Queue, err)
			}
		})
	}
}
