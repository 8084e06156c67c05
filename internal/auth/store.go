package auth

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The names of the documents.
const (
	Prefix        = "auth/" // of all of them
	userPrefix    = Prefix + "user/"
	tokenPrefix   = Prefix + "token/"
	secretName    = Prefix + "secret"    // what no other server has
	beginningName = Prefix + "bootstrap" // there once the first user has been made
)

// documentVersion is in every document; a later version of it is not read.
const documentVersion = 1

// A userDocument is a user as it is kept.
type userDocument struct {
	Version  int          `json:"version"`
	Password *credentials `json:"password,omitempty"`
	Allow    []string     `json:"allow,omitempty"`
	Deny     []string     `json:"deny,omitempty"`
	Created  time.Time    `json:"created"`
}

// A tokenDocument is a token as it is kept: not the token, but its SHA-256.
type tokenDocument struct {
	Version int       `json:"version"`
	Hash    []byte    `json:"hash"`
	User    string    `json:"user,omitempty"`
	Allow   []string  `json:"allow,omitempty"`
	Deny    []string  `json:"deny,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// A secretDocument is made before the first user, and never changed. All passwords of a server are hashed as often, and those of
// users who are not there seem to be: else the number would tell who is.
type secretDocument struct {
	Version    int    `json:"version"`
	Secret     []byte `json:"secret"`
	Iterations int    `json:"iterations"`
}

// secretBytes is its length. A document of so many bytes is one of the first form, which was the secret alone.
const (
	secretBytes     = 32
	firstIterations = 10_000
)

func parseSecret(data []byte) (d secretDocument, err error) {
	switch {
	case len(data) == 0:
		return secretDocument{}, nil
	case len(data) == secretBytes:
		return secretDocument{documentVersion, data, firstIterations}, nil
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return secretDocument{}, err
	}
	if d.Version != documentVersion || len(d.Secret) != secretBytes || d.Iterations < 1 || d.Iterations > maxIterations {
		return secretDocument{}, fmt.Errorf("version %d with %d bytes and %d iterations", d.Version, len(d.Secret), d.Iterations)
	}
	return d, nil
}

// A user is never changed: another one takes its place in Service.users.
type user struct {
	name     string
	number   uint64 // another user of the same name, after this one, has another
	password *credentials
	grants   Grants
	created  time.Time
}

// A token is never changed either.
type token struct {
	name    string
	number  uint64
	hash    [sha256.Size]byte
	user    string // "": the grants are its own
	grants  Grants
	created time.Time
	expires time.Time // zero: never
}

func (t *token) expired(now time.Time) bool { return !t.expires.IsZero() && !now.Before(t.expires) }

func parseUser(name string, data []byte) (*user, error) {
	var d userDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if d.Version != documentVersion {
		return nil, fmt.Errorf("version %d, and this program knows %d", d.Version, documentVersion)
	}
	u := &user{name: name, password: d.Password, created: d.Created}
	if u.password != nil {
		if err := u.password.valid(); err != nil {
			return nil, err
		}
	}
	var err error
	u.grants, err = parseGrants(d.Allow, d.Deny)
	return u, err
}

func parseGrants(allow, deny []string) (g Grants, err error) {
	if g.Allow, err = parseAll(allow); err == nil {
		g.Deny, err = parseAll(deny)
	}
	return g, err
}

func (u *user) document() []byte {
	return encode(userDocument{documentVersion, u.password, texts(u.grants.Allow), texts(u.grants.Deny), u.created})
}

func parseToken(name string, data []byte) (*token, error) {
	var d tokenDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if d.Version != documentVersion || len(d.Hash) != sha256.Size {
		return nil, fmt.Errorf("version %d with %d bytes of hash, and this program knows %d with %d", d.Version, len(d.Hash), documentVersion, sha256.Size)
	}
	t := &token{name: name, hash: [sha256.Size]byte(d.Hash), user: d.User, created: d.Created, expires: d.Expires}
	var err error
	t.grants, err = parseGrants(d.Allow, d.Deny)
	return t, err
}

func (t *token) document() []byte {
	return encode(tokenDocument{documentVersion, t.hash[:], t.user, texts(t.grants.Allow), texts(t.grants.Deny), t.created, t.expires})
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of texts, bytes and times, which can be written
	}
	return data
}

// Changed takes over a document that has been kept; without data it is gone. Documents that cannot be read count as gone, so that
// nobody gets in by one, and the error says so.
func (s *Service) Changed(name string, data []byte) error {
	other, err := s.change(name, data)
	if other {
		s.generation.Add(1)
		s.mu.RLock()
		tell := s.changed
		s.mu.RUnlock()
		if tell != nil {
			tell()
		}
	}
	if err != nil {
		return fmt.Errorf("document %s: %w", name, err)
	}
	return nil
}

// change reports whether somebody who was there before is another now, or gone.
func (s *Service) change(name string, data []byte) (other bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is, ok := strings.CutPrefix(name, userPrefix); ok {
		var u *user
		if len(data) > 0 {
			u, err = parseUser(is, data)
		}
		old := s.users[is]
		if delete(s.users, is); u == nil || err != nil {
			return old != nil, err
		}
		if u.number = s.number(); old != nil {
			u.number = old.number
		}
		s.users[is] = u
		return old != nil, nil
	}
	if is, ok := strings.CutPrefix(name, tokenPrefix); ok {
		var t *token
		if len(data) > 0 {
			t, err = parseToken(is, data)
		}
		old := s.tokens[is]
		if old != nil {
			delete(s.tokens, is)
			delete(s.byHash, old.hash)
		}
		if t == nil || err != nil {
			return old != nil, err
		}
		t.number = s.number()
		s.tokens[is], s.byHash[t.hash] = t, t
		return old != nil, nil
	}
	if name == secretName {
		var d secretDocument
		d, err = parseSecret(data)
		s.secret = d
		return false, err
	}
	if name == beginningName {
		s.begun = len(data) > 0
	}
	return false, nil
}

// number gives a number that no user or token has had. s.mu is held.
func (s *Service) number() uint64 {
	s.last++
	return s.last
}
