package tidy

import (
	"go/ast"
	"testing"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 70
)

// There is no list of exceptions: what is longer has a part with a name of its own.
func TestLengths(t *testing.T) {
	for _, f := range sources(t).code {
		if f.test {
			continue
		}
		if n := f.tokens.File(f.syntax.Pos()).LineCount(); n > maxFileLines {
			t.Errorf("%s has %d lines, at most %d are allowed", f.name, n, maxFileLines)
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			name := ""
			switch n := n.(type) {
			case *ast.FuncDecl:
				name = n.Name.Name
			case *ast.FuncLit:
				name = "a function literal"
			default:
				return true
			}
			if lines := f.line(n.End()) - f.line(n.Pos()) + 1; lines > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, at most %d are allowed", f.name, f.line(n.Pos()), name, lines, maxFunctionLines)
			}
			return true
		})
	}
}
