package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"go.yaml.in/yaml/v3"
)

// contexts are the servers that somebody has given names to.
type contexts struct {
	Current  string            `yaml:"current,omitempty"` // used where nothing else is said
	Contexts map[string]target `yaml:"contexts"`
}

// contextsFile is where they are kept.
func contextsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("contexts: %w", err)
	}
	return filepath.Join(dir, "gmq", "contexts.yaml"), nil
}

// loadContexts reads them; where there is no file there are none. A file that others may read is
// refused: there may be a token in it.
func loadContexts() (*contexts, error) {
	all := &contexts{Contexts: map[string]target{}}
	name, err := contextsFile()
	if err != nil {
		return all, nil // neither HOME nor XDG_CONFIG_HOME: nothing can have been kept
	}
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("contexts: %w", err)
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("contexts: others may read %s (mode %04o), and it may hold secrets; mend it with: chmod 600 %s", name, mode, name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("contexts: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(all); err != nil {
		// The decoder's error may quote a value, which may be a secret.
		where := ""
		if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
			line, _, _ := strings.Cut(rest, ":")
			where = ":" + line
		}
		return nil, fmt.Errorf("contexts: %s%s is not what gmq context writes; mend or remove it", name, where)
	}
	if all.Contexts == nil {
		all.Contexts = map[string]target{}
	}
	return all, nil
}

// save replaces the file as a whole.
func (c *contexts) save() error {
	name, err := contextsFile()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".contexts-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("contexts: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// findContext is the context of that name, or with "" the one that is used as a rule; nil where there is none.
func findContext(name string) (*target, error) {
	all, err := loadContexts()
	if err != nil {
		return nil, err
	}
	if name == "" {
		if name = all.Current; name == "" {
			return nil, nil
		}
	}
	t, ok := all.Contexts[name]
	if !ok {
		return nil, usage("there is no context %q; see: gmq context ls", name)
	}
	return &t, nil
}
