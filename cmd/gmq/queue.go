package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newQueue(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "List, inspect and manage queues",
		Example: `  gmq queue ls
  gmq queue info orders
  gmq queue create orders --max-messages 100000 --overflow reject
  gmq queue bind orders 'shop.*.ordered'
  gmq queue peek orders.dlq
  gmq queue explain orders 17`,
	}
	cmd.AddCommand(
		newQueueLs(g), newQueueInfo(g), newQueueCreate(g), newQueueUpdate(g),
		newQueueRm(g), newQueuePurge(g), newQueuePause(g), newQueueResume(g), newQueueBind(g), newQueueUnbind(g),
		newPeek(g), newQueueExplain(g), newQueueCancel(g), newQueueReschedule(g), newQueueRedrive(g),
	)
	return cmd
}

// aboutQueue is a command that asks the server something about one queue.
func (g *globals) aboutQueue(cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error) *cobra.Command {
	cmd.Use += " QUEUE"
	cmd.Args = cobra.ExactArgs(1)
	cmd.Annotations = remote
	cmd.ValidArgsFunction = g.completeQueues
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := queueArg(args[0]); err != nil {
			return err
		}
		return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error { return run(ctx, cmd, c, args[0]) })
	}
	return cmd
}

// done tells what has been done to a queue: to a person, or to whoever wants JSON.
func (g *globals) done(cmd *cobra.Command, name, what string) error {
	if g.json() {
		return printJSON(cmd.OutOrStdout(), map[string]any{"queue": name, what: true})
	}
	if onTerminal(cmd.OutOrStdout()) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "queue %s %s\n", name, what)
		return err
	}
	return nil
}

// replyFields are the fields of a reply, without those that every reply has.
func replyFields(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	delete(fields, "id")
	delete(fields, "ok")
	return fields, nil
}
