package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

func newJournalRepair(g *globals) *cobra.Command {
	var dir string
	var yes bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make a damaged data directory one that opens, and say what is lost",
		Long: `Repair is for a stopped server that does not start because its journal is damaged. Without
--yes it only says what it would do. Copy the directory, and look for a backup, before you say --yes.

It deletes nothing: files with damage, files that hold what cannot be kept, and the old snapshots
are moved, as they are, into a directory "damaged-…" beside them, with the report. What is needed of them is
written anew. A single changed bit is put right: the checksum says which one it is.

A message is lost where its record is. Where it cannot be known what was at a place, the queues
that may have been meant (a sixteenth of all, or all) are restored as they were before it, and
what was recorded of them later is left out: publishes, and acks, so that messages come again.`,
		Example: `  gmq journal repair --data /var/lib/gmq
  gmq journal repair --data /var/lib/gmq --yes`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE:              func(cmd *cobra.Command, _ []string) error { return repairJournal(cmd, g, dir, yes) },
	}
	dataFlag(cmd, &dir)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func repairJournal(cmd *cobra.Command, g *globals, dir string, yes bool) error {
	aside := "damaged-" + time.Now().UTC().Format("20060102T150405Z")
	out, err := filejournal.Repair(vfs.OS(), dir, filejournal.RepairOptions{
		Shards: broker.Shards, Aside: aside, Do: yes,
		Menders: func(int) filejournal.Mender { return newShardState() },
	})
	if err != nil {
		return journalError(dir, err)
	}
	r := repairReport(out, yes)
	if yes && out.Needed() {
		err = r.keep(out.Aside)
	}
	if g.json() {
		err = errors.Join(err, printJSON(cmd.OutOrStdout(), r))
	} else {
		err = errors.Join(err, r.text(cmd.OutOrStdout()))
	}
	if err == nil && out.Needed() && !yes {
		err = errors.New("nothing has been changed; make a copy of the directory, then say --yes")
	}
	return err
}

// repair is the report of a repair. Its JSON is kept with what was moved.
type repair struct {
	Done     bool          `json:"done"`
	Finished bool          `json:"finished"` // a repair that had been interrupted
	Aside    string        `json:"aside,omitempty"`
	Damage   []repairPlace `json:"damage"`
	Mended   []repairPlace `json:"mended"`
	Lost     []repairLost  `json:"lost"`
	Left     []repairLeft  `json:"left_out"`
	EndLost  string        `json:"end_lost,omitempty"`
	Torn     int64         `json:"torn_bytes"`
	Copied   int64         `json:"copied_bytes"`
	Moved    []string      `json:"moved"`
}

type repairPlace struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

// repairLost is messages of one queue whose records are lost.
type repairLost struct {
	Queue string   `json:"queue"`
	Count int      `json:"count"`
	Seqs  []string `json:"seqs"` // 17, or 20-29
}

// repairLeft is the records of one shard that could not be applied.
type repairLeft struct {
	Shard   int              `json:"shard"`
	From    string           `json:"from"` // the place
	Why     string           `json:"why"`
	Empty   bool             `json:"all_lost"`
	Records int              `json:"records"`
	Queues  []repairLeftover `json:"queues"`
	Unknown int              `json:"of_unknown_queues"`
}

type repairLeftover struct {
	Queue    string `json:"queue"`
	Messages int    `json:"messages"`
	FromSeq  uint64 `json:"from_seq,omitempty"` // had nothing of the queue been lost
	Others   int    `json:"other_records"`
}

func repairReport(out *filejournal.Repaired, done bool) *repair {
	r := &repair{
		Done: done, Finished: out.Finished, EndLost: out.EndLost, Torn: out.Torn, Copied: out.Copied,
		Damage: []repairPlace{}, Mended: []repairPlace{}, Lost: lostByQueue(out.Lost), Left: []repairLeft{}, Moved: append([]string{}, out.Moved...),
	}
	if done && out.Needed() {
		r.Aside = out.Aside
	}
	for _, d := range out.Damage {
		r.Damage = append(r.Damage, repairPlace{d.File, d.Offset, d.Why})
	}
	for _, d := range out.Mended {
		r.Mended = append(r.Mended, repairPlace{d.File, d.Offset, d.Why})
	}
	slices.SortStableFunc(out.Cuts, func(a, b filejournal.Cut) int { return cmp.Compare(a.At, b.At) })
	for _, c := range out.Cuts {
		st := c.State.(*shardState)
		left := repairLeft{Shard: c.Shard, From: placeText(c.At), Why: c.Why, Empty: c.Empty, Records: c.Left, Queues: []repairLeftover{}, Unknown: st.others}
		for _, name := range slices.Sorted(maps.Keys(st.beyond)) {
			b := st.beyond[name]
			left.Queues = append(left.Queues, repairLeftover{name, b.messages, b.first, b.others})
		}
		r.Left = append(r.Left, left)
	}
	return r
}

// lostByQueue puts the lost messages of each queue together.
func lostByQueue(lost []filejournal.Lost) []repairLost {
	seqs := map[string][]uint64{}
	for _, l := range lost {
		m := l.Owner.(letter)
		seqs[m.queue] = append(seqs[m.queue], m.seq)
	}
	all := []repairLost{}
	for _, name := range slices.Sorted(maps.Keys(seqs)) {
		slices.Sort(seqs[name])
		all = append(all, repairLost{name, len(seqs[name]), ranges(seqs[name])})
	}
	return all
}

// ranges writes 1 2 3 5 as 1-3 5.
func ranges(seqs []uint64) (out []string) {
	for i := 0; i < len(seqs); {
		k := i
		for k+1 < len(seqs) && seqs[k+1] == seqs[k]+1 {
			k++
		}
		one := strconv.FormatUint(seqs[i], 10)
		if k > i {
			one += "-" + strconv.FormatUint(seqs[k], 10)
		}
		out = append(out, one)
		i = k + 1
	}
	return out
}

// keep puts the report where what was moved is.
func (r *repair) keep(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o600)
}

// shownRanges is how many ranges of numbers are shown; the report has all.
const shownRanges = 12

func (r *repair) text(w io.Writer) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch {
	case r.Finished:
		say("The repair that had been interrupted is finished; its report went with it. Look at the result with gmq journal check.")
	case len(r.Damage) == 0:
		say("Nothing is damaged; nothing was changed.")
	}
	for _, d := range r.Damage {
		say("damaged: %s at offset %d: %s", d.File, d.Offset, d.Why)
	}
	for _, d := range r.Mended {
		say("put right: %s at offset %d: one bit had changed", d.File, d.Offset)
	}
	for _, l := range r.Lost {
		seqs := l.Seqs
		if len(seqs) > shownRanges {
			seqs = append(slices.Clone(seqs[:shownRanges]), "…")
		}
		say("lost: %s of queue %s: %s", plural(l.Count, "message"), l.Queue, strings.Join(seqs, ", "))
	}
	for left := r.Left; len(left) > 0; {
		n := 1
		for n < len(left) && left[n].From == left[0].From && left[n].Empty == left[0].Empty {
			n++
		}
		leftText(say, left[:n])
		left = left[n:]
	}
	if r.EndLost != "" {
		say("lost: whatever came last: %s", r.EndLost)
	}
	if len(r.Damage) > 0 && len(r.Lost)+len(r.Left) == 0 && r.EndLost == "" {
		say("Nothing is lost.")
	}
	if r.Aside != "" {
		say("What was damaged or left out is in %s as it was, with report.json.", r.Aside)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// leftText tells of the shards that end at one place.
func leftText(say func(string, ...any), shards []repairLeft) {
	records, unknown, first := 0, 0, shards[0]
	var names []string
	var queues []repairLeftover
	for _, l := range shards {
		records += l.Records
		unknown += l.Unknown
		queues = append(queues, l.Queues...)
		names = append(names, strconv.Itoa(l.Shard))
	}
	who := plural(len(shards), "shard") + " (" + strings.Join(names, " ") + ")"
	if first.Empty {
		say("lost: all that %s held: %s; %s of it left in the log", who, first.Why, plural(records, "record"))
	} else {
		say("cut: at %s, of %s: %s; left out behind it: %s", first.From, who, first.Why, plural(records, "record"))
	}
	slices.SortFunc(queues, func(a, b repairLeftover) int { return strings.Compare(a.Queue, b.Queue) })
	for _, q := range queues {
		from := ""
		if q.Messages > 0 && !first.Empty {
			from = fmt.Sprintf(" from number %d on", q.FromSeq)
		}
		say("  queue %s: %s published%s, and %s such as acks", q.Queue, plural(q.Messages, "message"), from, plural(q.Others, "other record"))
	}
	if unknown > 0 {
		say("  queues that are not known: %s", plural(unknown, "record"))
	}
}
