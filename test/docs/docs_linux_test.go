package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/gmq/gmq/test/harness"
	"golang.org/x/sys/unix"
)

const (
	root = "../.."
	// inside makes this test binary the program that sets up the network, and then becomes the shell.
	inside = "inside-the-network"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == inside {
		err := becomeShell(os.Args[2])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(77)
	}
	os.Exit(harness.Main(m))
}

// becomeShell switches the loopback interface on, which a new network has off, and runs the script.
func becomeShell(script string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	request := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: unix.IFF_UP | unix.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	shell, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	return syscall.Exec(shell, []string{"bash", script}, os.Environ())
}

// A said is what a command in a document prints, by the document.
type said struct {
	line    int
	command string
	lines   []string
}

// script makes a program of a document's blocks. What console commands print goes into files in out.
func script(text, out string) (string, []said) {
	var b strings.Builder
	var expected []said
	b.WriteString("set -euo pipefail\n")
	kind, command := "", ""
	flush := func() {
		if command != "" {
			fmt.Fprintf(&b, "{ %s\n} >%s/%d 2>&1 || echo \"exit code $?\" >>%s/%d\n", command, out, len(expected)-1, out, len(expected)-1)
		}
		command = ""
	}
	for n, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case kind == "" && (trimmed == "```sh" || trimmed == "```console"):
			kind = strings.TrimPrefix(trimmed, "```")
		case kind == "" && strings.HasPrefix(trimmed, "```"):
			kind = "other"
		case trimmed == "```":
			flush()
			kind = ""
		case kind == "sh":
			b.WriteString(line + "\n")
		case kind == "console" && strings.HasPrefix(line, "$ "):
			flush()
			command = strings.TrimPrefix(line, "$ ")
			expected = append(expected, said{n + 1, command, nil})
		case kind == "console" && len(expected) > 0:
			expected[len(expected)-1].lines = append(expected[len(expected)-1].lines, line)
		}
	}
	return b.String(), expected
}

// run runs a script in a directory in which a clone is pretended to be: go.mod and what a client needs are there,
// and make build puts the binary under test into bin.
func run(t *testing.T, text, dir string) ([]byte, error) {
	t.Helper()
	tools := t.TempDir()
	fake := "#!/bin/sh\n[ \"$*\" = build ] || { echo \"this make builds only\" >&2; exit 1; }\nmkdir -p bin && cp '" + harness.Exe(t) + "' bin/gmq\n"
	file := filepath.Join(tools, "script")
	for name, content := range map[string]string{"make": fake, "script": text} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"client", "wire"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], inside, file)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GMQ_") && !strings.HasPrefix(e, "PATH=") && !strings.HasPrefix(e, "XDG_CONFIG_HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+tools+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+tools, "GOPROXY=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	var log bytes.Buffer
	output, err := os.CreateTemp(tools, "log") // a file: the background keeps it open, and nobody waits for its end
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Skipf("this system gives no network of its own: %v", err)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	err = cmd.Wait()
	if content, readErr := os.ReadFile(output.Name()); readErr == nil {
		log.Write(content)
	}
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("this system gives no network of its own: %s", log.Bytes())
	}
	return log.Bytes(), err
}

// like reports whether a line is what the document says, in which … is anything.
func like(want, got string) bool {
	parts := strings.Split(strings.TrimRight(want, " "), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(strings.TrimRight(got, " "))
}

// check runs a document and compares what it prints.
func check(t *testing.T, name string, edit func(string) string) {
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	text, expected := script(edit(string(raw)), out)
	log, err := run(t, text, t.TempDir())
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, log)
	}
	for i, e := range expected {
		content, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		if err != nil {
			t.Errorf("%s:%d: %s was not run", name, e.line, e.command)
			continue
		}
		got := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
		want := strings.Split(strings.TrimRight(strings.Join(e.lines, "\n"), "\n"), "\n")
		same := len(got) == len(want)
		for k := 0; same && k < len(want); k++ {
			same = like(want[k], got[k])
		}
		if !same {
			t.Errorf("%s:%d: %s\nprints\n%s\nand the document says\n%s", name, e.line, e.command, content, strings.Join(e.lines, "\n"))
		}
	}
	if len(expected) == 0 && !strings.Contains(text, "\n") {
		t.Errorf("%s has no commands", name)
	}
}

func asItStands(text string) string { return text }

func TestTutorial(t *testing.T) { check(t, "docs/tutorial.md", asItStands) }

func TestGuide(t *testing.T) { check(t, "docs/guide.md", asItStands) }

func TestUpgrade(t *testing.T) { check(t, "docs/upgrade.md", asItStands) }
