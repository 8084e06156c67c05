package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/certs"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal/mysqljournal"
)

// A checked is what there is to say of a configuration that a server takes.
type checked struct {
	Certificate string            `json:"certificate,omitempty"`
	Expires     *time.Time        `json:"expires,omitempty"`
	Weak        []config.Weakness `json:"weak"`
}

func newCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report weak settings of a configuration",
		Long: `Check reads a configuration file as the server would, and the certificates that it names, and reports
what had better be otherwise, each with the line that mends it. Without FILE it looks at what gmq serve
would have from the GMQ_* variables and the defaults. It ends with exit code 1 where
something is weak, or wrong. The same: gmq config check --strict FILE.`,
		Example: `  gmq check gmq.yaml
  gmq check gmq.yaml -o json`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: local,
		RunE: func(cmd *cobra.Command, args []string) error {
			var file string
			env := os.Environ()
			if len(args) > 0 {
				file, env = args[0], nil
			}
			c, err := check(file, env, true)
			if err != nil {
				return err
			}
			return c.judge(cmd.OutOrStdout(), g.json())
		},
	}
}

// check loads a configuration and what it names. As findings of its own are made of an address that others can
// reach, it may be told to let such a one pass.
func check(file string, env []string, insecure bool) (*checked, error) {
	cfg, err := config.Load(file, env, map[string]string{config.FlagInsecure: strconv.FormatBool(insecure)})
	if err != nil {
		return nil, err
	}
	if m := cfg.Storage.MySQL; m != nil {
		if err := mysqljournal.CheckDSN(m.DSN); err != nil {
			return nil, fmt.Errorf("storage.mysql.dsn: %w", err)
		}
	}
	c := &checked{Weak: cfg.Weaknesses()}
	if cfg.TLS != nil {
		set, err := certs.Load(certificateFiles(cfg.TLS))
		if err != nil {
			return nil, err
		}
		c.Certificate, c.Expires = set.String(), &set.NotAfter
		for _, f := range set.Findings(time.Now()) {
			c.Weak = append(c.Weak, config.Weakness{Key: f.Key, Text: f.Text, Mend: f.Mend})
		}
	}
	if memory := machineMemory(); int64(cfg.Limits.Memory) > memory {
		c.Weak = append(c.Weak, config.Weakness{
			Key: "limits.memory", Text: fmt.Sprintf("%v is more than the %v of memory that there are here", cfg.Limits.Memory, config.Size(memory)),
			Mend: fmt.Sprintf("limits: {memory: %dMiB}", max(1, memory/2>>20)),
		})
	}
	if w := openData(cfg.Data); w != nil {
		c.Weak = append(c.Weak, *w)
	}
	return c, nil
}

// print tells what was found. Where nothing is weak it says so to people only.
func (c *checked) print(w io.Writer, json bool) error {
	if json {
		if c.Weak == nil {
			c.Weak = []config.Weakness{}
		}
		return printJSON(w, c)
	}
	var b strings.Builder
	if c.Certificate != "" {
		fmt.Fprintf(&b, "certificate: %s\n", c.Certificate)
	}
	for _, f := range c.Weak {
		fmt.Fprintf(&b, "weak: %s: %s\n  mend: %s\n", f.Key, f.Text, f.Mend)
	}
	if len(c.Weak) == 0 && onTerminal(w) {
		fmt.Fprintln(&b, "ok")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// judge is print, and an error where something is weak.
func (c *checked) judge(w io.Writer, json bool) error {
	if err := c.print(w, json); err != nil {
		return err
	}
	switch n := len(c.Weak); n {
	case 0:
		return nil
	case 1:
		return errors.New("1 setting is weak")
	default:
		return fmt.Errorf("%d settings are weak", n)
	}
}

// machineMemory is how much memory there is for this process, of what Linux tells.
func machineMemory() int64 {
	least := int64(math.MaxInt64)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
				if kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64); err == nil {
					least = kib << 10
				}
			}
		}
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
			least = min(least, n)
		}
	}
	return least
}
