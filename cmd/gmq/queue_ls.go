package main

import (
	"bytes"
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newQueueLs(g *globals) *cobra.Command {
	var prefix string
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the queues and how many messages they hold",
		Example: `  gmq queue ls
  gmq queue ls --prefix orders. --watch
  gmq queue ls -o json | jq -r 'select(.ready > 1000) | .queue'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usage("--every: want 100ms or more, not %v", every)
			}
			if watch {
				return watchQueues(cmd, g, prefix, every)
			}
			return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				text, err := listQueues(ctx, g, c, prefix)
				_, failed := cmd.OutOrStdout().Write(text)
				if err == nil {
					err = failed
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only queues whose names begin so")
	cmd.Flags().BoolVar(&watch, "watch", false, "list them again and again, until interrupted")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: how long to wait between two lists")
	complete(cmd, "every")
	return cmd
}

// listQueues gives the list as it is to be printed; of a list that has failed in the middle, what there is as JSON.
func listQueues(ctx context.Context, g *globals, c *gmq.Client, prefix string) ([]byte, error) {
	var out bytes.Buffer
	rows := [][]string{{"QUEUE", "STORAGE", "READY", "LEASED", "DELAYED"}}
	for q, err := range c.ListQueues(ctx, prefix) {
		if err == nil && g.json() {
			err = printJSON(&out, q)
		}
		if err != nil {
			return out.Bytes(), err
		}
		rows = append(rows, []string{q.Queue, q.Storage, grouped(q.Ready), grouped(q.Leased), grouped(q.Delayed)})
	}
	if g.json() {
		return out.Bytes(), nil
	}
	err := table(&out, 2, rows)
	return out.Bytes(), err
}

// watchQueues prints the list until it is interrupted: on a terminal in the same place, as far as there is room, elsewhere one
// below the other.
func watchQueues(cmd *cobra.Command, g *globals, prefix string, every time.Duration) error {
	parent, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, ctx, closing, err := g.connect(parent, nil)
	if err != nil {
		return err
	}
	defer closing()
	out, person := cmd.OutOrStdout(), onTerminal(cmd.OutOrStdout())
	for {
		asking, cancel := g.context(ctx)
		text, err := listQueues(asking, g, c, prefix)
		cancel()
		switch {
		case parent.Err() != nil:
			return nil
		case err != nil:
			return explain(ctx, err)
		case person && !g.json():
			width, height := screenSize()
			lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
			paint(out, append(lines[:min(len(lines), height-2)], time.Now().Format("15:04:05")), width)
			fmt.Fprint(out, "\r\n")
		default:
			if _, err := out.Write(text); err != nil {
				return err
			}
		}
		select {
		case <-parent.Done():
			return nil
		case <-time.After(every):
		}
	}
}
