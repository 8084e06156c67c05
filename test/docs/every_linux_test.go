package docs

import (
	"slices"
	"strings"
	"testing"
)

// run are the documents of which the blocks are run.
var run = []string{"README.md", "SECURITY.md", "docs/cluster.md", "docs/guide.md", "docs/operations.md", "docs/tutorial.md", "docs/upgrade.md"}

// A reason is why a block is not run. One without a block is for all of the document's.
type reason struct{ file, first, why string }

var reasons = []reason{
	{"CONTRIBUTING.md", "make build", "make test takes minutes; it is what runs this"},
	{"deploy/README.md", "make dist", "a package is installed by root, and a service started: test/deploy unpacks and runs what is in it"},
	{"deploy/README.md", "sha256sum", "there is no release here: make reproduce checks one"},
	{"docs/operations.md", "publishers", "a picture"},
	{"docs/operations.md", "$ gmq cluster token", "the token is another one each time, and the machine another one: docs/guide.md lets nodes join"},
	{"docs/operations.md", "$ gmq cluster recover", "cmd/gmq TestClusterCommands loses a majority and recovers"},
	{"docs/operations.md", "$ gmq context add", "it names a server of somebody else's: docs/guide.md adds a context and uses it"},
	{"docs/performance.md", "", "they measure for minutes: cmd/gmq TestBench has gmq bench at work"},
	{"examples/fileflow/README.md", "make demo", "it takes a minute: the tests beside it have the parts at work"},
	{"examples/fileflow/README.md", "gmq serve", "the same"},
	{"examples/lines/README.md", "", "make clients runs them"},
}

// unrun is why a block is not run; "" where it is to be.
func unrun(b *block) string {
	for _, r := range reasons {
		if r.file == b.file && (r.first == "" || strings.HasPrefix(b.first(), r.first)) {
			return r.why
		}
	}
	return ""
}

// Every command that somebody may read and type is run here, or it is said why not.
func TestEveryCommand(t *testing.T) {
	used := map[reason]bool{}
	here := map[string]bool{}
	for _, file := range documents(t) {
		for _, b := range blocks(t, file) {
			here[file+": "+b.first()] = true
			if !b.commands() {
				continue
			}
			if why := unrun(&b); why != "" {
				for _, r := range reasons {
					used[r] = used[r] || r.file == file && (r.first == "" || strings.HasPrefix(b.first(), r.first))
				}
				continue
			}
			if !b.runs() {
				t.Errorf("%s:%d: %q is a command, and the block is none that is run (```sh, ```console): make it one, or say here why not", file, b.line, b.first())
			} else if !slices.Contains(run, file) {
				t.Errorf("%s:%d: %q is not run, for the document is not among those that are", file, b.line, b.first())
			}
		}
	}
	for _, r := range reasons {
		if !used[r] {
			t.Errorf("%s has no block %q that would need a reason", r.file, r.first)
		}
	}
	for scene := range scenes {
		if !here[scene] {
			t.Errorf("there is a scene for %q, and no such block", scene)
		}
	}
}
