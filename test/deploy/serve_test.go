package deploy

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// A process is a server with an admin address.
type process struct {
	cmd           *exec.Cmd
	Listen, Admin string
}

// serve runs a command that is a server, and waits until it is ready.
func serve(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(p.stop)
	lines := bufio.NewScanner(stderr)
	var log []string
	for lines.Scan() {
		log = append(log, lines.Text())
		var line struct{ Msg, Listen, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			p.Listen, p.Admin = line.Listen, line.Admin
			go io.Copy(io.Discard, stderr)
			return p
		}
	}
	t.Fatalf("the server was not ready:\n%s", strings.Join(log, "\n"))
	return nil
}

// stop ends the process in good order; it may be called again.
func (p *process) stop() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
	}
}

// gmq runs a command of the binary.
func gmq(t *testing.T, env []string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(harness.Exe(t), arguments...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gmq %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// get asks the admin address.
func get(t *testing.T, url string, config *tls.Config, header http.Header) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: harness.Patience}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range header {
		request.Header.Set(name, header.Get(name))
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// read gives a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// need gives the path of a program, from the path or from bin, or skips the test.
func need(t *testing.T, program string) string {
	t.Helper()
	if file, err := filepath.Abs(filepath.Join(root, "bin", program)); err == nil {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	file, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return file
}
