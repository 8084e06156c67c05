package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
)

// unfinishedFile is there while a directory is neither what it was nor what it
// is to be: while a repair moves files, or a restore writes them. Nothing may be served of it then.
func unfinishedFile(dir string) string { return filepath.Join(dir, "UNFINISHED") }

// What the file begins with.
const (
	unfinishedRepair  = "gmq repair\n"
	unfinishedRestore = "gmq restore\n"
)

// unfinished is an error where the directory is not whole.
func unfinished(fsys vfs.FS, dir string) error {
	name := unfinishedFile(dir)
	if _, err := fsys.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	data, err := vfs.ReadFile(fsys, name, maxPlan)
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(string(data), unfinishedRepair):
		return fmt.Errorf("%s: a repair was interrupted; finish it with: gmq journal repair --yes", name)
	}
	return fmt.Errorf("%s: a restore was interrupted; remove the directory and restore again", name)
}
