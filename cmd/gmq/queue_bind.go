package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

func newQueueBind(g *globals) *cobra.Command {
	return g.aboutBinding(&cobra.Command{
		Use:   "bind",
		Short: "Let a queue have the messages of a topic",
		Long: `Bind lets a queue have a copy of every message that is published from now on to a topic that
matches the pattern: words with dots between them, where * stands for any one word and > at the end
for one or more. Quote it, for the shell has ideas of its own about both. The queue must be there.
To bind it again is fine, and gmq queue info shows what it is bound to.`,
		Example: `  gmq queue bind thumbnails 'files.*.added'
  gmq queue bind audit '>'`,
	}, "bound", (*gmq.Queue).Bind)
}

func newQueueUnbind(g *globals) *cobra.Command {
	cmd := g.aboutBinding(&cobra.Command{
		Use:     "unbind",
		Short:   "Let a queue no longer have the messages of a topic",
		Long:    `Unbind undoes gmq queue bind for one pattern. The messages that the queue has stay.`,
		Example: `  gmq queue unbind thumbnails 'files.*.added'`,
	}, "unbound", (*gmq.Queue).Unbind)
	cmd.ValidArgsFunction = g.completeBindings
	return cmd
}

// aboutBinding is a command about a queue and a pattern of topics.
func (g *globals) aboutBinding(cmd *cobra.Command, done string, do func(*gmq.Queue, context.Context, string) error) *cobra.Command {
	cmd.Use += " QUEUE PATTERN"
	cmd.Args = cobra.ExactArgs(2)
	cmd.Annotations = remote
	cmd.ValidArgsFunction = g.completeQueues
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, pattern := args[0], args[1]
		if err := queueArg(name); err != nil {
			return err
		}
		if err := patternArg(pattern); err != nil {
			return err
		}
		return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
			if err := do(c.Queue(name), ctx, pattern); err != nil {
				return err
			}
			return g.doneBinding(cmd, name, pattern, done)
		})
	}
	return cmd
}

// patternArg checks a pattern before anybody is asked, so that it is a usage error.
func patternArg(pattern string) error {
	if !wire.ValidPattern([]byte(pattern)) {
		return usage("%q is no pattern of topics: want words of A-Z a-z 0-9 _ -, * for any one word or > for the rest, with dots between them", pattern)
	}
	return nil
}

// doneBinding tells what has been done: to a person, or to whoever wants JSON.
func (g *globals) doneBinding(cmd *cobra.Command, name, pattern, what string) error {
	out := cmd.OutOrStdout()
	if g.json() {
		return printJSON(out, map[string]any{"queue": name, "topic": pattern, what: true})
	}
	if onTerminal(out) {
		preposition := "to"
		if what == "unbound" {
			preposition = "from"
		}
		_, err := fmt.Fprintf(out, "queue %s %s %s %s\n", name, what, preposition, pattern)
		return err
	}
	return nil
}

// completeBindings offers queues, and then what the queue is bound to.
func (g *globals) completeBindings(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return g.completeQueues(cmd, args, prefix)
	}
	var patterns []string
	err := g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
		info, err := c.QueueInfo(ctx, args[0])
		patterns = slices.DeleteFunc(info.Bindings, func(p string) bool { return !strings.HasPrefix(p, prefix) })
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return patterns, cobra.ShellCompDirectiveNoFileComp
}
