package auth

import (
	"hash/maphash"
	"sync"
	"time"
)

// Those who guess wrong are slowed down: after some free attempts each further one must wait, twice as long each time.
const (
	freeFailures  = 5
	firstWait     = 250 * time.Millisecond
	longestWait   = 30 * time.Second
	forgetAfter   = 15 * time.Minute // since the last failure
	forgetHasty   = 5 * time.Minute  // the same, where it was never made to wait
	trustFor      = 7 * 24 * time.Hour
	maxSlowed     = 1 << 16
	maxTrusted    = 1 << 14
	sweepsBetween = time.Second
)

// A throttle counts failed attempts by address, and by user. A user who has logged in from an address before is known there:
// what others do to his name from elsewhere does not lock him out, and from there only failures with his name from there count.
//
// Loopback is no address in this sense: whoever is behind a proxy on this machine, or works on it, would be
// locked out by one who guesses.
type throttle struct {
	now  func() time.Time
	seed maphash.Seed

	mu      sync.Mutex // guards the following
	slowed  map[uint64]slow
	rest    slow              // of those for whom slowed has no room
	trusted map[uint64]*trust // by user and place
	swept   time.Time
}

// A trust is a user at a place where he is known. His failures there have their room here: a flood of other names
// does not take it from him.
type trust struct {
	since time.Time
	slow  slow
}

// A slow is what is known of somebody who has failed.
type slow struct {
	failures int
	last     time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, seed: maphash.MakeSeed(), slowed: map[uint64]slow{}, trusted: map[uint64]*trust{}}
}

// until is when the next attempt is looked at.
func (s slow) until() time.Time {
	if s.failures <= freeFailures {
		return s.last
	}
	return s.last.Add(min(longestWait, firstWait<<min(s.failures-freeFailures-1, 10)))
}

// waitAt is how long the next attempt has to wait; 0 is not at all.
func (s slow) waitAt(now time.Time) time.Duration {
	if s.over(now) {
		return 0
	}
	return max(0, s.until().Sub(now))
}

func (s slow) over(now time.Time) bool {
	if s.failures <= freeFailures {
		return now.Sub(s.last) >= forgetHasty
	}
	return now.Sub(s.last) >= forgetAfter
}

func (t *throttle) key(kind, user, address string) uint64 {
	return maphash.String(t.seed, kind+"\x00"+user+"\x00"+address)
}

// known is what is kept of a user where he is known; nil where he is not. t.mu is held.
func (t *throttle) known(user, place string, now time.Time) *trust {
	if user == "" {
		return nil
	}
	k := t.trusted[t.key("pair", user, place)]
	if k == nil || now.Sub(k.since) >= trustFor {
		return nil
	}
	return k
}

// keys are whose failures count for an attempt by one who is not known. address is where it comes from if its failures
// count, else "".
func (t *throttle) keys(user, address string) (all [2]uint64, n int) {
	if user != "" {
		all[n] = t.key("user", user, "")
		n++
	}
	if address != "" {
		all[n] = t.key("address", "", address)
		n++
	}
	return all, n
}

// waitAt is how long an attempt has to wait; 0 is not at all. Either of user and address may be "".
func (t *throttle) waitAt(user, place, address string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, longest := t.now(), time.Duration(0)
	if k := t.known(user, place, now); k != nil {
		return k.slow.waitAt(now)
	}
	keys, n := t.keys(user, address)
	for _, k := range keys[:n] {
		s, ok := t.slowed[k]
		if !ok && len(t.slowed) >= maxSlowed {
			s = t.rest
		}
		longest = max(longest, s.waitAt(now))
	}
	return longest
}

// failedAt counts an attempt that has failed.
func (t *throttle) failedAt(user, place, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if k := t.known(user, place, now); k != nil {
		k.slow = k.slow.and(now)
		return
	}
	keys, n := t.keys(user, address)
	for _, k := range keys[:n] {
		s, ok := t.slowed[k]
		if !ok && len(t.slowed) >= maxSlowed && !t.sweep(now) {
			t.rest = t.rest.and(now)
			continue
		}
		t.slowed[k] = s.and(now)
	}
}

// and is s with one more failure.
func (s slow) and(now time.Time) slow {
	if s.over(now) {
		s.failures = 0
	}
	return slow{s.failures + 1, now}
}

// sweep makes room, and reports whether there is any. Looking at all of them is not done for each attempt.
func (t *throttle) sweep(now time.Time) bool {
	if now.Sub(t.swept) >= sweepsBetween {
		t.swept = now
		for k, s := range t.slowed {
			if s.over(now) {
				delete(t.slowed, k)
			}
		}
	}
	return len(t.slowed) < maxSlowed
}

// succeeded makes the user known at the place.
func (t *throttle) succeeded(user, place string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := t.key("pair", user, place)
	if _, known := t.trusted[pair]; !known && len(t.trusted) >= maxTrusted {
		for k := range t.trusted { // any of them: only who has logged in is here
			delete(t.trusted, k)
			break
		}
	}
	t.trusted[pair] = &trust{since: t.now()}
}
