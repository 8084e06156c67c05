package cluster

import "time"

// Run is a host's owner where nothing else is: it calls Turn when wake says so, and Tick each time that a tick has passed, until stop is
// closed. It is the one place here that knows a clock.
func (h *Host) Run(wake <-chan struct{}, tick time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-wake:
		case <-ticker.C:
			h.Tick()
		case <-stop:
			return
		}
		h.Turn()
	}
}
