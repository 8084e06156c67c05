package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// subFlags are what sub was asked for.
type subFlags struct {
	n      int
	ack    choice
	follow bool
	credit int
	wait   time.Duration
	raw    bool
}

func newSub(g *globals) *cobra.Command {
	f := subFlags{ack: choice{value: "manual", values: []string{"auto", "manual"}}}
	cmd := &cobra.Command{
		Use:   "sub QUEUE",
		Short: "Take messages from a queue and print them",
		Long: `Sub takes what a queue has to give, prints a body a line, and ends when there is nothing
left. With --follow it goes on for ever, and connects again where the connection is lost.

A message is acked once it has been written to stdout; what was taken and not written goes back
into the queue. With --ack auto the server counts it as done when it sends it. To take a few
use -n: a pipe to head takes more than head shows.

Strings are printed as their text, other JSON as it stands. --raw prints the bytes that
were sent with --base64 or --file, and nothing between messages. -o json prints
whole deliveries, one a line.`,
		Example: `  gmq sub orders
  gmq sub orders -n 1 --wait 30s
  gmq sub orders --follow -o json | jq .body
  gmq sub pictures -n 1 --raw > cat.png`,
		Args:        cobra.ExactArgs(1),
		Annotations: remote,
		RunE:        func(cmd *cobra.Command, args []string) error { return runSub(cmd, g, &f, args[0]) },
	}
	cmd.ValidArgsFunction = g.completeQueues
	fs := cmd.Flags()
	fs.IntVarP(&f.n, "count", "n", 0, "end after this many messages; 0 is all")
	fs.Var(&f.ack, "ack", "when a message is settled: manual (once written) or auto (once sent)")
	fs.BoolVarP(&f.follow, "follow", "f", false, "go on when the queue is empty")
	fs.IntVar(&f.credit, "credit", 256, "how many messages are taken at a time")
	fs.DurationVar(&f.wait, "wait", 0, "how long to wait for a message before the queue counts as empty")
	fs.BoolVar(&f.raw, "raw", false, "print bodies as bytes, with nothing between them")
	complete(cmd, "ack", f.ack.values...)
	return cmd
}

// followWait is how long one receive waits where there is no end to waiting.
const followWait = time.Minute

func runSub(cmd *cobra.Command, g *globals, f *subFlags, name string) error {
	switch err := queueArg(name); {
	case err != nil:
		return err
	case f.n < 0:
		return usage("-n: want 0 or more, not %d", f.n)
	case f.credit < 1 || f.credit > wire.MaxReceive:
		return usage("--credit: want 1 to %d, not %d", wire.MaxReceive, f.credit)
	case f.wait < 0 || f.wait > wire.MaxWait:
		return usage("--wait: want 0s to %v, not %v", wire.MaxWait, f.wait)
	case f.follow && cmd.Flags().Changed("wait"):
		return usage("--wait and --follow: which of them?")
	case f.raw && g.json():
		return usage("--raw and -o json: which of them?")
	}
	if f.follow {
		f.wait = followWait
	}
	signal.Ignore(syscall.SIGPIPE) // writing then fails, and the acks still go out
	var lost func()
	if f.follow {
		lost = func() {
			fmt.Fprintf(cmd.ErrOrStderr(), "gmq: the connection to %s was lost; connecting again\n", g.address())
		}
	}
	c, ctx, closing, err := g.connect(cmd.Context(), lost, gmq.CloseTimeout(g.timeout))
	if err != nil {
		return err
	}
	defer closing()
	if !f.follow && f.wait == 0 {
		if err := queueThere(ctx, g, c, name); err != nil {
			return err
		}
	}
	s := &subscriber{g: g, f: f, q: c.Queue(name), out: newDeliveryWriter(cmd.OutOrStdout(), g.json(), f.raw), told: cmd.ErrOrStderr()}
	return s.run(ctx)
}

// queueThere asks before the receive would create the queue: of one that is not there
// nothing can be had, and its name may be mistyped.
func queueThere(ctx context.Context, g *globals, c *gmq.Client, name string) error {
	ctx, cancel := g.context(ctx)
	defer cancel()
	_, err := c.QueueInfo(ctx, name)
	if errors.Is(err, gmq.ErrForbidden) {
		return nil // who may consume need not be allowed to look
	}
	return explain(ctx, err)
}
