package gmqtest

import (
	"sync/atomic"
	"time"
)

// A Clock is the time of a server.
type Clock struct {
	srv *Server
	now atomic.Int64 // unix ns
}

// Now is what the server takes for the present.
func (c *Clock) Now() time.Time { return time.Unix(0, c.now.Load()) }

// Advance moves the clock forward by d, and returns when the server has dealt with the new time.
func (c *Clock) Advance(d time.Duration) {
	s := c.srv
	s.t.Helper()
	if d < 0 {
		s.t.Errorf("gmqtest: the clock cannot go back by %v", -d)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now.Add(int64(d))
	if s.life != nil {
		s.life.settle()
	}
}
