package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A block is a part of a document in which somebody reads commands, or might.
type block struct {
	file  string
	line  int    // of its first line within
	kind  string // what stands behind ```; "indented" where it is four spaces that make the block
	lines []string
}

// first is the first line that says something: what the tables of this package know a block by.
func (b *block) first() string {
	for _, l := range b.lines {
		if l = strings.TrimSpace(l); l != "" {
			return l
		}
	}
	return ""
}

func (b *block) runs() bool { return b.kind == "sh" || b.kind == "sh terminal" || b.kind == "console" }

// blocks are those of a document.
func blocks(t testing.TB, file string) (all []block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	for i := 0; i < len(lines); i++ {
		fence, fenced := strings.CutPrefix(strings.TrimSpace(lines[i]), "```")
		indented := strings.HasPrefix(lines[i], "    ") && (i == 0 || strings.TrimSpace(lines[i-1]) == "")
		switch {
		case fenced:
			b := block{file: file, line: i + 2, kind: fence}
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
				b.lines = append(b.lines, lines[i])
			}
			all = append(all, b)
		case indented:
			b := block{file: file, line: i + 1, kind: "indented"}
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || strings.TrimSpace(lines[i]) == ""); i++ {
				b.lines = append(b.lines, strings.TrimPrefix(lines[i], "    "))
			}
			i--
			all = append(all, b)
		}
	}
	return all
}

// programs are what commands begin with, in blocks that do not say that they are commands.
var programs = regexp.MustCompile(`^(\$ |(bin/)?gmq [a-z]|make [a-z]|go (run|build|test|install|get) |(bash|sh|python3|node|npm|php|java|curl|nc|printf|sudo|apt|apt-get|systemctl|docker|kubectl|helm|sha256sum|openssl|ssh|tar|promtool) )`)

// commands reports whether a block has commands in it, whatever it is called.
func (b *block) commands() bool {
	if b.runs() {
		return true
	}
	if b.kind != "" && b.kind != "indented" && b.kind != "bash" && b.kind != "shell" {
		return false // Go, SQL, YAML, …
	}
	for _, l := range b.lines {
		if programs.MatchString(strings.TrimSpace(l)) {
			return true
		}
	}
	return false
}

// documents are all of the repository.
func documents(t testing.TB) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "dist" || d.Name() == "bin" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".md") {
			all = append(all, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
