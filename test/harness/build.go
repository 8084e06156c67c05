// Package harness runs the real server for tests that look at it from outside: it builds the
// binary, starts, kills and restarts it, and talks to it in lines. It uses nothing of the
// server's code, so that a test cannot agree with the server by sharing its mistakes.
package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gmq/gmq/test/mariadb"
)

var (
	buildDir  string
	buildOnce sync.Once
	buildExe  string
	buildErr  error
)

// Main runs a package's tests and removes the binary that they had built. TestMain calls it.
func Main(m *testing.M) int {
	defer func() {
		if buildDir != "" {
			os.RemoveAll(buildDir)
		}
	}()
	return mariadb.Main(m.Run)
}

// Exe is the path of the server's binary: GMQ_EXE, or one that is built once per test process.
func Exe(t testing.TB) string {
	t.Helper()
	if exe := os.Getenv("GMQ_EXE"); exe != "" {
		return exe
	}
	buildOnce.Do(func() { buildExe, buildErr = build() })
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return buildExe
}

func build() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := noteSources(root); err != nil {
		return "", err
	}
	if buildDir, err = os.MkdirTemp("", "gmq-exe-"); err != nil {
		return "", err
	}
	exe := filepath.Join(buildDir, "gmq")
	cmd := exec.Command("go", "build", "-o", exe, "./cmd/gmq")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/gmq: %w\n%s", err, out)
	}
	return exe, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		// Tests that need more than the server does are modules of their own.
		if _, err := os.Stat(filepath.Join(dir, "cmd", "gmq")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no cmd/gmq above the working directory")
		}
		dir = up
	}
}

// noteSources looks at every source of the server. Go caches test results by the files a test
// has looked at, and would otherwise repeat the verdict on a server that has changed since.
func noteSources(root string) error {
	for _, dir := range []string{"cmd", "internal", "wire"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".sql") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			_, err = os.Stat(name)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
