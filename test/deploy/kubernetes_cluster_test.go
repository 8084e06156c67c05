package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// One pod becomes three by the patch, and all of them come back elsewhere, with a token that says nothing to them any more.
func TestPodsJoin(t *testing.T) {
	var config string
	var pod any
	for _, m := range manifests(t, "deploy/kubernetes/gmq.yaml") {
		switch m["kind"] {
		case "ConfigMap":
			config = at(t, m, "data", "gmq.yaml").(string)
		case "StatefulSet":
			pod = at(t, m, "spec", "template", "spec", "containers", 0)
		}
	}
	join := manifests(t, "deploy/kubernetes/join.yaml")[0]
	joining := at(t, join, "spec", "template", "spec", "containers", 0)
	if at(t, joining, "name") != at(t, pod, "name") || at(t, joining, "env", 0, "name") != "JOIN_TOKEN" {
		t.Error("the patch is for another container, or names another variable")
	}
	authority := harness.NewAuthority(t)
	cert := authority.Issue("gmq")
	dir := t.TempDir()
	// start starts pod i on an address; there is nobody here to give names to pods, so that they tell each other addresses.
	start := func(i int, address string, container any, token string) *process {
		name := "gmq-" + string(rune('0'+i))
		text := strings.NewReplacer("/tls/tls.crt", cert.Cert, "/tls/tls.key", cert.Key, "/data/queues", filepath.Join(dir, name),
			"0.0.0.0:4567", address+":0", "0.0.0.0:4580", address+":0", "0.0.0.0:4569", address+":0").Replace(config)
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var arguments []string
		for _, a := range at(t, container, "args").([]any) {
			arguments = append(arguments, strings.NewReplacer("/etc/gmq/gmq.yaml", file, "$(JOIN_TOKEN)", token).Replace(a.(string)))
		}
		cmd := exec.Command(harness.Exe(t), arguments...)
		cmd.Env = append(os.Environ(), "GMQ_ADMIN_PASSWORD=correct horse battery")
		for _, v := range at(t, pod, "env").([]any) {
			if v := v.(map[string]any); v["name"] == "GMQ_CLUSTER_NODE" {
				cmd.Env = append(cmd.Env, "GMQ_CLUSTER_NODE="+strings.ReplaceAll(v["value"].(string), "$(POD_NAME)", name))
			}
		}
		return serve(t, cmd)
	}
	client := func(p *process) []string {
		return []string{"GMQ_SERVER=" + p.Listen, "GMQ_USER=admin", "GMQ_PASSWORD=correct horse battery"}
	}
	flags := []string{"--ca", authority.File, "--server-name", "localhost"}
	ask := func(p *process, arguments ...string) string { return gmq(t, client(p), append(arguments, flags...)...) }

	pods := []*process{start(0, "127.0.0.1", pod, "")}
	ask(pods[0], "pub", "orders", "hello")
	token := ""
	for i := 1; i <= 2; i++ {
		token = strings.TrimSpace(ask(pods[0], "cluster", "token"))
		pods = append(pods, start(i, "127.0.0.1", joining, token))
		harness.Eventually(t, "all are members", func() bool { return strings.Count(ask(pods[0], "cluster", "status"), " member ") == i+1 })
	}
	if status := ask(pods[1], "cluster", "status"); !strings.Contains(status, "gmq-2") || !strings.Contains(status, "after the loss of any 1 node") {
		t.Errorf("three pods: %s", status)
	}
	elsewhere := otherAddress(t)
	for i := range pods { // one after the other, as a rolling update does it
		pods[i].stop()
		pods[i] = start(i, elsewhere, joining, token)
		harness.Eventually(t, "it is heard at its new address", func() bool {
			status := ask(pods[i], "cluster", "status")
			return strings.Count(status, " member ") == 3 && strings.Count(status, " yes ") == 3
		})
	}
	if got := ask(pods[2], "sub", "orders", "--count", "1"); !strings.Contains(got, "hello") {
		t.Errorf("after the move: %q", got)
	}
}
