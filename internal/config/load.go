package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FlagInsecure is the name under which Load takes Config.Insecure.
const FlagInsecure = "insecure"

// maxFileBytes is far more than any configuration; a wrong path (a device, a
// journal) is noticed before it is read into memory.
const maxFileBytes = 1 << 20

// Load puts together the configuration: a flag beats a GMQ_* variable, which
// beats the file, which beats the default. The file is read only if a path is given;
// env is what os.Environ gives; flags are values by key ("queue_defaults.storage"), those only that were given.
// The error tells everything that is wrong, a line each, and where it was said.
func Load(file string, env []string, flags map[string]string) (Config, error) {
	l := loader{config: Default(), said: map[string]string{}}
	if file != "" {
		if err := l.readFile(file); err != nil {
			return Config{}, err
		}
	}
	l.readEnv(env)
	l.readFlags(flags)
	l.config.TLS.complete()
	if m := l.config.Storage.MySQL; m != nil && m.Takeover == 0 {
		m.Takeover = defaultTakeover
	}
	for _, p := range l.config.problems() {
		l.problem(l.placeOf(p.key), p.key, p.text)
	}
	if err := errors.Join(l.errs...); err != nil {
		return Config{}, err
	}
	return l.config, nil
}

type loader struct {
	config Config
	said   map[string]string // key → the place that set it last
	errs   []error
}

// placeOf is where a key was set, or the section in which it is missing.
func (l *loader) placeOf(key string) string {
	place := l.said[key]
	if i := strings.LastIndexByte(key, '.'); place == "" && i > 0 {
		return l.said[key[:i]]
	}
	return place
}

func (l *loader) problem(place, key, text string) {
	if place != "" {
		place += ": "
	}
	l.errs = append(l.errs, fmt.Errorf("%s%s: %s", place, key, text))
}

func (l *loader) readFile(file string) error {
	data, err := readAll(file)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := decoder.Decode(&root); err == io.EOF {
		return nil // an empty file changes nothing
	} else if err != nil {
		return fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); err != io.EOF {
		return fmt.Errorf("%s: want one YAML document, and something follows the first", file)
	}
	l.readSection(file, reflect.ValueOf(&l.config).Elem(), root.Content[0], "")
	return nil
}

func readAll(file string) ([]byte, error) {
	f := os.Stdin
	// Opening /dev/stdin anew fails where it is a socket.
	if file != "/dev/stdin" && file != "-" {
		var err error
		if f, err = os.Open(file); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s: a configuration has at most %d bytes", file, maxFileBytes)
	}
	return data, nil
}

// readSection does what the decoder's KnownFields would, but with the full
// name of the key, a suggestion, and the place of every value kept for later.
func (l *loader) readSection(file string, v reflect.Value, n *yaml.Node, prefix string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // "limits:" with all its lines commented out
	}
	place := func(n *yaml.Node) string { return file + ":" + strconv.Itoa(n.Line) }
	if n.Kind != yaml.MappingNode {
		l.noSection(place(n), strings.TrimSuffix(prefix, "."), v.Type())
		return
	}
	seen := map[string]int{}
	v = section(v)
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		field, ok := fieldNamed(v, name.Value)
		switch first, again := seen[name.Value]; {
		case !ok:
			l.problem(place(name), key, "unknown key"+suggestKey(v.Type(), prefix, name.Value))
			continue
		case again:
			l.problem(place(name), key, fmt.Sprintf("was set in line %d already", first))
			continue
		}
		seen[name.Value] = name.Line
		l.said[key] = place(name)
		if sectionType(field.Type()) != nil {
			l.readSection(file, field, value, key+".")
		} else if err := setValue(field, value); err != nil {
			l.problem(place(name), key, err.Error())
		}
	}
}

// noSection tells that something else stands where a section of type t belongs: which keys it has, and whether another section has a setting of its
// name. What stands there is not repeated, as it might be a password.
func (l *loader) noSection(place, key string, t reflect.Type) {
	text := "want a section with keys in it: " + strings.Join(keysOf(t), ", ")
	if key == "" {
		key = "configuration"
	} else {
		text += elsewhere(key, key)
	}
	l.problem(place, key, text)
}

// keysOf are the keys of the section of type t, in the order of the struct.
func keysOf(t reflect.Type) []string {
	var keys []string
	t = sectionType(t)
	for i := range t.NumField() {
		if tag := tagName(t.Field(i)); tag != "" {
			keys = append(keys, tag)
		}
	}
	return keys
}

// elsewhere is the end of an error about a key: another one that has the same name in its section.
func elsewhere(key, name string) string {
	for _, other := range Keys() {
		if other != key && strings.HasSuffix(other, "."+name) {
			return "; did you mean " + other + "?"
		}
	}
	return ""
}

func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if name != "" && tagName(v.Type().Field(i)) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// suggestKey looks in the section first, then for the same name in another one.
func suggestKey(t reflect.Type, prefix, name string) string {
	if hint := didYouMean(name, keysOf(t)); hint != "" {
		return hint
	}
	return elsewhere(prefix+name, name)
}

// notSettings are the GMQ_* variables that mean something else.
var notSettings = []string{"GMQ_ADMIN_PASSWORD", "GMQ_SERVER", "GMQ_CONTEXT", "GMQ_USER", "GMQ_PASSWORD", "GMQ_TOKEN", "GMQ_EXE", "GMQ_TEST_*"}

// kubernetesLinks matches what Kubernetes puts into the environment of every
// container beside a service called "gmq" or "gmq-something".
var kubernetesLinks = regexp.MustCompile(`^GMQ_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// EnvName is the variable that sets a key.
func EnvName(key string) string {
	return "GMQ_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (l *loader) readEnv(env []string) {
	var names []string
	byName := map[string]setting{}
	for _, s := range settings {
		names = append(names, EnvName(s.key))
		byName[EnvName(s.key)] = s
	}
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		s, ok := byName[name]
		switch {
		case ok:
			l.set(s, name, value)
		case !strings.HasPrefix(name, "GMQ_") || isOther(name) || kubernetesLinks.MatchString(name):
		default:
			l.errs = append(l.errs, fmt.Errorf("%s: unknown variable%s", name, didYouMean(name, names)))
		}
	}
}

func isOther(name string) bool {
	return slices.ContainsFunc(notSettings, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // the patterns are constants
		return ok
	})
}

func (l *loader) readFlags(flags map[string]string) {
	byKey := map[string]setting{}
	for _, s := range settings {
		byKey[s.key] = s
	}
	keys := make([]string, 0, len(flags))
	for key := range flags {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		if key == FlagInsecure {
			on, err := strconv.ParseBool(flags[key])
			if err != nil {
				l.problem("flag", key, "want true or false")
			}
			l.config.Insecure = on
			continue
		}
		s, ok := byKey[key]
		if !ok {
			l.problem("flag", key, "unknown key"+didYouMean(key, Keys()))
			continue
		}
		l.set(s, "flag", flags[key])
	}
}

func (l *loader) set(s setting, place, value string) {
	l.said[s.key] = place
	if err := s.set(&l.config, value); err != nil {
		l.problem(place, s.key, err.Error())
	}
}
