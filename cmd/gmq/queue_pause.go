package main

import (
	"context"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newQueuePause(g *globals) *cobra.Command {
	return g.aboutQueue(&cobra.Command{
		Use:     "pause",
		Short:   "Stop deliveries from a queue; publishing goes on",
		Example: `  gmq queue pause orders`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.Pause(ctx, name); err != nil {
			return err
		}
		return g.done(cmd, name, "paused")
	})
}

func newQueueResume(g *globals) *cobra.Command {
	return g.aboutQueue(&cobra.Command{
		Use:     "resume",
		Short:   "Deliver from a paused queue again",
		Example: `  gmq queue resume orders`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.Resume(ctx, name); err != nil {
			return err
		}
		return g.done(cmd, name, "resumed")
	})
}
