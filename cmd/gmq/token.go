package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

func newToken(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens: secrets for programs",
		Example: `  gmq token add ci --allow 'publish:ci.>' --ttl 8760h
  gmq token add laptop --for ann
  gmq token rm ci`,
	}
	cmd.AddCommand(newTokenAdd(g), newTokenRm(g), newTokenLs(g))
	return cmd
}

func newTokenAdd(g *globals) *cobra.Command {
	var r rights
	var owner string
	var ttl time.Duration
	cmd := g.about("token", &cobra.Command{
		Use:   "add",
		Short: "Make a token and print it, once",
		Long: `Add makes a token and prints it: the server keeps only its hash, so it cannot be printed again.
It may do what its user may (--for), or what --allow says and --deny does not deny.`,
		Example: `  gmq token add ci --allow 'publish:ci.>' --ttl 8760h
  gmq token add laptop --for ann`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		token, err := c.AddToken(ctx, name, owner, ttl, r.allow, r.deny)
		if err != nil {
			return err
		}
		if g.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": name, "token": token})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
		return err
	})
	r.flags(cmd)
	cmd.Flags().StringVar(&owner, "for", "", "the `user` whose token it is")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is good; without it until it is removed")
	complete(cmd, "for")
	complete(cmd, "ttl")
	return before(cmd, func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("ttl") && ttl <= 0 {
			return usage("--ttl: want a duration such as 720h, not %v", ttl)
		}
		if owner != "" && len(r.allow)+len(r.deny) > 0 {
			return usage("--for: a token of a user may do what the user may; --allow and --deny are for one that is nobody's")
		}
		return r.check()
	})
}

func newTokenRm(g *globals) *cobra.Command {
	return g.about("token", &cobra.Command{
		Use:     "rm",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove a token and end its connections",
		Example: `  gmq token rm ci`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.RemoveToken(ctx, name); err != nil {
			return err
		}
		return g.doneWith(cmd, "token", name, "removed")
	})
}

func newTokenLs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List tokens, but for what they are",
		Example:           `  gmq token ls -o json | jq -r .name`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := [][]string{{"TOKEN", "USER", "EXPIRES", "ALLOW", "DENY"}}
			err := g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				for t, err := range c.Tokens(ctx) {
					if err != nil {
						return err
					}
					if g.json() {
						if err := printJSON(cmd.OutOrStdout(), t); err != nil {
							return err
						}
						continue
					}
					expires := ""
					if !t.Expires.IsZero() {
						expires = t.Expires.UTC().Format(time.RFC3339)
					}
					rows = append(rows, []string{t.Name, t.User, expires, strings.Join(t.Allow, ","), strings.Join(t.Deny, ",")})
				}
				return nil
			})
			if err != nil || g.json() {
				return err
			}
			return table(cmd.OutOrStdout(), len(rows[0]), rows)
		},
	}
}
