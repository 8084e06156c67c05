package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gmq/gmq/wire"
)

// Limits of what is kept of users and tokens.
const (
	maxUsers  = 10_000
	maxTokens = 50_000
	maxGrants = wire.MaxGrants // of each kind, of one
)

// tokenMark is what tokens begin with, so that a program that looks for secrets in the wrong places knows them.
const tokenMark = "gmq_"

// Do carries out one of the requests about users, tokens and rights, and appends what its reply holds. It returns when the
// change is kept and in force.
func (s *Service) Do(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	switch r.Op {
	case wire.OpUserList:
		return s.listUsers(r, dst), nil
	case wire.OpTokenList:
		return s.listTokens(r, dst), nil
	case wire.OpAuthCheck:
		return s.check(r, dst)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	err := s.keepsAdmin(r)
	if err != nil {
		return dst, err
	}
	switch r.Op {
	case wire.OpUserAdd:
		err = s.addUser(r)
	case wire.OpUserRemove:
		err = s.removeUser(string(r.User))
	case wire.OpUserPassword, wire.OpUserGrant:
		dst, err = s.changeUser(r, dst)
	case wire.OpTokenAdd:
		dst, err = s.addToken(r, dst)
	case wire.OpTokenRemove:
		err = s.removeToken(string(r.Name))
	default:
		err = wire.Errorf(wire.CodeUnknownOp, "unknown op %q", r.Op.String())
	}
	return dst, err
}

func (s *Service) user(name string) *user {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.users[name]
}

func noUser(name string) *wire.Error {
	return wire.Errorf(wire.CodeNotFound, "user %q does not exist", name)
}

// put keeps a document. What the storage says is not for the client, but that it has no room.
func (s *Service) put(name string, data []byte) *wire.Error {
	err := s.haveSecret()
	if err == nil {
		err = s.opt.Put(name, data)
	}
	if coded, ok := err.(*wire.Error); ok {
		return coded
	}
	if err != nil {
		return wire.Errorf(wire.CodeOverloaded, "not kept: %s", err.Error())
	}
	return nil
}

// given is what a request grants and revokes.
func given(r *wire.Request) (allow, deny, revoke []Grant) {
	allow, _ = parseAll(r.Allow) // the decoder has checked their form
	deny, _ = parseAll(r.Deny)
	revoke, _ = parseAll(r.Revoke)
	return allow, deny, revoke
}

func (s *Service) addUser(r *wire.Request) *wire.Error {
	name := string(r.User)
	s.mu.RLock()
	there, n := s.users[name] != nil, len(s.users)
	s.mu.RUnlock()
	if there {
		return wire.Errorf(wire.CodeExists, "user %q exists", name)
	}
	if n >= maxUsers {
		return wire.Errorf(wire.CodeOverloaded, "there are %d users, as many as there may be", n)
	}
	u := user{name: name, created: s.opt.Now().UTC()}
	allow, deny, _ := given(r)
	u.grants = Grants{}.with(allow, deny, nil)
	if err := s.removeTokens(s.tokensOf(name)); err != nil { // of one before him, whose removal was interrupted
		return err
	}
	if r.Set&wire.FieldPassword != 0 {
		var err *wire.Error
		if u.password, err = s.hashed(r.Password); err != nil {
			return err
		}
	}
	return s.put(userPrefix+name, u.document())
}

// hashed makes what is kept of a new password.
func (s *Service) hashed(password []byte) (c *credentials, err *wire.Error) {
	if len(password) == 0 {
		return nil, wire.Errorf(wire.CodeBadRequest, "password must not be empty; leave it out for a user who logs in by token or certificate only")
	}
	iterations := s.iterations()
	if !s.changers.run(func() { c = newCredentials(password, iterations) }) {
		return nil, rateLimited("more passwords wait to be hashed than may", time.Second)
	}
	return c, nil
}

// removeUser ends a user with his tokens. The user goes first: without him they let nobody in. Where that was interrupted
// and only tokens are left, it goes on.
func (s *Service) removeUser(name string) *wire.Error {
	there, his := s.user(name) != nil, s.tokensOf(name)
	if !there && len(his) == 0 {
		return noUser(name)
	}
	if there {
		if err := s.put(userPrefix+name, nil); err != nil {
			return err
		}
	}
	return s.removeTokens(his)
}

// tokensOf are the names of a user's tokens, in order, also where there is no such user any more.
func (s *Service) tokensOf(name string) (his []string) {
	s.mu.RLock()
	for _, t := range s.tokens {
		if t.user == name {
			his = append(his, t.name)
		}
	}
	s.mu.RUnlock()
	slices.Sort(his)
	return his
}

func (s *Service) removeTokens(names []string) *wire.Error {
	for _, t := range names {
		if err := s.put(tokenPrefix+t, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) changeUser(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	name := string(r.User)
	u := s.user(name)
	if u == nil {
		return dst, noUser(name)
	}
	now := *u
	if r.Op == wire.OpUserPassword {
		now.password = nil
		if r.Set&wire.FieldPassword != 0 {
			var err *wire.Error
			if now.password, err = s.hashed(r.Password); err != nil {
				return dst, err
			}
		}
		return dst, s.put(userPrefix+name, now.document())
	}
	now.grants = u.grants.with(given(r))
	if n := max(len(now.grants.Allow), len(now.grants.Deny)); n > maxGrants {
		return dst, wire.Errorf(wire.CodeOverloaded, "user %q would have %d grants of a kind, and %d are the most", name, n, maxGrants)
	}
	if err := s.put(userPrefix+name, now.document()); err != nil {
		return dst, err
	}
	return appendGrants(dst, &now.grants), nil
}

func (s *Service) addToken(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	name, owner := string(r.Name), string(r.User)
	s.mu.RLock()
	there, n, u := s.tokens[name] != nil, len(s.tokens), s.users[owner]
	s.mu.RUnlock()
	allow, deny, _ := given(r)
	switch {
	case there:
		return dst, wire.Errorf(wire.CodeExists, "token %q exists", name)
	case n >= maxTokens:
		return dst, wire.Errorf(wire.CodeOverloaded, "there are %d tokens, as many as there may be", n)
	case owner != "" && u == nil:
		return dst, noUser(owner)
	case owner != "" && len(allow)+len(deny) > 0:
		return dst, wire.Errorf(wire.CodeBadRequest, "a token of a user may do what the user may; allow and deny are for a token that is nobody's")
	}
	random := make([]byte, 32)
	rand.Read(random)
	text := tokenMark + base64.RawURLEncoding.EncodeToString(random)
	t := token{name: name, hash: sha256.Sum256([]byte(text)), user: owner, grants: Grants{}.with(allow, deny, nil), created: s.opt.Now().UTC()}
	if r.TTL > 0 {
		t.expires = t.created.Add(r.TTL)
	}
	if err := s.put(tokenPrefix+name, t.document()); err != nil {
		return dst, err
	}
	dst = wire.AppendString(append(dst, `,"token":`...), text)
	if !t.expires.IsZero() {
		dst = wire.AppendTime(append(dst, `,"expires":`...), t.expires.UnixNano())
	}
	return dst, nil
}

func (s *Service) removeToken(name string) *wire.Error {
	s.mu.RLock()
	there := s.tokens[name] != nil
	s.mu.RUnlock()
	if !there {
		return wire.Errorf(wire.CodeNotFound, "token %q does not exist", name)
	}
	return s.put(tokenPrefix+name, nil)
}

// some are those whose names are behind after and begin with prefix, in order, as many as the request wants. Neither a user
// nor a token is ever changed, so they are sorted without s.mu, for which logins wait, and the shard that keeps documents.
func some[T any](s *Service, all map[string]*T, name func(*T) string, r *wire.Request) []*T {
	after, prefix := string(r.After), string(r.Prefix)
	var those []*T
	s.mu.RLock()
	for is, one := range all {
		if is > after && strings.HasPrefix(is, prefix) {
			those = append(those, one)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(those, func(a, b *T) int { return strings.Compare(name(a), name(b)) })
	return those[:min(len(those), int(r.Limit))]
}

// listBytes is where a list is cut: whoever wants more asks again.
const listBytes = 256 << 10

func (s *Service) listUsers(r *wire.Request, dst []byte) []byte {
	tokens := map[string]int{}
	s.mu.RLock()
	for _, t := range s.tokens {
		if t.user != "" {
			tokens[t.user]++
		}
	}
	s.mu.RUnlock()
	dst = append(dst, `,"users":[`...)
	start := len(dst)
	for _, u := range some(s, s.users, func(u *user) string { return u.name }, r) {
		if len(dst)-start > listBytes {
			break
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(append(dst, `{"user":`...), u.name)
		dst = appendBool(append(dst, `,"password":`...), u.password != nil)
		dst = wire.AppendTime(append(dst, `,"created":`...), u.created.UnixNano())
		dst = append(appendInt(append(appendGrants(dst, &u.grants), `,"tokens":`...), tokens[u.name]), '}')
	}
	return append(dst, ']')
}

func (s *Service) listTokens(r *wire.Request, dst []byte) []byte {
	dst = append(dst, `,"tokens":[`...)
	start := len(dst)
	for _, t := range some(s, s.tokens, func(t *token) string { return t.name }, r) {
		if len(dst)-start > listBytes {
			break
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(append(dst, `{"name":`...), t.name)
		if t.user != "" {
			dst = wire.AppendString(append(dst, `,"user":`...), t.user)
		} else {
			dst = appendGrants(dst, &t.grants)
		}
		dst = wire.AppendTime(append(dst, `,"created":`...), t.created.UnixNano())
		if !t.expires.IsZero() {
			dst = wire.AppendTime(append(dst, `,"expires":`...), t.expires.UnixNano())
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (s *Service) check(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	d, ok := s.Check(string(r.User), wire.ParseVerb(string(r.Verb)), string(r.Name))
	if !ok {
		return dst, noUser(string(r.User))
	}
	dst = appendBool(append(dst, `,"allowed":`...), d.Allowed)
	return wire.AppendString(append(dst, `,"because":`...), d.Because()), nil
}

func appendGrants(dst []byte, g *Grants) []byte {
	for _, list := range []struct {
		name   string
		grants []Grant
	}{{`,"allow":[`, g.Allow}, {`,"deny":[`, g.Deny}} {
		dst = append(dst, list.name...)
		for i, one := range list.grants {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = wire.AppendString(dst, one.String())
		}
		dst = append(dst, ']')
	}
	return dst
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}

func appendInt(dst []byte, n int) []byte { return strconv.AppendInt(dst, int64(n), 10) }
