package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

func newRestore(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "restore DIR FROM",
		Short: "Make a data directory of a backup",
		Long: `Restore makes the data directory DIR of a backup, which it reads from the file FROM or from
standard input (-). DIR must be empty, or not be there yet: nothing is ever overwritten.

Everything is verified: the checksums of the backup, every record, and that the queues find all
their messages. Where anything is wrong nothing is restored. A server on DIR then goes on as it
was when the backup was made: what was acked after that is delivered again.`,
		Example: `  gmq restore /var/lib/gmq /backup/gmq-2026-11-23.tar
  zstd -dc gmq.tar.zst | gmq restore ./gmq-data -`,
		Args:        cobra.ExactArgs(2),
		Annotations: local,
		RunE:        func(cmd *cobra.Command, args []string) error { return restore(cmd, g, args[0], args[1]) },
	}
}

func restore(cmd *cobra.Command, g *globals, dir, from string) error {
	source := io.Reader(cmd.InOrStdin())
	if from != stdio {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		source = f
	}
	in := &counted{r: source, more: func() {}}
	stop := progress(cmd.ErrOrStderr(), func() string { return bytesText(in.n.Load()) })
	defer stop()
	states := map[int]*memberState{}
	info, report, err := filejournal.Restore(vfs.OS(), dir, bufio.NewReaderSize(in, 256<<10), func(shard int) filejournal.State {
		states[shard] = newMemberState()
		return states[shard]
	})
	stop()
	if err != nil {
		return err
	}
	member := len(checkedGroups(&report, states)) > 0
	if g.json() {
		return printJSON(cmd.OutOrStdout(), struct {
			Directory string    `json:"directory"`
			Records   int       `json:"records"`
			Began     time.Time `json:"began"`
			End       string    `json:"end"`
			Version   string    `json:"version"`
			Node      bool      `json:"node,omitempty"`
		}{dir, report.Records, info.Began, info.EndText(), info.Version, member})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, with all that was confirmed before %s\n", dir, plural(report.Records, "record"), info.Began.UTC().Format(time.RFC3339))
	if err == nil && member {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "it is of a node of a cluster, which is not to be a second time: make it a server of its own with gmq cluster recover --data %s\n", dir)
	}
	return err
}
