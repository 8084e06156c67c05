package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// newPeek is gmq peek, and gmq queue peek.
func newPeek(g *globals) *cobra.Command {
	f := peekFlags{state: choice{values: []string{"ready", "delayed", "leased"}}}
	cmd := g.aboutQueue(&cobra.Command{
		Use:   "peek",
		Short: "Look at the messages of a queue without taking them",
		Long: `Peek shows the messages of a queue in order of their numbers, and changes nothing. In the table
bodies stand as JSON, cut where they are long, and columns that would be empty are left out.
-o json prints whole messages, one a line, as the server has them.`,
		Example: `  gmq peek orders
  gmq peek orders --state delayed --limit 5
  gmq peek orders.dlq --limit 0 -o json | jq -r '.headers["gmq-dead-reason"]'`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if f.limit < 0 {
			return usage("--limit: want 0 or more, not %d", f.limit)
		}
		if f.after > wire.MaxInteger {
			return usage("--after: want a message's number, not %d", f.after)
		}
		if g.json() {
			return f.printJSON(ctx, cmd, c.Queue(name))
		}
		return f.printTable(ctx, cmd, c.Queue(name))
	})
	fs := cmd.Flags()
	fs.Var(&f.state, "state", "only messages that are ready, delayed or leased")
	fs.Uint64Var(&f.after, "after", 0, "only messages behind the one with this `number`")
	fs.IntVar(&f.limit, "limit", 20, "how many messages; 0 is all")
	complete(cmd, "state", f.state.values...)
	complete(cmd, "after")
	complete(cmd, "limit")
	return cmd
}

type peekFlags struct {
	state choice
	after uint64
	limit int
}

func (f *peekFlags) printJSON(ctx context.Context, cmd *cobra.Command, q *gmq.Queue) error {
	for m, err := range q.Peek(ctx, f.state.value, f.after, f.limit) {
		if err == nil {
			_, err = cmd.OutOrStdout().Write(append(m.Raw, '\n'))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *peekFlags) printTable(ctx context.Context, cmd *cobra.Command, q *gmq.Queue) error {
	rows := [][]string{{"SEQ", "STATE", "UNTIL", "ATTEMPTS", "PUBLISHED", "KEY", "TOPIC", "DIED OF", "BODY"}}
	for m, err := range q.Peek(ctx, f.state.value, f.after, f.limit) {
		if err != nil {
			return err
		}
		until := ""
		if !m.Until.IsZero() {
			until = m.Until.Format(time.RFC3339)
		}
		rows = append(rows, []string{
			strconv.FormatUint(m.Seq, 10), m.State, until, strconv.Itoa(m.Attempts), m.Published.Format(time.RFC3339),
			shown(m.Key, 30), shown(m.Topic, 40), shown(m.Headers[wire.HeaderDeadReason], 40), shown(string(m.Body), 60),
		})
	}
	if err := table(cmd.OutOrStdout(), len(rows[0]), withoutEmpty(rows)); err != nil {
		return err
	}
	if n := len(rows) - 1; n > 0 && n == f.limit && onTerminal(cmd.ErrOrStderr()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "there may be more: --after %s\n", rows[n][0])
	}
	return nil
}

// withoutEmpty leaves out the columns in which no row but the first has anything, if there are rows.
func withoutEmpty(rows [][]string) [][]string {
	var kept []int
	for col := range rows[0] {
		some := len(rows) == 1
		for _, row := range rows[1:] {
			some = some || row[col] != ""
		}
		if some {
			kept = append(kept, col)
		}
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, col := range kept {
			out[i] = append(out[i], row[col])
		}
	}
	return out
}

// shown is a text of a stranger in one cell: nothing in it moves the cursor, and it is cut after n characters.
func shown(text string, n int) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case n == 0:
			return b.String() + "…"
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteRune('\uFFFD')
		}
		n--
	}
	return b.String()
}
