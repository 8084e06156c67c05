package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lockedServer is a server that wants logins, and the environment of its first user.
func lockedServer(t *testing.T, args ...string) (*daemon, []string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "gmq.yaml")
	if err := os.WriteFile(config, []byte("auth: {required: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	s := startServerWith(t, data, "127.0.0.1:0", nil, append(args, "--config", config)...)
	password, err := os.ReadFile(filepath.Join(data, "admin-password"))
	if err != nil {
		t.Fatal(err)
	}
	return s, append(s.env(), "GMQ_USER=admin", "GMQ_PASSWORD="+strings.TrimSpace(string(password)))
}

func TestUserCommands(t *testing.T) {
	t.Parallel()
	s, admin := lockedServer(t)
	must := func(stdin string, args ...string) string {
		t.Helper()
		r := gmqRun(t, admin, stdin, args...)
		if r.code != 0 {
			t.Fatalf("gmq %s: %d, %s", strings.Join(args, " "), r.code, r.err)
		}
		return r.out
	}
	equal(t, "with --password-stdin", must("pencil-and-paper\nmore\n", "user", "add", "ann", "--password-stdin", "--allow", "publish:orders.*,consume:orders.*", "--deny", "publish:orders.secret"), "")
	made, ok := strings.CutPrefix(must("", "user", "add", "bob"), "password: ")
	if !ok || len(made) < 20 {
		t.Errorf("a password that nobody has chosen: %q", made)
	}
	must("", "user", "add", "shop.example.org", "--no-password")
	as := func(user, password string) []string {
		return append(s.env(), "GMQ_USER="+user, "GMQ_PASSWORD="+password)
	}
	ann, bob := as("ann", "pencil-and-paper"), as("bob", strings.TrimSpace(made))
	equal(t, "allowed", gmqRun(t, ann, "", "pub", "orders.eu", "x").code, 0)
	r := gmqRun(t, ann, "", "pub", "orders.secret", "x")
	equal(t, "forbidden", r.code, exitNotAllowed)
	contains(t, "forbidden", r.err, `publish on "orders.secret" needs the right publish`)
	equal(t, "nothing allowed", gmqRun(t, bob, "", "pub", "orders.eu", "x").code, exitNotAllowed)
	r = gmqRun(t, as("ann", "wrong"), "", "pub", "orders.eu", "x")
	equal(t, "wrong password", r.code, exitNotAllowed)
	contains(t, "wrong password", r.err, "unauthenticated")
	r = gmqRun(t, s.env(), "", "pub", "orders.eu", "x")
	equal(t, "nobody", r.code, exitNotAllowed)
	contains(t, "nobody", r.err, "GMQ_USER")

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pencil-and-paper\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	equal(t, "from a file", gmqRun(t, s.env(), "", "pub", "orders.eu", "x", "--user", "ann", "--password-file", file).code, 0)

	contains(t, "check", must("", "auth", "check", "ann", "publish", "orders.eu"), "yes: publish on orders.eu is allowed by the grant publish:orders.*")
	r = gmqRun(t, admin, "", "auth", "check", "ann", "publish", "orders.>")
	equal(t, "check", r.code, exitNotAllowed)
	contains(t, "check", r.err, "no: publish on orders.> is denied by publish:orders.secret")
	contains(t, "grant", must("", "user", "grant", "ann", "--revoke", "publish:orders.*", "--allow", "peek:orders.eu"), "allow  consume:orders.*\nallow  peek:orders.eu\ndeny   publish:orders.secret\n")
	equal(t, "revoked", gmqRun(t, ann, "", "pub", "orders.eu", "x").code, exitNotAllowed)
	must("another one\n", "user", "passwd", "ann", "--password-stdin")
	equal(t, "old password", gmqRun(t, ann, "", "peek", "orders.eu").code, exitNotAllowed)
	equal(t, "new password", gmqRun(t, as("ann", "another one"), "", "peek", "orders.eu").code, 0)
	contains(t, "ls", must("", "user", "ls"), "ann               password            0       consume:orders.*,peek:orders.eu  publish:orders.secret", "shop.example.org  token, certificate")
	lines := strings.Split(strings.TrimSpace(must("", "user", "ls", "-o", "json")), "\n")
	var u struct{ User string }
	if err := json.Unmarshal([]byte(lines[0]), &u); err != nil || len(lines) != 4 || u.User != "admin" {
		t.Errorf("%q, %v", lines, err)
	}
	must("", "user", "rm", "ann")
	equal(t, "again", gmqRun(t, admin, "", "user", "rm", "ann").code, exitNotFound)
}

func TestTokenCommands(t *testing.T) {
	t.Parallel()
	s, admin := lockedServer(t)
	token := strings.TrimSpace(gmqRun(t, admin, "", "token", "add", "ci", "--allow", "publish:ci.>", "--ttl", "1h").out)
	his := strings.TrimSpace(gmqRun(t, admin, "", "token", "add", "laptop", "--for", "admin").out)
	equal(t, "by token", gmqRun(t, append(s.env(), "GMQ_TOKEN="+token), "", "pub", "ci.x", "1").code, 0)
	equal(t, "with the newline of the file that it was in", gmqRun(t, append(s.env(), "GMQ_TOKEN="+token+"\n"), "", "pub", "ci.x", "1").code, 0)
	r := gmqRun(t, append(s.env(), "GMQ_TOKEN="+token, "GMQ_USER=admin"), "", "pub", "ci.x", "1")
	equal(t, "a user and a token", r.code, exitUsage)
	contains(t, "a user and a token", r.err, "GMQ_TOKEN says by itself who you are")
	if help := gmqRun(t, nil, "", "token", "add", "--help").out; strings.Contains(help, "default )") {
		t.Errorf("a default that is none: %s", help)
	}
	equal(t, "beyond its rights", gmqRun(t, append(s.env(), "GMQ_TOKEN="+token), "", "pub", "x", "1").code, exitNotAllowed)
	equal(t, "as a user", gmqRun(t, append(s.env(), "GMQ_TOKEN="+his), "", "user", "ls").code, 0)
	contains(t, "ls", gmqRun(t, admin, "", "token", "ls").out, "ci ", "laptop  admin", "publish:ci.>")
	equal(t, "rm", gmqRun(t, admin, "", "token", "rm", "ci").code, 0)
	equal(t, "gone", gmqRun(t, append(s.env(), "GMQ_TOKEN="+token), "", "pub", "ci.x", "1").code, exitNotAllowed)
}

// What can be seen to be wrong is refused before anybody is asked.
func TestUserUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"user": "which of add, grant, ls, passwd, rm", "user add": "usage:", "user add a,b": "no name of a user", "user add ann --allow push:x": "no right",
		"user add ann --no-password --password-stdin": "exclude each other", "user add ann --password-stdin": "no password in the first line", "auth check ann push x": "no verb",
		"auth check ann publish": "usage:", "auth check ann publish .x": "no name of a queue", "token add ci --ttl -1s": "--ttl", "token add ci --for ann --allow publish:x": "--for",
		"ping --password-file x": "whose password", "ping --user ann": "no password for ann", "version --user ann": "has no use for --user",
	} {
		r := gmqRun(t, []string{"GMQ_SERVER=" + closedPort(t)}, "", strings.Fields(args)...)
		equal(t, args, r.code, exitUsage)
		contains(t, args, r.err, want)
	}
}

// A server that other machines could reach says which lines are missing.
func TestRefusesToBeReached(t *testing.T) {
	t.Parallel()
	for auth, want := range map[string][]string{
		"{}":               {"neither TLS nor authentication is on", "tls: {cert: cert.pem, key: key.pem} and auth: {required: true}", "--insecure"},
		"{required: true}": {"TLS is not on", "add to the configuration: tls: {cert: cert.pem, key: key.pem};", "--insecure"},
	} {
		file := filepath.Join(t.TempDir(), "gmq.yaml")
		if err := os.WriteFile(file, []byte("listen: 0.0.0.0:0\nadmin: off\ndata: "+t.TempDir()+"\nauth: "+auth+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := gmqRun(t, nil, "", "serve", "--config", file)
		equal(t, "exit code", r.code, exitError)
		contains(t, "refusal", r.err, want...)
	}
}

// The admin address asks for the same users, and for rights on everything.
func TestAdminAddress(t *testing.T) {
	t.Parallel()
	s, admin := lockedServer(t, "--admin", "127.0.0.1:0")
	for _, args := range [][]string{
		{"user", "add", "watcher", "--allow", "peek:>", "--password-stdin"}, {"user", "add", "half", "--allow", "peek:a.>,admin:a.>", "--password-stdin"},
		{"user", "add", "boss", "--allow", "admin:>", "--password-stdin"}, {"user", "add", "butone", "--allow", "*:>", "--deny", "*:a", "--password-stdin"},
	} {
		equal(t, strings.Join(args, " "), gmqRun(t, admin, "a good password\n", args...).code, 0)
	}
	token := strings.TrimSpace(gmqRun(t, admin, "", "token", "add", "scrape", "--allow", "peek:>").out)
	status := func(page, user, password, bearer string) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+s.admin+page, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		req.Header.Set("Gmq-Action", "backup")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		user, password, bearer              string
		livez, readyz, metrics, backup, any int
	}{
		{"", "", "", 200, 200, 401, 401, 401},
		{"watcher", "a bad password", "", 200, 200, 401, 401, 401},
		{"nobody", "a good password", "", 200, 200, 401, 401, 401},
		{"watcher", "a good password", "", 200, 200, 200, 403, 403},
		{"half", "a good password", "", 200, 200, 403, 403, 403},
		{"butone", "a good password", "", 200, 200, 403, 403, 403},
		{"boss", "a good password", "", 200, 200, 200, 200, 404},
		{"", "", token, 200, 200, 200, 403, 403},
		{"", "", token + "x", 200, 200, 401, 401, 401},
	} {
		for page, want := range map[string]int{"/livez": c.livez, "/readyz": c.readyz, "/metrics": c.metrics, "/backup": c.backup, "/debug": c.any, "//metrics": c.any, "/metrics/": c.any} {
			got := status(page, c.user, c.password, c.bearer)
			if page == "//metrics" && got == http.StatusMovedPermanently { // to the page that is asked for then
				continue
			}
			if page == "//metrics" && got == c.metrics { // the client has followed
				continue
			}
			equal(t, c.user+" "+page, got, want)
		}
	}
}

// From another machine a password is proved and not sent: what is sent in clear is refused, right or wrong.
func TestFromAnotherMachine(t *testing.T) {
	t.Parallel()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var ip net.IP
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			ip = n.IP
		}
	}
	if ip == nil {
		t.Skip("this machine has no address but loopback")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "gmq.yaml")
	if err := os.WriteFile(config, []byte("auth: {required: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServerWith(t, filepath.Join(dir, "data"), "0.0.0.0:0", []string{"GMQ_ADMIN_PASSWORD=adminpw"}, "--config", config, "--insecure")
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort(ip.String(), port)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Skip("this machine cannot be reached by its own address: ", err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for _, line := range []string{`{"op":"hello","user":"admin","password":"adminpw"}`, `{"op":"hello","token":"gmq_x"}`} {
		fmt.Fprintln(c, line)
		reply, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		contains(t, line, reply, `"unauthenticated"`, "unencrypted")
	}
	r := gmqRun(t, []string{"GMQ_SERVER=" + addr, "GMQ_USER=admin", "GMQ_PASSWORD=adminpw"}, "", "user", "ls")
	equal(t, "by an exchange", r.code, 0)
	r = gmqRun(t, []string{"GMQ_SERVER=" + addr, "GMQ_USER=admin", "GMQ_PASSWORD=adminpw"}, "pencil\n", "user", "add", "ann", "--password-stdin")
	equal(t, "a password after it", r.code, exitNotAllowed)
	contains(t, "a password after it", r.err, "unencrypted", "use TLS\n")
	r = gmqRun(t, []string{"GMQ_SERVER=" + addr, "GMQ_TOKEN=gmq_canary"}, "", "user", "ls")
	equal(t, "a token", r.code, exitNotAllowed)
	contains(t, "a token", r.err, "the token is not sent unencrypted")
}
