package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
)

// sizeMax is the largest file that is sent; each is held in memory once.
const sizeMax = 16 << 20

// A file is one that is sent. Its uploader owns it until it is sent.
type file struct {
	name   string // below the folder
	path   string
	id     string // as the web tier calls it
	sha256 string
	bytes  int64
	late   bool // taken while the broker was away
}

// listFiles finds up to most files below dir.
func listFiles(dir string, most int) ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if len(files) == most {
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() || info.Size() > sizeMax {
			return nil // what has just gone, and what is no file, is not sent
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			files = append(files, &file{name: filepath.ToSlash(name), path: path})
		}
		return err
	})
	return files, err
}

// read gives the content and remembers what a worker will have to find out.
func (f *file) read() ([]byte, error) {
	body, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	f.sha256, f.bytes = hex.EncodeToString(sum[:]), int64(len(body))
	return body, nil
}
