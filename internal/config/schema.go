package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A setting is one key that holds a value, as opposed to a section.
type setting struct {
	key   string // limits.max_queues
	index []int  // the way to its field, one step per section
}

// settings are all of them, in the order of the structs. They are read off
// the yaml tags, so that file, environment, Diff and documentation cannot
// disagree about what there is.
var settings = settingsOf(reflect.TypeFor[Config](), "", nil)

func settingsOf(t reflect.Type, prefix string, index []int) []setting {
	var all []setting
	for i := range t.NumField() {
		name := tagName(t.Field(i))
		if name == "" {
			continue
		}
		here := append(slices.Clone(index), i)
		if section := sectionType(t.Field(i).Type); section != nil {
			all = append(all, settingsOf(section, prefix+name+".", here)...)
			continue
		}
		all = append(all, setting{key: prefix + name, index: here})
	}
	return all
}

// Keys are the names of all settings, with dots between section and key.
func Keys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return keys
}

func tagName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// sectionType is the struct behind t, or nil where t holds a value.
func sectionType(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		return t
	}
	return nil
}

// get is the setting's value; nil where its section is not there.
func (s setting) get(c *Config) any {
	v := reflect.ValueOf(c)
	for _, i := range s.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v.Interface()
}

// set reads the value from a text, as the file would; the section is made
// where it is not there.
func (s setting) set(c *Config, text string) error {
	v := reflect.ValueOf(c).Elem()
	for _, i := range s.index {
		v = section(v).Field(i)
	}
	return setValue(v, &yaml.Node{Kind: yaml.ScalarNode, Value: text})
}

// section is the struct itself where v is one, else the struct that v points
// to, made if need be.
func section(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// setValue does not repeat what it was given where a text is wanted: it might
// be a password.
func setValue(v reflect.Value, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("want %s, not a section or a list", wanted(v))
	}
	if v.Kind() == reflect.String {
		if n.Value == "" || (n.Line > 0 && n.ShortTag() == "!!null") {
			return errors.New("has no value")
		}
		v.SetString(n.Value)
		return nil
	}
	if n.Value == "" || n.ShortTag() == "!!null" {
		return fmt.Errorf("has no value; want %s", wanted(v))
	}
	if own, ok := v.Addr().Interface().(yaml.Unmarshaler); ok {
		return own.UnmarshalYAML(n)
	}
	// The decoder would cut 1.5 down to 1.
	if n.Decode(v.Addr().Interface()) != nil || v.CanInt() && n.ShortTag() != "!!int" {
		return fmt.Errorf("want %s, not %q", wanted(v), n.Value)
	}
	return nil
}

func wanted(v reflect.Value) string {
	switch v.Interface().(type) {
	case Size:
		return "a size such as 64KiB"
	case Duration:
		return "a duration such as 30s"
	case bool:
		return "true or false"
	case float64:
		return "a number"
	case string:
		return "a text"
	default:
		return "a whole number"
	}
}

// didYouMean is the end of an error about an unknown name: the nearest of the
// names that would have been right, if one is near.
func didYouMean(name string, names []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, n := range names {
		if d := editDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance counts the letters to insert, delete or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
