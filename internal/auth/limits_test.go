package auth

import (
	"testing"
	"time"

	"github.com/gmq/gmq/wire"
)

// The text of a refusal is told whole, with how long to wait.
func TestRefusalIsWhole(t *testing.T) {
	got := rateLimited("the address has made more than %d requests a second (max_rate_per_address)", 1500*time.Microsecond, 1000).Message
	if want := "the address has made more than 1000 requests a second (max_rate_per_address); try again in 2ms"; got != want {
		t.Errorf("%q, should be %q", got, want)
	}
}

// Whoever has an IPv6 address has its whole network: connections and rates are counted as guesses are.
func TestNetworksCountAsOne(t *testing.T) {
	r := newRig(t, false, Limits{AddressConnections: 2, AddressRate: 10})
	a := r.visit("[2001:db8::1]:1")
	b := r.visit("[2001:db8::ffff:1%eth0]:1")
	if _, err := r.s.Arrive("[2001:db8:0:0:1::1]:1"); err == nil || err.Code != wire.CodeTooManyConnections {
		t.Errorf("a third of the same network: %v", err)
	}
	r.visit("[2001:db8:0:1::1]:1")
	r.visit("192.0.2.1:1")
	r.visit("[::ffff:192.0.2.2]:1")
	if err := a.Take(10); err != nil {
		t.Error(err)
	}
	if err := b.Take(1); err == nil {
		t.Error("a neighbour has a rate of his own")
	}
	a.Leave()
	b.Leave()
	c := r.visit("[2001:db8::2]:1")
	if c.Take(1) == nil {
		t.Error("who comes back has his rate anew")
	}
}

// What the address refuses costs the user nothing.
func TestRefusedIsNotCharged(t *testing.T) {
	r := newRig(t, true, Limits{AddressRate: 10, UserRate: 10})
	other, v := r.visit(far), r.visit(far)
	r.want("login", r.login(v, hello("admin", "adminpw")), "")
	for other.Take(1) == nil {
	}
	for range 100 {
		if v.Take(1) == nil {
			t.Fatal("the address has something left")
		}
	}
	elsewhere := r.visit("192.0.2.8:1")
	r.want("login", r.login(elsewhere, hello("admin", "adminpw")), "")
	for i := range 10 {
		if err := elsewhere.Take(1); err != nil {
			t.Fatal(i, err)
		}
	}
}

// A secret in a request about users is taken, and told, where nobody can read it on its way.
func TestReadableRequests(t *testing.T) {
	r := newRig(t, true, Limits{})
	secure := r.visit(far)
	plain, _ := r.s.Arrive(far)
	near, _ := r.s.Arrive(local)
	for line, refused := range map[string]bool{
		`{"op":"user.add","user":"a","password":"x"}`: true, `{"op":"user.password","user":"a","password":"x"}`: true, `{"op":"token.add","name":"t"}`: true,
		`{"op":"user.add","user":"a"}`: false, `{"op":"user.password","user":"a"}`: false, `{"op":"user.grant","user":"a","allow":["publish:a"]}`: false,
		`{"op":"token.remove","name":"t"}`: false, `{"op":"user.list"}`: false,
	} {
		if err := plain.Readable(request(t, line)); refused != (err != nil) || err != nil && err.Code != wire.CodeUnauthenticated {
			t.Errorf("%s: %v", line, err)
		}
		if secure.Readable(request(t, line)) != nil || near.Readable(request(t, line)) != nil {
			t.Errorf("%s is refused where nobody can read it", line)
		}
	}
}

// Who asks one thing over HTTP is not one connection more, and what he may is looked up all the same.
func TestPassing(t *testing.T) {
	r := newRig(t, true, Limits{UserConnections: 1})
	in := r.visit(far)
	r.want("the one", r.login(in, hello("admin", "adminpw")), "")
	for range 2 {
		v := r.visit(far)
		v.Passing()
		r.want("passing", r.login(v, hello("admin", "adminpw")), "")
		r.want("wrong", r.login(func() *Visitor { v := r.visit(far); v.Passing(); return v }(), hello("admin", "x")), "unauthenticated")
		if !v.May(wire.VerbPeek, nil) {
			t.Error("may not look")
		}
		v.Leave()
	}
	r.want("another", r.login(r.visit(far), hello("admin", "adminpw")), "too_many_connections")
	in.Leave()
	r.want("another, later", r.login(r.visit(far), hello("admin", "adminpw")), "")
}

// A later version may hash more often; on a server that has users, all go on as they began, also those who are not there.
func TestIterationsAreTheServers(t *testing.T) {
	for doc, want := range map[string]int{
		`{"version":1,"secret":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","iterations":77}`: 77, "01234567890123456789012345678901": firstIterations, "": Iterations,
	} {
		r := &rig{t: t, docs: map[string][]byte{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		if doc != "" {
			r.docs[secretName] = []byte(doc)
		}
		r.start(true, Limits{})
		r.must(`{"op":"user.add","user":"ann","password":"pencil"}`)
		r.start(true, Limits{})
		for _, name := range []string{"admin", "ann", "eve"} {
			if _, c := r.s.lookUp(name); c.Iterations != want {
				t.Errorf("%q: %s has %d iterations, should be %d", doc, name, c.Iterations, want)
			}
		}
		r.want("login", r.login(r.visit(far), hello("ann", "pencil")), "")
	}
	r := newRig(t, true, Limits{})
	for _, bad := range []string{"{}", "x", `{"version":2,"secret":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","iterations":77}`, `{"version":1,"secret":"MDEy","iterations":77}`} {
		if r.s.Changed(secretName, []byte(bad)) == nil {
			t.Errorf("%s is taken for a secret", bad)
		}
	}
}
