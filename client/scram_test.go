package gmq

import (
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// known is what a server keeps of a user, as another implementation makes it.
func known(t *testing.T, user, password string, iterations int) *scram.ServerConversation {
	t.Helper()
	c, err := scram.SHA256.NewClientUnprepped(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: iterations})
	if err != nil {
		t.Fatal(err)
	}
	s, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		if name != user {
			return stored, errors.New("no such user")
		}
		return stored, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.NewConversation()
}

// Another implementation of the mechanism believes what this one proves, and the other way round.
func TestScramWithAnotherImplementation(t *testing.T) {
	for _, c := range []struct{ user, password, guess string }{
		{"ann", "pencil", "pencil"}, {"a=b,c", "ünïcödé ☃", "ünïcödé ☃"}, {"ann", "pencil", "Pencil"},
	} {
		server := known(t, c.user, c.password, minIterations)
		p := proof{user: c.user, password: c.guess, salted: &salted{}}
		first, err := server.Step(p.first())
		if err != nil {
			t.Fatal(err)
		}
		final, err := p.final(first)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := server.Step(final)
		if right := c.guess == c.password; right != (err == nil && server.Valid()) || right != (p.check(answer) == nil) {
			t.Errorf("%+v: the server says %v, and is believed: %v", c, err, p.check(answer))
		}
	}
}

// Appendix of RFC 7677, section 3.
func TestScramExample(t *testing.T) {
	p := proof{user: "user", password: "pencil", salted: &salted{}}
	p.first()
	p.nonce, p.bare = "rOprNGfwEbeRWgbNEkqO", "n=user,r=rOprNGfwEbeRWgbNEkqO"
	final, err := p.final("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; err != nil || final != want {
		t.Errorf("%s, %v; should be %s", final, err, want)
	}
	if err := p.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Error(err)
	}
}

func TestScramServersThatCheat(t *testing.T) {
	for _, first := range []string{
		"", "r=", "r=NONCE", "r=NONCEx,s=MTIzNDU2Nzg=", "r=other,s=MTIzNDU2Nzg=,i=4096", "r=NONCE,s=MTIzNDU2Nzg=,i=4096", "r=NONCEx,s=?,i=4096",
		"r=NONCEx,s=,i=4096", "r=NONCEx,s=MTIzNDU2Nzg=,i=1", "r=NONCEx,s=MTIzNDU2Nzg=,i=999999999", "r=NONCEx,s=MTIzNDU2Nzg=,i=-5", "m=x,r=NONCEx,s=MTIzNDU2Nzg=,i=4096",
	} {
		p := proof{user: "ann", password: "canary", salted: &salted{}}
		p.first()
		_, err := p.final(strings.ReplaceAll(first, "NONCE", p.nonce))
		if !errors.Is(err, errServer) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", first, err)
		}
	}
	p := proof{user: "ann", password: "pencil", salted: &salted{}}
	p.first()
	if _, err := p.final("r=" + p.nonce + "x,s=MTIzNDU2Nzg=,i=4096"); err != nil {
		t.Fatal(err)
	}
	for _, final := range []string{"", "v=", "v=AAAA", "e=invalid-proof"} {
		if p.check(final) == nil {
			t.Errorf("a server that says %q is believed", final)
		}
	}
}
