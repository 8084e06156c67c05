package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newPing(g *globals) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Ask the server for a sign of life",
		Long: `Ping connects, asks the server for a sign of life, and prints how long that took
and which version answers. It ends with exit code 3 where nobody does.`,
		Example: `  gmq ping
  gmq ping -n 1000                 # the least, the mean and the most of many
  gmq ping --server queue-1:4567 --timeout 2s -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 {
				return usage("-n: want 1 or more, not %d", n)
			}
			return ping(cmd, g, n)
		},
	}
	cmd.Flags().IntVarP(&n, "count", "n", 1, "how many times to ask")
	return cmd
}

func ping(cmd *cobra.Command, g *globals, n int) error {
	c, ctx, closing, err := g.connect(cmd.Context(), nil)
	if err != nil {
		return err
	}
	defer closing()
	var least, most, sum time.Duration
	for i := range n {
		took, err := pingOnce(ctx, g, c)
		if err != nil {
			return err
		}
		if i == 0 || took < least {
			least = took
		}
		most, sum = max(most, took), sum+took
	}
	h := c.Hello()
	mean := sum / time.Duration(n)
	if g.json() {
		return printJSON(cmd.OutOrStdout(), struct {
			Server  string `json:"server"`
			Version string `json:"version"`
			Node    string `json:"node"`
			Count   int    `json:"count"`
			Least   string `json:"least"`
			Mean    string `json:"mean"`
			Most    string `json:"most"`
		}{g.address(), h.Version, h.Node, n, least.String(), mean.String(), most.String()})
	}
	text := short(mean)
	if n > 1 {
		text = fmt.Sprintf("%d times: least %s, mean %s, most %s", n, short(least), short(mean), short(most))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (gmq %s, node %s): %s\n", g.address(), h.Version, h.Node, text)
	return err
}

func pingOnce(ctx context.Context, g *globals, c *gmq.Client) (time.Duration, error) {
	ctx, cancel := g.context(ctx)
	defer cancel()
	start := time.Now()
	err := c.Ping(ctx)
	return time.Since(start), explain(ctx, err)
}

// short leaves out digits that mean nothing.
func short(d time.Duration) string {
	for unit := time.Second; unit > time.Microsecond; unit /= 1000 {
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.Round(100 * time.Nanosecond).String()
}
