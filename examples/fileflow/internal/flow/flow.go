// Package flow owns what the web tier and the workers of fileflow agree on:
// the message, the result, and how a file is written so that it is there whole
// or not at all.
package flow

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
)

// Queue is where the messages go.
const Queue = "files"

// A Job is a message: a file has come in and wants to be analysed.
type Job struct {
	ID       string    `json:"id"`
	File     string    `json:"file"` // the name that its sender gave it
	Path     string    `json:"path"` // where it is, below the store
	Bytes    int64     `json:"bytes"`
	Received time.Time `json:"received"`
}

// A Result is what a worker found out.
type Result struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Type   string `json:"type"`            // by content
	Named  string `json:"named,omitempty"` // by extension
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Lines  int64  `json:"lines,omitempty"` // of text
	Words  int64  `json:"words,omitempty"` // of text
	Worker int    `json:"worker"`          // its process
}

// NewID makes the name of an upload; it is safe as a file name.
func NewID() string { return strings.ToLower(rand.Text()) }

// nameMax is how many bytes a file's name may have.
const nameMax = 512

// ValidName reports whether a sender may call a file so: a relative path that
// stays where it is, in plain text. It never becomes a path of ours, but it
// may become one of somebody who reads the results.
func ValidName(name string) bool {
	if len(name) > nameMax || name == "." || !fs.ValidPath(name) || !filepath.IsLocal(name) || !utf8.ValidString(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
}

// Create writes a file of that name, which must not be there yet: it is made
// durable under a name of its own first and then linked, so that it is seen
// whole or not at all, and of two writers one gets fs.ErrExist. It tells how
// many bytes there were.
func Create(path string, body io.Reader) (n int64, err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	n, err = io.Copy(tmp, body)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return n, err
	}
	if err = os.Link(tmp.Name(), path); err != nil {
		return n, err
	}
	return n, SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
