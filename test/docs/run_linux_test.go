package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A said is what a command in a document prints, by the document.
type said struct {
	block   *block
	line    int
	command string
	lines   []string
}

// A script is what a document becomes.
type script struct {
	text     strings.Builder
	out      string // a directory: what commands print
	expected []said
}

func newScript(out string) *script {
	s := &script{out: out}
	fmt.Fprintf(&s.text, "set -euo pipefail\nexec 9>%s\nBASH_XTRACEFD=9 PS4='+ '\nset -x\n", filepath.Join(out, "trace"))
	return s
}

// add adds a block.
func (s *script) add(b *block) {
	switch text := strings.Join(b.lines, "\n"); b.kind {
	case "sh":
		s.text.WriteString(text + "\n")
	case "sh terminal":
		// Whoever reads sees when it is ready; the script sees that the port is open.
		port := "4567"
		if at := listens.FindStringSubmatch(text); at != nil {
			port = at[1]
		}
		fmt.Fprintf(&s.text, "(\n%s\n) & terminal=$!\nset +x; until (: </dev/tcp/127.0.0.1/%s) 2>/dev/null; do sleep 0.05; done; set -x\n", text, port)
	case "console":
		s.console(b)
	}
}

var listens = regexp.MustCompile(`--listen 127\.0\.0\.1:([0-9]+)`)

// console adds the commands of a block, each with its output in a file. Behind "> " a command goes on.
func (s *script) console(b *block) {
	command := ""
	flush := func() {
		if command != "" {
			file := filepath.Join(s.out, fmt.Sprint(len(s.expected)-1))
			fmt.Fprintf(&s.text, "{ %s\n} >%s 2>&1 || echo \"exit code $?\" >>%s\n", command, file, file)
		}
		command = ""
	}
	for n, line := range b.lines {
		switch {
		case strings.HasPrefix(line, "$ "):
			flush()
			command = strings.TrimPrefix(line, "$ ")
			s.expected = append(s.expected, said{b, b.line + n, command, nil})
		case strings.HasPrefix(line, "> ") && command != "":
			command += "\n" + strings.TrimPrefix(line, "> ")
		case command != "":
			last := &s.expected[len(s.expected)-1]
			last.lines = append(last.lines, line)
		}
	}
	flush()
}

// killed is what the shell says of a job that it misses, at any time.
var killed = regexp.MustCompile(`(?m)^\S+/script: line \d+: +\d+ (Killed|Terminated) .*\n`)

var spaces = regexp.MustCompile(`  +`)

// times are as the server writes them. The one in a document is that of the day when it was written.
var times = regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\?\.[0-9]+)?Z`)

// like makes of what a document shows an expression for what may be printed. How wide a column is says nothing.
func like(lines []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for _, line := range lines {
		line = strings.TrimRight(line, " ")
		if line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		var words []string
		for _, word := range spaces.Split(line, -1) {
			var parts []string
			for _, part := range strings.Split(word, "…") {
				parts = append(parts, times.ReplaceAllString(regexp.QuoteMeta(part), times.String()))
			}
			words = append(words, strings.Join(parts, ".*"))
		}
		b.WriteString(strings.Join(words, " +") + " *\n")
	}
	return regexp.MustCompile(b.String() + "$")
}

// compare compares what was printed with what the document says.
func (s *script) compare(t *testing.T) {
	t.Helper()
	for i, e := range s.expected {
		content, err := os.ReadFile(filepath.Join(s.out, fmt.Sprint(i)))
		if err != nil {
			t.Errorf("%s:%d: %s was not run", e.block.file, e.line, e.command)
			continue
		}
		want := strings.TrimRight(strings.Join(e.lines, "\n"), "\n ")
		got := strings.TrimRight(killed.ReplaceAllString(string(content), ""), "\n ")
		if want == "" && got == "" {
			continue
		}
		if !like(strings.Split(want, "\n")).MatchString(got + "\n") {
			t.Errorf("%s:%d: %s\nprints\n%s\nand the document says\n%s", e.block.file, e.line, e.command, got, want)
		}
	}
}

// last are the last lines of a text.
func last(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// documented runs a document.
func documented(t *testing.T, file string) {
	t.Helper()
	t.Parallel()
	s := newScript(t.TempDir())
	all := blocks(t, file)
	for i := range all {
		b := &all[i]
		if why := unrun(b); !b.runs() || why != "" {
			continue
		}
		if before, found := scenes[file+": "+b.first()]; found {
			s.text.WriteString(before + "\n")
		}
		for n, line := range b.lines {
			b.lines[n] = strings.NewReplacer(elsewhere...).Replace(line)
		}
		s.add(b)
	}
	log, err := shell(t, s.text.String())
	if err != nil {
		trace, _ := os.ReadFile(filepath.Join(s.out, "trace")) // where there is none the rest says enough
		t.Fatalf("%s: %v\nthe last commands:\n%s\nand what was said:\n%s", file, err, last(string(trace), 15), last(log, 30))
	}
	s.compare(t)
}

func TestDocuments(t *testing.T) {
	for _, file := range run {
		t.Run(file, func(t *testing.T) { documented(t, file) })
	}
}
