package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/certs"
)

// trial writes certificates for trying into a new directory.
func trial(t *testing.T, at time.Time) certs.Files {
	t.Helper()
	made, err := certs.MakeTrial(at, []string{"localhost", "::1"}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := made.Write(dir); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	return certs.Files{Cert: in("server.pem"), Key: in("server-key.pem"), ClientCA: in("ca.pem")}
}

func TestTrial(t *testing.T) {
	now := time.Now()
	f := trial(t, now)
	dir := filepath.Dir(f.Cert)
	for name, want := range map[string]os.FileMode{"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600, "client.pem": 0o644, "client-key.pem": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	set, err := certs.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Findings(now); len(got) != 0 {
		t.Errorf("what it makes is weak: %v", got)
	}
	for _, host := range []string{"localhost", "::1"} {
		if _, err := set.Leaf.Verify(x509.VerifyOptions{Roots: set.Clients, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	client, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Leaf.Verify(x509.VerifyOptions{Roots: set.Clients, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || certs.Names(client.Leaf) != "ann" {
		t.Errorf("the client %s: %v", certs.Names(client.Leaf), err)
	}
	// A second one overwrites nothing, and leaves nothing half done.
	before, _ := os.ReadFile(f.Key)
	os.Remove(filepath.Join(dir, "ca.pem"))
	again, err := certs.MakeTrial(now, []string{"x"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Write(dir); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("overwriting: %v", err)
	}
	if after, _ := os.ReadFile(f.Key); !bytes.Equal(before, after) {
		t.Error("the key was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "ca.pem")); err == nil {
		t.Error("a part was written")
	}
}

func TestBadFiles(t *testing.T) {
	good, other := trial(t, time.Now()), trial(t, time.Now())
	dir := t.TempDir()
	made := 0
	file := func(text string) string {
		made++
		name := filepath.Join(dir, fmt.Sprint("file", made))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	client := filepath.Join(filepath.Dir(good.Cert), "client")
	key, err := os.ReadFile(good.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		files certs.Files
		want  []string
	}{
		{certs.Files{Cert: "nowhere.pem", Key: good.Key}, []string{"tls.cert: ", "nowhere.pem: no such file"}},
		{certs.Files{Cert: good.Cert, Key: "nowhere.pem"}, []string{"tls.key: ", "nowhere.pem: no such file"}},
		{certs.Files{Cert: good.Cert, Key: dir}, []string{"tls.key: " + dir + " is no file"}},
		{certs.Files{Cert: good.Cert, Key: other.Key}, []string{"tls.key: " + other.Key, "does not match"}},
		{certs.Files{Cert: file("x"), Key: good.Key}, []string{"tls.cert: ", "there is no certificate in it"}},
		{certs.Files{Cert: file(string(key)), Key: good.Key}, []string{"tls.cert: ", "there is no certificate in it"}},
		{certs.Files{Cert: file(strings.Repeat("x", 2<<20)), Key: good.Key}, []string{"tls.cert: ", "has 2097152 bytes"}},
		{certs.Files{Cert: client + ".pem", Key: client + "-key.pem"}, []string{"tls.cert: ", "is for another use"}},
		{certs.Files{Cert: good.Cert, Key: good.Key, ClientCA: good.Cert}, []string{"tls.client_ca: ", "is no authority's"}},
		{certs.Files{Cert: good.Cert, Key: good.Key, ClientCA: "nowhere"}, []string{"tls.client_ca: ", "no such file"}},
	} {
		_, err := certs.Load(test.files)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: want %q in the error: %v", test.files, want, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), string(key[40:60])) {
			t.Errorf("%+v: a key is in the error", test.files)
		}
	}
}

// A rig is a store on a clock of the test.
type rig struct {
	*certs.Store
	t     *testing.T
	files certs.Files
	now   time.Time
	log   bytes.Buffer
	used  []*certs.Set
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Now()}
	r.files = trial(t, r.now)
	var err error
	r.Store, err = certs.Open(r.files, func() time.Time { return r.now }, slog.New(slog.NewTextHandler(&r.log, nil)), func(s *certs.Set) { r.used = append(r.used, s) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) put(from, to string) {
	r.t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// polls looks n times and checks how many sets have been in force by then, and how many were not taken.
func (r *rig) polls(n, used int, failed uint64) {
	r.t.Helper()
	for range n {
		r.Poll()
	}
	if len(r.used) != used || r.Failed() != failed {
		r.t.Errorf("%d sets were used and %d not taken, want %d and %d; the log:\n%s", len(r.used), r.Failed(), used, failed, r.log.String())
	}
	if r.Current() != r.used[len(r.used)-1] {
		r.t.Error("what is current is not what is used")
	}
}

func TestPoll(t *testing.T) {
	r := newRig(t)
	r.polls(3, 1, 0)
	// Certificate and key are not written at once: with one of them nothing is taken and nothing is said.
	second := trial(t, r.now)
	r.put(second.Cert, r.files.Cert)
	r.polls(1, 1, 0)
	r.put(second.Key, r.files.Key)
	r.polls(1, 1, 0)
	r.polls(1, 2, 0)
	// What is no good is told once, and what follows is taken.
	r.put(r.files.ClientCA, r.files.Cert)
	r.polls(5, 2, 1)
	os.Remove(r.files.Key)
	r.polls(5, 2, 2)
	if n := strings.Count(r.log.String(), "not reloaded"); n != 2 {
		t.Errorf("told %d times:\n%s", n, r.log.String())
	}
	third := trial(t, r.now)
	r.put(third.Cert, r.files.Cert)
	r.put(third.Key, r.files.Key)
	r.polls(3, 3, 2)
	// One that is not valid yet waits until it is.
	tomorrow := trial(t, r.now.Add(24*time.Hour))
	r.put(tomorrow.Cert, r.files.Cert)
	r.put(tomorrow.Key, r.files.Key)
	r.polls(5, 3, 3)
	if !strings.Contains(r.log.String(), "is not valid yet") {
		t.Error(r.log.String())
	}
	r.now = r.now.Add(25 * time.Hour)
	r.polls(1, 4, 3)
}

func TestReload(t *testing.T) {
	r := newRig(t)
	other := trial(t, r.now)
	if err := r.Reload(other); err != nil || len(r.used) != 2 {
		t.Errorf("%v", err)
	}
	if err := r.Reload(certs.Files{Cert: other.Cert, Key: r.files.Key}); err == nil || len(r.used) != 2 || r.Failed() != 1 {
		t.Errorf("%v", err)
	}
	past := trial(t, r.now.Add(-2*365*24*time.Hour))
	if err := r.Reload(past); err == nil || !strings.Contains(err.Error(), "has expired: it was valid until") || len(r.used) != 2 {
		t.Errorf("%v", err)
	}
	// Where the one in force is no better, it may as well be the new one.
	r.now = r.now.Add(3 * 365 * 24 * time.Hour)
	if err := r.Reload(past); err != nil || len(r.used) != 3 {
		t.Errorf("%v", err)
	}
}

func TestExpiryIsTold(t *testing.T) {
	r := newRig(t)
	r.now = r.now.Add(352 * 24 * time.Hour)
	for range 10 {
		r.Poll()
	}
	if n := strings.Count(r.log.String(), "expires in 12 days"); n != 1 {
		t.Errorf("told %d times: %s", n, r.log.String())
	}
	r.now = r.now.Add(14 * 24 * time.Hour)
	r.Poll()
	if !strings.Contains(r.log.String(), "has expired") {
		t.Error(r.log.String())
	}
}

func TestFindings(t *testing.T) {
	now := time.Now()
	f := trial(t, now)
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := certs.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration][]string{
		0:                           {"everybody on this machine may read"},
		360 * 24 * time.Hour:        {"expires in", "everybody on this machine may read"},
		5*365*24*time.Hour - 3600e9: {"has expired", "everybody on this machine may read", "the authority"},
	} {
		got := set.Findings(now.Add(after))
		if len(got) != len(want) {
			t.Errorf("after %v: %v", after, got)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i].Text, want[i]) || got[i].Mend == "" {
				t.Errorf("after %v: %v, want %s", after, got[i], want[i])
			}
		}
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "queue.example.org": true, "*.example.org": true, "10.0.0.1": true, "::1": true, "a_b": true,
		"": false, "a..b": false, "-a": false, "a b": false, "a:1": false, "ä.org": false, strings.Repeat("a", 64): false, "*": false,
	} {
		if certs.ValidHost(host) != want {
			t.Errorf("%q: want %v", host, want)
		}
	}
}
