package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/gmq/gmq"
)

// A goFile is a parsed source; its names are relative to the repository.
type goFile struct {
	name   string // internal/queue/state.go
	dir    string // internal/queue
	test   bool
	syntax *ast.File
	tokens *token.FileSet
}

func (f *goFile) line(p token.Pos) int { return f.tokens.Position(p).Line }

// imports are the paths that the file imports.
func (f *goFile) imports() []string {
	var paths []string
	for _, s := range f.syntax.Imports {
		paths = append(paths, strings.Trim(s.Path.Value, "\"`"))
	}
	return paths
}

// importNames are the paths again, by the names that the file has for them.
func (f *goFile) importNames() map[string]string {
	names := map[string]string{}
	for i, p := range f.imports() {
		s := f.syntax.Imports[i]
		name := path.Base(p)
		if name == "v2" || name == "v3" {
			name = path.Base(path.Dir(p))
		}
		if s.Name != nil {
			name = s.Name.Name
		}
		names[name] = p
	}
	return names
}

// A tree is what all tests look at.
type tree struct {
	code     []*goFile
	markdown []string
	dirs     []string
}

var readTree = sync.OnceValues(func() (*tree, error) {
	t := &tree{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		base := path.Base(name)
		switch {
		case d.IsDir() && name != "." && (base[0] == '.' || base == "testdata" || base == "bin" || base == "gmq-data" || base == "node_modules"):
			return filepath.SkipDir
		case d.IsDir():
			t.dirs = append(t.dirs, name)
		case strings.HasSuffix(name, ".md"):
			t.markdown = append(t.markdown, name)
		case strings.HasSuffix(name, ".go"):
			f := &goFile{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), tokens: token.NewFileSet()}
			if f.syntax, err = parser.ParseFile(f.tokens, file, nil, parser.ParseComments); err != nil {
				return err
			}
			t.code = append(t.code, f)
		}
		return nil
	})
	sort.Slice(t.code, func(i, j int) bool { return t.code[i].name < t.code[j].name })
	return t, err
})

func sources(t *testing.T) *tree {
	t.Helper()
	tree, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// within reports whether dir is parent or lies below it.
func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}
