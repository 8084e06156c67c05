package main

import (
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

A message is lost where its record is. Where it cannot be known what was recorded at a place,
the rest is restored as if nothing had been there; but for messages that were published
behind it, acks do not count, as they go by numbers that are not certain any more: these
messages come again, with lower numbers than they had.`,
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
		Menders: func(int) filejournal.Mender { return newMendedState() },
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
	Gaps     []repairGap   `json:"gaps"`
	Again    []repairAgain `json:"again"`
	LeftOut  int           `json:"left_out"`
	EndLost  string        `json:"end_lost,omitempty"`
	Users    bool          `json:"check_users"` // changes of users, tokens and rights may be among what is lost
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

// repairGap is a place at which records may be lost of which nothing is known.
type repairGap struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Why     string `json:"why"`
	Records int    `json:"records,omitempty"` // where that is known
	Shards  []int  `json:"shards"`
}

// repairAgain is a queue in which messages come again that had been acked or the like.
type repairAgain struct {
	Queue   string `json:"queue"`
	Records int    `json:"records"`
}

func repairReport(out *filejournal.Repaired, done bool) *repair {
	r := &repair{
		Done: done, Finished: out.Finished, LeftOut: out.LeftOut, EndLost: out.EndLost, Torn: out.Torn, Copied: out.Copied,
		Damage: []repairPlace{}, Mended: []repairPlace{}, Lost: lostByQueue(out.Lost), Gaps: []repairGap{}, Again: []repairAgain{}, Moved: append([]string{}, out.Moved...),
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
	for _, g := range out.Gaps {
		r.Gaps = append(r.Gaps, repairGap{placeText(g.From), placeText(g.To), g.Why, g.Records, g.Shards})
		r.Users = r.Users || slices.Contains(g.Shards, 0) // where the broker keeps documents
	}
	for _, st := range out.States {
		for name, n := range st.(*mendedState).ignored {
			r.Again = append(r.Again, repairAgain{name, n})
		}
	}
	r.Users = r.Users || r.EndLost != "" || r.LeftOut > 0 // such as those of a snapshot
	slices.SortFunc(r.Again, func(a, b repairAgain) int { return strings.Compare(a.Queue, b.Queue) })
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
	for _, g := range r.Gaps {
		what := "records, of which nothing is known"
		if g.Records > 0 {
			what = plural(g.Records, "record") + ", of which nothing more is known"
		}
		say("lost: %s, at %s: %s (%s)", what, g.From, g.Why, shardsText(g.Shards))
	}
	for _, a := range r.Again {
		say("again: messages of queue %s that were published behind it: %s of them, such as acks, not counted", a.Queue, plural(a.Records, "record"))
	}
	if r.LeftOut > 0 {
		say("left out: %s of queues that are not known any more", plural(r.LeftOut, "record"))
	}
	if r.EndLost != "" {
		say("lost: whatever came last: %s", r.EndLost)
	}
	if r.Users {
		say("Changes of users, tokens and rights may be among it: who was removed, or denied something, may be back. Look: gmq user ls, gmq user grant NAME, gmq token ls")
	}
	if r.Torn > 0 {
		say("cut off: the last %s, which were being written when the server stopped", plural(r.Torn, "byte"))
	}
	if len(r.Damage) > 0 && len(r.Lost)+len(r.Gaps) == 0 && r.EndLost == "" {
		say("Nothing is lost.")
	}
	if r.Aside != "" {
		say("What was damaged or left out is in %s as it was, with report.json.", r.Aside)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shardsText says which shards need what was at a place.
func shardsText(shards []int) string {
	if len(shards) == broker.Shards {
		return "every queue may be concerned"
	}
	numbers := make([]string, len(shards))
	for i, n := range shards {
		numbers[i] = strconv.Itoa(n)
	}
	if len(shards) == 1 {
		return "queues of shard " + numbers[0] + " may be concerned"
	}
	return "queues of the shards " + strings.Join(numbers, ", ") + " may be concerned"
}
