package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"

	"github.com/gmq/gmq/wire"
)

// A rig is a service whose documents are kept in a map, and whose clock is the test's.
type rig struct {
	t    testing.TB
	s    *Service
	docs map[string][]byte
	now  time.Time
	full error // what keeping fails with
	room int   // how many documents are kept before it does
}

func newRig(t testing.TB, required bool, l Limits) *rig {
	r := &rig{t: t, docs: map[string][]byte{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.start(required, l)
	return r
}

// start makes a service of what is kept, as a restart does.
func (r *rig) start(required bool, l Limits) {
	r.t.Helper()
	r.s = New(Options{Required: required, Limits: l, Now: func() time.Time { return r.now }, Put: func(name string, data []byte) error {
		if r.room--; r.full != nil && r.room < 0 {
			return r.full
		}
		if r.docs[name] = data; len(data) == 0 {
			delete(r.docs, name)
		}
		return r.s.Changed(name, data)
	}})
	for name, data := range r.docs {
		if err := r.s.Changed(name, data); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := r.s.Begin(func() ([]byte, error) { return []byte("adminpw"), nil }); err != nil {
		r.t.Fatal(err)
	}
}

// do carries out a request as a line and gives what its reply holds, or the code of its error.
func (r *rig) do(line string) string {
	r.t.Helper()
	dst, err := r.s.Do(request(r.t, line), []byte("{"))
	if err != nil {
		return string(err.Code)
	}
	return strings.Replace(string(dst)+"}", "{,", "{", 1)
}

func (r *rig) must(line string) string {
	r.t.Helper()
	reply := r.do(line)
	if !strings.HasPrefix(reply, "{") {
		r.t.Fatalf("%s: %s", line, reply)
	}
	return reply
}

func request(t testing.TB, line string) *wire.Request {
	t.Helper()
	var req wire.Request
	if err := wire.NewDecoder(0).Decode([]byte(line), &req); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return &req
}

const far, local = "192.0.2.7:1000", "127.0.0.1:1000"

// visit connects from an address, encrypted.
func (r *rig) visit(address string) *Visitor {
	r.t.Helper()
	v, err := r.s.Arrive(address)
	if err != nil {
		r.t.Fatal(err)
	}
	v.Secured()
	return v
}

// login is the code of the error that a login ends with, "" where it is right.
func (r *rig) login(v *Visitor, hello string) string {
	r.t.Helper()
	_, done, err := v.Login(request(r.t, hello))
	if err != nil {
		if done {
			r.t.Error("an error, and done")
		}
		return string(err.Code)
	}
	if !done || v.Identity() == nil {
		r.t.Errorf("%s: not done", hello)
	}
	return ""
}

func hello(user, password string) string {
	return fmt.Sprintf(`{"op":"hello","user":%q,"password":%q}`, user, password)
}

func (r *rig) want(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: %q, should be %q", what, got, want)
	}
}

func TestUsers(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.want("admin", r.login(r.visit(far), hello("admin", "adminpw")), "")
	r.want("add", r.must(`{"op":"user.add","user":"ann","password":"canary","allow":["publish:a"],"deny":["publish:b"]}`), "{}")
	r.want("again", r.do(`{"op":"user.add","user":"ann"}`), "exists")
	r.want("empty", r.do(`{"op":"user.add","user":"bob","password":""}`), "bad_request")
	r.want("none", r.must(`{"op":"user.add","user":"bob"}`), "{}")
	for name, data := range r.docs {
		if bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte("canary")))) {
			t.Errorf("%s holds the password", name)
		}
	}
	for _, c := range []struct{ user, password, want string }{
		{"ann", "canary", ""}, {"ann", "Canary", "unauthenticated"}, {"ann", "", "unauthenticated"}, {"bob", "", "unauthenticated"}, {"eve", "canary", "unauthenticated"},
	} {
		r.want(c.user+" "+c.password, r.login(r.visit(far), hello(c.user, c.password)), c.want)
	}
	v := r.visit(far)
	r.login(v, hello("ann", "canary"))
	may := func() string {
		return fmt.Sprint(v.May(wire.VerbPublish, []byte("a")), v.May(wire.VerbPublish, []byte("b")), v.May(wire.VerbConsume, []byte("a")), v.May(wire.AnyVerb, nil))
	}
	r.want("may", may(), "true false false false")
	before := v.Generation()
	r.want("grant", r.must(`{"op":"user.grant","user":"ann","allow":["consume:a"],"revoke":["publish:a"]}`), `{"allow":["consume:a"],"deny":["publish:b"]}`)
	if v.Generation() == before {
		t.Error("rights have changed, and the generation has not")
	}
	r.want("may", may(), "false false true false")
	r.want("twice", r.login(v, hello("ann", "canary")), "bad_request")
	r.want("list", r.must(`{"op":"user.list","after":"admin","limit":1}`), `{"users":[{"user":"ann","password":true,"created":"2026-01-02T03:04:05.000000Z","allow":["consume:a"],"deny":["publish:b"],"tokens":0}]}`)

	r.must(`{"op":"user.password","user":"ann","password":"other"}`)
	r.want("old password", r.login(r.visit(far), hello("ann", "canary")), "unauthenticated")
	r.want("new password", r.login(r.visit(far), hello("ann", "other")), "")
	if !v.Identity().Alive() {
		t.Error("a new password ends connections")
	}
	r.start(true, Limits{})
	r.want("after a restart", r.login(r.visit(far), hello("ann", "other")), "")

	v = r.visit(far)
	r.login(v, hello("ann", "other"))
	r.must(`{"op":"user.remove","user":"ann"}`)
	r.want("again", r.do(`{"op":"user.remove","user":"ann"}`), "not_found")
	r.must(`{"op":"user.add","user":"ann","password":"other","allow":["*:>"]}`)
	if v.Identity().Alive() || v.May(wire.VerbPublish, []byte("a")) {
		t.Error("a removed user lives on in another one of that name")
	}
	for _, line := range []string{`{"op":"user.grant","user":"eve"}`, `{"op":"user.password","user":"eve"}`, `{"op":"auth.check","user":"eve","verb":"peek","name":"a"}`, `{"op":"token.add","name":"t","user":"eve"}`} {
		r.want(line, r.do(line), "not_found")
	}
	r.full = wire.Errorf(wire.CodeDiskFull, "no room")
	r.want("full", r.do(`{"op":"user.add","user":"late"}`), "disk_full")
	r.full = errors.New("no idea")
	r.want("full", r.do(`{"op":"user.remove","user":"ann"}`), "overloaded")
}

func TestTokens(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","allow":["publish:a"]}`)
	add := func(line string) string {
		t.Helper()
		var reply struct{ Token string }
		if err := json.Unmarshal([]byte(r.must(line)), &reply); err != nil || len(reply.Token) != len(tokenMark)+43 {
			t.Fatal(reply, err)
		}
		for name, data := range r.docs {
			if bytes.Contains(data, []byte(reply.Token)) {
				t.Errorf("%s holds the token", name)
			}
		}
		return `{"op":"hello","token":"` + reply.Token + `"}`
	}
	hers := add(`{"op":"token.add","name":"hers","user":"ann"}`)
	own := add(`{"op":"token.add","name":"own","allow":["consume:b"],"ttl":"1h"}`)
	if hers == own {
		t.Fatal("two tokens are the same")
	}
	r.want("again", r.do(`{"op":"token.add","name":"own"}`), "exists")
	r.want("both", r.do(`{"op":"token.add","name":"x","user":"ann","allow":["publish:a"]}`), "bad_request")
	v, w := r.visit(far), r.visit(far)
	r.want("hers", r.login(v, hers), "")
	r.want("own", r.login(w, own), "")
	r.want("names", v.Identity().Name()+", "+w.Identity().Name(), "ann (token hers), token own")
	if !v.May(wire.VerbPublish, []byte("a")) || !w.May(wire.VerbConsume, []byte("b")) || w.May(wire.VerbPublish, []byte("a")) {
		t.Error("rights")
	}
	r.want("wrong", r.login(r.visit(far), `{"op":"hello","token":"gmq_x"}`), "unauthenticated")
	r.want("list", r.must(`{"op":"token.list","prefix":"o"}`), `{"tokens":[{"name":"own","allow":["consume:b"],"deny":[],"created":"2026-01-02T03:04:05.000000Z","expires":"2026-01-02T04:04:05.000000Z"}]}`)
	r.start(true, Limits{})
	r.want("after a restart", r.login(r.visit(far), own), "")
	r.now = r.now.Add(time.Hour)
	r.want("expired", r.login(r.visit(far), own), "unauthenticated")
	if w.Identity().Alive() || w.May(wire.VerbConsume, []byte("b")) {
		t.Error("an expired token still lets in")
	}
	r.must(`{"op":"user.remove","user":"ann"}`)
	r.want("of a removed user", r.login(r.visit(far), hers), "unauthenticated")
	r.want("hers is gone", r.do(`{"op":"token.remove","name":"hers"}`), "not_found")
	r.must(`{"op":"token.remove","name":"own"}`)
}

// Secrets are not taken where others can read them, whatever they are.
func TestReadableConnections(t *testing.T) {
	r := newRig(t, true, Limits{})
	for address, want := range map[string]string{far: "unauthenticated", "[2001:db8::1]:1": "unauthenticated", "pipe": "unauthenticated", local: "", "[::1]:2": "", "[::ffff:127.0.0.1]:3": ""} {
		v, err := r.s.Arrive(address)
		if err != nil {
			t.Fatal(err)
		}
		_, _, refused := v.Login(request(t, hello("admin", "adminpw")))
		if want == "" != (refused == nil) || refused != nil && !strings.Contains(refused.Message, "unencrypted") {
			t.Errorf("%s: %v", address, refused)
		}
		if _, _, refused = v.Login(request(t, `{"op":"hello","token":"x"}`)); refused == nil || want != "" && !strings.Contains(refused.Message, "unencrypted") {
			t.Errorf("%s: %v", address, refused)
		}
		v.Leave()
	}
	v, _ := r.s.Arrive(far)
	r.want("an exchange", exchange(t, v, "admin", "adminpw"), "")
}

// exchange logs in with another implementation of the mechanism.
func exchange(t testing.TB, v *Visitor, user, password string) string {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := c.NewConversation()
	message, _ := conv.Step("")
	reply, done, refused := v.Login(request(t, fmt.Sprintf(`{"op":"hello","mechanism":%q,"data":%q}`, Mechanism, base64.StdEncoding.EncodeToString([]byte(message)))))
	if refused != nil || done {
		return string(refused.Code)
	}
	first, _ := base64.StdEncoding.DecodeString(reply)
	if message, err = conv.Step(string(first)); err != nil {
		t.Fatal(err)
	}
	if reply, _, refused = v.Login(request(t, fmt.Sprintf(`{"op":"hello","data":%q}`, base64.StdEncoding.EncodeToString([]byte(message))))); refused != nil {
		return string(refused.Code)
	}
	final, _ := base64.StdEncoding.DecodeString(reply)
	if _, err := conv.Step(string(final)); err != nil || !conv.Valid() {
		t.Errorf("the server is not believed: %v", err)
	}
	return ""
}

func TestExchange(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"pencil"}`)
	r.must(`{"op":"user.add","user":"bob"}`)
	for _, c := range []struct{ user, password, want string }{
		{"ann", "pencil", ""}, {"ann", "Pencil", "unauthenticated"}, {"bob", "pencil", "unauthenticated"}, {"eve", "pencil", "unauthenticated"},
	} {
		v := r.visit(far)
		r.want(c.user+" "+c.password, exchange(t, v, c.user, c.password), c.want)
		if (v.Identity() != nil) != (c.want == "") {
			t.Errorf("%+v: %v", c, v.Identity())
		}
	}
	data := func(message string) string { return base64.StdEncoding.EncodeToString([]byte(message)) }
	for _, c := range []struct{ line, want string }{
		{`{"op":"hello","data":"` + data("c=biws,r=x,p=x") + `"}`, "bad_request"}, // goes on with nothing
		{`{"op":"hello","mechanism":"PLAIN","data":"` + data("n,,n=ann,r=x") + `"}`, "bad_request"},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"%"}`, "bad_request"},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"` + data("nonsense") + `"}`, "bad_request"},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"` + data("p=tls-exporter,,n=ann,r=x") + `"}`, "bad_request"},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"` + data("n,a=admin,n=ann,r=x") + `"}`, "bad_request"},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"` + data("n,,n="+strings.Repeat("x", 300)+",r=x") + `"}`, "unauthenticated"},
	} {
		if _, _, err := r.visit(far).Login(request(t, c.line)); err == nil || string(err.Code) != c.want {
			t.Errorf("%s: %v, should be %s", c.line, err, c.want)
		}
	}
	// The second step counts for the first one that is there, and only once.
	v := r.visit(far)
	v.Login(request(t, `{"op":"hello","mechanism":"SCRAM-SHA-256","data":"`+data("n,,n=ann,r=x")+`"}`))
	for _, want := range []wire.Code{wire.CodeUnauthenticated, wire.CodeBadRequest} {
		if _, _, err := v.Login(request(t, `{"op":"hello","data":"`+data("c=biws,r=x,p=AAAA")+`"}`)); err == nil || err.Code != want {
			t.Errorf("%v, should be %s", err, want)
		}
	}
}

// A password that is changed in the middle of an exchange is not proved by the old one.
func TestExchangeAcrossAChange(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"old"}`)
	for _, change := range []string{`{"op":"user.password","user":"ann","password":"new"}`, `{"op":"user.remove","user":"ann"}`} {
		c, err := scram.SHA256.NewClient("ann", map[bool]string{true: "old", false: "new"}[strings.Contains(change, "password")], "")
		if err != nil {
			t.Fatal(err)
		}
		conv, v := c.NewConversation(), r.visit(far)
		message, _ := conv.Step("")
		reply, _, _ := v.Login(request(t, fmt.Sprintf(`{"op":"hello","mechanism":%q,"data":%q}`, Mechanism, base64.StdEncoding.EncodeToString([]byte(message)))))
		first, _ := base64.StdEncoding.DecodeString(reply)
		if message, err = conv.Step(string(first)); err != nil {
			t.Fatal(err)
		}
		r.must(change)
		if _, done, err := v.Login(request(t, fmt.Sprintf(`{"op":"hello","data":%q}`, base64.StdEncoding.EncodeToString([]byte(message))))); done || err == nil || err.Code != wire.CodeUnauthenticated {
			t.Errorf("%s: %v, %v", change, done, err)
		}
	}
}

// Somebody who is not there is answered as somebody who is: the same error, the same salt each time, and the same work.
func TestUnknownUsersLookLikeOthers(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"pencil"}`)
	salt := func(user string) string {
		v := r.visit(far)
		reply, _, err := v.Login(request(t, fmt.Sprintf(`{"op":"hello","mechanism":%q,"data":%q}`, Mechanism, base64.StdEncoding.EncodeToString([]byte("n,,n="+user+",r=abc")))))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := base64.StdEncoding.DecodeString(reply)
		_, rest, _ := strings.Cut(string(text), ",")
		return rest
	}
	ann, eve := salt("ann"), salt("eve")
	if len(ann) != len(eve) || !strings.HasSuffix(eve, ",i=10000") || ann == eve || eve == salt("eva") {
		t.Errorf("ann %s, eve %s", ann, eve)
	}
	if eve != salt("eve") || ann != salt("ann") {
		t.Error("the salt of somebody changes from one attempt to the next")
	}
	r.start(true, Limits{})
	if eve != salt("eve") {
		t.Error("the salt of somebody who is not there changes with a restart")
	}
	_, _, wrong := r.visit(far).Login(request(t, hello("ann", "x")))
	_, _, unknown := r.visit(far).Login(request(t, hello("eve", "x")))
	if wrong.Error() != unknown.Error() {
		t.Errorf("%v is not %v", wrong, unknown)
	}
	u, known := r.s.lookUp("ann")
	v, other := r.s.lookUp("eve")
	if u == nil || v != nil || known.Iterations != other.Iterations || len(known.Salt) != len(other.Salt) || len(known.StoredKey) != len(other.StoredKey) {
		t.Errorf("%+v is compared otherwise than %+v", other, known)
	}
}

func TestBegin(t *testing.T) {
	r := newRig(t, false, Limits{})
	if len(r.docs) != 0 {
		t.Error("a server without authentication keeps something nobody has asked for")
	}
	r.must(`{"op":"user.add","user":"ann"}`)
	if r.docs[secretName] == nil {
		t.Error("there is a user, and no secret")
	}
	secret := string(r.docs[secretName])
	r.start(true, Limits{})
	r.want("admin", r.login(r.visit(far), hello("admin", "adminpw")), "")
	r.must(`{"op":"user.add","user":"root","allow":["admin:>"]}`)
	r.must(`{"op":"user.remove","user":"admin"}`)
	r.start(true, Limits{})
	if r.s.user(Admin) != nil {
		t.Error("a user who was removed comes back")
	}
	if string(r.docs[secretName]) != secret {
		t.Error("the secret changes")
	}
	// Interrupted before the mark was kept: the user stays as it is.
	r = newRig(t, true, Limits{})
	delete(r.docs, beginningName)
	r.start(true, Limits{})
	began, err := r.s.Begin(func() ([]byte, error) { return nil, errors.New("asked for a password") })
	if began != (Beginning{}) || err != nil {
		t.Error(began, err)
	}
	// Whoever was made while nobody had to log in is told of once.
	r = newRig(t, false, Limits{})
	r.must(`{"op":"user.add","user":"admin","password":"theirs"}`)
	r.must(`{"op":"token.add","name":"backdoor","allow":["*:>"]}`)
	r.s.opt.Required = true
	for _, want := range []Beginning{{Users: 1, Tokens: 1}, {}} {
		if began, err = r.s.Begin(func() ([]byte, error) { return nil, errors.New("asked for a password") }); began != want || err != nil {
			t.Errorf("%+v, %v; should be %+v", began, err, want)
		}
	}
}

func TestDamagedDocuments(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"pencil","allow":["*:>"]}`)
	v := r.visit(far)
	r.login(v, hello("ann", "pencil"))
	for _, data := range []string{`{`, `{"version":2}`, `{"version":1,"allow":["everything"]}`, `{"version":1,"password":{"iterations":0}}`} {
		if err := r.s.Changed(userPrefix+"ann", []byte(data)); err == nil || v.May(wire.VerbPublish, []byte("a")) {
			t.Errorf("%s: %v, may %v", data, err, v.May(wire.VerbPublish, []byte("a")))
		}
	}
	if err := r.s.Changed(tokenPrefix+"t", []byte(`{"version":1,"hash":"AAAA"}`)); err == nil {
		t.Error("half a hash is taken")
	}
}

func TestCertificates(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"billing.example.org","allow":["publish:a"]}`)
	r.must(`{"op":"user.add","user":"spiffe://example.org/shop"}`)
	v := r.visit(far)
	until := r.now.Add(time.Hour)
	if err := v.Certificate([]string{"other.example.org", "Billing.example.org", "*.example.org"}, until); err != nil || v.Identity() != nil {
		t.Errorf("nobody of that name: %v, %v", v.Identity(), err)
	}
	// Whoever signs it has the say in the first name; the others may be anything.
	if err := v.Certificate([]string{"x", "billing.example.org", "spiffe://example.org/shop"}, until); err != nil || v.Identity() != nil {
		t.Errorf("in by a name that is not the first: %v, %v", v.Identity(), err)
	}
	if err := v.Certificate([]string{"billing.example.org", "spiffe://example.org/shop"}, until); err != nil || v.Identity() == nil || v.Identity().Name() != "billing.example.org" || v.Identity().By() != "certificate" {
		t.Errorf("%v, %v", v.Identity(), err)
	}
	if !v.Identity().Expires().Equal(until) {
		t.Errorf("ends %v", v.Identity().Expires())
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, true, Limits{AddressConnections: 2, UserConnections: 1, AddressRate: 100, UserRate: 10})
	a, b := r.visit(far), r.visit("192.0.2.7:2")
	if _, err := r.s.Arrive("192.0.2.7:3"); err == nil || err.Code != wire.CodeTooManyConnections {
		t.Errorf("a third connection: %v", err)
	}
	c := r.visit("192.0.2.8:1")
	r.want("one", r.login(a, hello("admin", "adminpw")), "")
	r.want("two", r.login(c, hello("admin", "adminpw")), "too_many_connections")
	if c.Identity() != nil {
		t.Error("one too many is let in")
	}
	b.Leave()
	r.visit("192.0.2.7:4")
	taken := 0
	for a.Take(1) == nil {
		taken++
	}
	if taken != 10 {
		t.Errorf("%d requests at once, should be 10", taken)
	}
	err := a.Take(1)
	if err.Code != wire.CodeRateLimited || !strings.Contains(err.Message, "try again in 100ms") {
		t.Error(err)
	}
	a.Leave()
	c.Leave()
	again := r.visit("192.0.2.8:2")
	r.want("again", r.login(again, hello("admin", "adminpw")), "")
	if again.Take(1) == nil {
		t.Error("who connects anew has his rate anew")
	}
	r.now = r.now.Add(100 * time.Millisecond)
	if err := again.Take(1); err != nil {
		t.Error(err)
	}
	r.now = r.now.Add(time.Minute)
	if err := again.Take(1000); err != nil {
		t.Error("a large request is never carried out:", err)
	}
	if err := again.Take(1); err == nil {
		t.Error("and costs nothing")
	}
	r.s.SetLimits(Limits{})
	if err := again.Take(1); err != nil {
		t.Error(err)
	}
}

// What is kept of parties that are gone is bounded.
func TestPartiesAreForgotten(t *testing.T) {
	r := newRig(t, false, Limits{AddressRate: 1})
	for i := range 3 * manyParties {
		v := r.visit(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
		v.Take(1)
		v.Leave()
		if i%100 == 0 {
			r.now = r.now.Add(time.Second)
		}
	}
	if n := len(r.s.addresses); n > manyParties+1 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// Too many who wait to be hashed are turned away, and the others have their turn.
func TestHashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHashers()
		hold := make(chan struct{})
		ran := make(chan bool, 10_000)
		most := cap(h.slots) * maxWaiting
		for range most {
			go func() { ran <- h.run(func() { <-hold }) }()
		}
		synctest.Wait()
		if h.run(func() {}) {
			t.Error("one more is taken")
		}
		close(hold)
		for range most {
			if !<-ran {
				t.Error("one that was taken did not have its turn")
			}
		}
		if !h.run(func() {}) {
			t.Error("nobody is there, and it is full")
		}
	})
}
