package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
)

// FuzzExchange: whatever two messages somebody sends who does not know the password, he does not get in, the server does not
// panic, and what it answers is bounded.
func FuzzExchange(f *testing.F) {
	f.Add("n,,n=ann,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("y,a=ann,n=ann,r=abc", "c=eSwsYT1hbm4s,r=abc,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
	f.Add("p=tls-exporter,,n=a=2Cb=3D,r=", "e=other-error")
	f.Add("n,,m=ext,n=ann,r=x,ext=1", "")
	f.Fuzz(func(t *testing.T, first, final string) {
		r := newRig(t, false, Limits{})
		if err := r.s.Changed(userPrefix+"ann", (&user{name: "ann", password: newCredentials([]byte("pencil"), 1)}).document()); err != nil {
			t.Fatal(err)
		}
		v, _ := r.s.Arrive("192.0.2.7:1")
		reply, done, err := v.Login(&wire.Request{Op: wire.OpHello, Set: wire.FieldMechanism | wire.FieldData,
			Mechanism: []byte(Mechanism), Data: []byte(base64.StdEncoding.EncodeToString([]byte(first)))})
		if done || len(reply) > 2*len(first)+400 || err != nil && len(err.Message) > 600 {
			t.Fatalf("%q: done %v, %d bytes, %v", first, done, len(reply), err)
		}
		if text, _ := base64.StdEncoding.DecodeString(reply); err == nil { // the nonce is the server's, so the rest of the final message can be anything
			nonce, _, _ := strings.Cut(string(text), ",")
			final = strings.Replace(final, "r=abc", nonce, 1)
		}
		reply, done, err = v.Login(&wire.Request{Op: wire.OpHello, Set: wire.FieldData, Data: []byte(base64.StdEncoding.EncodeToString([]byte(final)))})
		if done || err == nil || reply != "" || v.Identity() != nil {
			t.Fatalf("%q, %q: done %v, %q, %v", first, final, done, reply, err)
		}
	})
}

// FuzzDocuments: what is kept, and damaged, never panics, and never makes a user whom it does not describe.
func FuzzDocuments(f *testing.F) {
	f.Add("user/ann", []byte(`{"version":1,"allow":["publish:a"],"created":"2026-01-02T03:04:05Z"}`))
	f.Add("token/ci", []byte(`{"version":1,"hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","user":"ann"}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		s := New(Options{Required: true})
		err := s.Changed(Prefix+name, data)
		if err != nil && len(s.users)+len(s.tokens) > 0 {
			t.Fatalf("%v, and there it is", err)
		}
		for _, u := range s.users {
			if again, err := parseUser(u.name, u.document()); err != nil || again.grants.Authorize(wire.VerbPublish, "a").Allowed != u.grants.Authorize(wire.VerbPublish, "a").Allowed {
				t.Fatalf("%s: %v", data, err)
			}
		}
	})
}
