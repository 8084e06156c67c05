package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/internal/config"
)

func newQueueCreate(g *globals) *cobra.Command {
	var set settingFlags
	cmd := g.aboutQueue(&cobra.Command{
		Use:   "create",
		Short: "Create a queue",
		Long: `Create makes a queue with the given settings; for those that are left out the server's
queue_defaults count. Creating it again with the same settings is fine, with others it fails.`,
		Example: `  gmq queue create orders
  gmq queue create clicks --storage memory --max-bytes 64MiB --overflow drop_oldest
  gmq queue create mails --lease 5m --max-deliveries 3 --retry-min 10s
  gmq queue create offers --ttl 1h --dead-letter-expired`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		settings, _, err := set.settings(cmd)
		if err != nil {
			return err
		}
		if err := c.CreateQueue(ctx, name, settings); err != nil {
			return err
		}
		return g.settled(ctx, cmd, c, name, "created")
	})
	set.add(cmd, true)
	return cmd
}

func newQueueUpdate(g *globals) *cobra.Command {
	var set settingFlags
	cmd := g.aboutQueue(&cobra.Command{
		Use:   "update",
		Short: "Change settings of a queue",
		Long:  `Update changes the given settings and leaves the others as they are. A queue's storage cannot change.`,
		Example: `  gmq queue update orders --max-messages 500000
  gmq queue update orders --max-bytes 0        # no limit`,
	}, func(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name string) error {
		settings, some, err := set.settings(cmd)
		if err != nil {
			return err
		}
		if !some {
			return usage("which settings? see: %s --help", cmd.CommandPath())
		}
		if err := c.UpdateQueue(ctx, name, settings); err != nil {
			return err
		}
		return g.settled(ctx, cmd, c, name, "updated")
	})
	set.add(cmd, false)
	return cmd
}

// settled tells what has been done, and as JSON with the settings that are now in force.
func (g *globals) settled(ctx context.Context, cmd *cobra.Command, c *gmq.Client, name, what string) error {
	if !g.json() {
		return g.done(cmd, name, what)
	}
	info, err := c.QueueInfo(ctx, name)
	if err != nil {
		return err
	}
	fields, err := replyFields(info.Raw)
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), map[string]json.RawMessage{"queue": fields["queue"], "settings": fields["settings"]})
}

// settingFlags are the settings of a queue as flags.
type settingFlags struct {
	storage       choice
	maxMessages   int64
	maxBytes      sizeFlag
	overflow      choice
	lease         time.Duration
	maxDeliveries int
	retryMin      time.Duration
	retryMax      time.Duration
	retryFactor   float64
	retryJitter   float64
	ttl           time.Duration
	dedupWindow   time.Duration
	deadExpired   bool
}

// sizeFlag is a number of bytes, written as in the configuration.
type sizeFlag struct{ config.Size }

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) (err error) {
	s.Size, err = config.ParseSize(text)
	return err
}

// Type is what help calls the value.
func (s *sizeFlag) Type() string { return "size" }

func (s *settingFlags) add(cmd *cobra.Command, creating bool) {
	fs := cmd.Flags()
	s.storage.values = []string{"file", "memory", "mysql"}
	s.overflow.values = []string{"reject", "drop_oldest", "dead_letter"}
	if creating {
		fs.Var(&s.storage, "storage", "where messages are kept: file, memory or mysql")
		complete(cmd, "storage", s.storage.values...)
	}
	fs.Int64Var(&s.maxMessages, "max-messages", 0, "how many messages it may hold; 0 is no limit")
	fs.Var(&s.maxBytes, "max-bytes", "how many bytes of bodies it may hold, such as 64KiB; 0 is no limit")
	fs.Var(&s.overflow, "overflow", "what happens when it is full: reject, drop_oldest or dead_letter")
	fs.DurationVar(&s.lease, "lease", 0, "how long a consumer has for a message")
	fs.IntVar(&s.maxDeliveries, "max-deliveries", 0, "after how many deliveries a message is dead; 0 is no limit")
	fs.DurationVar(&s.retryMin, "retry-min", 0, "wait before the second delivery")
	fs.DurationVar(&s.retryMax, "retry-max", 0, "longest wait between two deliveries")
	fs.Float64Var(&s.retryFactor, "retry-factor", 0, "by how much each wait is longer than the one before")
	fs.Float64Var(&s.retryJitter, "retry-jitter", 0, "the part of a wait left to chance: 0.2 is ±20 %")
	fs.DurationVar(&s.ttl, "ttl", 0, "after which time a message that nobody took expires; 0s is never")
	fs.DurationVar(&s.dedupWindow, "dedup-window", 0, "how long a dedup id is remembered; 0s is not at all")
	fs.BoolVar(&s.deadExpired, "dead-letter-expired", false, "messages that expire become dead letters; =false undoes it")
	complete(cmd, "overflow", s.overflow.values...)
}

// settings are those that were given; a zero that was given is said in so many words.
func (s *settingFlags) settings(cmd *cobra.Command) (set gmq.Settings, some bool, err error) {
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		if v := fl.Value.String(); strings.HasPrefix(v, "-") || v == "NaN" || strings.HasSuffix(v, "Inf") {
			err = usage("--%s: %s is not a setting", fl.Name, v)
		}
	})
	given := func(flag string) bool {
		fl := cmd.Flags().Lookup(flag)
		some = some || fl != nil && fl.Changed
		return fl != nil && fl.Changed
	}
	if given("storage") {
		set.Storage = s.storage.value
	}
	if given("overflow") {
		set.Overflow = s.overflow.value
	}
	set.MaxMessages = orNone(given("max-messages"), s.maxMessages)
	set.MaxBytes = orNone(given("max-bytes"), int64(s.maxBytes.Size))
	set.Lease = orNone(given("lease"), s.lease)
	set.MaxDeliveries = orNone(given("max-deliveries"), s.maxDeliveries)
	set.Retry.Min = orNone(given("retry-min"), s.retryMin)
	set.Retry.Max = orNone(given("retry-max"), s.retryMax)
	set.Retry.Factor = orNone(given("retry-factor"), s.retryFactor)
	set.Retry.Jitter = orNone(given("retry-jitter"), s.retryJitter)
	set.TTL = orNone(given("ttl"), s.ttl)
	set.DedupWindow = orNone(given("dedup-window"), s.dedupWindow)
	if given("dead-letter-expired") {
		set.DeadLetterExpired = &s.deadExpired
	}
	return set, some, err
}

func orNone[V int | int64 | float64 | time.Duration](given bool, v V) V {
	if given && v == 0 {
		return gmq.None
	}
	return v
}
