package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

func newJournalReplay(g *globals) *cobra.Command {
	var dir, until string
	shard := -1
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Show what the queues were after so many records",
		Long: `Replay restores the queues as a start would, up to where --until says, and prints them.

--until N        after N records. Counted are the records that a start would replay: those
                 behind the snapshot of their shard, in the order of the log, over all
                 shards, or of --shard. So 0 is what the snapshots hold.
--until SEG:OFF  in front of the record at that place, as dump prints it. It must lie
                 behind the snapshots: what is in one cannot be taken out again.

Leases are in no journal: what a consumer had is ready here. Whose time came after the last
record is still delayed. At damage replay ends, prints what was in front of it, and fails.`,
		Example: `  gmq journal replay --data /var/lib/gmq
  gmq journal replay --until 1200 --shard 3
  gmq journal replay --until 7:20480 -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE: func(cmd *cobra.Command, _ []string) error {
			end, err := parseUntil(until)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("shard") && (shard < 0 || shard > 255) {
				return usage("--shard: want 0 to 255, not %d", shard)
			}
			end.Shard = shard
			return replayJournal(cmd, g, dir, end)
		},
	}
	dataFlag(cmd, &dir)
	cmd.Flags().StringVar(&until, "until", "", "how many `records`, or up to which place, such as 7:20480; all of them where it is not given")
	cmd.Flags().IntVar(&shard, "shard", -1, "only this shard")
	cmd.Flags().Lookup("shard").DefValue = ""
	complete(cmd, "until")
	complete(cmd, "shard")
	return cmd
}

// parseUntil reads a number of records, or a place.
func parseUntil(text string) (filejournal.Until, error) {
	u := filejournal.Until{Records: -1}
	if text == "" {
		return u, nil
	}
	bad := usage("--until: want a number of records such as 1200, or a place such as 7:20480, not %q", text)
	segment, offset, place := strings.Cut(text, ":")
	if !place {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return u, bad
		}
		u.Records = n
		return u, nil
	}
	s, serr := strconv.ParseUint(segment, 10, 32)
	o, oerr := strconv.ParseUint(offset, 10, 32)
	if errors.Join(serr, oerr) != nil || s == 0 {
		return u, bad
	}
	u.Before = journal.MakeRef(uint32(s), uint32(o))
	return u, nil
}

// replayed is what replay prints.
type replayed struct {
	Records   int64           `json:"records"`
	Snapshots int             `json:"snapshots"`
	Last      string          `json:"last,omitempty"`
	End       bool            `json:"end"`
	Queues    []replayedQueue `json:"queues"`
}

type replayedQueue struct {
	Shard     int    `json:"shard"`
	Queue     string `json:"queue"`
	Ready     int    `json:"ready"`
	Delayed   int    `json:"delayed"`
	Bytes     int64  `json:"bytes"`
	Oldest    string `json:"oldest,omitempty"`
	Paused    bool   `json:"paused"`
	Published uint64 `json:"published"`
	Acked     uint64 `json:"acked"`
	Expired   uint64 `json:"expired"`
	Dead      uint64 `json:"dead"`
	Dropped   uint64 `json:"dropped"`
	Cancelled uint64 `json:"cancelled"`
	Purged    uint64 `json:"purged"`
	Redriven  uint64 `json:"redriven"`
}

func replayJournal(cmd *cobra.Command, g *globals, dir string, until filejournal.Until) error {
	states := map[int]*shardState{}
	played, err := filejournal.Play(vfs.OS(), dir, until, func(shard int) filejournal.State {
		states[shard] = newShardState()
		return states[shard]
	})
	if _, damaged := errors.AsType[*wal.Damage](err); err != nil && !damaged {
		return journalError(dir, err)
	}
	out := replayed{Records: played.Records, Snapshots: played.Snapshots, End: played.End, Queues: []replayedQueue{}}
	if played.Last != 0 {
		out.Last = placeText(played.Last)
	}
	for shard, st := range states {
		for _, q := range st.Queues() {
			out.Queues = append(out.Queues, replayQueue(shard, q))
		}
	}
	slices.SortFunc(out.Queues, func(a, b replayedQueue) int { return strings.Compare(a.Queue, b.Queue) })
	print := out.text
	if g.json() {
		print = func(cmd *cobra.Command) error { return printJSON(cmd.OutOrStdout(), out) }
	}
	return errors.Join(print(cmd), err)
}

func replayQueue(shard int, q *queue.Queue) replayedQueue {
	c := &q.Counts
	r := replayedQueue{
		Shard: shard, Queue: q.Name, Ready: c.Ready + c.Leased, Delayed: c.Delayed, Bytes: q.Bytes, Paused: q.Paused,
		Published: c.Published, Acked: c.Acked, Expired: c.Expired, Dead: c.Dead, Dropped: c.Dropped,
		Cancelled: c.Cancelled, Purged: c.Purged, Redriven: c.Redriven,
	}
	if at := q.Oldest(); at != 0 {
		r.Oldest = time.Unix(0, at).UTC().Format(time.RFC3339Nano)
	}
	return r
}

func (r *replayed) text(cmd *cobra.Command) error {
	rows := [][]string{{"QUEUE", "SHARD", "READY", "DELAYED", "PUBLISHED", "ACKED", "EXPIRED", "DEAD", "DROPPED", "CANCELLED", "PURGED", "REDRIVEN"}}
	for _, q := range r.Queues {
		row := []string{q.Queue, strconv.Itoa(q.Shard), grouped(q.Ready), grouped(q.Delayed)}
		for _, n := range []uint64{q.Published, q.Acked, q.Expired, q.Dead, q.Dropped, q.Cancelled, q.Purged, q.Redriven} {
			row = append(row, grouped(n))
		}
		rows = append(rows, row)
	}
	where := "the end of the log"
	if !r.End {
		where = "the beginning"
		if r.Last != "" {
			where = r.Last
		}
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s and %s, up to %s:\n", plural(r.Snapshots, "snapshot"), plural(r.Records, "record"), where); err != nil {
		return err
	}
	return table(cmd.OutOrStdout(), 1, rows)
}
