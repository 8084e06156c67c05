package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// devCerts makes certificates as a newcomer does, and gives the configuration that was printed.
func devCerts(t *testing.T, args ...string) (dir, config string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "certs")
	r := gmqRun(t, nil, "", append([]string{"dev-cert", "--dir", dir}, args...)...)
	if r.code != 0 || r.err != "" {
		t.Fatalf("dev-cert: %+v", r)
	}
	contains(t, "dev-cert", r.out, "gmq ping --server ", "openssl s_client", "gmq user add client --no-password")
	return dir, r.out
}

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDevCert(t *testing.T) {
	t.Parallel()
	dir, config := devCerts(t)
	for _, key := range []string{"ca-key.pem", "server-key.pem", "client-key.pem"} {
		st, err := os.Stat(filepath.Join(dir, key))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", key, st, err)
		}
	}
	again := gmqRun(t, nil, "", "dev-cert", "--dir", dir)
	equal(t, "again", again.code, 1)
	contains(t, "again", again.err, "is there already, and nothing is overwritten")
	equal(t, "a bad host", gmqRun(t, nil, "", "dev-cert", "--dir", dir+"2", "--host", "a b").code, 2)
	// What it prints is a configuration, and a good one.
	r := gmqRun(t, nil, config, "check", "-")
	equal(t, "check: "+r.out+r.err, r.code, 0)
	contains(t, "check", r.out, "certificate: for localhost, 127.0.0.1, ::1, valid until ")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir, _ := devCerts(t)
	tls := func(more string) string {
		return "tls: {cert: " + dir + "/server.pem, key: " + dir + "/server-key.pem" + more + "}\n"
	}
	open := filepath.Join(dir, "open-key.pem")
	text, err := os.ReadFile(filepath.Join(dir, "server-key.pem"))
	if err == nil {
		err = os.WriteFile(open, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		config string
		weak   []string
	}{
		{"", nil},
		{tls(", required: true"), nil},
		{"listen: 0.0.0.0:4567\nadmin: off\n", []string{"listen", "auth.required"}},
		{"listen: 0.0.0.0:4567\nadmin: 0.0.0.0:4580\n" + tls(""), []string{"tls.required", "auth.required", "admin"}},
		{tls(", min_version: 1.2"), []string{"tls.min_version"}},
		{"tls: {cert: " + dir + "/server.pem, key: " + open + "}\n", []string{"tls.key"}},
		{"storage: {file: {sync: never}}\n", []string{"storage.file.sync"}},
		{"limits: {memory: 1000TiB}\n", []string{"limits.memory"}},
	} {
		r := gmqRun(t, nil, test.config, "check", "-", "-o", "json")
		var got struct {
			Weak []struct{ Key, Problem, Mend string }
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%q: %v %+v", test.config, err, r)
		}
		var keys []string
		for _, w := range got.Weak {
			keys = append(keys, w.Key)
			if w.Problem == "" || w.Mend == "" {
				t.Errorf("%q: %+v says not enough", test.config, w)
			}
		}
		equal(t, test.config, strings.Join(keys, " "), strings.Join(test.weak, " "))
		equal(t, test.config+": code", r.code, min(1, len(test.weak)))
		equal(t, test.config+": strict", gmqRun(t, nil, test.config, "config", "check", "--strict", "-").code, r.code)
		if !strings.Contains(test.config, "0.0.0.0") {
			equal(t, test.config+": not strict", gmqRun(t, nil, test.config, "config", "check", "-").code, 0)
		}
	}
	// What is wrong is told by both, with the key and the file.
	for _, command := range [][]string{{"check", "-"}, {"config", "check", "-"}, {"serve", "--config", "-", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "off"}} {
		r := gmqRun(t, nil, "tls: {cert: "+dir+"/server.pem, key: "+dir+"/client-key.pem}\n", command...)
		equal(t, command[0], r.code, 1)
		contains(t, command[0], r.err, "tls.key: "+dir+"/client-key.pem", "does not match")
	}
	// Without a file it is the environment that counts.
	r := gmqRun(t, []string{"GMQ_STORAGE_FILE_SYNC=never"}, "", "check")
	equal(t, "environment", r.code, 1)
	contains(t, "environment", r.out, "weak: storage.file.sync: ", "mend: storage: {file: {sync: always}}")
}

func TestBeyondLoopbackSaysWhatMendsIt(t *testing.T) {
	t.Parallel()
	r := gmqRun(t, nil, "", "serve", "--listen", "0.0.0.0:0", "--admin", "off", "--data", t.TempDir())
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, "tls: {cert: cert.pem, key: key.pem} and auth: {required: true}", "--insecure")
}

func TestTargetsWithTLS(t *testing.T) {
	t.Parallel()
	dir, _ := devCerts(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	s := startServer(t, "--config", writeFile(t, "tls: {cert: "+in("server.pem")+", key: "+in("server-key.pem")+", client_ca: "+in("ca.pem")+", client_cert: required, required: true}\n", 0o600))
	other, _ := devCerts(t)
	cert := []string{"--cert", in("client.pem"), "--cert-key", in("client-key.pem")}
	for _, test := range []struct {
		args []string
		code int
		err  string
	}{
		{append([]string{"--ca", in("ca.pem")}, cert...), 0, ""},
		{[]string{"--ca", in("ca.pem"), "--cert", in("client.pem"), "--key", in("client-key.pem")}, 0, ""},
		{nil, 3, "takes only encrypted connections"},
		{append([]string{"--tls"}, cert...), 3, "signed by an unknown authority"},
		{append([]string{"--ca", filepath.Join(other, "ca.pem")}, cert...), 3, "is the certificate of another one"},
		{append([]string{"--ca", in("ca.pem"), "--server-name", "other"}, cert...), 3, "is for another name: it is for localhost, 127.0.0.1, ::1, not for other"},
		{[]string{"--ca", in("ca.pem")}, 4, "unauthenticated: this server demands a client certificate"},
		{[]string{"--ca", in("ca.pem"), "--cert", in("server.pem"), "--cert-key", in("server-key.pem")}, 4, "is for another use"},
		{[]string{"--ca", in("ca.pem"), "--cert", in("client.pem")}, 1, "--cert " + in("client.pem")},
		{[]string{"--ca", "/nosuch"}, 1, "--ca: open /nosuch"},
		{[]string{"--ca", in("ca-key.pem")}, 1, "there is no certificate in"},
		{[]string{"--cert-key", in("client-key.pem")}, 2, "the key is of no use without its certificate"},
	} {
		r := gmqRun(t, nil, "", append([]string{"ping", "--server", s.addr}, test.args...)...)
		equal(t, strings.Join(test.args, " ")+": "+r.err, r.code, test.code)
		contains(t, strings.Join(test.args, " "), r.err, test.err)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	dir, _ := devCerts(t)
	const login = "auth: {required: true}\n"
	s := startServerWith(t, t.TempDir(), "127.0.0.1:0", []string{"GMQ_ADMIN_PASSWORD=canary"},
		"--config", writeFile(t, login+"tls: {cert: "+dir+"/server.pem, key: "+dir+"/server-key.pem, required: true}\n", 0o600))
	made := gmqRun(t, []string{"GMQ_USER=admin", "GMQ_PASSWORD=canary"}, "", "token", "add", "ci", "--server", s.addr, "--ca", dir+"/ca.pem")
	secret := strings.TrimSpace(made.out)
	data := t.TempDir()
	plain := startServerWith(t, data, "127.0.0.1:0", nil, "--config", writeFile(t, login, 0o600))
	home := t.TempDir()
	file := filepath.Join(home, "gmq", "contexts.yaml")
	run := func(code int, args ...string) result {
		t.Helper()
		r := gmqRun(t, []string{"XDG_CONFIG_HOME=" + home}, secret+"\n", args...)
		equal(t, strings.Join(args, " ")+": "+r.err, r.code, code)
		if strings.Contains(r.out+r.err, secret) {
			t.Errorf("%v shows a secret: %+v", args, r)
		}
		return r
	}
	run(0, "context", "ls")
	contains(t, "add", run(0, "context", "add", "here", "--server", s.addr, "--ca", dir+"/ca.pem", "--token-stdin").out, "in use")
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", st, err)
	}
	run(0, "ping")
	run(0, "context", "add", "plain", "--server", plain.addr, "--user", "admin", "--password-file", data+"/admin-password")
	run(0, "ping")
	contains(t, "plain", run(0, "ping", "--context", "plain").out, plain.addr)
	contains(t, "environment", gmqRun(t, []string{"XDG_CONFIG_HOME=" + home, "GMQ_CONTEXT=plain"}, "", "ping").out, plain.addr)
	// A server that is named gets nothing of the context in use, but of one that is named.
	contains(t, "--server", run(0, "ping", "--server", plain.addr).out, plain.addr)
	run(3, "ping", "--server", s.addr)
	run(0, "ping", "--server", s.addr, "--context", "here")
	contains(t, "show", run(0, "context", "show").out, "token   ***", "ca      "+dir+"/ca.pem")
	contains(t, "show", run(0, "context", "show", "plain", "-o", "json").out, `"user":"admin"`, `"password_file":"`)
	contains(t, "ls", run(0, "context", "ls").out, "*  here")
	run(0, "context", "use", "plain")
	contains(t, "use", run(0, "ping").out, plain.addr)
	for _, bad := range [][]string{
		{"add", "a b", "--server", "x"}, {"add", "x"}, {"add", "x", "--server", "y", "--password-file", "/etc/hostname"},
		{"add", "x", "--server", "y", "--token-stdin", "--user", "ann"}, {"add", "x", "--server", "y", "--cert-key", "/etc/hostname"},
	} {
		run(2, append([]string{"context"}, bad...)...)
	}
	run(1, "context", "add", "x", "--server", "y", "--ca", "/nosuch")
	run(5, "context", "use", "nosuch")
	run(2, "ping", "--context", "nosuch")
	run(0, "context", "rm", "plain")
	run(5, "context", "show", "plain")
	run(3, "ping", "--timeout", "1s", "--server", closedPort(t))
	// A file that others may read is refused, and one that is broken shows nothing of what it holds.
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	contains(t, "open to others", run(1, "ping").err, "others may read "+file, "chmod 600")
	if err := os.WriteFile(file, []byte("contexts:\n  here: ["+secret+"\n"), 0o600); err != nil || os.Chmod(file, 0o600) != nil {
		t.Fatal(err)
	}
	contains(t, "broken", run(1, "ping").err, "is not what gmq context writes")
}
