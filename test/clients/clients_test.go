package clients

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// need gives the path of a program, or skips the test.
func need(t *testing.T, program string) string {
	t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return file
}

func TestExamples(t *testing.T) {
	t.Parallel() // while the other one waits for leaders
	server := harness.Start(t, "")
	host, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	acked := int64(0)
	for _, x := range []struct{ program, file string }{
		{"bash", "hello.sh"}, {"python3", "hello.py"}, {"node", "hello.mjs"}, {"php", "hello.php"}, {"java", "Hello.java"},
	} {
		t.Run(x.file, func(t *testing.T) {
			cmd := exec.Command(need(t, x.program), x.file)
			cmd.Dir = filepath.Join(root, "examples/lines")
			cmd.Env = append(os.Environ(), "GMQ_HOST="+host, "GMQ_PORT="+port)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			acked++
			counts := server.Dial(t).OK(`{"op":"queue.info","queue":"hello"}`).At("counts")
			if counts.Int("published") != acked || counts.Int("acked") != acked || !bytes.Contains(out, []byte("settled")) {
				t.Errorf("after %d examples the queue has %s; the example said:\n%s", acked, counts.Raw, out)
			}
		})
	}
}

// A file is looked at with every line it has, so that "ten lines" stays true.
func TestExamplesAreShort(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples/lines/*ello.*"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > 14 {
			t.Errorf("%s has %d lines", file, n)
		}
	}
}

// The tests of the client are its own; this one brings a compiler and a server.
func TestTypeScript(t *testing.T) {
	t.Parallel()
	node, npm := need(t, "node"), need(t, "npm")
	dir := t.TempDir() // not where the sources are: nothing must be left there
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "clients/typescript"))); err != nil {
		t.Fatal(err)
	}
	run := func(program string, arguments ...string) ([]byte, error) {
		cmd := exec.Command(program, arguments...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GMQ_EXE="+harness.Exe(t))
		return cmd.CombinedOutput()
	}
	if out, err := run(npm, "ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"); err != nil {
		t.Skipf("the compiler cannot be fetched (npm ci: %v):\n%s", err, out)
	}
	if out, err := run(npm, "run", "--silent", "build"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests, err := filepath.Glob(filepath.Join(dir, "dist/test/*.test.js"))
	if err != nil || len(tests) < 2 {
		t.Fatalf("%v, %v", tests, err)
	}
	if out, err := run(node, append([]string{"--test", "--test-reporter=spec", "--test-concurrency=2"}, tests...)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
