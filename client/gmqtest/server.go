package gmqtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/internal/vfs"
)

// A Server is a GMQ server that ends with the test that started it. Addr, Advance and the
// Clock are for any goroutine, the rest is for the test's own.
type Server struct {
	t     testing.TB
	cfg   config
	data  string // the directory; "" without File
	log   *slog.Logger
	clock *Clock
	door  *door

	encryption *encryption // nil without TLS

	mu   sync.Mutex // guards life, and that one at a time moves the clock or restarts
	life *life      // nil after a restart that failed
}

// A life is a server between two restarts.
type life struct {
	wal      *filejournal.Log // nil without File
	broker   *broker.Broker
	server   *server.Server
	journals []*counted
	served   sync.WaitGroup
}

// NewServer starts a server on a free port of this machine.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, o := range opts {
		o.apply(&s.cfg)
	}
	s.cfg.limits = s.cfg.limits.withDefaults()
	if s.cfg.file {
		s.data = t.TempDir()
	}
	if s.cfg.tls {
		var err error
		if s.encryption, err = encrypt(); err != nil {
			t.Fatalf("gmqtest: %v", err)
		}
	}
	s.clock = &Clock{srv: s}
	s.clock.now.Store(time.Now().UnixNano())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("gmqtest: %v", err)
	}
	s.door = &door{TCPListener: l.(*net.TCPListener)}
	if s.life, err = s.begin(); err != nil {
		l.Close()
		t.Fatalf("gmqtest: %v", err)
	}
	t.Cleanup(s.close)
	return s
}

// Addr is where clients connect: a host and a port.
func (s *Server) Addr() string { return s.door.Addr().String() }

// Clock is the server's time.
func (s *Server) Clock() *Clock { return s.clock }

// Advance moves the server's time forward; see [Clock.Advance].
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.clock.Advance(d)
}

// patience bounds what cannot take long.
const patience = 10 * time.Second

// Client connects a client, which is closed at the end of t: of the server's test, or of one
// within it. It reconnects at once after a [Server.Restart].
func (s *Server) Client(t testing.TB, opts ...gmq.Option) *gmq.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ours := []gmq.Option{gmq.Backoff(time.Millisecond, 20*time.Millisecond)}
	if s.encryption != nil {
		ours = append(ours, gmq.WithTLS(s.TLS()))
	}
	c, err := gmq.Dial(ctx, s.Addr(), append(ours, opts...)...)
	if err != nil {
		t.Fatalf("gmqtest: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("gmqtest: closing the client: %v", err)
		}
	})
	return c
}

// Restart ends the server and starts it again on the same data, at the same time and
// address. What was confirmed is there again, and what was leased is ready. It needs [File].
func (s *Server) Restart() {
	s.t.Helper()
	if s.data == "" {
		s.t.Error("gmqtest: Restart is for servers with File; others have nothing to come back with")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.life.end(); err != nil {
		s.t.Errorf("gmqtest: %v", err)
	}
	s.door.SetDeadline(time.Time{})
	l, err := s.begin()
	if err != nil {
		s.life = nil
		s.t.Fatalf("gmqtest: %v", err)
	}
	s.life = l
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != nil {
		if err := s.life.end(); err != nil {
			s.t.Errorf("gmqtest: %v", err)
		}
	}
	s.door.TCPListener.Close()
}

// begin starts a broker on what is stored, and a server for it.
func (s *Server) begin() (*life, error) {
	l := &life{}
	file := s.memory()
	var spread func(*journal.Batch)
	if s.data != "" {
		var err error
		l.wal, err = filejournal.Open(vfs.OS(), s.data, filejournal.Options{
			Sync: true, Shards: broker.Shards, SegmentBytes: 1 << 20,
			Logf: func(format string, args ...any) { s.log.Warn(fmt.Sprintf(format, args...)) },
		})
		if err != nil {
			return nil, err
		}
		file = func(i int, wake func()) journal.Journal { return l.wal.Shard(i, wake) }
		spread = l.spread
	}
	var err error
	l.broker, err = broker.Start(broker.Options{
		Version: "gmqtest", Node: "n1", Limits: s.limits(), Boot: rand.Uint32(), Seed: rand.Uint64(), Now: s.clock.now.Load,
		Storages: []broker.Storage{
			{Name: "file", Stored: "disk", Spread: spread, Open: l.counting(file)},
			{Name: "memory", Stored: "memory", Open: l.counting(s.memory())},
		},
		Fail: func(err error) {
			s.t.Errorf("gmqtest: the server cannot go on: %v", err)
			for _, j := range l.journals {
				j.giveUp()
			}
		},
	})
	if err != nil {
		return nil, errors.Join(err, l.closeWAL())
	}
	opt := server.Options{Broker: l.broker, Log: s.log, MaxConnections: s.cfg.limits.MaxConnections}
	if s.encryption != nil {
		opt.TLS = s.encryption.server
	}
	l.server = server.New(opt)
	l.served.Go(func() {
		if err := l.server.Serve(s.door); err != nil {
			s.t.Errorf("gmqtest: %v", err)
		}
	})
	return l, nil
}

type opener = func(shard int, wake func()) journal.Journal

func (s *Server) memory() opener {
	budget := journal.NewBudget(s.cfg.limits.Memory)
	return func(_ int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) }
}

// counting remembers the journals that open opens.
func (l *life) counting(open opener) opener {
	return func(i int, wake func()) journal.Journal {
		c := newCounted(open(i, wake))
		l.journals = append(l.journals, c)
		return c
	}
}

// spread counts a batch of several shards where each of them will get it. The journals of the first storage are those of the log.
func (l *life) spread(b *journal.Batch) {
	for _, p := range b.Parts {
		if p.Shard != journal.Nobody {
			l.journals[p.Shard*len(l.journals)/broker.Shards].expect()
		}
	}
	l.wal.Spread(b)
}

// limits are those asked for, with the real server's defaults for queues.
func (s *Server) limits() broker.Limits {
	storage := "memory"
	if s.data != "" {
		storage = "file"
	}
	l := s.cfg.limits
	return broker.Limits{
		MaxQueues: l.MaxQueues, MaxMessageBytes: l.MaxMessageBytes, MaxInFlight: l.MaxInFlight, AutoCreate: true,
		Defaults: queue.Settings{
			Storage: storage, Overflow: queue.Reject, Lease: 30 * time.Second, MaxDeliveries: 10,
			RetryMin: time.Second, RetryMax: 5 * time.Minute, RetryFactor: 2, DedupWindow: 5 * time.Minute,
		},
	}
}

// end stops the server and closes its data. Requests that were taken in are answered; nobody
// is given time to ack, for the restart gives back what is leased.
func (l *life) end() error {
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	var left []error
	if all, ok := l.server.Drain(atOnce).(interface{ Unwrap() []error }); ok {
		left = slices.DeleteFunc(all.Unwrap(), func(err error) bool { return errors.Is(err, context.Canceled) })
	}
	l.served.Wait()
	return errors.Join(errors.Join(left...), l.broker.Close(), l.closeWAL())
}

func (l *life) closeWAL() error {
	if l.wal == nil {
		return nil
	}
	return l.wal.Close()
}

// A door is the listener of all lives: kept between them, so that nobody else gets the port.
type door struct{ *net.TCPListener }

// Close only ends Accept.
func (d *door) Close() error { return d.SetDeadline(time.Unix(1, 0)) }
