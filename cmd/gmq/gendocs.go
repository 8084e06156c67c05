//go:build gendocs

package main

import (
	"errors"
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
	if err := appendTo(filepath.Join(man, "gmq.1"), forAll); err != nil {
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

// forAll is what holds for every command, as manual pages have it at their end.
const forAll = `
.SH EXIT STATUS
.TP
.B 0
done, or stopped by a signal
.TP
.B 1
an error, which is one line on standard error
.TP
.B 2
an unknown command, flag or argument
.TP
.B 3
no connection to the server
.TP
.B 4
not allowed
.TP
.B 5
no such queue, message, user, node

.SH ENVIRONMENT
.TP
.B GMQ_SERVER, GMQ_CONTEXT, GMQ_USER
as the flags of these names
.TP
.B GMQ_PASSWORD, GMQ_TOKEN
how to log in; there are no flags for these, as others can read flags
.TP
.B GMQ_LISTEN, GMQ_LIMITS_MAX_QUEUES and so on
settings of \fBgmq serve\fP: GMQ_, and the key with underscores. \fBgmq config show\fP lists the keys.

.SH FILES
.TP
.B ~/.config/gmq/contexts.yaml
the contexts (gmq\-context(1))
.TP
.B ./gmq-data
what a server stores, unless \fB\-\-data\fP says otherwise
.TP
.B /etc/gmq/gmq.yaml, /var/lib/gmq
the configuration and the data of the packaged server
`

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
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
