package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// How long a browser stays logged in.
const (
	loginIdle  = time.Hour      // since it was last heard of
	loginTime  = 12 * time.Hour // in all
	maxLogins  = 10_000
	maxPerUser = 100
)

// Logins are those who have logged in once and then show a text that nobody can guess, as browsers do with a cookie.
// They are in memory: a restart ends them. Of the texts only hashes are kept. Its methods may be called from any goroutine.
type Logins struct {
	now func() time.Time

	mu  sync.Mutex // guards the following
	all map[[32]byte]*aLogin
}

type aLogin struct {
	id          *Identity
	began, seen time.Time
}

func (l *aLogin) over(now time.Time) bool {
	return now.Sub(l.seen) >= loginIdle || now.Sub(l.began) >= loginTime
}

// NewLogins makes logins of nobody. now is the clock; nil is the machine's.
func NewLogins(now func() time.Time) *Logins {
	if now == nil {
		now = time.Now
	}
	return &Logins{now: now, all: map[[32]byte]*aLogin{}}
}

// Begin remembers who has logged in, and returns the text of 256 random bits to be shown from then on. Where there are too
// many logins the one that was used least lately ends; first that of the same user.
func (ls *Logins) Begin(id *Identity) string {
	text := rand.Text() + rand.Text() // 130 bits each
	now := ls.now()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var oldest, oldestOwn [32]byte
	var own int
	for hash, l := range ls.all {
		if l.over(now) {
			delete(ls.all, hash)
			continue
		}
		if first := ls.all[oldest]; first == nil || l.seen.Before(first.seen) {
			oldest = hash
		}
		if l.id.party() != id.party() {
			continue
		}
		if first := ls.all[oldestOwn]; own == 0 || first == nil || l.seen.Before(first.seen) {
			oldestOwn = hash
		}
		own++
	}
	if own >= maxPerUser {
		delete(ls.all, oldestOwn)
	} else if len(ls.all) >= maxLogins {
		delete(ls.all, oldest)
	}
	ls.all[sha256.Sum256([]byte(text))] = &aLogin{id, now, now}
	return text
}

// Find is who shows a text; nil where that login is over, or never was. The user, and the token, are still there.
func (ls *Logins) Find(text string) *Identity {
	hash := sha256.Sum256([]byte(text))
	if id := ls.find(hash); id != nil && id.Alive() {
		return id
	}
	return nil
}

func (ls *Logins) find(hash [32]byte) *Identity {
	now := ls.now()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.all[hash]
	if l == nil {
		return nil
	}
	if l.over(now) {
		delete(ls.all, hash)
		return nil
	}
	l.seen = now
	return l.id
}

// End ends a login.
func (ls *Logins) End(text string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, sha256.Sum256([]byte(text)))
}

// Resume makes the visitor somebody who has logged in before. It is not counted as a connection: the visitor must be
// passing.
func (v *Visitor) Resume(id *Identity) { v.becomePassing(id) }
