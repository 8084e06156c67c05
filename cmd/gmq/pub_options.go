package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// messageFlags are what can be said of a message besides its body and headers.
type messageFlags struct {
	delay    time.Duration
	at       timeFlag
	ttl      time.Duration
	priority int
	key      string
	dedupID  string
	stored   choice
	given    func(flag string) bool
}

// timeFlag is a moment, written as RFC 3339.
type timeFlag struct{ time.Time }

// Set implements pflag.Value.
func (f *timeFlag) Set(text string) (err error) {
	if f.Time, err = time.Parse(time.RFC3339, text); err != nil {
		return errors.New("want a time such as 2026-12-24T18:00:00Z")
	}
	return nil
}

// String implements pflag.Value.
func (f *timeFlag) String() string {
	if f.IsZero() {
		return ""
	}
	return f.Format(time.RFC3339)
}

// Type is what help calls the value.
func (f *timeFlag) Type() string { return "time" }

// storedNames are what a confirm can stand for.
var storedNames = []string{"memory", "written", "disk", "mysql", "memory_quorum", "quorum"}

func (f *messageFlags) add(cmd *cobra.Command) {
	f.stored.values = storedNames
	f.given = func(flag string) bool { return cmd.Flags().Changed(flag) }
	fs := cmd.Flags()
	fs.DurationVar(&f.delay, "delay", 0, "how long a message waits before it can be delivered")
	fs.Var(&f.at, "at", "when a message can be delivered, such as 2026-12-24T18:00:00Z")
	fs.DurationVar(&f.ttl, "ttl", 0, "after which time a message that nobody took expires")
	fs.IntVar(&f.priority, "priority", wire.DefaultPriority, "0 to 9; the highest is delivered first")
	fs.StringVar(&f.key, "key", "", "messages of the same `key` are delivered one at a time, in order")
	fs.StringVar(&f.dedupID, "dedup-id", "", "an `id` of the message: the queue takes it once within its dedup-window")
	fs.Var(&f.stored, "stored", "the least that the confirm must stand for, such as disk; less is refused")
	complete(cmd, "stored", storedNames...)
	for _, flag := range []string{"delay", "at", "ttl", "priority", "key", "dedup-id"} {
		complete(cmd, flag)
	}
}

// check finds what contradicts itself; many says that there may be any number of messages.
func (f *messageFlags) check(many bool) error {
	switch {
	case f.given("delay") && f.given("at"):
		return usage("--delay and --at: which of them?")
	case f.delay < 0:
		return usage("--delay: want 0s or more, not %v", f.delay)
	case f.given("ttl") && f.ttl <= 0:
		return usage("--ttl: want more than 0s, not %v", f.ttl)
	case f.priority < 0 || f.priority > wire.MaxPriority:
		return usage("--priority: want 0 to %d, not %d", wire.MaxPriority, f.priority)
	case f.given("dedup-id") && f.dedupID == "":
		return usage("--dedup-id: want an id, not nothing")
	case f.given("dedup-id") && many:
		return usage("--dedup-id is for one message: all lines of stdin but the first would be duplicates")
	}
	return nil
}

// options are those that were given.
func (f *messageFlags) options() (opts []gmq.PublishOption) {
	if f.delay > 0 {
		opts = append(opts, gmq.Delay(f.delay))
	}
	if !f.at.IsZero() {
		opts = append(opts, gmq.At(f.at.Time))
	}
	if f.ttl > 0 {
		opts = append(opts, gmq.TTL(f.ttl))
	}
	if f.given("priority") {
		opts = append(opts, gmq.Priority(f.priority))
	}
	if f.key != "" {
		opts = append(opts, gmq.Key(f.key))
	}
	if f.dedupID != "" {
		opts = append(opts, gmq.DedupID(f.dedupID))
	}
	if f.stored.value != "" {
		opts = append(opts, gmq.RequireStored(f.stored.value))
	}
	return opts
}
