package tidy

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bans are names that some files must not use, called or passed on.
var bans = []struct {
	from    string   // the import path
	names   []string // patterns as of path.Match
	where   func(*goFile) bool
	because string
}{
	{"time", []string{"Sleep"}, func(f *goFile) bool { return f.test || within(f.dir, "test") },
		"a test that sleeps is slow when all is well and fails when the machine is busy; wait for the event itself"},
	{"time", []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}, inCore,
		"time is a value in the core; it comes with the command"},
	{"fmt", []string{"Print", "Printf", "Println"}, inRooms,
		"only commands write to standard output; return it, or log it"},
	{"os", []string{"Exit"}, inRooms, "only commands end the process; return an error"},
	{"log", []string{"Fatal*", "Panic*"}, inRooms, "only commands end the process; return an error"},
	{"log", []string{"Print*"}, inRooms, "logs go through log/slog"},
}

func inCore(f *goFile) bool { return f.dir == "internal/queue" && !f.test }

// inRooms is everything that is imported by something else and is no test.
func inRooms(f *goFile) bool {
	return !f.test && f.syntax.Name.Name != "main" && !within(f.dir, "cmd") && !within(f.dir, "examples")
}

func TestBannedNames(t *testing.T) {
	for _, f := range sources(t).code {
		imports := f.importNames()
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if !ok || imports[pkg.Name] == "" {
				return true
			}
			for _, ban := range bans {
				if ban.from == imports[pkg.Name] && ban.where(f) && matches(ban.names, selector.Sel.Name) {
					t.Errorf("%s:%d: %s.%s: %s", f.name, f.line(n.Pos()), pkg.Name, selector.Sel.Name, ban.because)
				}
			}
			return true
		})
		for name, p := range imports {
			if name == "." {
				t.Errorf("%s: a dot import of %s hides where names come from", f.name, p)
			}
		}
	}
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name) // the patterns are constants
		return ok
	})
}

func TestTheCoreHasNoGoroutines(t *testing.T) {
	for _, f := range sources(t).code {
		if !inCore(f) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			what := ""
			switch n := n.(type) {
			case *ast.GoStmt:
				what = "a goroutine"
			case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				what = "a channel"
			case *ast.UnaryExpr:
				if n.Op == token.ARROW {
					what = "a channel"
				}
			}
			if what != "" {
				t.Errorf("%s:%d: %s in the core, which has one goroutine: its caller's", f.name, f.line(n.Pos()), what)
			}
			return true
		})
	}
}

// A panic is for what cannot happen, and its comment says why it cannot.
func TestPanicsAreExplained(t *testing.T) {
	for _, f := range sources(t).code {
		if f.test {
			continue
		}
		commented := map[int]bool{}
		for _, group := range f.syntax.Comments {
			for l := f.line(group.Pos()); l <= f.line(group.End()); l++ {
				commented[l] = true
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "panic" {
					if l := f.line(n.Pos()); !commented[l] && !commented[l-1] {
						t.Errorf("%s:%d: a panic without a comment on its line or the one before: return an error, or say why this cannot happen", f.name, l)
					}
				}
			}
			return true
		})
	}
}

// Written in halves, so that a plain search for them finds none here.
var leftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func TestNothingIsLeftOver(t *testing.T) {
	for _, f := range sources(t).code {
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				if mark := leftover.FindString(c.Text); mark != "" {
					t.Errorf("%s:%d: %s: do it, or write it down as an issue", f.name, f.line(c.Pos()), mark)
				}
			}
		}
	}
}

// A directory named for nothing in particular collects everything.
func TestDirectoriesHaveMeanings(t *testing.T) {
	for _, dir := range sources(t).dirs {
		if slices.Contains([]string{"util", "utils", "common", "base", "helper", "helpers", "misc"}, path.Base(dir)) {
			t.Errorf("%s: name the directory for what it holds", dir)
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	type described struct {
		comments []string
		code     bool
	}
	packages := map[string]*described{}
	for _, f := range sources(t).code {
		p := packages[f.dir]
		if p == nil {
			p = &described{}
			packages[f.dir] = p
		}
		p.code = p.code || !f.test
		if f.syntax.Doc != nil && strings.TrimSpace(f.syntax.Doc.Text()) != "" {
			p.comments = append(p.comments, f.name)
		}
	}
	for dir, p := range packages {
		switch {
		case len(p.comments) == 0:
			t.Errorf("%s: no file has a package comment; say in doc.go what the package owns and what it does not know", dir)
		case p.code && len(p.comments) > 1:
			t.Errorf("%s: several files have a package comment: %v", dir, p.comments)
		}
	}
}
