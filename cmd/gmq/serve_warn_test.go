package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What lets others in is said at each start, as not everybody asks gmq check.
func TestStartWarnsOfWhoGetsIn(t *testing.T) {
	t.Parallel()
	dir, _ := devCerts(t)
	byChoice := writeFile(t, "auth: {required: true}\ntls: {cert: "+dir+"/server.pem, key: "+dir+"/server-key.pem}\n", 0o600)
	s := startServerWith(t, filepath.Join(t.TempDir(), "data"), "0.0.0.0:0", nil, "--config", byChoice)
	s.stop()
	contains(t, "TLS by choice", s.log.String(), `"level":"WARN"`, "takes connections without TLS too", "tls: {required: true}")
	s = startServerWith(t, filepath.Join(t.TempDir(), "data"), "0.0.0.0:0", nil, "--insecure")
	s.stop()
	contains(t, "--insecure", s.log.String(), "without TLS: everybody on the way", "nobody has to say who he is")

	open := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	s = startServerWith(t, open, "127.0.0.1:0", nil)
	s.stop()
	contains(t, "everybody's directory", s.log.String(), "mode 0777", "chmod 700 "+open)
	s = startServerWith(t, filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", nil)
	s.stop()
	if strings.Contains(s.log.String(), "WARN") {
		t.Errorf("a server as it is made: %s", s.log.String())
	}
}

// A user who was made while nobody had to log in, and cannot, is said where somebody has to.
func TestStartWarnsOfNoAdmin(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := startServerWith(t, data, "127.0.0.1:0", nil)
	s.must("", "user", "add", "admin", "--no-password")
	s.stop()
	s = startServerWith(t, data, "127.0.0.1:0", nil, "--config", writeFile(t, "auth: {required: true}\n", 0o600))
	s.stop()
	contains(t, "the log", s.log.String(), "nobody who holds admin:>", `"users":1`, "gmq user passwd admin")
	// The way out that it names.
	s = startServerWith(t, data, "127.0.0.1:0", nil)
	s.must("pencil-and-paper\n", "user", "passwd", "admin", "--password-stdin")
	s.must("", "user", "grant", "admin", "--allow", "*:>")
	s.stop()
	s = startServerWith(t, data, "127.0.0.1:0", nil, "--config", writeFile(t, "auth: {required: true}\n", 0o600))
	equal(t, "login", gmqRun(t, append(s.env(), "GMQ_USER=admin", "GMQ_PASSWORD=pencil-and-paper"), "", "user", "ls").code, 0)
	s.stop()
	if strings.Contains(s.log.String(), "nobody who holds") {
		t.Error(s.log.String())
	}
}

func TestChosenAdminPassword(t *testing.T) {
	t.Parallel()
	config := writeFile(t, "auth: {required: true}\n", 0o600)
	s := startServerWith(t, t.TempDir(), "127.0.0.1:0", []string{"GMQ_ADMIN_PASSWORD=x"}, "--config", config)
	contains(t, "a short one", s.log.String(), "GMQ_ADMIN_PASSWORD has 1 letters and can be guessed")
	r := gmqRun(t, []string{"GMQ_ADMIN_PASSWORD=" + strings.Repeat("canary", 200)}, "", "serve", "--config", config, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "off")
	equal(t, "one that nobody could log in with", r.code, 1)
	contains(t, "a long one", r.err, "GMQ_ADMIN_PASSWORD is 1200 bytes long, and a password has 1024 at most")
	if strings.Contains(r.err, "canary") {
		t.Error("it is told")
	}
}
