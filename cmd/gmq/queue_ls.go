package main

import (
	"context"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newQueueLs(g *globals) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the queues and how many messages they hold",
		Example: `  gmq queue ls
  gmq queue ls --prefix orders.
  gmq queue ls -o json | jq -r 'select(.ready > 1000) | .queue'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error { return listQueues(ctx, cmd, g, c, prefix) })
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only queues whose names begin so")
	return cmd
}

func listQueues(ctx context.Context, cmd *cobra.Command, g *globals, c *gmq.Client, prefix string) error {
	rows := [][]string{{"QUEUE", "STORAGE", "READY", "LEASED", "DELAYED"}}
	for q, err := range c.ListQueues(ctx, prefix) {
		if err == nil && g.json() {
			err = printJSON(cmd.OutOrStdout(), q)
		}
		if err != nil {
			return err
		}
		rows = append(rows, []string{q.Queue, q.Storage, grouped(q.Ready), grouped(q.Leased), grouped(q.Delayed)})
	}
	if g.json() {
		return nil
	}
	return table(cmd.OutOrStdout(), 2, rows)
}
