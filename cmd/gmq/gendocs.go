//go:build gendocs

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// With the tag the binary is another program: it writes the manual pages, and the completions of the shells, into
// the directory that is its only argument. The server's own binary has none of the code that this takes.
func init() {
	if err := writeDocs(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(exitError)
	}
	os.Exit(exitOK)
}

func writeDocs(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one directory is needed, not %q", args)
	}
	// The date on the pages is that of the source, so that the same source gives the same pages.
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH must be the time of the source in seconds: %w", err)
	}
	date := time.Unix(seconds, 0).UTC()
	root := newRoot()
	root.DisableAutoGenTag = true
	man := filepath.Join(args[0], "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
	}
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &date, Source: "GMQ", Manual: "GMQ"}, man); err != nil {
		return err
	}
	for name, write := range map[string]func(*cobra.Command, io.Writer) error{
		"gmq.bash": func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
		"_gmq":     (*cobra.Command).GenZshCompletion,
		"gmq.fish": func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
	} {
		if err := writeCompletion(filepath.Join(args[0], "completion", name), root, write); err != nil {
			return err
		}
	}
	return nil
}

func writeCompletion(name string, root *cobra.Command, write func(*cobra.Command, io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(root, f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
