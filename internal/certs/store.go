package certs

import (
	"crypto/sha256"
	"log/slog"
	"sync/atomic"
	"time"
)

// warnEvery is how often a certificate that is about to expire is told of.
const warnEvery = 24 * time.Hour

// A Store keeps the Set that is in force, and replaces it by what the files hold now where that is good. Its
// methods are for one goroutine, but for those that say otherwise.
type Store struct {
	files   Files
	now     func() time.Time
	log     *slog.Logger
	use     func(*Set) // puts a set in force
	current atomic.Pointer[Set]
	failed  atomic.Uint64

	seen   [sha256.Size]byte // the contents at the last look
	told   string            // what was complained about last
	warned time.Time         // when Findings were logged last
}

// Open loads the files. use is called with every Set that is to be in force, the first one included.
func Open(f Files, now func() time.Time, log *slog.Logger, use func(*Set)) (*Store, error) {
	set, err := Load(f)
	if err != nil {
		return nil, err
	}
	s := &Store{files: f, now: now, log: log, use: use}
	s.replace(set)
	return s, nil
}

// Current is the set in force. It is for any goroutine.
func (s *Store) Current() *Set { return s.current.Load() }

// Failed is how often new files were not taken. It is for any goroutine.
func (s *Store) Failed() uint64 { return s.failed.Load() }

func (s *Store) replace(set *Set) {
	s.files, s.seen, s.told, s.warned = set.files, set.sum, "", time.Time{}
	s.current.Store(set)
	s.use(set)
	s.warn()
}

// Reload takes over what the files hold now; f may be others than before. Where they are no good, nothing changes.
func (s *Store) Reload(f Files) error {
	set, err := Load(f)
	if err == nil {
		err = s.better(set)
	}
	if err != nil {
		s.failed.Add(1)
		return err
	}
	before := s.Current().sum
	s.replace(set)
	if set.sum != before {
		s.reloaded()
	}
	return nil
}

func (s *Store) reloaded() { s.log.Info("certificate reloaded", "certificate", s.Current().String()) }

// better refuses a set that cannot be used now, unless the one in force cannot either.
func (s *Store) better(set *Set) error {
	if err := set.Usable(s.now()); err != nil && s.Current().Usable(s.now()) == nil {
		return err
	}
	return nil
}

// Poll looks at the files, and takes over what they hold where that has changed. Call it every few seconds. A change
// counts once two looks have found the same, since certificate and key are not written in one moment.
func (s *Store) Poll() {
	s.warn()
	raw, err := read(s.files)
	if err != nil {
		s.complain(err.Error(), err)
		return
	}
	sum := raw.sum()
	settled := sum == s.seen
	s.seen = sum
	if sum == s.Current().sum {
		s.told = "" // somebody has put back what is in force
		return
	}
	if !settled {
		return
	}
	set, err := parse(s.files, raw)
	if err == nil {
		err = s.better(set)
	}
	if err != nil {
		s.complain(string(sum[:]), err)
		return
	}
	s.replace(set)
	s.reloaded()
}

// complain says that new files are no good, once of what it is about.
func (s *Store) complain(about string, err error) {
	if about == s.told {
		return
	}
	s.told = about
	s.failed.Add(1)
	s.log.Error("certificate not reloaded, the one before stays in force", "err", err.Error(), "in_force", s.Current().String())
}

// warn logs what is weak about the set in force, once a day.
func (s *Store) warn() {
	now := s.now()
	if now.Sub(s.warned) < warnEvery {
		return
	}
	s.warned = now
	for _, f := range s.Current().Findings(now) {
		s.log.Warn(f.Text, "setting", f.Key, "mend", f.Mend)
	}
}
