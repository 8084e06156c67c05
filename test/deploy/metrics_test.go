package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

func TestAlertsSayWhatTheyShould(t *testing.T) {
	promtool := need(t, "promtool")
	for _, arguments := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, arguments...)
		cmd.Dir = filepath.Join(root, "deploy/prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", arguments, err, out)
		}
	}
}

var metric = regexp.MustCompile(`\bgmq_[a-z0-9_]+`)

// What alerts and the dashboard ask for has to be a metric of the documented ones, or it never says anything.
func TestMetricsAreThere(t *testing.T) {
	documented := map[string]bool{}
	for _, name := range metric.FindAllString(read(t, "docs/operations.md"), -1) {
		documented[name] = true
	}
	for _, file := range []string{"deploy/prometheus/alerts.yaml", "deploy/prometheus/alerts_test.yaml", "deploy/grafana/gmq.json"} {
		for _, name := range metric.FindAllString(read(t, file), -1) {
			if !documented[name] {
				t.Errorf("%s asks for %s, of which docs/operations.md knows nothing", file, name)
			}
		}
	}
}

// A panel is one of Grafana's.
type panel struct {
	ID      int
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr, RefID string }
}

func dashboard(t *testing.T) []panel {
	t.Helper()
	var d struct {
		UID, Title string
		Panels     []panel
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/gmq.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || len(d.Panels) < 15 {
		t.Fatalf("uid %q, %d panels", d.UID, len(d.Panels))
	}
	return d.Panels
}

func TestDashboardIsWhole(t *testing.T) {
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range dashboard(t) {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q is not as it should be", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("%q lies over %q", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
	}
}

// The expressions are Prometheus's: as rules of which promtool reads each.
func TestDashboardExpressions(t *testing.T) {
	promtool := need(t, "promtool")
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	fill := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$queue", ".*")
	for _, p := range dashboard(t) {
		for i, target := range p.Targets {
			fmt.Fprintf(&rules, "  - {record: 'panel_%d_%d', expr: %q}\n", p.ID, i, fill.Replace(target.Expr))
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// always are there from the first scrape on; the others when what they count has happened.
var sometimes = []string{"gmq_mysql_up", "gmq_tls_", "gmq_errors_total", "gmq_requests_total"}

// A server that works has what the dashboard shows, and promtool finds nothing to mend in it.
func TestARealServersMetrics(t *testing.T) {
	server := serve(t, exec.Command(harness.Exe(t), "serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"))
	env := []string{"GMQ_SERVER=" + server.Listen}
	gmq(t, env, "pub", "orders", "hello")
	status, text := get(t, "http://"+server.Admin+"/metrics", nil, nil)
	if status != 200 {
		t.Fatal(status, text)
	}
	for _, p := range dashboard(t) {
	metrics:
		for _, name := range metric.FindAllString(fmt.Sprint(p.Targets), -1) {
			for _, s := range sometimes {
				if strings.HasPrefix(name, s) {
					continue metrics
				}
			}
			if !strings.Contains(text, "\n"+name) {
				t.Errorf("%s: the server has no %s", p.Title, name)
			}
		}
	}
	cmd := exec.Command(need(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
