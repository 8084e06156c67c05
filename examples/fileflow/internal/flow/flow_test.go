package flow

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a.txt": true, "dir/a.txt": true, "ä ö": true, "..a": true,
		"": false, ".": false, "..": false, "../a": false, "a/../../b": false, "/etc/passwd": false,
		"a//b": false, "a\\b": false, "a\nb": false, "a\x00": false, "\xff": false,
		strings.Repeat("x", nameMax+1): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestCreateIsWholeOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if n, err := Create(path, strings.NewReader("one")); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if _, err := Create(path, strings.NewReader("two")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a second one: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("gone")))
	if _, err := Create(filepath.Join(dir, "b"), broken); err == nil {
		t.Fatal("half a file was kept")
	}
	entries, _ := os.ReadDir(dir)
	if b, _ := os.ReadFile(path); string(b) != "one" || len(entries) != 1 {
		t.Fatalf("%q, %v", b, entries)
	}
}
