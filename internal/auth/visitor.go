package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/xdg-go/scram"

	"github.com/gmq/gmq/wire"
)

// A Visitor is a connection: where it comes from, and who it is, once that is known. Its methods belong to one goroutine,
// the connection's reader, but for Identity and those that broker.Guard names.
type Visitor struct {
	s       *Service
	network netip.Addr // its address, of which the last 64 bits are 0 in IPv6: whoever has one has them all; the zero Addr where it has none
	local   bool       // of this machine
	passing bool       // does not count as a connection of the user
	secure  bool       // nobody else can read what is sent

	identity  atomic.Pointer[Identity]
	exchange  *scram.ServerConversation
	exchanged string // the user that the exchange is about
	proving   []byte // the StoredKey that it began with
	claimed   string // the user that the latest attempt was about

	from *party // the address; nil where it has none
	as   atomic.Pointer[party]
	rate atomic.Pointer[party] // of one who is passing: whose requests count
}

// Arrive begins a connection from an address such as net.Conn.RemoteAddr gives, unless there are too many from there.
// Leave must follow.
func (s *Service) Arrive(address string) (*Visitor, *wire.Error) {
	v := &Visitor{s: s}
	if ap, err := netip.ParseAddrPort(address); err == nil {
		v.network = network(ap.Addr())
		v.local = ap.Addr().Unmap().IsLoopback()
	} else {
		return v, nil
	}
	s.parties.Lock()
	defer s.parties.Unlock()
	p := s.addresses[v.network]
	if p == nil {
		p = &party{}
	}
	if limit := s.limits.Load().AddressConnections; limit > 0 && p.connections >= limit {
		return nil, wire.Errorf(wire.CodeTooManyConnections, "%s has %d connections, as many as one address may (max_connections_per_address)", v.place(), limit)
	}
	p.connections++
	s.addresses[v.network] = p
	forgetIdle(s.addresses, s.opt.Now)
	v.from = p
	return v, nil
}

// Leave ends the connection.
func (v *Visitor) Leave() {
	s := v.s
	s.parties.Lock()
	defer s.parties.Unlock()
	now := s.opt.Now().UnixNano()
	if v.from != nil {
		if v.from.connections--; v.from.idle(now) {
			delete(s.addresses, v.network)
		}
		v.from = nil
	}
	if p := v.as.Swap(nil); p != nil {
		if p.connections--; p.idle(now) {
			delete(s.visiting, v.identity.Load().party())
		}
	}
}

// Passing says that the visitor asks one thing and is gone: a user who has as many connections as he may can look at metrics, say.
// It must come before anybody logs in.
func (v *Visitor) Passing() { v.passing = true }

// Secured says that the connection is encrypted. It must come before anybody logs in.
func (v *Visitor) Secured() { v.secure = true }

// Identity is who it is; nil while that is not known.
func (v *Visitor) Identity() *Identity { return v.identity.Load() }

// Claimed is the user as whom somebody tried to log in last; "" where none was named.
func (v *Visitor) Claimed() string { return v.claimed }

// Metered reports whether requests are counted, or asked about, at all.
func (v *Visitor) Metered() bool {
	l := v.s.limits.Load()
	return v.s.opt.Required || l.AddressRate > 0 || l.UserRate > 0
}

// throttled is the address whose failures count; "" where none do.
func (v *Visitor) throttled() string {
	if v.local || !v.network.IsValid() {
		return ""
	}
	return v.place()
}

// place is where a user is known from.
func (v *Visitor) place() string {
	if v.network.Is6() {
		return v.network.String() + "/64"
	}
	return v.network.String()
}

// network is whose limits and failures hold for an address.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// slowed is the refusal of an attempt that comes too early.
func (v *Visitor) slowed(user string) *wire.Error {
	if wait := v.s.throttle.waitAt(user, v.place(), v.throttled()); wait > 0 {
		return rateLimited("too many failed logins", wait)
	}
	return nil
}

// errWrong is the answer to whoever fails, whatever the reason: it must not say who is there.
func errWrong() *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "user and password, or the token, are not right")
}

// errReadable is told where a secret has come that others could read on its way.
func errReadable(what string) *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "a %s is not taken over an unencrypted connection from another machine, and has been sent over one now; use TLS, or %s for a password", what, Mechanism)
}

// Readable is the refusal of a request about users whose secret others could read on its way, be it a password in it or a
// token in its reply; nil where it has none, or nobody can.
func (v *Visitor) Readable(r *wire.Request) *wire.Error {
	what := ""
	switch {
	case v.secure || v.local:
	case r.Set.Has(wire.FieldPassword):
		what = "a password is not taken over an unencrypted connection from another machine, and has been sent over one now"
	case r.Op == wire.OpTokenAdd, r.Op == wire.OpClusterToken:
		what = "a token is not told over an unencrypted connection to another machine"
	}
	if what == "" {
		return nil
	}
	return wire.Errorf(wire.CodeUnauthenticated, "%s: %s; use TLS", r.Op.String(), what)
}

// Login carries out what a hello says of who somebody is. reply is the server's part of an exchange, and done says
// whether it is known now who it is; where it is not, another hello is to follow.
func (v *Visitor) Login(r *wire.Request) (reply string, done bool, err *wire.Error) {
	known := v.identity.Load()
	if known != nil && known.by != byCertificate {
		return "", false, loggedInAs(known)
	}
	if readable := !v.secure && !v.local; readable && r.Set&wire.FieldPassword != 0 {
		return "", false, errReadable("password")
	} else if readable && r.Set&wire.FieldToken != 0 {
		return "", false, errReadable("token")
	}
	var id *Identity
	if r.Set&wire.FieldData == 0 || r.Set&wire.FieldMechanism != 0 {
		v.claimed = string(r.User)
	}
	switch {
	case r.Set&wire.FieldMechanism != 0:
		reply, err = v.begin(r)
		return reply, false, err
	case r.Set&wire.FieldData != 0:
		reply, id, err = v.finish(r)
	case r.Set&wire.FieldToken != 0:
		id, err = v.token(r.Token)
	default:
		id, err = v.password(string(r.User), r.Password)
	}
	switch {
	case err != nil:
	case known == nil:
		err = v.become(id)
	case id.user != known.user: // a certificate has been here first, and says who it is
		err = loggedInAs(known)
	}
	return reply, err == nil, err
}

// byCertificate is how Identity.By calls a login by a certificate.
const byCertificate = "certificate"

func loggedInAs(id *Identity) *wire.Error {
	return wire.Errorf(wire.CodeBadRequest, "this connection has logged in already, as %s by its %s; connect anew to be somebody else", id.Name(), id.by)
}

// password logs in by a password that has come in clear.
func (v *Visitor) password(name string, password []byte) (*Identity, *wire.Error) {
	if err := v.slowed(name); err != nil {
		return nil, err
	}
	u, c := v.s.lookUp(name)
	right := false
	var early *wire.Error
	if !v.s.hashers.run(func() {
		if early = v.slowed(name); early != nil { // others may have failed while this one waited
			return
		}
		if right = c.matches(password) && u != nil; !right {
			v.s.throttle.failedAt(name, v.place(), v.throttled())
		}
	}) {
		return nil, rateLimited("more passwords wait to be checked than may", time.Second)
	}
	if early != nil {
		return nil, early
	}
	if !right {
		return nil, errWrong()
	}
	v.s.throttle.succeeded(name, v.place())
	return &Identity{s: v.s, user: name, userNumber: u.number, by: "password"}, nil
}

// lookUp gives a user who has a password, nil where there is none, and what to compare with in either case.
func (s *Service) lookUp(name string) (*user, *credentials) {
	s.mu.RLock()
	u, secret := s.users[name], s.secret
	s.mu.RUnlock()
	other := decoy(&secret, name) // made in any case, as it takes time
	if u == nil || u.password == nil {
		return nil, other
	}
	return u, u.password
}

func (v *Visitor) token(text []byte) (*Identity, *wire.Error) {
	t, u := v.s.lookUpToken(text)
	if t == nil { // one that is right is never held up: it cannot be guessed, and others may share the address
		if err := v.slowed(""); err != nil {
			return nil, err
		}
		v.s.throttle.failedAt("", v.place(), v.throttled())
		return nil, errWrong()
	}
	id := &Identity{s: v.s, user: t.user, token: t.name, tokenNumber: t.number, by: "token"}
	if u != nil {
		id.userNumber = u.number
	}
	return id, nil
}

// lookUpToken finds a token by its hash, so what is looked for takes no longer the nearer a guess is.
func (s *Service) lookUpToken(text []byte) (*token, *user) {
	hash := sha256.Sum256(text)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.byHash[hash]
	if t == nil || t.expired(s.opt.Now()) {
		return nil, nil
	}
	u := s.users[t.user]
	if t.user != "" && u == nil {
		return nil, nil
	}
	return t, u
}

// Certificate logs in by the names (SAN) in a certificate that has been verified and is valid until then: the first of them is who
// it is for. Where that is no user somebody may still log in over the connection, and the identity stays nil.
func (v *Visitor) Certificate(names []string, until time.Time) *wire.Error {
	if len(names) == 0 || v.identity.Load() != nil {
		return nil
	}
	u := v.s.user(names[0])
	if u == nil {
		return nil
	}
	return v.become(&Identity{s: v.s, user: u.name, userNumber: u.number, by: byCertificate, until: until})
}

// begin answers the first message of an exchange.
func (v *Visitor) begin(r *wire.Request) (string, *wire.Error) {
	if string(r.Mechanism) != Mechanism {
		return "", wire.Errorf(wire.CodeBadRequest, "mechanism must be %s, not %q", Mechanism, r.Mechanism)
	}
	message, err := decodeData(r.Data)
	if err != nil {
		return "", err
	}
	v.exchange, v.exchanged = nil, ""
	server, _ := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		v.exchanged, v.claimed = name, name
		_, c := v.s.lookUp(name)
		v.proving = c.StoredKey
		return c.stored(), nil
	})
	conversation := server.NewConversation()
	reply, failed := conversation.Step(message)
	if failed != nil {
		return "", wire.Errorf(wire.CodeBadRequest, "data is no first message of %s, or one that asks for what there is not (such as channel binding)", Mechanism)
	}
	if as := conversation.AuthzID(); as != "" && as != v.exchanged {
		return "", wire.Errorf(wire.CodeBadRequest, "nobody may log in as one user and be another here")
	}
	if len(v.exchanged) > wire.MaxUser {
		return "", errWrong()
	}
	if err := v.slowed(v.exchanged); err != nil {
		return "", err
	}
	v.exchange = conversation
	return base64.StdEncoding.EncodeToString([]byte(reply)), nil
}

// finish looks at the proof.
func (v *Visitor) finish(r *wire.Request) (string, *Identity, *wire.Error) {
	conversation, name := v.exchange, v.exchanged
	v.exchange, v.exchanged = nil, ""
	if conversation == nil {
		return "", nil, wire.Errorf(wire.CodeBadRequest, "data without mechanism goes on with an exchange, and none has been begun")
	}
	message, err := decodeData(r.Data)
	if err != nil {
		return "", nil, err
	}
	if err := v.slowed(name); err != nil { // others may have failed meanwhile
		return "", nil, err
	}
	reply, failed := conversation.Step(message)
	u, c := v.s.lookUp(name)
	// The password may be another by now: what was proved is the one that the exchange began with.
	if failed != nil || !conversation.Valid() || u == nil || !bytes.Equal(c.StoredKey, v.proving) {
		v.s.throttle.failedAt(name, v.place(), v.throttled())
		return "", nil, errWrong()
	}
	v.s.throttle.succeeded(name, v.place())
	return base64.StdEncoding.EncodeToString([]byte(reply)), &Identity{s: v.s, user: name, userNumber: u.number, by: Mechanism}, nil
}

func decodeData(data []byte) (string, *wire.Error) {
	message, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return "", wire.Errorf(wire.CodeBadRequest, "data must be base64 with padding")
	}
	return string(message), nil
}

// become makes the visitor who he has proved to be, unless that user has too many connections.
func (v *Visitor) become(id *Identity) *wire.Error {
	if v.passing {
		v.becomePassing(id)
		return nil
	}
	s, name := v.s, id.party()
	s.parties.Lock()
	defer s.parties.Unlock()
	p := s.visiting[name]
	if p == nil {
		p = &party{}
	}
	if limit := s.limits.Load().UserConnections; limit > 0 && p.connections >= limit {
		return wire.Errorf(wire.CodeTooManyConnections, "%s has %d connections, as many as one user may (max_connections_per_user)", name, limit)
	}
	p.connections++
	s.visiting[name] = p
	forgetIdle(s.visiting, s.opt.Now)
	v.as.Store(p)
	v.identity.Store(id)
	return nil
}

// becomePassing is become for one who does not count as a connection; what he asks for counts as his requests.
func (v *Visitor) becomePassing(id *Identity) {
	s, name := v.s, id.party()
	s.parties.Lock()
	defer s.parties.Unlock()
	p := s.visiting[name]
	if p == nil {
		p = &party{}
		s.visiting[name] = p
		forgetIdle(s.visiting, s.opt.Now)
	}
	v.rate.Store(p)
	v.identity.Store(id)
}

// The following make a Visitor a broker.Guard; they may be called from any goroutine.

// Generation changes whenever May may answer otherwise than before.
func (v *Visitor) Generation() uint64 { return v.s.generation.Load() }

// Known reports whether requests may be carried out at all.
func (v *Visitor) Known() bool { return !v.s.opt.Required || v.identity.Load() != nil }

// May reports whether one of the verbs is allowed on a name, or on all that a pattern matches; "" is everything.
func (v *Visitor) May(verbs wire.Verb, name []byte) bool {
	if !v.s.opt.Required {
		return true
	}
	id := v.identity.Load()
	if id == nil {
		return false
	}
	if len(name) == 0 {
		return id.Authorize(verbs, Everything).Allowed
	}
	return id.Authorize(verbs, string(name)).Allowed
}

// Take takes n requests from what the user, and the address, may make in a second, or says why not.
func (v *Visitor) Take(n int) *wire.Error {
	l := v.s.limits.Load()
	if l.AddressRate <= 0 && l.UserRate <= 0 {
		return nil
	}
	now := v.s.opt.Now().UnixNano()
	tooMany := func(wait time.Duration) *wire.Error {
		return rateLimited("the address has made more than %d requests a second (max_rate_per_address)", wait, l.AddressRate)
	}
	if v.from != nil { // looked at first, so that the user does not pay for what the address refuses
		if wait := v.from.meter.early(now, l.AddressRate); wait > 0 {
			return tooMany(wait)
		}
	}
	p := v.as.Load()
	if p == nil {
		p = v.rate.Load()
	}
	if p != nil {
		if wait := p.meter.take(now, n, l.UserRate); wait > 0 {
			return rateLimited("the user has made more than %d requests a second (max_rate_per_user)", wait, l.UserRate)
		}
	}
	if v.from != nil {
		if wait := v.from.meter.take(now, n, l.AddressRate); wait > 0 {
			return tooMany(wait)
		}
	}
	return nil
}
