package auth

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// Options are what a Service is made from.
type Options struct {
	Required bool // whoever has not said who he is may do nothing
	Limits   Limits
	Now      func() time.Time // nil: the machine's
	// Put keeps a document and returns when it is safe and Changed has been told of it.
	Put func(name string, data []byte) error
}

// A Service knows the users, and who is connected. Its methods may be called from any goroutine.
type Service struct {
	opt        Options
	limits     atomic.Pointer[Limits]
	generation atomic.Uint64 // of what is allowed to whom
	throttle   *throttle
	hashers    *hashers // for whoever logs in
	changers   *hashers // for those who change passwords, so that a flood of logins does not keep them from it

	changing sync.Mutex // held by whoever reads what is there in order to change it, while it is being kept

	mu      sync.RWMutex // guards the following
	users   map[string]*user
	tokens  map[string]*token // by name
	byHash  map[[32]byte]*token
	secret  secretDocument // without a Secret where there is none yet
	begun   bool
	last    uint64
	changed func()

	parties   sync.Mutex // guards the following, and the connections in them
	addresses map[netip.Addr]*party
	visiting  map[string]*party // by user or token, as Identity.Name gives them
}

// New makes a service that knows nobody. What it is to know comes through Changed.
func New(opt Options) *Service {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Service{
		opt: opt, throttle: newThrottle(opt.Now), hashers: newHashers(), changers: newHashers(),
		users: map[string]*user{}, tokens: map[string]*token{}, byHash: map[[32]byte]*token{},
		addresses: map[netip.Addr]*party{}, visiting: map[string]*party{},
	}
	s.limits.Store(&opt.Limits)
	return s
}

// Required reports whether whoever connects must say who he is.
func (s *Service) Required() bool { return s.opt.Required }

// SetLimits puts new limits in force; connections beyond them stay.
func (s *Service) SetLimits(l Limits) { s.limits.Store(&l) }

// OnChange has f called whenever somebody may have got or lost a right. It must not wait.
func (s *Service) OnChange(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

// A Beginning is the first start at which logins are required.
type Beginning struct {
	Made          bool // the user admin
	Users, Tokens int  // that were there before: anybody may have made them, with any rights
}

// Begin sees to it that there is somebody to log in as: the user admin, who may do everything, where none was ever made.
// password gives his, once it is known that it is needed.
func (s *Service) Begin(password func() ([]byte, error)) (b Beginning, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.RLock()
	begun, admin, users, tokens := s.begun, s.users[Admin], len(s.users), len(s.tokens)
	s.mu.RUnlock()
	if begun || !s.opt.Required {
		return b, nil
	}
	if err := s.haveSecret(); err != nil {
		return b, err
	}
	if admin == nil {
		text, err := password()
		if err != nil {
			return b, err
		}
		all := Grants{Allow: []Grant{{wire.AnyVerb, Everything}}}
		u := user{name: Admin, password: newCredentials(text, s.iterations()), grants: all, created: s.opt.Now().UTC()}
		if err := s.opt.Put(userPrefix+Admin, u.document()); err != nil {
			return b, err
		}
	}
	return Beginning{admin == nil, users, tokens}, s.opt.Put(beginningName, []byte(`{"version":1}`))
}

// haveSecret makes the server's secret before there is anybody who could be told from somebody who is not there. s.changing is
// held.
func (s *Service) haveSecret() error {
	s.mu.RLock()
	there := len(s.secret.Secret) > 0
	s.mu.RUnlock()
	if there {
		return nil
	}
	d := secretDocument{documentVersion, make([]byte, secretBytes), Iterations}
	rand.Read(d.Secret)
	return s.opt.Put(secretName, encode(d))
}

// iterations is how often passwords are hashed here.
func (s *Service) iterations() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.secret.iterations()
}

func (d *secretDocument) iterations() int {
	if d.Iterations == 0 {
		return Iterations
	}
	return d.Iterations
}

// Admin is the user that the first start makes.
const Admin = "admin"

// An Identity is who somebody is. What he may do is looked up each time, so a change holds at once.
type Identity struct {
	s     *Service
	user  string // "" where a token is its own
	token string // the name of the token; "" where it was none
	by    string // how it was proved: password, scram, token, certificate

	until time.Time // when the certificate ends; the zero time where it was none

	userNumber, tokenNumber uint64
}

// Name is who it is in so many words: a user, a token, or a user by a token.
func (id *Identity) Name() string {
	switch {
	case id.token == "":
		return id.user
	case id.user == "":
		return "token " + id.token
	}
	return id.user + " (token " + id.token + ")"
}

// By says how it was proved: password, SCRAM-SHA-256, token or certificate.
func (id *Identity) By() string { return id.by }

// party is whose limits hold.
func (id *Identity) party() string {
	if id.user != "" {
		return id.user
	}
	return "token " + id.token // no user's name holds a space
}

// grants are what is allowed now; nil where the user or the token is gone.
func (id *Identity) grants() *Grants {
	id.s.mu.RLock()
	defer id.s.mu.RUnlock()
	var g *Grants
	if id.user != "" {
		u := id.s.users[id.user]
		if u == nil || u.number != id.userNumber {
			return nil
		}
		g = &u.grants
	}
	if id.token != "" {
		t := id.s.tokens[id.token]
		if t == nil || t.number != id.tokenNumber || t.expired(id.s.opt.Now()) {
			return nil
		}
		if id.user == "" {
			g = &t.grants
		}
	}
	return g
}

// Alive reports whether the user, and the token, are still there.
func (id *Identity) Alive() bool { return id.grants() != nil }

// Expires is when the token, or the certificate, ends; the zero time where nothing does.
func (id *Identity) Expires() time.Time {
	id.s.mu.RLock()
	defer id.s.mu.RUnlock()
	if t := id.s.tokens[id.token]; t != nil && id.token != "" {
		return t.expires
	}
	return id.until
}

// Authorize decides whether one of the verbs is allowed on a name, or on all that a pattern matches.
func (id *Identity) Authorize(verbs wire.Verb, name string) Decision {
	g := id.grants()
	if g == nil {
		g = &Grants{}
	}
	return g.Authorize(verbs, name)
}

// Check decides what a user may do, for whoever asks why. It is false where there is no such user.
func (s *Service) Check(name string, verb wire.Verb, about string) (Decision, bool) {
	s.mu.RLock()
	u := s.users[name]
	s.mu.RUnlock()
	if u == nil {
		return Decision{}, false
	}
	return u.grants.Authorize(verb, about), true
}
