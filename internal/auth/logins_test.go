package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestLogins(t *testing.T) {
	r := newRig(t, true, Limits{UserRate: 3})
	r.must(`{"op":"user.add","user":"ann","password":"pw","allow":["publish:>"]}`)
	ls := NewLogins(func() time.Time { return r.now })
	v := r.visit("127.0.0.1:1")
	if got := r.login(v, hello("ann", "pw")); got != "" {
		t.Fatal(got)
	}
	id := v.Identity()
	text := ls.Begin(id)
	if ls.Find(text) != id || ls.Find(text+"x") != nil || ls.Find("") != nil || len(text) < 43 {
		t.Fatal("who shows the text is not ann, or somebody else is")
	}
	again := ls.Begin(id)
	if again == text {
		t.Error("the same text twice")
	}
	ls.End(again)
	if ls.Find(again) != nil || ls.Find(text) == nil {
		t.Error("a logout ends another login, or none")
	}
	for range 11 { // used now and then it lasts, but not for ever
		r.now = r.now.Add(59 * time.Minute)
		if ls.Find(text) == nil {
			t.Fatal("a login that is used has ended")
		}
	}
	if r.now = r.now.Add(2 * time.Hour); ls.Find(text) != nil {
		t.Error("a login that nobody used goes on")
	}
	text = ls.Begin(id)
	r.must(`{"op":"user.remove","user":"ann"}`)
	r.must(`{"op":"user.add","user":"ann","password":"pw"}`)
	if ls.Find(text) != nil {
		t.Error("a login outlives its user")
	}
}

func TestLoginsAreBounded(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"pw"}`)
	ls := NewLogins(func() time.Time { return r.now })
	v, other := r.visit("127.0.0.1:1"), r.visit("127.0.0.1:2")
	r.login(v, hello("ann", "pw"))
	r.login(other, hello("admin", "adminpw"))
	admins := ls.Begin(other.Identity())
	r.now = r.now.Add(time.Second)
	first := ls.Begin(v.Identity())
	for range maxPerUser {
		r.now = r.now.Add(time.Millisecond)
		ls.Begin(v.Identity())
	}
	if n := len(ls.all); n != maxPerUser+1 {
		t.Errorf("%d logins", n)
	}
	if ls.Find(first) != nil || ls.Find(admins) == nil {
		t.Error("the oldest of one's own has to make room, and nobody else's")
	}
}

// Who comes back by a login counts with his requests, and not as a connection.
func TestResume(t *testing.T) {
	r := newRig(t, true, Limits{UserConnections: 1, UserRate: 2})
	r.must(`{"op":"user.add","user":"ann","password":"pw","allow":["publish:>"]}`)
	v := r.visit("127.0.0.1:1")
	r.login(v, hello("ann", "pw"))
	var refused int
	for i := range 6 {
		p, err := r.s.Arrive(fmt.Sprintf("127.0.0.1:%d", i+2))
		if err != nil {
			t.Fatal(err)
		}
		p.Passing()
		p.Resume(v.Identity())
		if p.Take(1) != nil {
			refused++
		}
		p.Leave()
	}
	if refused != 4 {
		t.Errorf("%d of 6 requests in a moment were refused; 2 a second are allowed", refused)
	}
}
