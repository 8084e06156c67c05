package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// aboutMessage is a command that asks the server something about one message.
func (g *globals) aboutMessage(cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, q *gmq.Queue, seq uint64) error) *cobra.Command {
	cmd.Use += " QUEUE SEQ"
	cmd.Args = cobra.ExactArgs(2)
	cmd.Annotations = remote
	cmd.ValidArgsFunction = g.completeQueues
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := queueArg(args[0]); err != nil {
			return err
		}
		seq, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil || seq == 0 || seq > wire.MaxInteger {
			return usage("%q is no number of a message: want 1 or more", args[1])
		}
		return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error { return run(ctx, cmd, c.Queue(args[0]), seq) })
	}
	return cmd
}

// doneTo tells what has been done to a message.
func (g *globals) doneTo(cmd *cobra.Command, q *gmq.Queue, seq uint64, what string) error {
	out := cmd.OutOrStdout()
	if g.json() {
		return printJSON(out, map[string]any{"queue": q.Name(), "seq": seq, what: true})
	}
	if onTerminal(out) {
		_, err := fmt.Fprintf(out, "message %d of %s %s\n", seq, q.Name(), what)
		return err
	}
	return nil
}

func newQueueExplain(g *globals) *cobra.Command {
	var verbose bool
	cmd := g.aboutMessage(&cobra.Command{
		Use:   "explain",
		Short: "Say why a message is not being delivered, or what became of it",
		Long: `Explain says in a sentence why a message is not being delivered: it is delayed, somebody has it,
it waits behind another one, its queue is paused, nobody consumes. Of a message that is no more
it says what became of it, if that was not too long ago. -v adds the number of attempts and what the
server remembers; that ends with the server's process.`,
		Example: `  gmq queue explain orders 17
  gmq queue explain orders 17 -v
  gmq queue explain orders 17 -o json | jq -r .state`,
	}, func(ctx context.Context, cmd *cobra.Command, q *gmq.Queue, seq uint64) error {
		x, err := q.Explain(ctx, seq)
		if err != nil {
			return err
		}
		if g.json() {
			fields, err := replyFields(x.Raw)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), fields)
		}
		return printExplanation(cmd, q.Name(), seq, &x, verbose)
	})
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell the attempts and the history too")
	return cmd
}

func printExplanation(cmd *cobra.Command, name string, seq uint64, x *gmq.Explanation, verbose bool) error {
	out, is := cmd.OutOrStdout(), "not being delivered"
	if x.State == "settled" {
		is = "no more"
	}
	if _, err := fmt.Fprintf(out, "message %d of %s is %s because %s\n", seq, name, is, shown(x.Because, 500)); err != nil || !verbose {
		return err
	}
	if x.State != "settled" { // of what is no more, the history tells it
		if _, err := fmt.Fprintf(out, "state %s, %s counted\n", x.State, plural(x.Attempts, "attempt")); err != nil || len(x.History) == 0 {
			return err
		}
	}
	rows := [][]string{{"AT", "EVENT", "ATTEMPTS", "REASON"}}
	for _, e := range x.History {
		rows = append(rows, []string{e.At.Format("2006-01-02T15:04:05.000000Z07:00"), e.Event, strconv.Itoa(e.Attempts), shown(e.Reason, 80)})
	}
	return table(out, len(rows[0]), rows)
}

func newQueueCancel(g *globals) *cobra.Command {
	return g.aboutMessage(&cobra.Command{
		Use:   "cancel",
		Short: "Take back a message that nobody has",
		Long: `Cancel takes a message out of its queue, be it ready or delayed; it counts as cancelled. One that is
leased is its consumer's, and refused.`,
		Example: `  gmq queue cancel reminders 17`,
	}, func(ctx context.Context, cmd *cobra.Command, q *gmq.Queue, seq uint64) error {
		if err := q.Cancel(ctx, seq); err != nil {
			return err
		}
		return g.doneTo(cmd, q, seq, "cancelled")
	})
}

func newQueueReschedule(g *globals) *cobra.Command {
	var delay time.Duration
	var at timeFlag
	cmd := g.aboutMessage(&cobra.Command{
		Use:   "reschedule",
		Short: "Let a message that nobody has be delivered at another time",
		Long: `Reschedule moves a message to another time, be it ready or delayed: --delay counts from now, --at is
a time. One that is leased is its consumer's, and refused.`,
		Example: `  gmq queue reschedule reminders 17 --delay 2h
  gmq queue reschedule reminders 17 --at 2026-12-24T18:00:00Z
  gmq queue reschedule reminders 17 --delay 0s    # now`,
	}, func(ctx context.Context, cmd *cobra.Command, q *gmq.Queue, seq uint64) error {
		when := gmq.DueOption(gmq.Delay(delay))
		if !at.IsZero() {
			when = gmq.At(at.Time)
		}
		if err := q.Reschedule(ctx, seq, when); err != nil {
			return err
		}
		return g.doneTo(cmd, q, seq, "rescheduled")
	})
	cmd.Flags().DurationVar(&delay, "delay", 0, "how long from now; 0s is at once")
	cmd.Flags().Var(&at, "at", "when, such as 2026-12-24T18:00:00Z")
	complete(cmd, "delay")
	complete(cmd, "at")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch given := cmd.Flags().Changed; {
		case given("delay") && given("at"):
			return usage("--delay and --at: which of them?")
		case !given("delay") && !given("at"):
			return usage("when? --delay or --at; see: %s --help", cmd.CommandPath())
		case delay < 0:
			return usage("--delay: want 0s or more, not %v", delay)
		}
		return run(cmd, args)
	}
	return cmd
}

func newQueueRedrive(g *globals) *cobra.Command {
	var to string
	var limit int
	cmd := g.aboutQueue(&cobra.Command{
		Use:   "redrive",
		Short: "Move dead letters back to the queue they came from",
		Long: `Redrive moves the messages of a dead-letter queue, the oldest first, back to where they died, or into
the queue that --to names. There they are new: with another number, at their first attempt.
Messages that are leased, or whose queue is full or gone, stay where they are. It prints how
many have moved.`,
		Example: `  gmq queue redrive orders.dlq
  gmq queue redrive orders.dlq --max 10
  gmq queue redrive orders.dlq --to orders-to-look-at
  gmq queue redrive orders.dlq -o json | jq .moved`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		q := c.Queue(name)
		moved, err := 0, error(nil)
		if to != "" {
			moved, err = q.RedriveTo(ctx, to, limit)
		} else {
			moved, err = q.Redrive(ctx, limit)
		}
		if err != nil && moved > 0 {
			err = fmt.Errorf("%w; %s had been moved", explain(ctx, err), plural(moved, "message"))
		}
		if err != nil {
			return err
		}
		if g.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"queue": name, "moved": moved})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s moved\n", plural(moved, "message"))
		return err
	})
	cmd.Flags().StringVar(&to, "to", "", "move them into this `queue`, which must be there")
	cmd.Flags().IntVar(&limit, "max", 0, "how many messages at most; 0 is all")
	complete(cmd, "max")
	complete(cmd, "to")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 0 {
			return usage("--max: want 0 or more, not %d", limit)
		}
		if to != "" {
			if err := queueArg(to); err != nil {
				return err
			}
		}
		return run(cmd, args)
	}
	return cmd
}
