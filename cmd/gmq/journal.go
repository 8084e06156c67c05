package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
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
It needs about the memory that a server needs for the state of its messages.

Of a node of a cluster it also prints a digest of what its queues hold. Nodes that stood still and were
stopped have the same one; those that were stopped in the middle of work may lack what came last.`,
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
	states := map[int]*memberState{}
	r, err := filejournal.Check(watched, dir, func(shard int) filejournal.State {
		states[shard] = newMemberState()
		return states[shard]
	})
	stop()
	if err != nil {
		return journalError(dir, err)
	}
	groups := checkedGroups(&r, states)
	if g.json() {
		err = printJSON(cmd.OutOrStdout(), reportJSON(&r, groups))
	} else {
		err = printReport(cmd, &r, groups)
	}
	if err == nil && len(r.Damage) > 0 {
		err = fmt.Errorf("the journal in %s is damaged in %s; keep a copy before anything else", dir, plural(len(r.Damage), "place"))
	}
	return err
}

// A checkedGroup is what check says of a group of a cluster's.
type checkedGroup struct {
	Group  int    `json:"group"`
	Term   uint64 `json:"term"`
	Last   uint64 `json:"last"`
	Known  uint64 `json:"known"` // of it the log says that it is committed
	Digest string `json:"digest"`
}

// checkedGroups are those of a node of a cluster; none where there are none, or where not all could be read.
func checkedGroups(r *filejournal.Report, states map[int]*memberState) (groups []checkedGroup) {
	for shard := range r.Shards {
		st := states[shard]
		if st == nil || !st.found.Group || len(r.Damage) > 0 || r.Growing {
			continue
		}
		// When something is due is left out: a node may have looked at the clock before it wrote its snapshot, and another one not.
		digest := fmt.Sprintf("%016x", st.Digest(math.MaxInt64))
		groups = append(groups, checkedGroup{shard, st.found.Term, st.found.Last, st.found.Known, digest})
	}
	return groups
}

// digestOf is one digest of all groups.
func digestOf(groups []checkedGroup) string {
	h := sha256.New()
	for _, g := range groups {
		fmt.Fprintln(h, g.Group, g.Digest)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func printReport(cmd *cobra.Command, r *filejournal.Report, groups []checkedGroup) error {
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
	if err == nil && len(groups) > 0 {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "a node of a cluster: %s, digest %s\n", plural(len(groups), "group"), digestOf(groups))
	}
	return err
}

func reportJSON(r *filejournal.Report, groups []checkedGroup) any {
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

		Groups []checkedGroup `json:"groups,omitempty"`
	}{r.Shards, r.Segments, r.Frames, r.Records, r.Bytes, r.Snapshots, placeText(r.End), r.Growing, torn, damage, groups}
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
