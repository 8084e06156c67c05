package auth

import (
	"encoding/json"
	"testing"
	"time"
)

// Nobody takes away, by mistake or in anger, the last right to give rights.
func TestSomebodyKeepsAdmin(t *testing.T) {
	r := newRig(t, true, Limits{})
	for _, line := range []string{
		`{"op":"user.remove","user":"admin"}`,
		`{"op":"user.grant","user":"admin","revoke":["*:>"]}`,
		`{"op":"user.grant","user":"admin","deny":["admin:>"]}`,
		`{"op":"user.grant","user":"admin","deny":["*:>"]}`,
		`{"op":"user.grant","user":"admin","deny":["admin:foo"]}`, // what denies a part denies all of it
		`{"op":"user.grant","user":"admin","deny":["*:secret"]}`,
	} {
		r.want("the last one: "+line, r.do(line), "bad_request")
	}
	r.must(`{"op":"user.grant","user":"admin","allow":["admin:>"],"revoke":["*:>"]}`)
	r.must(`{"op":"user.grant","user":"admin","deny":["consume:secret"]}`)
	// Who holds it for a while, or of a part, does not count.
	r.must(`{"op":"token.add","name":"an-hour","allow":["admin:>"],"ttl":"1h"}`)
	r.must(`{"op":"user.add","user":"part","allow":["admin:orders.>","publish:>"]}`)
	r.want("an hour's token, and a part", r.do(`{"op":"user.remove","user":"admin"}`), "bad_request")
	r.must(`{"op":"user.remove","user":"part"}`)
	r.must(`{"op":"token.add","name":"reserve","allow":["*:>"]}`)
	r.must(`{"op":"user.remove","user":"admin"}`)
	r.want("the last token", r.do(`{"op":"token.remove","name":"reserve"}`), "bad_request")
	r.must(`{"op":"token.remove","name":"an-hour"}`)
	r.want("nobody", r.do(`{"op":"user.remove","user":"admin"}`), "not_found")
	// Where no login is needed everybody can give rights.
	r.start(false, Limits{})
	r.must(`{"op":"token.remove","name":"reserve"}`)
}

func TestCensus(t *testing.T) {
	r := newRig(t, false, Limits{})
	r.must(`{"op":"user.add","user":"admin","allow":["*:>"]}`)
	r.must(`{"op":"user.add","user":"ann","password":"pencil","allow":["publish:>"]}`)
	r.start(true, Limits{})
	want := Census{Users: 2}
	check := func(what string) {
		t.Helper()
		if got := r.s.Census(); got != want {
			t.Errorf("%s: %+v, should be %+v", what, got, want)
		}
	}
	check("an admin without a password")
	r.must(`{"op":"token.add","name":"hers","user":"ann"}`)
	r.must(`{"op":"token.add","name":"his","user":"admin","ttl":"1h"}`)
	want.Tokens, want.Admins = 2, 1
	check("his token")
	r.now = r.now.Add(time.Hour)
	want.Admins = 0
	check("his token has expired")
	r.must(`{"op":"user.password","user":"admin","password":"pencil"}`)
	want.Admins = 1
	check("his password")
}

// Whoever guesses from an address holds up those who guess there, and nobody who has a token.
func TestRightTokensAreNeverHeldUp(t *testing.T) {
	r := newRig(t, true, Limits{})
	var reply struct{ Token string }
	if err := json.Unmarshal([]byte(r.must(`{"op":"token.add","name":"ci","allow":["publish:ci"]}`)), &reply); err != nil {
		t.Fatal(err)
	}
	for _, guess := range []string{"gmq_x", ""} {
		for range freeFailures + 4 {
			if guess != "" {
				r.login(r.visit(far), `{"op":"hello","token":"`+guess+`"}`)
			} else {
				r.login(r.visit(far), hello("nobody", "x"))
			}
		}
		r.want("a guess", r.login(r.visit(far), `{"op":"hello","token":"gmq_y"}`), "rate_limited")
		r.want("a token", r.login(r.visit(far), `{"op":"hello","token":"`+reply.Token+`"}`), "")
	}
}

// Who is known by a certificate may say so by a hello too, but be nobody else.
func TestHelloAfterACertificate(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"client","password":"pencil"}`)
	r.must(`{"op":"user.add","user":"bob","password":"paper"}`)
	v := r.visit(far)
	if err := v.Certificate([]string{"client"}, r.now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.want("the same", r.login(v, hello("client", "pencil")), "")
	r.want("again", r.login(v, hello("client", "pencil")), "")
	r.want("another", r.login(v, hello("bob", "paper")), "bad_request")
	r.want("wrong", r.login(v, hello("client", "pen")), "unauthenticated")
	if got := v.Identity(); got.Name() != "client" || got.By() != "certificate" {
		t.Errorf("is %s by %s now", got.Name(), got.By())
	}
	v.Leave()
	if n := len(r.s.visiting); n != 0 {
		t.Errorf("%d users are counted as connected", n)
	}
	w := r.visit(far)
	r.want("a password", r.login(w, hello("client", "pencil")), "")
	r.want("a second login", r.login(w, hello("client", "pencil")), "bad_request")
}
