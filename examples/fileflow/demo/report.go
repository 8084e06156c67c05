package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// report compares what came out with what went in.
func report(s *stage, files []*file, took time.Duration) error {
	var analysed, late, lost, wrong int
	var size int64
	for _, f := range files {
		size += f.bytes
		if f.late {
			late++
		}
		raw, err := os.ReadFile(filepath.Join(s.path("results"), f.id+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			lost++
			continue
		}
		if err != nil {
			return err
		}
		analysed++
		var res flow.Result
		if json.Unmarshal(raw, &res) != nil || res.SHA256 != f.sha256 || res.Bytes != f.bytes || res.File != f.name {
			wrong++
		}
	}
	twice, err := countAgain(filepath.Join(s.path("results"), "again.txt"))
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name string
		n    int
		note string
	}{
		{"received", len(files), fmt.Sprintf("%.1f MB in %.1f s", float64(size)/1e6, took.Seconds())},
		{"broker away", late, "taken without it"},
		{"analysed", analysed, ""},
		{"delivered twice", twice, "analysed once"},
		{"wrong", wrong, ""},
		{"lost", lost, ""},
	} {
		fmt.Fprintf(w, "%s\t%d\t  %s\n", row.name, row.n, row.note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if lost > 0 || wrong > 0 {
		return fmt.Errorf("%d files lost, %d wrong", lost, wrong)
	}
	return nil
}

// countAgain counts the messages that the workers have seen again.
func countAgain(path string) (int, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	ids := map[string]bool{}
	for id := range strings.Lines(string(raw)) {
		ids[id] = true
	}
	return len(ids), nil
}
