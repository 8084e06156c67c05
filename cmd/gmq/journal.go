package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/vfs"
)

func newJournal(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Look into a data directory, or repair it",
		Long: `Check, dump and replay read a data directory and change nothing in it, take no lock and need no
right to write: they work beside a running server and on a copy that is read-only. What a server
writes meanwhile they tell from damage by looking twice. Repair needs the server to be stopped.`,
	}
	cmd.AddCommand(newJournalCheck(g), newJournalDump(g), newJournalReplay(g), newJournalRepair(g))
	return cmd
}

// dataFlag adds --data, which has the same default as the server's.
func dataFlag(cmd *cobra.Command, dir *string) {
	def := os.Getenv(config.EnvName("data"))
	if def == "" {
		def = config.Default().Data
	}
	cmd.Flags().StringVar(dir, "data", def, "data `directory` of the server")
	// It fails only where there is no such flag.
	_ = cmd.MarkFlagDirname("data")
}

func newJournalCheck(g *globals) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Verify every record and snapshot",
		Long: `Check reads the whole journal and verifies every checksum; then it restores the queues as a
start would, and looks whether every message's record is there. It changes nothing. Damage is
told with its file and offset, and makes the exit code 1. A torn end is no damage: it was being
written when the machine stopped, and nobody was told that it is kept.

Beside a running server it checks what was there when it began. The queues are then restored
too, but whether all their records are there can only be said of a log that nobody writes.
It needs about the memory that a server needs for the state of its messages.`,
		Example: `  gmq journal check
  gmq journal check --data /var/lib/gmq -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE:              func(cmd *cobra.Command, _ []string) error { return checkJournal(cmd, g, dir) },
	}
	dataFlag(cmd, &dir)
	return cmd
}

func checkJournal(cmd *cobra.Command, g *globals, dir string) error {
	watched := &readFS{FS: vfs.OS()}
	total := journalBytes(dir)
	stop := progress(cmd.ErrOrStderr(), func() string {
		n := watched.read.Load()
		return fmt.Sprintf("%s of %s (%d %%)", bytesText(n), bytesText(total), min(100, n*100/max(total, 1)))
	})
	r, err := filejournal.Check(watched, dir, func(int) filejournal.State { return newShardState() })
	stop()
	if err != nil {
		return journalError(dir, err)
	}
	if g.json() {
		err = printJSON(cmd.OutOrStdout(), reportJSON(&r))
	} else {
		err = printReport(cmd, &r)
	}
	if err == nil && len(r.Damage) > 0 {
		err = fmt.Errorf("the journal in %s is damaged in %s; keep a copy before anything else", dir, plural(len(r.Damage), "place"))
	}
	return err
}

func printReport(cmd *cobra.Command, r *filejournal.Report) error {
	for _, d := range r.Damage {
		fmt.Fprintln(cmd.ErrOrStderr(), "gmq:", d)
	}
	if r.Torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "gmq: %s at offset %d: the last %s are not whole: they were being written when the server stopped, and the next start cuts them off; or a server is writing them now\n",
			r.TornFile, r.TornOffset, plural(r.Torn, "byte"))
	}
	if r.Growing {
		fmt.Fprintf(cmd.ErrOrStderr(), "gmq: a server was writing meanwhile: this is what was there up to %s\n", placeText(r.End))
	}
	verdict := "ok"
	if len(r.Damage) > 0 {
		verdict = "damaged"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s (%s) in %s, %s, %s\n", verdict,
		plural(r.Records, "record"), bytesText(r.Bytes), plural(r.Segments, "segment"), plural(r.Snapshots, "snapshot"), plural(r.Shards, "shard"))
	return err
}

func reportJSON(r *filejournal.Report) any {
	type place struct {
		File   string `json:"file"`
		Offset int64  `json:"offset"`
		Why    string `json:"why"`
	}
	damage := []place{}
	for _, d := range r.Damage {
		damage = append(damage, place{d.File, d.Offset, d.Why})
	}
	var torn *place
	if r.Torn > 0 {
		torn = &place{r.TornFile, r.TornOffset, plural(r.Torn, "byte") + " were being written"}
	}
	return struct {
		Shards    int     `json:"shards"`
		Segments  int     `json:"segments"`
		Frames    int     `json:"frames"`
		Records   int     `json:"records"`
		Bytes     int64   `json:"bytes"`
		Snapshots int     `json:"snapshots"`
		End       string  `json:"end"`
		Growing   bool    `json:"growing"`
		Torn      *place  `json:"torn,omitempty"`
		Damage    []place `json:"damage"`
	}{r.Shards, r.Segments, r.Frames, r.Records, r.Bytes, r.Snapshots, placeText(r.End), r.Growing, torn, damage}
}

func newJournalDump(g *globals) *cobra.Command {
	var dir string
	var contents bool
	shard := -1
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print every record for people",
		Long: `Dump prints what the log's segments hold, in order, a line each: the place, the shard, and what the
record does. Records that are garbage by now are among them. The shard is - where no shard has the
record: it is a message to a topic, which the records of its copies refer to. Bodies and headers are not
printed, as they may be secret, unless --contents is given. Dump ends at the first damage; beside a running server it ends where the segment does that is the last one when it begins.`,
		Example: `  gmq journal dump --data /var/lib/gmq | less
  gmq journal dump --shard 3 --contents -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("shard") && (shard < 0 || shard > 255) {
				return usage("--shard: want 0 to 255, not %d", shard)
			}
			return dumpJournal(cmd, g, dir, shard, contents)
		},
	}
	dataFlag(cmd, &dir)
	cmd.Flags().IntVar(&shard, "shard", -1, "only the records of this shard")
	cmd.Flags().Lookup("shard").DefValue = ""
	cmd.Flags().BoolVar(&contents, "contents", false, "print the bodies and headers of messages too")
	return cmd
}

func dumpJournal(cmd *cobra.Command, g *globals, dir string, only int, contents bool) error {
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	err := filejournal.Dump(vfs.OS(), dir, func(ref journal.Ref, shard int, payload []byte) error {
		if only >= 0 && shard != only {
			return nil
		}
		text, err := queue.Describe(payload, contents)
		if err != nil {
			text = "not understood: " + err.Error()
		}
		if g.json() {
			owner := &shard
			if shard == journal.Nobody {
				owner = nil
			}
			return printJSON(out, struct {
				Segment uint32 `json:"segment"`
				Offset  uint32 `json:"offset"`
				Shard   *int   `json:"shard"`
				Bytes   int    `json:"bytes"`
				Record  string `json:"record"`
			}{ref.Segment(), ref.Offset(), owner, len(payload), text})
		}
		_, err = fmt.Fprintf(out, "%s shard=%s %s\n", placeText(ref), shardText(shard), text)
		return err
	})
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return journalError(dir, err)
}

// placeText is a place in the log as people write it: the segment, and the offset in it.
func placeText(ref journal.Ref) string { return fmt.Sprintf("%d:%d", ref.Segment(), ref.Offset()) }

func shardText(shard int) string {
	if shard == journal.Nobody {
		return "-"
	}
	return strconv.Itoa(shard)
}

func journalError(dir string, err error) error {
	locked, held := errors.AsType[*vfs.LockedError](err)
	switch {
	case held:
		return fmt.Errorf("%w; stop that server first", locked)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s holds no journal (%w); --data names the directory", dir, err)
	}
	return err
}

// journalBytes is about how much there is to read.
func journalBytes(dir string) (n int64) {
	for _, sub := range []string{"wal", "snap"} {
		// What cannot be read here is told by the check itself.
		entries, _ := os.ReadDir(filepath.Join(dir, sub))
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}

// A readFS counts the bytes that are read.
type readFS struct {
	vfs.FS
	read atomic.Int64
}

// Open implements vfs.FS.
func (f *readFS) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &readFile{file, f}, nil
}

type readFile struct {
	vfs.File
	fs *readFS
}

// ReadAt implements io.ReaderAt.
func (f *readFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.fs.read.Add(int64(n))
	return n, err
}
