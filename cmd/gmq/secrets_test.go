package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Secrets that are planted wherever there is room for one, in requests that are right, and wrong in all ways, are in no log,
// error, metric or dump; and those that nobody may ever read are in no file.
func TestSecretsAreTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, auditFile := filepath.Join(dir, "gmq.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(config, []byte("auth: {required: true}\nclassic: true\nlog: {level: debug, audit: "+auditFile+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	s := startServerWith(t, data, "127.0.0.1:0", []string{"GMQ_ADMIN_PASSWORD=canary-admin"}, "--config", config, "--admin", "127.0.0.1:0")
	admin := append(s.env(), "GMQ_USER=admin", "GMQ_PASSWORD=canary-admin")
	var seen strings.Builder // all that must not hold a secret
	run := func(env []string, stdin string, args ...string) result {
		t.Helper()
		r := gmqRun(t, env, stdin, args...)
		seen.WriteString(r.err)
		return r
	}
	seen.WriteString(run(admin, "canary-ann-password\n", "user", "add", "ann", "--allow", "*:q", "--password-stdin").out)
	token := strings.TrimSpace(run(admin, "", "token", "add", "ci", "--allow", "*:q").out)
	if !strings.HasPrefix(token, "gmq_") {
		t.Fatal(token)
	}
	seen.WriteString(run(admin, "", "user", "ls", "-o", "json").out + run(admin, "", "token", "ls", "-o", "json").out)

	plant(t, s.addr, token, &seen)
	seen.WriteString(run(append(s.env(), "GMQ_USER=ann", "GMQ_PASSWORD=canary-wrong"), "canary-body", "pub", "q").out)
	seen.WriteString(run(append(s.env(), "GMQ_TOKEN=canary-wrong-token"), "canary-body", "pub", "q").out)
	for _, header := range []string{"", "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:canary-admin")), "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:canary-wrong")), "Bearer " + token, "Bearer canary-wrong-token"} {
		for _, page := range []string{"/metrics", "/backup", "/livez", "/nothing"} {
			seen.WriteString(get(t, "http://"+s.admin+page, header))
		}
	}
	r := run(admin, "", "backup", filepath.Join(dir, "b.tar"), "--admin", s.admin)
	equal(t, "backup", r.code, 0)
	seen.WriteString(r.out)
	s.stop()
	seen.WriteString(s.log.String())
	for _, args := range [][]string{{"journal", "dump"}, {"journal", "dump", "-o", "json"}, {"journal", "check"}, {"journal", "replay"}} {
		r := gmqRun(t, nil, "", append(args, "--data", data)...)
		equal(t, strings.Join(args, " "), r.code, 0)
		seen.WriteString(r.out + r.err)
	}
	text, err := os.ReadFile(auditFile)
	if err != nil {
		t.Fatal(err)
	}
	seen.Write(text)
	secret := token[len("gmq_"):]
	for _, canary := range []string{"canary", secret, base64.StdEncoding.EncodeToString([]byte("canary-ann"))[:12], fmt.Sprintf("%x", "canary")} {
		if i := strings.Index(seen.String(), canary); i >= 0 {
			t.Errorf("%.8q… is told: …%s…", canary, seen.String()[max(0, i-200):min(seen.Len(), i+100)])
		}
	}
	// What was looked at is what it should be.
	contains(t, "what was seen", seen.String(), `"op":"hello"`, "gmq_requests_total", "document queue=0 name=", `"result":"forbidden"`, "body_bytes=", `"user":"ann"`)
	unreadable(t, data, "canary-admin", "canary-ann-password", "canary-wrong", secret)
	if info, err := os.Stat(auditFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the audit log: %v, %v", info.Mode(), err)
	}
}

// plant says over the wire what holds secrets, and collects the answers that are errors.
func plant(t *testing.T, addr, token string, seen *strings.Builder) {
	t.Helper()
	for _, first := range []string{`{"op":"hello","user":"ann","password":"canary-ann-password"}`, `{"op":"hello","token":"` + token + `"}`, `{"op":"hello","user":"ann","password":"canary-wrong"}`} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		in := json.NewDecoder(c)
		for _, line := range []string{
			first,
			`{"op":"publish","queue":"q","body":"canary-body","headers":{"h":"canary-header"},"key":"k"}`,
			`{"op":"publish","queue":"q","body":"canary-body","headers":{"h":"canary-header"},"stored":"quorum"}`,
			`{"op":"publish","queue":"q","body":"canary-body","headers":{"h":["canary-header"]}}`,
			`{"op":"publish","queue":"q","body":"canary-body","delay":"1h","at":"2030-01-01T00:00:00Z"}`,
			`{"op":"publish","queue":"r","body":"canary-body"}`,
			`{"op":"publish","queue":"q","messages":[{"body":"canary-body","headers":{"reply_to":"r","x":"canary-header"}}]}`,
			`{"op":"hello","user":"ann","password":["canary-wrong"]}`, `{"op":"hello","token":{"canary":1}}`, `{"op":"hello","mechanism":"SCRAM-SHA-256","data":"Y2FuYXJ5"}`,
			`{"op":"user.add","user":"x","password":"canary-wrong"}`, `{"op":"user.password","user":"ann","password":"canary-wrong"}`, `{"op":"ping","password":"canary-wrong"}`,
			`{"op":"ack","queue":"q","seq":1,"password":"canary-wrong"}`, `{"op":"publish","queue":"q","body":canary}`, `{"op":"publish","queue":"q","body":"canary-body","encoding":"base32"}`,
		} {
			if _, err := fmt.Fprintln(c, line); err != nil {
				break
			}
			var reply struct {
				OK    bool
				Error json.RawMessage
			}
			if in.Decode(&reply) != nil {
				break // three failed logins end it
			}
			seen.Write(reply.Error)
		}
	}
	const nothing = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, `{"operation":"P","queue":"q","payload":"","auth":{"user":"%x%s","password":"%x%s"}}`, "ann", nothing, "canary-wrong", nothing)
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), `"confirmation"`) // before it is what was sent, given back
	seen.WriteString(after)
}

func get(t *testing.T, url, authorization string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + fmt.Sprint(resp.Header)
}

// unreadable looks for secrets in the files of a directory.
func unreadable(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds %.8q…", path, secret)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
