package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

func newUser(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Users: who may log in, and what they may do",
		Example: `  gmq user add ann --allow 'publish:orders.*,consume:orders.*'
  gmq user grant ann --deny 'publish:orders.secret'
  gmq user ls`,
	}
	cmd.AddCommand(newUserAdd(g), newUserRm(g), newUserLs(g), newUserPasswd(g), newUserGrant(g))
	return cmd
}

// rights are flags with lists of them.
type rights struct{ allow, deny, revoke []string }

func (r *rights) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&r.allow, "allow", nil, "`rights`: verb:pattern, such as publish:orders.*; several with commas")
	cmd.Flags().StringSliceVar(&r.deny, "deny", nil, "`rights` that are denied, whatever allows them")
	complete(cmd, "allow")
	complete(cmd, "deny")
}

// check finds what is no right before anybody is asked.
func (r *rights) check() error {
	for _, list := range [][]string{r.allow, r.deny, r.revoke} {
		for _, right := range list {
			verb, pattern, _ := strings.Cut(right, ":")
			if wire.ParseVerb(verb) == 0 || !wire.ValidGrantPattern([]byte(pattern)) {
				return usage("%q is no right: want verb:pattern such as publish:orders.*, with one of the verbs %v or *", right, wire.AnyVerb)
			}
		}
	}
	return nil
}

// about is a command about something of which its only argument is the name.
func (g *globals) about(what string, cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error) *cobra.Command {
	cmd.Use += " NAME"
	cmd.Args = cobra.ExactArgs(1)
	cmd.Annotations = remote
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !wire.ValidUserName([]byte(args[0])) {
			return usage("%q is no name of a %s: want 1 to %d of A-Z a-z 0-9 . _ - @ : / +", args[0], what, wire.MaxUser)
		}
		return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error { return run(ctx, cmd, c, args[0]) })
	}
	return cmd
}

// before has something looked at before a command connects.
func before(cmd *cobra.Command, check func(cmd *cobra.Command, args []string) error) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return err
		}
		return run(cmd, args)
	}
	return cmd
}

// A newPassword is where a password comes from that is to be set.
type newPassword struct {
	stdin, none bool
	text        string
	made        bool // by us: it must be told
}

func (p *newPassword) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.stdin, "password-stdin", false, "the password is the first line of standard input")
	cmd.Flags().BoolVar(&p.none, "no-password", false, "none: login by token or certificate only")
}

// get finds the password: on a terminal it asks twice, and where nobody can be asked it makes one.
func (p *newPassword) get(cmd *cobra.Command, name string) (err error) {
	switch {
	case p.none && p.stdin:
		return usage("--no-password and --password-stdin exclude each other")
	case p.none:
	case p.stdin:
		p.text, err = firstLine(cmd.InOrStdin(), "--password-stdin: there is no password")
	case onTerminal(cmd.InOrStdin()) && onTerminal(cmd.ErrOrStderr()):
		if p.text, err = askPassword("Password for " + name + ": "); err != nil {
			return err
		}
		again, err := askPassword("Once more: ")
		if err != nil {
			return err
		}
		if p.text == "" || again != p.text {
			return errors.New("the passwords differ, or are empty; nothing was changed")
		}
	default:
		p.text, p.made = rand.Text(), true
	}
	if err == nil && p.text != "" && len(p.text) < shortPassword {
		fmt.Fprintf(cmd.ErrOrStderr(), "gmq: a password of %d letters can be guessed\n", len(p.text))
	}
	return err
}

// shortPassword is what a person is warned of.
const shortPassword = 10

// told prints a password that nobody has chosen.
func (p *newPassword) told(cmd *cobra.Command, g *globals, name, done string) error {
	if g.json() {
		out := map[string]any{"user": name, done: true}
		if p.made {
			out["password"] = p.text
		}
		return printJSON(cmd.OutOrStdout(), out)
	}
	if p.made {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "password: %s\n", p.text)
		return err
	}
	if onTerminal(cmd.OutOrStdout()) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "user %s %s\n", name, done)
		return err
	}
	return nil
}

func newUserAdd(g *globals) *cobra.Command {
	var r rights
	var p newPassword
	cmd := g.about("user", &cobra.Command{
		Use:   "add",
		Short: "Make a user",
		Long: `Add makes a user, who may do what --allow says and --deny does not deny: without --allow nothing.
The password is asked for on a terminal, or read from standard input with --password-stdin. Where
nobody can be asked a random one is made and printed.`,
		Example: `  gmq user add ann --allow 'publish:orders.*,consume:orders.*'
  gmq user add ops --allow '*:>' --deny 'admin:>' --password-stdin < password
  gmq user add billing.example.org --no-password --allow consume:invoices`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.AddUser(ctx, name, p.text, r.allow, r.deny); err != nil {
			return err
		}
		return p.told(cmd, g, name, "added")
	})
	r.flags(cmd)
	p.flags(cmd)
	return before(cmd, func(cmd *cobra.Command, args []string) error {
		if err := r.check(); err != nil {
			return err
		}
		return p.get(cmd, args[0])
	})
}

func newUserPasswd(g *globals) *cobra.Command {
	var p newPassword
	cmd := g.about("user", &cobra.Command{
		Use:   "passwd",
		Short: "Give a user another password",
		Long: `Passwd gives a user another password, which is asked for, read, or made as for gmq user add. Who is
connected stays connected.`,
		Example: `  gmq user passwd ann`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.SetPassword(ctx, name, p.text); err != nil {
			return err
		}
		return p.told(cmd, g, name, "changed")
	})
	p.flags(cmd)
	return before(cmd, func(cmd *cobra.Command, args []string) error { return p.get(cmd, args[0]) })
}

func newUserRm(g *globals) *cobra.Command {
	return g.about("user", &cobra.Command{
		Use:     "rm",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove a user, with the tokens and the connections",
		Example: `  gmq user rm ann`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		if err := c.RemoveUser(ctx, name); err != nil {
			return err
		}
		return g.doneWith(cmd, "user", name, "removed")
	})
}

// doneWith tells what has been done: to a person, or to whoever wants JSON.
func (g *globals) doneWith(cmd *cobra.Command, what, name, done string) error {
	if g.json() {
		return printJSON(cmd.OutOrStdout(), map[string]any{what: name, done: true})
	}
	if onTerminal(cmd.OutOrStdout()) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", what, name, done)
		return err
	}
	return nil
}

func newUserGrant(g *globals) *cobra.Command {
	var r rights
	cmd := g.about("user", &cobra.Command{
		Use:   "grant",
		Short: "Change what a user may do, at once",
		Long: `Grant adds rights of a user, allowed or denied ones, and takes away those after --revoke, letter for
letter. It holds at once, also for who is connected. It prints the rights that there are then; without
flags that is all it does.`,
		Example: `  gmq user grant ann --allow 'peek:orders.*'
  gmq user grant ann --revoke 'peek:orders.*' --deny publish:orders.secret`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		u, err := c.Grant(ctx, name, r.allow, r.deny, r.revoke)
		if err != nil {
			return err
		}
		if g.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"user": name, "allow": u.Allow, "deny": u.Deny})
		}
		var rows [][]string
		for _, right := range u.Allow {
			rows = append(rows, []string{"allow", right})
		}
		for _, right := range u.Deny {
			rows = append(rows, []string{"deny", right})
		}
		return table(cmd.OutOrStdout(), len(rows), rows)
	})
	r.flags(cmd)
	cmd.Flags().StringSliceVar(&r.revoke, "revoke", nil, "`rights` that are taken away, allowed or denied")
	complete(cmd, "revoke")
	return before(cmd, func(*cobra.Command, []string) error { return r.check() })
}

func newUserLs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List users and their rights",
		Example:           `  gmq user ls -o json | jq -r .user`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := [][]string{{"USER", "LOGIN BY", "TOKENS", "ALLOW", "DENY"}}
			err := g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				for u, err := range c.Users(ctx) {
					if err != nil {
						return err
					}
					if g.json() {
						if err := printJSON(cmd.OutOrStdout(), u); err != nil {
							return err
						}
						continue
					}
					by := "password"
					if !u.Password {
						by = "token, certificate"
					}
					rows = append(rows, []string{u.Name, by, fmt.Sprint(u.Tokens), strings.Join(u.Allow, ","), strings.Join(u.Deny, ",")})
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

func newAuth(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "auth", Short: "Why a user may do something, or not"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check USER VERB NAME",
		Short: "Say whether a user may do something, and which right decides",
		Long: `Check says whether a user may do what VERB says (publish, consume, peek, manage, admin) to the queue or the
topic NAME, or to everything that NAME matches as a pattern, and which right decides. Where not, the
exit code is 4. A token of a user may do what the user may; what a token of its own may do is in
gmq token ls.`,
		Example:           `  gmq auth check ann publish orders.eu`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, args []string) error {
			if v := wire.ParseVerb(args[1]); v == 0 || v == wire.AnyVerb {
				return usage("%q is no verb: want %v", args[1], wire.AnyVerb)
			}
			if !wire.ValidGrantPattern([]byte(args[2])) {
				return usage("%q is no name of a queue or a topic, and no pattern", args[2])
			}
			return g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
				allowed, because, err := c.CheckRight(ctx, args[0], args[1], args[2])
				if err != nil {
					return err
				}
				if g.json() {
					err = printJSON(cmd.OutOrStdout(), map[string]any{"allowed": allowed, "because": because})
				} else if allowed {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "yes: "+because)
				}
				if err == nil && !allowed {
					err = &failure{exitNotAllowed, fmt.Errorf("no: %s", because)}
				}
				return err
			})
		},
	})
	return cmd
}
