// Package server is the sockets: it accepts connections, cuts what they send
// into lines, hands decoded requests to the broker, and writes what the broker
// has for them. Each connection has one reader and one writer.
//
// It does not know what a request means: it decodes, refuses what is no request, and passes on.
package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// lineOverhead is how much longer than a body a line may be, bytes.
const lineOverhead = 64 << 10

// refuseTime bounds the farewell to a connection that is not taken.
const refuseTime = time.Second

// farewell bounds the sending of what is left when a connection is closed from here.
const farewell = 2 * time.Second

// Options are what a server is made from.
type Options struct {
	Broker         *broker.Broker
	TLS            *TLS // nil where only plain connections are taken
	Log            *slog.Logger
	MaxConnections int
	Classic        bool // speak the first protocol of 2015 too

	Auth  *auth.Service // nil: nobody is asked who he is
	Audit Audit         // nil: nothing is written down

	Cluster Cluster // nil: there is none, and never will be
}

// A Server is the connections of one broker.
type Server struct {
	tls        atomic.Pointer[TLS] // for new connections
	handshakes [handshakeKinds]atomic.Uint64
	refusals   refusalLog

	opt     Options
	max     atomic.Int64
	ended   atomic.Bool
	current atomic.Int64
	strange atomic.Int64 // connections that have not said who they are, and must
	total   atomic.Uint64
	running sync.WaitGroup

	mu        sync.Mutex // guards the following
	conns     map[*conn]struct{}
	listeners []net.Listener
}

// New makes a server; Serve gives it listeners.
func New(opt Options) *Server {
	s := &Server{opt: opt, conns: map[*conn]struct{}{}}
	s.tls.Store(opt.TLS)
	s.max.Store(int64(opt.MaxConnections))
	if opt.Auth != nil {
		opt.Auth.OnChange(s.rightsChanged)
	}
	return s
}

// SetMaxConnections puts a new limit in force; connections beyond it stay.
func (s *Server) SetMaxConnections(n int) { s.max.Store(int64(n)) }

// Connections is how many connections there are, and have been.
func (s *Server) Connections() (now int64, total uint64) { return s.current.Load(), s.total.Load() }

// Serve takes connections from l until the server is drained (nil) or l fails.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if s.ended.Load() { // Drain has been past already, and may not have seen it
		l.Close()
		return nil
	}
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if s.ended.Load() {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors, most likely: the connections that are there go on.
			s.opt.Log.Warn("cannot accept a connection", "err", err)
			pause = min(2*pause, time.Second)
			<-time.After(pause)
			continue
		}
		pause = 5 * time.Millisecond
		s.take(nc)
	}
}

// take starts a connection, or refuses it where there are too many.
func (s *Server) take(nc net.Conn) {
	if n, limit := s.current.Add(1), s.max.Load(); n > limit {
		s.current.Add(-1)
		go refuse(nc, wire.Errorf(wire.CodeTooManyConnections, "all %d connections (max_connections) are taken", limit))
		return
	}
	if n, limit := s.strange.Load(), strangers(s.max.Load()); n >= limit {
		s.current.Add(-1)
		go refuse(nc, wire.Errorf(wire.CodeTooManyConnections, "%d connections, half of max_connections, have not logged in yet", limit))
		return
	}
	v, err := s.visitor(nc)
	if err != nil {
		s.current.Add(-1)
		go refuse(nc, err)
		return
	}
	s.total.Add(1)
	c := newConn(s, nc, v)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.running.Go(c.write)
	s.running.Go(c.read)
}

func refuse(nc net.Conn, why *wire.Error) {
	nc.SetDeadline(time.Now().Add(refuseTime))
	nc.Write(wire.AppendError(nil, nil, why))
	nc.Close()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.current.Add(-1)
}

// leaseGrace is how long a drained server waits for acks of what is leased.
const leaseGrace = time.Second

// Drain ends the server: no new connections, no new work; what was taken in is
// answered; consumers have a moment to ack. The error says what was left undone when ctx ended.
func (s *Server) Drain(ctx context.Context) error {
	s.ended.Store(true)
	s.mu.Lock()
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	for _, c := range s.all() {
		if c.classic.Load() {
			continue // it reads one object and nothing else
		}
		if !c.first.Load() && s.tls.Load() != nil {
			continue // nobody knows yet in what it can be told
		}
		c.session.Reply(func(dst []byte) []byte {
			return append(dst, "{\"op\":\"closing\",\"reason\":\"the server is shutting down\"}\n"...)
		})
	}
	err := s.opt.Broker.Drain(ctx)
	grace, cancel := context.WithTimeout(ctx, leaseGrace)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.opt.Broker.InFlight() > 0 && grace.Err() == nil {
		select {
		case <-tick.C:
		case <-grace.Done():
		}
	}
	for _, c := range s.all() {
		c.end()
	}
	return errors.Join(err, s.wait())
}

// wait waits until all connections have ended. What does not end by itself in the time it has is cut off.
func (s *Server) wait() error {
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	for _, patience := range [...]time.Duration{farewell + lingerTime, time.Second} {
		select {
		case <-done:
			return nil
		case <-time.After(patience):
		}
		for _, c := range s.all() {
			c.nc.Close()
		}
	}
	return errors.New("some connections did not end")
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}
