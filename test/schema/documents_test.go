package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/schema anew")

const root = "../.."

func TestDocumentsAreUpToDate(t *testing.T) {
	documents, err := Documents()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range documents {
		file := filepath.Join(root, name)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not say what the code says (%v); make schema UPDATE=1 writes it anew", name, err)
		}
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	known := fields()
	for _, op := range wire.Ops() {
		for _, name := range fieldsOf(wire.OpFields(op)) {
			if name != "id" && name != "messages" && known[name] == nil {
				t.Errorf("request.go does not describe the field %s of %s", name, op)
			}
		}
		if replies()[op] == nil {
			t.Errorf("reply.go does not describe the reply to %s", op)
		}
	}
}

// The document of AsyncAPI refers to what is there, and has every operation.
func TestAsyncAPI(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, AsyncFile))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	refs := 0
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if to, ok := v["$ref"].(string); ok {
				refs++
				in, path := any(doc), strings.TrimPrefix(to, "#/")
				if rest, ok := strings.CutPrefix(to, "./gmq.schema.json#/"); ok {
					in, path = Schema(), rest
				}
				for step := range strings.SplitSeq(path, "/") {
					next, _ := in.(map[string]any)
					if in = next[step]; in == nil {
						t.Fatalf("%s leads nowhere", to)
					}
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	operations := doc["operations"].(map[string]any)
	for _, name := range requestNames() {
		if operations[name] == nil {
			t.Errorf("there is no operation %s", name)
		}
	}
	if refs < 100 {
		t.Errorf("only %d references", refs)
	}
}

// compile gives the schema of a definition. A strict one refuses what the server says beyond the schema,
// so that nothing new stays out of it.
func compile(t *testing.T, strict bool) func(definition string) *jsonschema.Schema {
	t.Helper()
	raw, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if strict {
		tighten(doc)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:gmq:protocol:1", doc); err != nil {
		t.Fatal(err)
	}
	return func(definition string) *jsonschema.Schema {
		s, err := c.Compile("urn:gmq:protocol:1#/definitions/" + definition)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// tighten lets objects have no other fields than those that are named, where any are.
func tighten(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, fields := v["required"]
		if _, there := v["properties"]; there && fields && v["additionalProperties"] == nil && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, x := range v {
			tighten(x)
		}
	case []any:
		for _, x := range v {
			tighten(x)
		}
	}
}

// instance is a line as the validator wants it.
func instance(t *testing.T, line string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return v
}
