package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGoodFiles(t *testing.T) {
	for _, file := range files(t, "*.good.yaml") {
		c, err := Load(file, nil, nil)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if strings.HasSuffix(file, "whole.good.yaml") && c != Default() {
			t.Errorf("the documented defaults are not the defaults: %+v", c)
		}
	}
}

// The first line of every bad file is a comment with what its error must say.
func TestBadFiles(t *testing.T) {
	for _, file := range files(t, "*.bad.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want := strings.TrimPrefix(first, "# ")
		_, err = Load(file, nil, nil)
		switch {
		case err == nil:
			t.Errorf("%s is accepted", file)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s: want %q in the error:\n%v", file, want, err)
		case !strings.Contains(err.Error(), file):
			t.Errorf("%s is not named in its error: %v", file, err)
		case strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: a secret in the error: %v", file, err)
		}
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(found) < 10 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

func TestAllProblemsAreTold(t *testing.T) {
	file := write(t, "limits: {max_queues: 0, memory: x}\ncolour: blue\n")
	_, err := Load(file, nil, nil)
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("want three lines: %v", err)
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "data: file\nlog: {level: warn}\nlimits: {max_queues: 1}\n")
	env := []string{"GMQ_DATA=env", "GMQ_LIMITS_MAX_QUEUES=2", "GMQ_QUEUE_DEFAULTS_RETRY_MAX=1m", "HOME=/"}
	flags := map[string]string{"data": "flag", "queue_defaults.storage": "memory"}
	c, err := Load(file, env, flags)
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "flag" || c.Limits.MaxQueues != 2 || c.Log.Level != "warn" || c.Log.Format != "auto" ||
		c.QueueDefaults.Retry.Max != Duration(time.Minute) || c.QueueDefaults.Storage != "memory" {
		t.Errorf("got %+v", c)
	}
}

func TestErrorsNameTheSource(t *testing.T) {
	file := write(t, "limits: {max_queues: 0}\n")
	for _, test := range []struct {
		env   []string
		flags map[string]string
		want  string
	}{
		{want: file + ":1: limits.max_queues: 0 is not"},
		{env: []string{"GMQ_LIMITS_MAX_QUEUES=-1"}, want: "GMQ_LIMITS_MAX_QUEUES: limits.max_queues: -1 is not"},
		{env: []string{"GMQ_LIMITS_MAX_QUEUES=many"}, want: "GMQ_LIMITS_MAX_QUEUES: limits.max_queues: want a whole number"},
		{env: []string{"GMQ_DATA="}, want: "GMQ_DATA: data: has no value"},
		{env: []string{"GMQ_TLS_CERT=x"}, want: "tls.key: is missing; want the file with the server's private key"},
		{env: []string{"GMQ_LIMIT_MAX_QUEUES=3"}, want: "GMQ_LIMIT_MAX_QUEUES: unknown variable; did you mean GMQ_LIMITS_MAX_QUEUES?"},
		{env: []string{"GMQ_INSECURE=true"}, want: "GMQ_INSECURE: unknown variable"},
		{flags: map[string]string{"limits.max_queues": "-3"}, want: "flag: limits.max_queues: -3 is not"},
		{flags: map[string]string{"listn": "x"}, want: "flag: listn: unknown key; did you mean listen?"},
		{flags: map[string]string{FlagInsecure: "perhaps"}, want: "flag: insecure: want true or false"},
	} {
		_, err := Load(file, test.env, test.flags)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v %v: want %q in the error: %v", test.env, test.flags, test.want, err)
		}
	}
}

func TestVariablesThatAreNoSettings(t *testing.T) {
	env := []string{
		"GMQ_ADMIN_PASSWORD=x", "GMQ_SERVER=x", "GMQ_EXE=x", "GMQ_TEST_ANYTHING=x", "GMQLIKE=x",
		// A Kubernetes service named gmq, and one named gmq-admin.
		"GMQ_SERVICE_HOST=10.0.0.1", "GMQ_SERVICE_PORT=4567", "GMQ_SERVICE_PORT_CLIENTS=4567",
		"GMQ_PORT=tcp://10.0.0.1:4567", "GMQ_PORT_4567_TCP=x", "GMQ_PORT_4567_TCP_ADDR=x",
		"GMQ_ADMIN_SERVICE_HOST=x", "GMQ_ADMIN_PORT_4580_TCP_PROTO=x",
	}
	if _, err := Load("", env, nil); err != nil {
		t.Error(err)
	}
	for _, key := range Keys() {
		if kubernetesLinks.MatchString(EnvName(key)) || isOther(EnvName(key)) {
			t.Errorf("%s can never be set: %s is passed over", key, EnvName(key))
		}
	}
}

func TestInsecure(t *testing.T) {
	flags := map[string]string{"listen": "0.0.0.0:4567", "admin": ":4580"}
	if _, err := Load("", nil, flags); err == nil {
		t.Error("an open address without --insecure is accepted")
	}
	flags[FlagInsecure] = "true"
	if c, err := Load("", nil, flags); err != nil || !c.Insecure {
		t.Errorf("with --insecure: %v", err)
	}
}

func TestMissingAndHugeFiles(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil, nil); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Load("/dev/zero", nil, nil); err == nil {
		t.Error("an endless file is accepted")
	}
}

func TestStandardInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("data: piped\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	before := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = before; r.Close() }()
	if c, err := Load("/dev/stdin", nil, nil); err != nil || c.Data != "piped" {
		t.Errorf("got %q, %v", c.Data, err)
	}
}

func TestKeys(t *testing.T) {
	keys := Keys()
	for _, want := range []string{"listen", "limits.max_queues", "queue_defaults.retry.jitter", "storage.mysql.dsn", "tls.client_ca", "drain_timeout"} {
		if !slices.Contains(keys, want) {
			t.Errorf("%s is missing", want)
		}
	}
	names := map[string]string{}
	for _, key := range keys {
		if other, taken := names[EnvName(key)]; taken {
			t.Errorf("%s and %s have the same variable", key, other)
		}
		names[EnvName(key)] = key
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gmq.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Whatever the file says, there is an answer and not a crash; and what is
// accepted is shown as a file that means the same.
func FuzzLoad(f *testing.F) {
	f.Add("limits: {max_queues: 3}\n")
	f.Add("a: &a [*a]\n")
	f.Add("? {x: y}\n: 3\n")
	f.Add("data: !!binary aGVsbG8=\nlimits: !!set {max_queues}\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, nil, nil)
		if err != nil {
			return
		}
		shown, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, shown, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(file, nil, nil); err != nil || again != c {
			t.Fatalf("%v\n%s", err, shown)
		}
	})
}
