package deploy

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// systemd reads the unit without a complaint, and finds it closed enough.
func TestUnit(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	text := read(t, "deploy/systemd/gmq.service")
	file := filepath.Join(t.TempDir(), "gmq.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/bin/gmq", harness.Exe(t))), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", file).CombinedOutput()
	var complaints []string
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "man gmq(1)") { // the page comes with the package
			complaints = append(complaints, line)
		}
	}
	if len(complaints) > 0 || err != nil && len(out) == 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, complaints)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", file).CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Errorf("systemd-analyze security: %v\n%s", err, lines[len(lines)-1])
	}
}

// The stop has to outlast the drain, the files the connections.
func TestUnitFitsTheDefaults(t *testing.T) {
	unit, settings := read(t, "deploy/systemd/gmq.service"), gmq(t, nil, "config", "show")
	number := func(text, pattern string) int {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("there is no %s in\n%s", pattern, text)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if stop, drain := number(unit, `TimeoutStopSec=(\d+)`), number(settings, `drain_timeout: (\d+)s`); stop < drain+5 {
		t.Errorf("TimeoutStopSec is %d, drain_timeout %d s", stop, drain)
	}
	if files, connections := number(unit, `LimitNOFILE=(\d+)`), number(settings, `max_connections: (\d+)`); files < connections+1000 {
		t.Errorf("LimitNOFILE is %d, max_connections %d", files, connections)
	}
}

func TestPackagedConfiguration(t *testing.T) {
	out := gmq(t, nil, "config", "check", filepath.Join(root, "deploy/systemd/gmq.yaml"))
	if strings.Contains(out, "unknown") {
		t.Error(out)
	}
}

// An image from scratch holds the binary and an empty directory, and nothing else: so does this root directory.
func TestImage(t *testing.T) {
	dockerfile := read(t, "deploy/docker/Dockerfile")
	for line := range strings.Lines(dockerfile) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[0] == "COPY" && fields[1] != "bin/gmq" {
			if _, err := os.Stat(filepath.Join(root, fields[len(fields)-2])); err != nil {
				t.Error(err)
			}
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root may chroot")
	}
	dir := t.TempDir()
	for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
		os.Chmod(up, 0o755) // others than root have to get in
	}
	exe, err := os.ReadFile(harness.Exe(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gmq"), exe, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "data"), 65532, 65532); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/gmq", "serve", "--data", "/data/queues", "--listen", "127.0.0.1:0", "--admin", "off")
	cmd.Dir, cmd.Env = "/data", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	server := serve(t, cmd)
	gmq(t, []string{"GMQ_SERVER=" + server.Listen}, "pub", "orders", "hello")
	server.stop()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
}

func TestImageByDocker(t *testing.T) {
	docker := need(t, "docker")
	if out, err := exec.Command(docker, "info").CombinedOutput(); err != nil {
		t.Skipf("there is no Docker daemon: %.200s", out)
	}
	dir := t.TempDir()
	for _, path := range []string{"bin", "deploy/docker/data"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile(harness.Exe(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/gmq"), exe, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(docker, "build", "-q", "-f", "-", dir)
	build.Stdin = strings.NewReader(read(t, "deploy/docker/Dockerfile"))
	image, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, image)
	}
	out, err := exec.Command(docker, "run", "--rm", strings.TrimSpace(string(image)), "version").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// otherAddress is another loopback address, as a new pod has another one; not every system has it.
func otherAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	}
	l.Close()
	return "127.0.0.2"
}
