package broker

import (
	"strconv"
	"strings"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// settingTexts are the settings in the words of the protocol, in its order.
var settingTexts = []struct {
	name string
	of   func(s *queue.Settings) string
}{
	{"storage", func(s *queue.Settings) string { return s.Storage }},
	{"max_messages", func(s *queue.Settings) string { return strconv.FormatInt(s.MaxMessages, 10) }},
	{"max_bytes", func(s *queue.Settings) string { return strconv.FormatInt(s.MaxBytes, 10) }},
	{"overflow", func(s *queue.Settings) string { return overflows[s.Overflow] }},
	{"lease", func(s *queue.Settings) string { return s.Lease.String() }},
	{"max_deliveries", func(s *queue.Settings) string { return strconv.FormatInt(s.MaxDeliveries, 10) }},
	{"retry.min", func(s *queue.Settings) string { return s.RetryMin.String() }},
	{"retry.max", func(s *queue.Settings) string { return s.RetryMax.String() }},
	{"retry.factor", func(s *queue.Settings) string { return string(appendFloat(nil, s.RetryFactor)) }},
	{"retry.jitter", func(s *queue.Settings) string { return string(appendFloat(nil, s.RetryJitter)) }},
	{"ttl", func(s *queue.Settings) string { return s.TTL.String() }},
	{"dedup_window", func(s *queue.Settings) string { return s.DedupWindow.String() }},
	{"dead_letter_expired", func(s *queue.Settings) string { return strconv.FormatBool(s.DeadLetterExpired) }},
}

// existsOtherwise refuses to make a queue that is there with other settings, and says which: as the queue has them, and as they were wanted.
func existsOtherwise(name []byte, has, wanted *queue.Settings) *wire.Error {
	var all []string
	for _, t := range settingTexts {
		if is, not := t.of(has), t.of(wanted); is != not {
			all = append(all, t.name+" is "+is+", not "+not)
		}
	}
	return wire.Errorf(wire.CodeExists, "queue %q exists with other settings: %s", name, strings.Join(all, "; "))
}
