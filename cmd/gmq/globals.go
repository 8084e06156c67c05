package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Where a server is expected that nobody has said anything about.
const (
	defaultPort   = "4567"
	defaultServer = "127.0.0.1:" + defaultPort
)

// globals are the flags of every command that has a use for them.
type globals struct {
	server  string
	output  choice
	timeout time.Duration

	user         string // "": nobody
	passwordFile string

	askedPassword string // on the terminal; nobody is asked twice
	sendsToken    bool   // whoever has logged in has done so by a token

	target   target // of the flags; once resolved is true, the server that is talked to
	named    string // the context that was asked for
	resolved bool
	flags    *pflag.FlagSet
}

// The names of the global flags.
const (
	flagServer  = "server"
	flagOutput  = "output"
	flagTimeout = "timeout"
	flagUser    = "user"
	flagSecret  = "password-file"
)

var globalFlags = append([]string{flagOutput, flagTimeout, flagUser, flagSecret}, targetFlags...)

// usesKey is the annotation under which a command says which global flags it has a use for.
const usesKey = "globals"

// remote is the annotation of a command that talks to a server, local that of one
// that only prints.
var (
	remote = map[string]string{usesKey: strings.Join(globalFlags, " ")}
	local  = map[string]string{usesKey: flagOutput}
)

func uses(cmd *cobra.Command, flag string) bool {
	return !cmd.HasParent() || slices.Contains(strings.Fields(cmd.Annotations[usesKey]), flag)
}

func addGlobals(root *cobra.Command) *globals {
	g := &globals{server: os.Getenv("GMQ_SERVER"), output: choice{value: "text", values: []string{"text", "json"}}}
	if g.server == "" {
		g.server = defaultServer
	}
	fs := root.PersistentFlags()
	fs.StringVar(&g.server, flagServer, g.server, "server's `address`; the variable GMQ_SERVER sets it too")
	fs.VarP(&g.output, flagOutput, "o", "`form` of what is printed: text or json")
	fs.DurationVar(&g.timeout, flagTimeout, 10*time.Second, "how long the server may take to answer")
	g.flags = fs
	fs.StringVar(&g.user, flagUser, os.Getenv(envUser), "log in as this `user`; the variable GMQ_USER sets it too, and GMQ_PASSWORD the password; GMQ_TOKEN logs in without a user")
	fs.StringVar(&g.passwordFile, flagSecret, "", "`file` that holds the password and nothing else")
	fs.Lookup(flagUser).DefValue = ""
	complete(root, flagUser)
	fs.StringVar(&g.named, flagContext, "", "`name` of a context (gmq context); the variable GMQ_CONTEXT sets it too")
	g.target.addTLSFlags(fs)
	_ = root.RegisterFlagCompletionFunc(flagContext, completeContexts) // it fails only where there is no such flag
	complete(root, flagServerName)
	complete(root, flagOutput, g.output.values...)
	complete(root, flagServer)
	complete(root, flagTimeout)

	// A flag that does nothing is refused and not shown.
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range globalFlags {
			if cmd.Flags().Changed(name) && !uses(cmd, name) {
				return usage("%s has no use for --%s; see: %s --help", cmd.CommandPath(), name, cmd.CommandPath())
			}
		}
		if g.timeout <= 0 {
			return usage("--%s: want a duration such as 10s, not %v", flagTimeout, g.timeout)
		}
		if cmd.Annotations[usesKey] == remote[usesKey] {
			return g.resolve()
		}
		return nil
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		for _, name := range globalFlags {
			root.PersistentFlags().Lookup(name).Hidden = !uses(cmd, name)
		}
		help(cmd, args)
	})
	return g
}

// complete says which values of a flag a shell may offer; without any it offers no files either.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails only where there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (g *globals) json() bool { return g.output.value == "json" }

// context bounds one request.
func (g *globals) context(parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(parent, g.timeout, g.noAnswer())
}

func (g *globals) noAnswer() error {
	return fmt.Errorf("no answer from %s within %v; is the server busy? --%s says how long to wait", g.address(), g.timeout, flagTimeout)
}

// A choice is a flag with few values.
type choice struct {
	value  string
	values []string
}

func (c *choice) String() string { return c.value }

// Type is what help calls the value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.values, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.values, ", "))
	}
	c.value = s
	return nil
}

// strict makes cobra's complaints usage errors: about arguments, and about commands that
// are not there.
func strict(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.ValidArgsFunction = cobra.NoFileCompletions
		cmd.RunE = runGroup
		cmd.SuggestionsMinimumDistance = 2
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("usage: %s (%w)", cmd.UseLine(), err)
			}
			return nil
		}
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see: %s --help", err, cmd.CommandPath())
	})
}

// runGroup runs where no command of a group was named, or one that is not there.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return usage("%s: which of %s? see: %s --help", cmd.CommandPath(), strings.Join(names, ", "), cmd.CommandPath())
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage("unknown command %q for %q%s; see: %s --help", args[0], cmd.CommandPath(), hint, cmd.CommandPath())
}

// printJSON prints v in one line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
