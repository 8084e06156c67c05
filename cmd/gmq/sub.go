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
	topic  string
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
		Short: "Take messages from a queue, or hear those of a topic, and print them",
		Long: `Sub takes what a queue has to give, prints a body a line, and ends when there is nothing
left. With --follow it goes on for ever, and connects again where the connection is lost.

A message is acked once it has been written to stdout; what was taken and not written goes back
into the queue. With --ack auto the server counts it as done when it sends it. To take a few
use -n: a pipe to head takes more than head shows.

With --topic sub prints what is published from now on to a topic, or to topics that match a
pattern; it goes on until nothing comes for --wait. What is read too slowly is dropped, the oldest
first, and with --follow what is published while the connection is lost is missed: stderr tells. To
miss nothing, bind a queue (gmq queue bind) and take its messages.

Strings are printed as their text, other JSON as it stands. --raw prints the bytes that
were sent with --base64 or --file, and nothing between messages. -o json prints
whole deliveries, one a line.`,
		Example: `  gmq sub orders
  gmq sub orders -n 1 --wait 30s
  gmq sub orders --follow -o json | jq .body
  gmq sub --topic 'shop.*.ordered'
  gmq sub pictures -n 1 --raw > cat.png`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: remote,
		RunE:        func(cmd *cobra.Command, args []string) error { return runSub(cmd, g, &f, args) },
	}
	cmd.ValidArgsFunction = g.completeQueues
	fs := cmd.Flags()
	fs.StringVar(&f.topic, "topic", "", "print what is published to a topic, or to a `pattern` of topics, and no QUEUE")
	fs.IntVarP(&f.n, "count", "n", 0, "end after this many messages; 0 is all")
	fs.Var(&f.ack, "ack", "when a message is settled: manual (once written) or auto (once sent)")
	fs.BoolVarP(&f.follow, "follow", "f", false, "go on when the queue is empty, and when the connection is lost")
	fs.IntVar(&f.credit, "credit", 256, "how many messages are taken at a time")
	fs.DurationVar(&f.wait, "wait", 0, "how long to wait for a message before the queue counts as empty")
	fs.BoolVar(&f.raw, "raw", false, "print bodies as bytes, with nothing between them")
	complete(cmd, "ack", f.ack.values...)
	complete(cmd, "topic")
	return cmd
}

// followWait is how long one receive waits where there is no end to waiting.
const followWait = time.Minute

func runSub(cmd *cobra.Command, g *globals, f *subFlags, args []string) error {
	if err := f.check(cmd, g, args); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // writing then fails, and the acks still go out
	var lost func()
	if f.follow {
		lost = func() {
			missed := ""
			if f.topic != "" {
				missed = ", and missing what is published meanwhile"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "gmq: the connection to %s was lost; connecting again%s\n", g.address(), missed)
		}
	}
	c, ctx, closing, err := g.connect(cmd.Context(), lost, gmq.CloseTimeout(g.timeout))
	if err != nil {
		return err
	}
	defer closing()
	s := &subscriber{g: g, f: f, out: newDeliveryWriter(cmd.OutOrStdout(), g.json(), f.raw), told: cmd.ErrOrStderr()}
	if f.topic != "" {
		s.from = &feed{topic: c.Topic(f.topic), f: f, told: s.told}
		return s.run(ctx)
	}
	if f.follow {
		f.wait = followWait
	} else if f.wait == 0 {
		if err := queueThere(ctx, g, c, args[0]); err != nil {
			return err
		}
	}
	s.from = &taker{g: g, f: f, q: c.Queue(args[0]), told: s.told}
	return s.run(ctx)
}

// check finds what contradicts itself.
func (f *subFlags) check(cmd *cobra.Command, g *globals, args []string) error {
	switch {
	case f.topic != "" && len(args) > 0:
		return usage("QUEUE and --topic: which of them?")
	case f.topic != "":
		if err := patternArg(f.topic); err != nil {
			return err
		}
	case len(args) == 0:
		return usage("usage: %s; which queue?", cmd.UseLine())
	default:
		if err := queueArg(args[0]); err != nil {
			return err
		}
	}
	switch {
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
	return nil
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
