package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	check := func(text string, args ...string) result {
		t.Helper()
		return gmqRun(t, []string{"GMQ_NO_SETTING=1"}, text, append([]string{"config", "check"}, args...)...)
	}
	for _, name := range []string{"-", "/dev/stdin"} {
		r := check("limits: {max_queues: 3}\n", name)
		if r.code != 0 || r.out != "" || r.err != "" {
			t.Errorf("a good configuration: %+v", r)
		}
	}
	r := check("limits:\n  max_qeues: 3\nlisten: nowhere\n", "-")
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, "-:2: limits.max_qeues: unknown key; did you mean max_queues?", "-:3: listen:")
	equal(t, "open to the network", check("listen: 0.0.0.0:1\n", "-").code, 1)
	equal(t, "open to the network, and meant so", check("listen: 0.0.0.0:1\nadmin: off\n", "-", "--insecure").code, 0)
	equal(t, "no file", check("", "/nosuch/file").code, 1)
	r = check("storage: {mysql: {dsn: 'mysql://u:canary@h:1/d'}}\n", "-")
	equal(t, "a DSN of another form", r.code, 1)
	contains(t, "stderr", r.err, "storage.mysql.dsn: ")
	if strings.Contains(r.err, "canary") {
		t.Errorf("the password is shown: %s", r.err)
	}
}

func TestConfigShow(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gmq.yaml")
	if err := os.WriteFile(file, []byte("data: /from/file\nlimits: {max_queues: 3, max_connections: 4}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"GMQ_LIMITS_MAX_QUEUES=5", "GMQ_SERVER=elsewhere:1"}
	r := gmqRun(t, env, "", "config", "show", "--config", file, "--data", "/from/flag")
	equal(t, "code", r.code, 0)
	contains(t, "the settings", r.out, "data: /from/flag\n", "max_queues: 5\n", "max_connections: 4\n", "lease: 30s\n")
	// What is shown is a configuration itself.
	shown := gmqRun(t, nil, r.out, "config", "show", "--config", "-")
	equal(t, "shown again", shown.out, r.out)
	var tree struct {
		Limits map[string]any `json:"limits"`
	}
	out := gmqRun(t, env, "", "config", "show", "-o", "json").out
	if err := json.Unmarshal([]byte(out), &tree); err != nil || tree.Limits["max_queues"] != 5.0 || strings.Count(out, "\n") != 1 {
		t.Errorf("as JSON: %s, %v", out, err)
	}
	out = gmqRun(t, []string{"GMQ_STORAGE_MYSQL_DSN=u:p@tcp(h:1)/d"}, "", "config", "show").out
	contains(t, "what is in force", out, "takeover: 10s\n")
	equal(t, "a bad variable", gmqRun(t, []string{"GMQ_LIMITS_MAX_QUEUES=x"}, "", "config", "show").code, 1)
}
