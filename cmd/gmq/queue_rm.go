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
	cmd = g.aboutQueue(cmd, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.DeleteQueue(ctx, name); err != nil {
			return err
		}
		return g.done(cmd, name, "deleted")
	})
	return g.destructive(cmd, &yes, func(name string, n *gmq.Counts) string {
		return fmt.Sprintf("Delete queue %s (it holds %s)", name, plural(n.Ready+n.Delayed+n.Leased, "message"))
	})
}

func newQueuePurge(g *globals) *cobra.Command {
	var yes bool
	state := choice{values: []string{"ready", "delayed", "leased"}}
	cmd := g.aboutQueue(&cobra.Command{
		Use:   "purge",
		Short: "Delete the messages of a queue",
		Long: `Purge deletes all messages of a queue, or those in a state, keeps the queue and prints how many they
were. What somebody has leased goes too; an ack for it settles nothing then. On a terminal it asks
first; where nobody can answer, as in a script, it does not.`,
		Example: `  gmq queue purge orders
  gmq queue purge orders --state delayed
  gmq queue purge orders --yes -o json | jq .purged`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		n, err := c.PurgeState(ctx, name, state.value)
		if err != nil {
			return err
		}
		if g.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"queue": name, "purged": n})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s purged\n", plural(n, "message"))
		return err
	})
	cmd.Flags().Var(&state, "state", "only messages that are ready, delayed or leased")
	complete(cmd, "state", state.values...)
	return g.destructive(cmd, &yes, func(name string, n *gmq.Counts) string {
		doomed := map[string]uint64{"": n.Ready + n.Delayed + n.Leased, "ready": n.Ready, "delayed": n.Delayed, "leased": n.Leased}[state.value]
		if state.value != "" {
			return fmt.Sprintf("Delete what is %s in queue %s (%s)", state.value, name, plural(doomed, "message"))
		}
		return fmt.Sprintf("Delete the messages of queue %s (it holds %s)", name, plural(doomed, "message"))
	})
}

// destructive makes a command about a queue ask first, as what it does cannot be undone.
func (g *globals) destructive(cmd *cobra.Command, yes *bool, question func(name string, n *gmq.Counts) string) *cobra.Command {
	// The person's answer does not count as the server's time: asking ends before the request's clock starts.
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
func (g *globals) confirm(cmd *cobra.Command, question func(name string, n *gmq.Counts) string, name string) error {
	return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
		info, err := c.QueueInfo(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", question(name, &info.Counts))
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // no answer is no
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return &failure{exitError, fmt.Errorf("queue %s is left as it is", name)}
		}
		return nil
	})
}
