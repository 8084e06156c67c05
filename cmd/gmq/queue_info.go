package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/internal/config"
)

func newQueueInfo(g *globals) *cobra.Command {
	return g.aboutQueue(&cobra.Command{
		Use:   "info",
		Short: "Show the settings of a queue and what has become of its messages",
		Long: `Info shows the settings of a queue and its counts. Published is always the sum of
all the others: every message is somewhere.`,
		Example: `  gmq queue info orders
  gmq queue info orders -o json | jq .counts.ready`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		info, err := c.QueueInfo(ctx, name)
		if err != nil {
			return err
		}
		if g.json() {
			fields, err := replyFields(info.Raw)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), fields)
		}
		return printInfo(cmd, name, &info)
	})
}

func printInfo(cmd *cobra.Command, name string, info *gmq.QueueInfo) error {
	state := "delivering"
	if info.Paused {
		state = "paused; gmq queue resume " + name
	}
	oldest := "-"
	if info.OldestAge > 0 {
		oldest = config.Duration(info.OldestAge).String()
	}
	err := table(cmd.OutOrStdout(), 2, [][]string{
		{"queue", name},
		{"state", state},
		{"consumers", grouped(info.Consumers)},
		{"oldest", oldest},
	})
	if err != nil {
		return err
	}
	if err := printBindings(cmd, info.Bindings); err != nil {
		return err
	}
	n := &info.Counts
	rows := [][]string{}
	for _, f := range []struct {
		name string
		n    uint64
	}{
		{"published", n.Published},
		{"ready", n.Ready},
		{"delayed", n.Delayed},
		{"leased", n.Leased},
		{"acked", n.Acked},
		{"expired", n.Expired},
		{"dead", n.Dead},
		{"dropped", n.Dropped},
		{"cancelled", n.Cancelled},
		{"purged", n.Purged},
		{"redriven", n.Redriven},
	} {
		rows = append(rows, []string{"  " + f.name, grouped(f.n)})
	}
	fmt.Fprintln(cmd.OutOrStdout(), "\nmessages")
	if err := table(cmd.OutOrStdout(), 1, rows); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), "\nsettings")
	return table(cmd.OutOrStdout(), 2, settingRows(&info.Settings))
}

// printBindings shows the topics of which the queue gets the messages, if there are any.
func printBindings(cmd *cobra.Command, patterns []string) error {
	if len(patterns) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\nbound to\n  %s\n", strings.Join(patterns, "\n  "))
	return err
}

// settingRows writes settings as their flags take them.
func settingRows(s *gmq.Settings) [][]string {
	limit := func(n int64, text string) string {
		if n == 0 {
			return "no limit"
		}
		return text
	}
	r := &s.Retry
	return [][]string{
		{"  storage", s.Storage},
		{"  max-messages", limit(s.MaxMessages, grouped(s.MaxMessages))},
		{"  max-bytes", limit(s.MaxBytes, config.Size(s.MaxBytes).String())},
		{"  overflow", s.Overflow},
		{"  lease", config.Duration(s.Lease).String()},
		{"  max-deliveries", limit(int64(s.MaxDeliveries), grouped(s.MaxDeliveries))},
		{"  retry", strings.Join([]string{
			"min " + config.Duration(r.Min).String(), "max " + config.Duration(r.Max).String(),
			fmt.Sprintf("factor %v", r.Factor), fmt.Sprintf("jitter %v", r.Jitter),
		}, ", ")},
		{"  ttl", limit(int64(s.TTL), config.Duration(s.TTL).String())},
		{"  dedup-window", config.Duration(s.DedupWindow).String()},
		{"  dead-letter-expired", strconv.FormatBool(s.DeadLetterExpired != nil && *s.DeadLetterExpired)},
	}
}
