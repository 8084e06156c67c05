package auth

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// Limits are by address and by user. 0 is none.
type Limits struct {
	AddressConnections, UserConnections int
	AddressRate, UserRate               int // messages and other requests a second; settling is free
}

// burst is how much of its rate somebody may use at once.
const burst = int64(time.Second)

// A meter is a rate in use: the time at which all that was taken would have been taken evenly (GCRA, ITU-T I.371). It
// needs no lock.
type meter struct{ at atomic.Int64 }

// take takes n at so many a second, or says how long to wait before. A request may be larger than what is left, or nothing
// large could ever go; then the next ones wait for it.
func (m *meter) take(now int64, n, perSecond int) (wait time.Duration) {
	if perSecond <= 0 {
		return 0
	}
	each := int64(time.Second) / int64(perSecond)
	for {
		at := m.at.Load()
		if wait := waitAfter(at, now, each); wait > 0 {
			return wait
		}
		if m.at.CompareAndSwap(at, max(at, now)+int64(n)*each) {
			return 0
		}
	}
}

// early is how long take would have one wait; nothing is taken.
func (m *meter) early(now int64, perSecond int) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return waitAfter(m.at.Load(), now, int64(time.Second)/int64(perSecond))
}

// waitAfter is 0 or less where there is room for one more.
func waitAfter(at, now, each int64) time.Duration {
	return time.Duration(max(at, now) - now - burst + each)
}

// A party is a user, or an address, with connections.
type party struct {
	connections int // guarded by Service.parties
	meter       meter
}

// idle reports whether nothing is lost by forgetting it: whoever comes back at once must not find his rate unused.
func (p *party) idle(now int64) bool { return p.connections == 0 && p.meter.at.Load() <= now }

// manyParties is from how many on those that are idle are looked for.
const manyParties = 1 << 12

// forgetIdle makes room from time to time: each time that as many have come as there may be without it.
func forgetIdle[K comparable](parties map[K]*party, now func() time.Time) {
	if len(parties) < manyParties || len(parties)&(manyParties-1) != 0 {
		return
	}
	at := now().UnixNano()
	for k, p := range parties {
		if p.idle(at) {
			delete(parties, k)
		}
	}
}

// hashers bounds how much hashing of passwords is done at once, and how much may wait for it.
type hashers struct {
	slots   chan struct{}
	waiting atomic.Int64
}

// maxWaiting is how many passwords may wait to be hashed, for each that is being.
const maxWaiting = 32

func newHashers() *hashers {
	return &hashers{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// run runs f when it is its turn. It is false where too many wait already.
func (h *hashers) run(f func()) bool {
	if h.waiting.Add(1) > int64(cap(h.slots)*maxWaiting) {
		h.waiting.Add(-1)
		return false
	}
	h.slots <- struct{}{}
	defer func() {
		<-h.slots
		h.waiting.Add(-1)
	}()
	f()
	return true
}

// rateLimited tells how long to wait. It is rounded up, so that who waits that long is not refused again for it.
func rateLimited(format string, wait time.Duration, args ...any) *wire.Error {
	wait = (wait + time.Millisecond - 1).Truncate(time.Millisecond)
	return wire.Errorf(wire.CodeRateLimited, format+"; try again in %v", append(args, max(wait, time.Millisecond))...)
}
