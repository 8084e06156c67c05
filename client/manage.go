package gmq

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"
)

// None, in [Settings], says zero in so many words: no limit, no time. A plain
// zero leaves a setting out.
const None = -1

// Settings are the settings of a queue. What is left out (zero) is the
// server's default on creation, and stays as it is on updating.
type Settings struct {
	Storage           string // memory, file, mysql
	MaxMessages       int64
	MaxBytes          int64
	Overflow          string // reject, drop_oldest, dead_letter
	Lease             time.Duration
	MaxDeliveries     int
	Retry             RetryPolicy
	TTL               time.Duration
	DedupWindow       time.Duration
	DeadLetterExpired *bool
}

// A RetryPolicy says how long a message waits before it is delivered again.
type RetryPolicy struct {
	Min, Max time.Duration
	Factor   float64
	Jitter   float64
}

// Counts are the messages of a queue. Published is at every moment the sum of
// all the others.
type Counts struct {
	Published uint64 `json:"published"`
	Ready     uint64 `json:"ready"`
	Delayed   uint64 `json:"delayed"`
	Leased    uint64 `json:"leased"`
	Acked     uint64 `json:"acked"`
	Expired   uint64 `json:"expired"`
	Dead      uint64 `json:"dead"`
	Dropped   uint64 `json:"dropped"`
	Cancelled uint64 `json:"cancelled"`
	Purged    uint64 `json:"purged"`
	Redriven  uint64 `json:"redriven"`
}

// QueueInfo is the state of a queue.
type QueueInfo struct {
	Settings  Settings
	Counts    Counts
	OldestAge time.Duration // of the oldest message that is ready
	Consumers int
	Paused    bool
	Bindings  []string        // the patterns of topics that it is bound to; see [Queue.Bind]
	Raw       json.RawMessage // the whole reply, for what this version does not know
}

// QueueSummary is one line of the list of queues.
type QueueSummary struct {
	Queue   string `json:"queue"`
	Storage string `json:"storage"`
	Ready   uint64 `json:"ready"`
	Leased  uint64 `json:"leased"`
	Delayed uint64 `json:"delayed"`
}

// ServerInfo is the state of a server.
type ServerInfo struct {
	Version  string          `json:"version"`
	Node     string          `json:"node"`
	Storages []string        `json:"storages"`
	Limits   json.RawMessage `json:"limits"`
	Totals   json.RawMessage `json:"totals"`
	Raw      json.RawMessage `json:"-"` // the whole reply
}

// ask sends a request of fields, and decodes the reply into v.
func (c *Client) ask(ctx context.Context, fields []byte, keep bool, v any) error {
	return c.askBy(ctx, &call{}, fields, keep, v)
}

// ask is Client.ask about a queue: behind what has been published to it.
func (q *Queue) ask(ctx context.Context, fields []byte, keep bool, v any) error {
	return q.c.askBy(ctx, &call{q: q}, fields, keep, v)
}

func (c *Client) askBy(ctx context.Context, cl *call, fields []byte, keep bool, v any) error {
	if err := c.roundTrip(ctx, cl, append(fields, "}\n"...), keep, admitOpen); err != nil {
		return err
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(cl.raw, v); err != nil {
		return fmt.Errorf("gmq: a reply that cannot be read: %w", err)
	}
	return nil
}

// Ping asks the server for a sign of life.
func (c *Client) Ping(ctx context.Context) error {
	return c.ask(ctx, []byte(`,"op":"ping"`), true, nil)
}

// ServerInfo asks the server about itself.
func (c *Client) ServerInfo(ctx context.Context) (ServerInfo, error) {
	var info ServerInfo
	err := c.ask(ctx, []byte(`,"op":"server.info"`), true, &info.Raw)
	if err == nil {
		if err = json.Unmarshal(info.Raw, &info); err != nil {
			err = fmt.Errorf("gmq: a reply that cannot be read: %w", err)
		}
	}
	return info, err
}

// CreateQueue creates a queue. Doing it again with the same settings is fine;
// with others it is [ErrExists].
func (c *Client) CreateQueue(ctx context.Context, name string, s Settings) error {
	return c.Queue(name).ask(ctx, s.appendTo(c.Queue(name).request("queue.create")), true, nil)
}

// UpdateQueue changes those settings of a queue that are given.
func (c *Client) UpdateQueue(ctx context.Context, name string, s Settings) error {
	return c.Queue(name).ask(ctx, s.appendTo(c.Queue(name).request("queue.update")), true, nil)
}

// DeleteQueue deletes a queue and everything in it. It is not asked twice:
// after a lost connection the outcome is unknown.
func (c *Client) DeleteQueue(ctx context.Context, name string) error {
	return c.Queue(name).ask(ctx, c.Queue(name).request("queue.delete"), false, nil)
}

// Purge deletes all messages of a queue, leased ones as well. It is not asked
// twice: after a lost connection the outcome is unknown.
func (c *Client) Purge(ctx context.Context, name string) error {
	_, err := c.PurgeState(ctx, name, "")
	return err
}

// PurgeState deletes the messages of a queue that are in a state (ready,
// delayed, leased), or all where it is "", and tells how many. It is asked as
// often as [Client.Purge].
func (c *Client) PurgeState(ctx context.Context, name, state string) (purged uint64, err error) {
	var reply struct {
		Purged uint64 `json:"purged"`
	}
	err = c.Queue(name).ask(ctx, appendText(c.Queue(name).request("queue.purge"), "state", state), false, &reply)
	return reply.Purged, err
}

// Pause stops deliveries from a queue; publishing goes on.
func (c *Client) Pause(ctx context.Context, name string) error {
	return c.Queue(name).ask(ctx, c.Queue(name).request("queue.pause"), true, nil)
}

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context, name string) error {
	return c.Queue(name).ask(ctx, c.Queue(name).request("queue.resume"), true, nil)
}

// QueueInfo tells the settings and the counts of a queue.
func (c *Client) QueueInfo(ctx context.Context, name string) (QueueInfo, error) {
	var raw json.RawMessage
	if err := c.Queue(name).ask(ctx, c.Queue(name).request("queue.info"), true, &raw); err != nil {
		return QueueInfo{}, err
	}
	var reply struct {
		Settings  settingsJSON    `json:"settings"`
		Counts    Counts          `json:"counts"`
		OldestAge jsonDuration    `json:"oldest_age"`
		Consumers json.RawMessage `json:"consumers"`
		Paused    bool            `json:"paused"`
		Bindings  []string        `json:"bindings"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return QueueInfo{}, fmt.Errorf("gmq: the info of %s: %w", name, err)
	}
	return QueueInfo{
		Settings:  reply.Settings.settings(),
		Counts:    reply.Counts,
		OldestAge: time.Duration(reply.OldestAge),
		Consumers: countOf(reply.Consumers),
		Paused:    reply.Paused,
		Bindings:  reply.Bindings,
		Raw:       raw,
	}, nil
}

// countOf reads a number, or how many there are in a list.
func countOf(raw json.RawMessage) int {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		return len(list)
	}
	n, _ := strconv.Atoi(string(raw))
	return n
}

// listPage is how many queues are asked for at a time.
const listPage = 500

// ListQueues gives the queues whose names begin with prefix, in their order. A
// failure comes last and ends the list.
func (c *Client) ListQueues(ctx context.Context, prefix string) iter.Seq2[QueueSummary, error] {
	return func(yield func(QueueSummary, error) bool) {
		for after := ""; ; {
			b := appendText([]byte(`,"op":"queue.list"`), "prefix", prefix)
			b = appendInt(appendText(b, "after", after), "limit", listPage)
			var page struct {
				Queues []QueueSummary `json:"queues"`
			}
			if err := c.ask(ctx, b, true, &page); err != nil {
				yield(QueueSummary{}, err)
				return
			}
			for _, q := range page.Queues {
				if !yield(q, nil) {
					return
				}
			}
			if len(page.Queues) < listPage {
				return
			}
			after = page.Queues[len(page.Queues)-1].Queue
		}
	}
}

// settingsJSON is Settings as the server tells them.
type settingsJSON struct {
	Storage       string       `json:"storage"`
	MaxMessages   int64        `json:"max_messages"`
	MaxBytes      int64        `json:"max_bytes"`
	Overflow      string       `json:"overflow"`
	Lease         jsonDuration `json:"lease"`
	MaxDeliveries int          `json:"max_deliveries"`
	Retry         struct {
		Min    jsonDuration `json:"min"`
		Max    jsonDuration `json:"max"`
		Factor float64      `json:"factor"`
		Jitter float64      `json:"jitter"`
	} `json:"retry"`
	TTL               jsonDuration `json:"ttl"`
	DedupWindow       jsonDuration `json:"dedup_window"`
	DeadLetterExpired *bool        `json:"dead_letter_expired"`
}

func (s *settingsJSON) settings() Settings {
	return Settings{
		Storage:       s.Storage,
		MaxMessages:   s.MaxMessages,
		MaxBytes:      s.MaxBytes,
		Overflow:      s.Overflow,
		Lease:         time.Duration(s.Lease),
		MaxDeliveries: s.MaxDeliveries,
		Retry: RetryPolicy{
			Min: time.Duration(s.Retry.Min), Max: time.Duration(s.Retry.Max),
			Factor: s.Retry.Factor, Jitter: s.Retry.Jitter,
		},
		TTL:               time.Duration(s.TTL),
		DedupWindow:       time.Duration(s.DedupWindow),
		DeadLetterExpired: s.DeadLetterExpired,
	}
}

// A jsonDuration reads a duration as Go writes it, or a number of seconds.
type jsonDuration time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (d *jsonDuration) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		if s == "" {
			*d = 0
			return nil
		}
		v, err := time.ParseDuration(s)
		*d = jsonDuration(v)
		return err
	}
	var seconds float64
	err := json.Unmarshal(raw, &seconds)
	*d = jsonDuration(seconds * float64(time.Second))
	return err
}

// appendTo appends the settings that are given, each with a comma before it.
func (s *Settings) appendTo(b []byte) []byte {
	b = appendText(b, "storage", s.Storage)
	b = appendSetting(b, "max_messages", s.MaxMessages)
	b = appendSetting(b, "max_bytes", s.MaxBytes)
	b = appendText(b, "overflow", s.Overflow)
	b = appendTimeSetting(b, "lease", s.Lease)
	b = appendSetting(b, "max_deliveries", int64(s.MaxDeliveries))
	b = s.Retry.appendTo(b)
	b = appendTimeSetting(b, "ttl", s.TTL)
	b = appendTimeSetting(b, "dedup_window", s.DedupWindow)
	if s.DeadLetterExpired != nil {
		b = append(b, `,"dead_letter_expired":`...)
		b = strconv.AppendBool(b, *s.DeadLetterExpired)
	}
	return b
}

func (r *RetryPolicy) appendTo(b []byte) []byte {
	if *r == (RetryPolicy{}) {
		return b
	}
	var in []byte
	in = appendTimeSetting(in, "min", r.Min)
	in = appendTimeSetting(in, "max", r.Max)
	if r.Factor != 0 {
		in = strconv.AppendFloat(append(in, `,"factor":`...), max(r.Factor, 0), 'g', -1, 64)
	}
	if r.Jitter != 0 {
		in = strconv.AppendFloat(append(in, `,"jitter":`...), max(r.Jitter, 0), 'g', -1, 64)
	}
	b = append(b, `,"retry":{`...)
	return append(append(b, in[1:]...), '}')
}

func appendSetting(b []byte, name string, v int64) []byte {
	if v == 0 {
		return b
	}
	return appendInt(b, name, max(v, 0))
}

func appendTimeSetting(b []byte, name string, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	return appendDuration(b, name, max(d, 0))
}
