package cluster

import (
	"runtime"
	"time"
)

// Run is a host's owner where nothing else is: it calls Turn when wake says so, and Tick each time that a tick has passed, until stop is
// closed. It is the one place here that knows a clock.
func (h *Host) Run(wake <-chan struct{}, tick time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	pause := time.NewTimer(tick) // for who is behind
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-wake:
			runtime.Gosched() // shards that have something to propose as well: all of it is one turn, and one packet
		case <-ticker.C:
			h.Tick()
		case <-stop:
			return
		}
		h.Turn()
		if d, ok := h.pause(); ok {
			pause.Reset(d)
		}
	}
}
