package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newContext(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Keep servers, their authorities and credentials under names",
		Long: `A context is a server's address and how it is talked to, under a name. Contexts are kept in
gmq/contexts.yaml in the user's configuration directory, for nobody else to read. One of them may be
the one in use: commands that name neither a server (--server, GMQ_SERVER) nor a context
(--context, GMQ_CONTEXT) talk to that.`,
	}
	cmd.AddCommand(newContextAdd(), newContextUse(), newContextLs(g), newContextShow(g), newContextRm())
	return cmd
}

// contextName checks a name before anything is written.
func contextName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return usage("%q is no name of a context: want 1 to 64 of A-Z a-z 0-9 . _ -", name)
	}
	return nil
}

func newContextAdd() *cobra.Command {
	var t target
	var stdin bool
	cmd := &cobra.Command{
		Use:   "add NAME --server ADDR",
		Short: "Keep a server under a name",
		Long: `Add keeps a server under a name, instead of the one that had it before. The first context is the
one in use from then on. Files are named, not copied: give a password or a token as the name of a file
(mode 0600). A token that is read from standard input (--token-stdin) is kept with the context.`,
		Example: `  gmq context add local --server localhost:4567 --ca gmq-certs/ca.pem
  gmq token add ci --for ci | gmq context add ci --server queue.example.org:4567 --tls --token-stdin
  gmq context add prod --server queue.example.org:4567 --tls --user ann --password-file ~/.gmq-password`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{usesKey: strings.Join([]string{flagServer, flagTLS, flagCA, flagCert, flagCertKey, flagServerName, "user", "password-file"}, " ")},
		RunE:              func(cmd *cobra.Command, args []string) error { return addContext(cmd, args[0], &t, stdin) },
	}
	fs := cmd.Flags()
	fs.StringVar(&t.Server, flagServer, "", "server's `address`")
	t.addTLSFlags(fs)
	fs.StringVar(&t.User, "user", "", "`name` of the user")
	fs.StringVar(&t.PasswordFile, "password-file", "", "`file` with the user's password")
	fs.StringVar(&t.TokenFile, "token-file", "", "`file` with a token")
	fs.BoolVar(&stdin, "token-stdin", false, "the token is the first line of standard input, and kept here")
	return cmd
}

func addContext(cmd *cobra.Command, name string, t *target, stdin bool) error {
	if err := contextName(name); err != nil {
		return err
	}
	if t.Server == "" {
		return usage("--%s: which server? want its address, such as localhost:4567", flagServer)
	}
	if err := t.complete(); err != nil {
		return err
	}
	switch {
	case t.PasswordFile != "" && t.User == "":
		return usage("--password-file: whose password? say --user too")
	case stdin && t.TokenFile != "":
		return usage("--token-stdin and --token-file: give one of them")
	case t.User != "" && (stdin || t.TokenFile != ""):
		return usage("--user and --token-file, or --token-stdin: a token says whose it is; give one of them")
	}
	if stdin {
		var err error
		if t.Token, err = firstLine(cmd.InOrStdin(), "--token-stdin: there is no token"); err != nil {
			return err
		}
	}
	for _, file := range []*string{&t.CA, &t.Cert, &t.CertKey, &t.PasswordFile, &t.TokenFile} {
		if *file == "" {
			continue
		}
		abs, err := filepath.Abs(*file) // commands are run in other directories
		if err != nil {
			return err
		}
		if *file = abs; !readable(abs) {
			return fmt.Errorf("%s cannot be read", abs)
		}
	}
	all, err := loadContexts()
	if err != nil {
		return err
	}
	all.Contexts[name] = *t
	if all.Current == "" {
		all.Current = name
	}
	if err := all.save(); err != nil {
		return err
	}
	if all.Current == name {
		fmt.Fprintf(cmd.OutOrStdout(), "%s is the context in use\n", name)
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%s is kept; use it with --context %s, or always with: gmq context use %s\n", name, name, name)
	}
	return nil
}

func readable(name string) bool {
	f, err := os.Open(name)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func newContextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Talk to that server where no other is named",
		Example:           "  gmq context use prod",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := loadContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return noContext(args[0])
			}
			all.Current = args[0]
			return all.save()
		},
	}
}

func noContext(name string) error {
	return &failure{exitNotFound, fmt.Errorf("there is no context %q; see: gmq context ls", name)}
}

func newContextRm() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Forget a context",
		Example:           "  gmq context rm old",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := loadContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return noContext(args[0])
			}
			delete(all.Contexts, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			return all.save()
		},
	}
}

// A shownContext is a context for people: where there is a token, that there is one.
type shownContext struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	target
}

func (c *contexts) shown(name string) shownContext {
	t := c.Contexts[name]
	if t.Token != "" {
		t.Token = "***"
	}
	return shownContext{name, name == c.Current, t}
}

func newContextLs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Short:             "List the contexts",
		Example:           "  gmq context ls -o json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := loadContexts()
			if err != nil {
				return err
			}
			rows := [][]string{{"", "NAME", "SERVER", "TLS", "USER"}}
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				c := all.shown(name)
				if g.json() {
					if err := printJSON(cmd.OutOrStdout(), c); err != nil {
						return err
					}
					continue
				}
				mark, encrypted := "", "no"
				if c.Current {
					mark = "*"
				}
				if c.TLS {
					encrypted = "yes"
				}
				rows = append(rows, []string{mark, name, c.Server, encrypted, c.User})
			}
			if g.json() {
				return nil
			}
			return table(cmd.OutOrStdout(), len(rows[0]), rows)
		},
	}
}

func newContextShow(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show a context, or the one in use; no secrets",
		Example:           "  gmq context show prod",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeContexts,
		Annotations:       local,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := loadContexts()
			if err != nil {
				return err
			}
			name := all.Current
			if len(args) > 0 {
				name = args[0]
			}
			if _, ok := all.Contexts[name]; !ok {
				return noContext(name)
			}
			c := all.shown(name)
			if g.json() {
				return printJSON(cmd.OutOrStdout(), c)
			}
			rows := [][]string{{"name", name}, {"server", c.Server}}
			for _, r := range [][]string{
				{"ca", c.CA}, {"cert", c.Cert}, {"cert_key", c.CertKey}, {"server_name", c.ServerName},
				{"user", c.User}, {"password_file", c.PasswordFile}, {"token", c.Token}, {"token_file", c.TokenFile},
			} {
				if r[1] != "" {
					rows = append(rows, r)
				}
			}
			rows = append(rows, []string{"tls", fmt.Sprint(c.TLS)}, []string{"in use", fmt.Sprint(c.Current)})
			return table(cmd.OutOrStdout(), 2, rows)
		},
	}
}

func completeContexts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := loadContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(all.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
