package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newQueueRm(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm",
		Aliases: []string{"delete"},
		Short:   "Delete a queue and everything in it",
		Long: `Rm deletes a queue, its messages and its counts. On a terminal it asks first;
where nobody can answer, as in a script, it does not.`,
		Example: `  gmq queue rm orders
  gmq queue rm orders --yes`,
	}
	return g.destructive(cmd, &yes, "Delete queue", "deleted", (*gmq.Client).DeleteQueue)
}

func newQueuePurge(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Delete all messages of a queue",
		Long: `Purge deletes the messages of a queue and keeps the queue. On a terminal it asks
first; where nobody can answer, as in a script, it does not.`,
		Example: `  gmq queue purge orders
  gmq queue purge orders --yes`,
	}
	return g.destructive(cmd, &yes, "Delete the messages of queue", "purged", (*gmq.Client).Purge)
}

// destructive is a command about a queue that cannot be undone.
func (g *globals) destructive(cmd *cobra.Command, yes *bool, question, done string, do func(*gmq.Client, context.Context, string) error) *cobra.Command {
	// The person's answer does not count as the server's time: asking ends before the request's clock starts.
	cmd = g.aboutQueue(cmd, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := do(c, ctx, name); err != nil {
			return err
		}
		return g.done(cmd, name, done)
	})
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := queueArg(args[0]); err != nil {
			return err
		}
		if !*yes && onTerminal(cmd.InOrStdin()) && onTerminal(cmd.ErrOrStderr()) {
			if err := g.confirm(cmd, question, args[0]); err != nil {
				return err
			}
		}
		return run(cmd, args)
	}
	return cmd
}

// confirm asks the person at the terminal, and says how much is at stake.
func (g *globals) confirm(cmd *cobra.Command, question, name string) error {
	return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
		info, err := c.QueueInfo(ctx, name)
		if err != nil {
			return err
		}
		n := &info.Counts
		fmt.Fprintf(cmd.ErrOrStderr(), "%s %s (it holds %s)? [y/N] ", question, name, plural(n.Ready+n.Delayed+n.Leased, "message"))
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // no answer is no
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return &failure{exitError, fmt.Errorf("queue %s is left as it is", name)}
		}
		return nil
	})
}
