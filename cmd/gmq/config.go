package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gmq/gmq/internal/config"
)

func newConfig(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check a configuration, or show the one in effect"}
	cmd.AddCommand(newConfigCheck(g), newConfigShow(g))
	return cmd
}

func newConfigCheck(g *globals) *cobra.Command {
	var insecure, strict bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether a configuration file is good",
		Long: `Check reads a configuration file as the server would, and the certificates that it names, and ends with
exit code 1 and everything that is wrong with it, line by line. It says when the certificate expires, and
which settings are weak; with --strict the latter is wrong too, as for gmq check. Variables of the
environment do not count: it is the file that is checked. FILE may be - or /dev/stdin.`,
		Example: `  gmq config check gmq.yaml
  gmq config check gmq.yaml && kill -HUP "$(pidof gmq)"
  echo 'limits: {max_queues: 10}' | gmq config check -`,
		Args:        cobra.ExactArgs(1),
		Annotations: local,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := check(args[0], nil, insecure || strict)
			if err != nil {
				return err
			}
			if strict {
				return c.judge(cmd.OutOrStdout(), g.json())
			}
			return c.print(cmd.OutOrStdout(), g.json())
		},
	}
	cmd.Flags().BoolVar(&insecure, "insecure", false, "the server will be started with --insecure")
	cmd.Flags().BoolVar(&strict, "strict", false, "what is weak is wrong")
	return cmd
}

func newConfigShow(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration that a server would have",
		Long: `Show puts the configuration together as gmq serve does, from its flags, the GMQ_*
variables, the file and the defaults, and prints every setting. Secrets are masked.`,
		Example: `  gmq config show
  gmq config show --config gmq.yaml --data /var/lib/gmq
  GMQ_LIMITS_MAX_QUEUES=10 gmq config show -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{}
			for _, f := range serveFlags {
				if fl := cmd.Flags().Lookup(f.flag); fl.Changed {
					flags[f.key] = fl.Value.String()
				}
			}
			if fl := cmd.Flags().Lookup(config.FlagInsecure); fl.Changed {
				flags[config.FlagInsecure] = fl.Value.String()
			}
			cfg, err := config.Load(file, os.Environ(), flags)
			if err != nil {
				return err
			}
			return showConfig(cmd, g, cfg)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` (YAML)")
	cmd.Flags().Bool(config.FlagInsecure, false, "as of gmq serve")
	for _, f := range serveFlags {
		cmd.Flags().String(f.flag, "", f.help)
	}
	return cmd
}

func showConfig(cmd *cobra.Command, g *globals, cfg config.Config) error {
	text, err := cfg.YAML()
	if err != nil {
		return err
	}
	if !g.json() {
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), tree)
}
