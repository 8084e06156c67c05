package sim

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// faultVariable is the environment's variable that says which fault a binary has: the number of one that was planted.
const faultVariable = "GMQ_SIM_FAULT"

// buildMutants builds the tests of this package with all faults, none of which is there before faultVariable says so.
func buildMutants(t *testing.T, all []mutant) (binary string) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	planted, err := plant(root, all)
	if err != nil {
		t.Fatal(err)
	}
	dir, overlay := t.TempDir(), map[string]string{}
	for name, text := range planted {
		file := filepath.Join(dir, fmt.Sprint(len(overlay), ".go"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, name)] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "probe.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./internal/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the faults do not build: %v\n%s", err, out)
	}
	return binary
}

// plant gives the files that hold all faults, by their names below the root, and for each package the file that says which of them is there.
func plant(root string, all []mutant) (map[string]string, error) {
	changed := map[string]map[int]string{} // by file, by number of the mutant
	for i, m := range all {
		texts, err := m.texts(root)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		for name, text := range texts {
			if changed[name] == nil {
				changed[name] = map[int]string{}
			}
			changed[name][i+1] = text
		}
	}
	planted := map[string]string{}
	for name, faults := range changed {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		f, err := bodies(string(text))
		if err != nil {
			return nil, err
		}
		if planted[name], err = f.plant(faults); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		planted[path.Join(path.Dir(name), "sim_fault.go")] = fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar simFault, _ = strconv.Atoi(os.Getenv(%q))\n",
			f.name, faultVariable)
	}
	return planted, nil
}

// A goFile is a file's text and its functions.
type goFile struct {
	text, name string // name: of the package
	functions  []function
}

// A function is where its body lies, without the braces.
type function struct {
	from, to int
	results  bool
}

func bodies(text string) (*goFile, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s := &goFile{text: text, name: file.Name.Name}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			s.functions = append(s.functions, function{files.Position(f.Body.Lbrace).Offset + 1, files.Position(f.Body.Rbrace).Offset, f.Type.Results != nil})
		}
	}
	return s, nil
}

// plant puts the bodies of changed functions in front of the real ones, each behind the number of its fault.
func (s *goFile) plant(faults map[int]string) (string, error) {
	changed := map[int]*goFile{}
	for number, text := range faults {
		c, err := bodies(text)
		if err != nil {
			return "", err
		}
		if !slices.Equal(s.between(), c.between()) {
			return "", fmt.Errorf("fault %d changes more than the bodies of functions", number)
		}
		changed[number] = c
	}
	var out strings.Builder
	at := 0
	for i, f := range s.functions {
		out.WriteString(s.text[at:f.from])
		at = f.from
		for _, number := range slices.Sorted(maps.Keys(changed)) {
			body := changed[number].body(i)
			if body == s.body(i) {
				continue
			}
			if !f.results {
				body += "\nreturn\n"
			}
			fmt.Fprintf(&out, "\nif simFault == %d {%s\n}\n", number, body)
		}
	}
	return out.String() + s.text[at:], nil
}

func (s *goFile) body(i int) string { return s.text[s.functions[i].from:s.functions[i].to] }

// between is what lies in front of functions' bodies, and behind the last one.
func (s *goFile) between() (parts []string) {
	at := 0
	for _, f := range s.functions {
		parts = append(parts, s.text[at:f.from])
		at = f.to
	}
	return append(parts, s.text[at:])
}
