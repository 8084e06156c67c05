package tidy

import (
	"go/ast"
	"go/token"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/config"
	"go.yaml.in/yaml/v3"
)

const (
	operationsDoc = "docs/operations.md"
	protocolDoc   = "docs/protocol.md"
)

// A key is documented by its full name, or by a YAML block that has it. And
// a YAML block that is a configuration has no other keys.
func TestEverySettingIsDocumented(t *testing.T) {
	text := read(t, operationsDoc)
	known := map[string]bool{}
	for _, key := range config.Keys() {
		for k := key; k != "."; k = parent(k) {
			known[k] = true
		}
	}
	shown := map[string]bool{}
	for _, block := range yamlBlocks(text) {
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(block), &root); err != nil {
			t.Errorf("%s: a YAML block cannot be read: %v\n%s", operationsDoc, err, block)
			continue
		}
		keys := yamlKeys(&root, "")
		if !slices.ContainsFunc(keys, func(k string) bool { return known[k] }) {
			continue // some other program's configuration
		}
		for _, key := range keys {
			shown[key] = true
			if !known[key] {
				t.Errorf("%s shows %s, which is no setting", operationsDoc, key)
			}
		}
	}
	for _, key := range config.Keys() {
		if !shown[key] && !mentions(text, key) {
			t.Errorf("%s does not explain %s", operationsDoc, key)
		}
	}
}

func parent(key string) string {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i]
	}
	return "."
}

var fencedYAML = regexp.MustCompile("(?ms)^```ya?ml\\s*$(.*?)^```\\s*$")

func yamlBlocks(text string) []string {
	var blocks []string
	for _, m := range fencedYAML.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

func yamlKeys(n *yaml.Node, prefix string) []string {
	var keys []string
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		return yamlKeys(n.Content[0], prefix)
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			key := prefix + n.Content[i].Value
			keys = append(keys, key)
			keys = append(keys, yamlKeys(n.Content[i+1], key+".")...)
		}
	}
	return keys
}

// mentions finds a name that is not a part of a longer one.
func mentions(text, name string) bool {
	return regexp.MustCompile(`(^|[^a-z0-9_.])` + regexp.QuoteMeta(name) + `($|[^a-z0-9_.]|\.($|[^a-z0-9_]))`).MatchString(text)
}

func TestEveryOperationAndCodeIsDocumented(t *testing.T) {
	text := read(t, protocolDoc)
	for _, list := range []struct {
		prefix, what string
		least        int // fewer than these means that this test has lost sight of them
	}{
		{"Op", "operation", 20},
		{"Code", "code", 20},
	} {
		names := wireNames(t, list.prefix)
		if len(names) < list.least {
			t.Errorf("only %d names of %ss were found in wire; this test must learn where they are now", len(names), list.what)
		}
		for _, name := range names {
			if !mentions(text, name) {
				t.Errorf("%s does not explain the %s %s", protocolDoc, list.what, name)
			}
		}
	}
}

// wireNames are the strings that belong to wire's constants with the prefix:
// their own values, or what a table has under them first.
func wireNames(t *testing.T, prefix string) []string {
	t.Helper()
	found := map[string]bool{}
	add := func(key, value ast.Expr) {
		name, ok := key.(*ast.Ident)
		if text := firstString(value); ok && text != "" && isNamed(name.Name, prefix) {
			found[text] = true
		}
	}
	for _, f := range sources(t).code {
		if f.dir != "wire" || f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				add(n.Key, n.Value)
			case *ast.GenDecl:
				for _, spec := range n.Specs {
					if s, ok := spec.(*ast.ValueSpec); ok && n.Tok == token.CONST {
						for i := range min(len(s.Names), len(s.Values)) {
							add(s.Names[i], s.Values[i])
						}
					}
				}
			}
			return true
		})
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func isNamed(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z'
}

func firstString(e ast.Expr) string {
	first := ""
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && first == "" {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				first = text
			}
		}
		return true
	})
	return first
}

var (
	fence   = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```\\s*$")
	inlines = regexp.MustCompile("`[^`\n]*`")
	links   = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?m)^\[[^\]]+\]:\s+(\S+)`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range sources(t).markdown {
		text := inlines.ReplaceAllString(fence.ReplaceAllString(read(t, doc), ""), "")
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			link, err := url.Parse(m[1] + m[2])
			if err != nil {
				t.Errorf("%s: %v", doc, err)
				continue
			}
			if link.Scheme != "" || link.Host != "" || link.Path == "" {
				continue
			}
			target := path.Join(path.Dir(doc), link.Path)
			if strings.HasPrefix(target, "../") || path.IsAbs(link.Path) {
				t.Errorf("%s links to %s, outside of the repository", doc, link)
			} else if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, link)
			}
		}
	}
}
