package deploy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"go.yaml.in/yaml/v3"
)

// manifests are the documents of a file.
func manifests(t *testing.T, file string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for d := yaml.NewDecoder(strings.NewReader(read(t, file))); ; {
		var one map[string]any
		if err := d.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(file, err)
		}
		all = append(all, one)
	}
}

// at goes down a path of names and numbers.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				t.Fatalf("nothing at %v", path)
			}
			v = l[step]
		}
	}
	if v == nil {
		t.Fatalf("nothing at %v", path)
	}
	return v
}

// What the manifests name has to be in them: ports, volumes, the selector's labels.
func TestManifestsFitTogether(t *testing.T) {
	kinds := map[string]map[string]any{}
	for _, m := range manifests(t, "deploy/kubernetes/gmq.yaml") {
		kinds[m["kind"].(string)] = m
	}
	set := kinds["StatefulSet"]
	pod := at(t, set, "spec", "template", "spec").(map[string]any)
	container := at(t, pod, "containers", 0)
	if at(t, set, "spec", "serviceName") != at(t, kinds["Service"], "metadata", "name") {
		t.Error("the StatefulSet names another service")
	}
	for _, selector := range []any{at(t, set, "spec", "selector", "matchLabels", "app"), at(t, kinds["Service"], "spec", "selector", "app")} {
		if selector != at(t, set, "spec", "template", "metadata", "labels", "app") {
			t.Error("a selector finds no pod")
		}
	}
	volumes := map[any]bool{}
	for _, v := range append(at(t, pod, "volumes").([]any), at(t, set, "spec", "volumeClaimTemplates").([]any)...) {
		name := v.(map[string]any)["name"]
		if name == nil {
			name = at(t, v, "metadata", "name")
		}
		volumes[name] = true
	}
	for _, v := range at(t, container, "volumeMounts").([]any) {
		if !volumes[at(t, v, "name")] {
			t.Errorf("there is no volume %v", v)
		}
	}
	ports := map[any]bool{}
	for _, p := range at(t, container, "ports").([]any) {
		ports[at(t, p, "name")] = true
	}
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		if !ports[at(t, container, probe, "httpGet", "port")] {
			t.Errorf("%s asks a port that is not there", probe)
		}
	}
}

// The pod's configuration, on another address after each restart, with the variables that Kubernetes sets.
func TestPodsWithNewAddresses(t *testing.T) {
	var config string
	for _, m := range manifests(t, "deploy/kubernetes/gmq.yaml") {
		if m["kind"] == "ConfigMap" {
			config = at(t, m, "data", "gmq.yaml").(string)
		}
	}
	authority := harness.NewAuthority(t)
	cert := authority.Issue("gmq")
	dir := t.TempDir()
	env := append(os.Environ(), "GMQ_ADMIN_PASSWORD=correct horse battery", "GMQ_SERVICE_HOST=10.0.0.1", "GMQ_PORT=tcp://10.0.0.1:4567", "GMQ_PORT_4567_TCP_ADDR=10.0.0.1")
	start := func(address string) *process {
		text := strings.NewReplacer("/tls/tls.crt", cert.Cert, "/tls/tls.key", cert.Key, "/data/queues", filepath.Join(dir, "queues"),
			"0.0.0.0:4567", address+":0", "0.0.0.0:4580", address+":0", "0.0.0.0:4569", address+":0").Replace(config)
		file := filepath.Join(dir, "gmq.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(harness.Exe(t), "serve", "--config", file)
		cmd.Env = env
		return serve(t, cmd)
	}
	client := func(p *process) []string {
		return []string{"GMQ_SERVER=" + p.Listen, "GMQ_USER=admin", "GMQ_PASSWORD=correct horse battery"}
	}
	first := start("127.0.0.1")
	gmq(t, client(first), "pub", "orders", "hello", "--ca", authority.File)
	config0 := authority.Client()
	for _, path := range []string{"/livez", "/readyz"} {
		scheme := "http://" // loopback; where others can reach it, it is https
		if status, body := get(t, scheme+first.Admin+path, config0, nil); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	first.stop()
	second := start(otherAddress(t))
	if got := gmq(t, client(second), "sub", "orders", "--ca", authority.File, "--server-name", "localhost", "--count", "1"); !strings.Contains(got, "hello") {
		t.Errorf("after the move: %q", got)
	}
}

// What KEDA asks for is there, as a number.
func TestKEDA(t *testing.T) {
	server := serve(t, exec.Command(harness.Exe(t), "serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"))
	gmq(t, []string{"GMQ_SERVER=" + server.Listen}, "pub", "orders", "hello")
	for _, m := range manifests(t, "deploy/keda/workers.yaml") {
		if m["kind"] != "ScaledObject" {
			continue
		}
		for _, trigger := range at(t, m, "spec", "triggers").([]any) {
			url := at(t, trigger, "metadata", "url").(string)
			_, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
			status, body := get(t, "http://"+server.Admin+"/"+path, nil, nil)
			var v any
			if err := yaml.NewDecoder(bytes.NewReader([]byte(body))).Decode(&v); err != nil || status != http.StatusOK {
				t.Fatalf("%s: %d %s", url, status, body)
			}
			var steps []any
			for s := range strings.SplitSeq(at(t, trigger, "metadata", "valueLocation").(string), ".") {
				steps = append(steps, s)
			}
			if n, ok := at(t, v, steps...).(int); !ok || n < 0 {
				t.Errorf("%v of %s is no number", steps, body)
			}
		}
	}
}
