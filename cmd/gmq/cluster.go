package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

func newCluster(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Several servers as one: let them join, see how they are, take them out",
		Example: `  gmq serve --join "$(gmq cluster token)" --data n2 --listen 127.0.0.1:4577 --admin off
  gmq cluster status
  gmq cluster remove n2`,
	}
	cmd.AddCommand(newClusterToken(g), newClusterStatus(g), newClusterRemove(g), newClusterTransfer(g), newClusterRecover(g))
	return cmd
}

func newClusterToken(g *globals) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token with which one more server joins",
		Long: `Token prints a join token: where the cluster is, a secret, and the fingerprint of the cluster's own
authority, by which the new server knows that it talks to the right one. One server joins with it,
within an hour. A server that is alone becomes the first node of a cluster by this, and listens
for other nodes from then on (cluster.listen).`,
		Example: `  gmq cluster token
  gmq serve --join "$(gmq cluster token)" --data n2 --listen 127.0.0.1:4577 --admin off`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < 0 {
				return usage("--ttl: want a duration such as 10m, not %v", ttl)
			}
			return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				token, expires, err := c.JoinToken(ctx, ttl)
				if err != nil {
					return err
				}
				if g.json() {
					return printJSON(cmd.OutOrStdout(), map[string]any{"token": token, "expires": expires})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it holds, an hour if not said, a week at most")
	complete(cmd, "ttl")
	return cmd
}

func newClusterStatus(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List the nodes of the cluster, and how they are",
		Long: `Status lists the nodes: whether they can be reached, what they are (joining: they are catching up and do
not count yet; member; leaving), how many groups of queues they lead, and how many entries they
lack. Where there are queues in MySQL it says which node has them. The last line says what the cluster survives as it is now.`,
		Example: `  gmq cluster status
  gmq cluster status -o json | jq -r '.nodes[] | select(.reachable | not).name'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				s, err := c.ClusterStatus(ctx)
				if err != nil {
					return err
				}
				if g.json() {
					return printJSON(cmd.OutOrStdout(), s)
				}
				rows := [][]string{{"NODE", "STATE", "REACHABLE", "LEADS", "BEHIND", "ADDRESS", "CLIENTS"}}
				for _, n := range s.Nodes {
					reachable := "yes"
					if !n.Reachable {
						reachable = "no"
					}
					rows = append(rows, []string{n.Name, n.State, reachable, fmt.Sprint(n.Leads), fmt.Sprint(n.Behind), orDash(n.Address), orDash(n.Client)})
				}
				if err := table(cmd.OutOrStdout(), len(rows[0]), rows); err != nil {
					return err
				}
				if s.MySQL != "" {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has the queues in MySQL, and so leads all.\n", s.MySQL); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), survives(&s))
				return err
			})
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// survives says in a line what a cluster can lose.
func survives(s *gmq.ClusterStatus) string {
	if len(s.Groups) == 0 {
		return "This server is alone."
	}
	if len(s.Nodes) == 1 {
		return "The cluster has one node."
	}
	reachable := map[string]bool{}
	for _, n := range s.Nodes {
		reachable[n.Name] = n.Reachable
	}
	without, lost, least := 0, 0, len(s.Nodes)
	for _, g := range s.Groups {
		there := 0
		for _, m := range g.Members {
			if reachable[m] {
				there++
			}
		}
		if g.Leader == "" {
			without++
		}
		spare := there - len(g.Members)/2 - 1
		if spare < 0 {
			lost++
		}
		least = min(least, spare)
	}
	switch {
	case lost > 0 && lost < len(s.Groups):
		return fmt.Sprintf("Of %d of %d groups a majority cannot be reached: nothing is stored there until it is back.", lost, len(s.Groups))
	case lost > 0:
		return "A majority cannot be reached: nothing is stored until it is there again."
	case without > 0:
		return fmt.Sprintf("%d of %d groups have no leader just now.", without, len(s.Groups))
	case least == 0:
		return "The loss of one more node stops the cluster."
	}
	return fmt.Sprintf("The cluster goes on after the loss of any %s.", plural(uint64(least), "node"))
}

// aboutNode is a command about a node of which its only argument is the name, or the id.
func (g *globals) aboutNode(cmd *cobra.Command, args cobra.PositionalArgs, run func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error) *cobra.Command {
	cmd.Args = args
	cmd.Annotations = remote
	cmd.ValidArgsFunction = g.completeNodes
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 0 {
			if name = args[0]; !wire.ValidUserName([]byte(name)) {
				return usage("%q is no name of a node; gmq cluster status names them", name)
			}
		}
		return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error { return run(ctx, cmd, c, name) })
	}
	return cmd
}

// completeNodes offers the names of nodes, where the server can be asked for them.
func (g *globals) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 && g.resolve() == nil {
		// Where it fails there is nothing to offer, and nobody to tell.
		_ = g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
			s, err := c.ClusterStatus(ctx)
			for _, n := range s.Nodes {
				names = append(names, n.Name)
			}
			return err
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newClusterRemove(g *globals) *cobra.Command {
	return g.aboutNode(&cobra.Command{
		Use:     "remove NODE",
		Aliases: []string{"rm"},
		Short:   "Take a node out of the cluster, be it there or gone for good",
		Long: `Remove takes a node out: the groups get by without it from then on, and it is let in no more. What it leads others take
over first. It is refused for the last node, and where the nodes that are left could not decide
anything. A node that was taken out stops, and its data directory is of no use to the cluster any more; to bring the
machine back, let it join anew with an empty one. That is also how a dead node is replaced.

It waits until that is done, for as long as --timeout says.`,
		Example: `  gmq cluster remove n2
  gmq cluster remove n2 && gmq cluster token`,
	}, cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		asked, err := c.ClusterStatus(ctx)
		if err == nil {
			err = c.RemoveNode(ctx, name)
		}
		if err != nil {
			return err
		}
		for {
			s, err := c.ClusterStatus(ctx)
			gone := err == nil && !hasNode(&s, name)
			if gone || err != nil && ctx.Err() == nil && asked.Node == name { // the node that was asked stops when it is gone
				return g.doneWith(cmd, "node", name, "removed")
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %s is being taken out, which is not done yet; gmq cluster status shows when it is: %w", name, errors.Join(err, ctx.Err()))
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

func hasNode(s *gmq.ClusterStatus, name string) bool {
	for _, n := range s.Nodes {
		if n.Name == name || strings.EqualFold(n.ID, name) {
			return true
		}
	}
	return false
}

func newClusterTransfer(g *globals) *cobra.Command {
	return g.aboutNode(&cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Have a node lead nothing for ten minutes: before it is stopped, say",
		Long: `Transfer has other nodes lead the groups that a node leads, the one that answers if none is named, and gives it none
for ten minutes, or until it starts again. A server that is stopped does so by itself. Afterwards
leads are spread again, one by one.`,
		Example: `  gmq cluster transfer n2`,
	}, cobra.MaximumNArgs(1), func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		name, err := c.TransferLeads(ctx, name)
		if err != nil {
			return err
		}
		return g.doneWith(cmd, "node", name, "transferred")
	})
}
