package auth

import (
	"maps"

	"github.com/gmq/gmq/wire"
)

// administers reports whether the grants hold admin on everything, without which nobody changes users, tokens and rights.
func (g *Grants) administers() bool { return g.Authorize(wire.VerbAdmin, Everything).Allowed }

// keepsAdmin refuses a change after which nobody would hold admin on everything, where somebody does now: nobody could take it
// back. Where no login is needed anybody can. s.changing is held.
func (s *Service) keepsAdmin(r *wire.Request) *wire.Error {
	if !s.opt.Required || r.Op != wire.OpUserGrant && r.Op != wire.OpUserRemove && r.Op != wire.OpTokenRemove {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !administered(s.users, s.tokens) {
		return nil
	}
	users, tokens, what := s.users, s.tokens, ""
	switch u := s.users[string(r.User)]; {
	case r.Op == wire.OpTokenRemove:
		tokens, what = maps.Clone(s.tokens), "token "+string(r.Name)
		delete(tokens, string(r.Name))
	case u == nil:
		return nil
	default:
		users, what = maps.Clone(s.users), "user "+u.name
		if delete(users, u.name); r.Op == wire.OpUserGrant {
			users[u.name] = &user{name: u.name, grants: u.grants.with(given(r))}
		}
	}
	if administered(users, tokens) {
		return nil
	}
	return wire.Errorf(wire.CodeBadRequest, "%s is the last to hold the right admin:>, which a denial of admin on any name takes away too, and nobody could change users and rights any more; give it to another user first", what)
}

// administered reports whether somebody holds admin on everything: a user, or a token of its own that does not expire.
func administered(users map[string]*user, tokens map[string]*token) bool {
	for _, u := range users {
		if u.grants.administers() {
			return true
		}
	}
	for _, t := range tokens {
		if t.user == "" && t.expires.IsZero() && t.grants.administers() {
			return true
		}
	}
	return false
}

// A Census is who is known to a service.
type Census struct {
	Users, Tokens int
	// Admins are the users and tokens that hold admin on everything and can log in by a password or a token. Who has a
	// certificate only is not among them: whether there is one is not known here.
	Admins int
}

// Census counts who is there.
func (s *Service) Census() Census {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := Census{Users: len(s.users), Tokens: len(s.tokens)}
	now := s.opt.Now()
	for _, u := range s.users {
		if u.password != nil && u.grants.administers() {
			c.Admins++
		}
	}
	for _, t := range s.tokens {
		g := &t.grants
		if u := s.users[t.user]; t.user != "" {
			if u == nil {
				continue
			}
			g = &u.grants
		}
		if !t.expired(now) && g.administers() {
			c.Admins++
		}
	}
	return c
}
