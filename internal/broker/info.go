package broker

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// Protocol is the version of the wire protocol that is spoken.
const Protocol = 1

func appendText(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ",\""...), name...), "\":"...)
	return wire.AppendString(dst, value)
}

func appendNumber(dst []byte, name string, v uint64) []byte {
	dst = append(append(append(dst, ",\""...), name...), "\":"...)
	return appendUint(dst, v)
}

// Hello answers a hello, but for what it says of who the client is; more appends further fields to the reply.
func (s *Session) Hello(r *wire.Request, more func(dst []byte) []byte) {
	if r.Set.Has(wire.FieldProtocol) && r.Protocol != Protocol {
		s.Refuse(r.ID, wire.Errorf(wire.CodeBadRequest, "protocol %d is not spoken here; this server speaks %d", r.Protocol, Protocol))
		return
	}
	if len(r.Client) > 0 {
		client := string(r.Client)
		s.client.Store(&client)
		if s.route != nil {
			s.route.rename(client)
		}
	}
	if r.Quiet {
		return
	}
	o := &s.b.opt
	s.Reply(func(dst []byte) []byte {
		dst = appendText(wire.AppendOK(dst, r.ID), "server", "gmq")
		dst = appendText(appendText(dst, "version", o.Version), "node", o.Node)
		dst = appendNumber(dst, "protocol", Protocol)
		dst = appendNumber(dst, "max_message_bytes", uint64(s.b.limits.Load().MaxMessageBytes))
		dst = s.b.appendAddresses(s.b.appendStorages(dst))
		if more != nil {
			dst = more(dst)
		}
		return append(dst, "}\n"...)
	})
}

// appendAddresses appends where clients find the nodes of a cluster.
func (b *Broker) appendAddresses(dst []byte) []byte {
	if b.opt.Addresses == nil {
		return dst
	}
	all := b.opt.Addresses()
	if len(all) == 0 {
		return dst
	}
	dst = append(dst, `,"nodes":[`...)
	for i, a := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(dst, a)
	}
	return append(dst, ']')
}

func (b *Broker) appendStorages(dst []byte) []byte {
	dst = append(dst, `,"storages":[`...)
	sep := false
	for _, st := range b.opt.Storages {
		if st.Ephemeral {
			continue
		}
		if sep {
			dst = append(dst, ',')
		}
		dst, sep = wire.AppendString(dst, st.Name), true
	}
	return append(dst, ']')
}

// QueueStats is what can be said of one queue from outside.
type QueueStats struct {
	Name      string
	Settings  queue.Settings
	Counts    queue.Counts
	Bytes     int64
	Oldest    time.Duration // age of the oldest message; 0 where there is none
	Consumers int
	Paused    bool

	Delivered, Returned uint64 // since the process started
}

func (sh *shard) stats(q *queue.Queue) QueueStats {
	s := QueueStats{Name: q.Name, Settings: q.Settings, Counts: q.Counts, Bytes: q.Bytes, Consumers: q.Consumers, Paused: q.Paused, Delivered: q.Delivered, Returned: q.Returned}
	if at := q.Oldest(); at != 0 {
		s.Oldest = max(time.Duration(sh.b.opt.Now()-at), 0)
	}
	return s
}

// Queues are all queues whose name begins with prefix, in order of their names.
func (b *Broker) Queues(prefix string) []QueueStats {
	var found [][]QueueStats
	n := 0
	b.each(func(sh *shard) {
		for _, st := range sh.stores {
			queues := st.state.Queues()
			some := make([]QueueStats, 0, len(queues))
			for _, q := range queues {
				if strings.HasPrefix(q.Name, prefix) && !queue.Ephemeral(q.Name) {
					some = append(some, sh.stats(q))
				}
			}
			found, n = append(found, some), n+len(some)
		}
	})
	order := make([]*QueueStats, 0, n) // they are large: each is moved once
	for _, some := range found {
		for i := range some {
			order = append(order, &some[i])
		}
	}
	slices.SortFunc(order, func(a, b *QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	all := make([]QueueStats, n)
	for i, q := range order {
		all[i] = *q
	}
	return all
}

func (s *Session) listQueues(r *wire.Request) {
	if r.Quiet {
		return
	}
	after, limit, n := string(r.After), int(r.Limit), 0
	all := s.b.allQueues(string(r.Prefix))
	s.Reply(func(dst []byte) []byte {
		dst = append(wire.AppendOK(dst, r.ID), `,"queues":[`...)
		for i := range all {
			q := &all[i]
			if q.Name <= after || !s.sees(q.Name) {
				continue
			}
			if n == limit {
				break
			}
			if n++; n > 1 {
				dst = append(dst, ',')
			}
			dst = wire.AppendString(append(dst, `{"queue":`...), q.Name)
			dst = appendText(dst, "storage", q.Settings.Storage)
			dst = appendNumber(dst, "ready", uint64(q.Counts.Ready))
			dst = appendNumber(dst, "leased", uint64(q.Counts.Leased))
			dst = append(appendNumber(dst, "delayed", uint64(q.Counts.Delayed)), '}')
		}
		return append(dst, "]}\n"...)
	})
}

// Requests is how many requests there have been, by op.
func (b *Broker) Requests() map[string]uint64 {
	m := map[string]uint64{}
	for op := range b.requests {
		if n := b.requests[op].Load(); n > 0 {
			m[wire.Op(op).String()] = n
		}
	}
	return m
}

func (b *Broker) countError(code wire.Code) {
	b.errorsMu.Lock()
	b.errors[code]++
	b.errorsMu.Unlock()
}

// Errors is how many requests were refused, by code.
func (b *Broker) Errors() map[string]uint64 {
	b.errorsMu.Lock()
	defer b.errorsMu.Unlock()
	m := map[string]uint64{}
	for code, n := range b.errors {
		m[string(code)] = n
	}
	return m
}

// Usage is how much room a storage takes.
type Usage struct {
	Storage     string
	Total, Live int64
}

// Usage tells of each storage how many bytes it takes, and how many of these are messages.
func (b *Broker) Usage() []Usage {
	var us []Usage
	row := make([]int, len(b.opt.Storages)) // of each storage; that of the ephemeral queues is memory's
	for i, s := range b.opt.Storages {
		row[i] = len(us)
		if at := slices.IndexFunc(us, func(u Usage) bool { return s.Ephemeral && u.Storage == "memory" }); at >= 0 {
			row[i] = at
			continue
		}
		us = append(us, Usage{Storage: s.Name})
	}
	b.each(func(sh *shard) {
		for i, st := range sh.stores {
			i := row[i]
			if total, live := st.journal.Used(); st.Shared {
				us[i].Total, us[i].Live = total, live
			} else {
				us[i].Total += total
				us[i].Live += live
			}
		}
	})
	return us
}

func (s *Session) serverInfo(r *wire.Request) {
	if r.Quiet {
		return
	}
	b := s.b
	var queues, ready, leased, delayed uint64
	for _, q := range b.allQueues("") {
		if !s.sees(q.Name) {
			continue
		}
		queues++
		ready, leased, delayed = ready+uint64(q.Counts.Ready), leased+uint64(q.Counts.Leased), delayed+uint64(q.Counts.Delayed)
	}
	l := b.limits.Load()
	usage := b.Usage()
	s.Reply(func(dst []byte) []byte {
		dst = appendText(appendText(wire.AppendOK(dst, r.ID), "server", "gmq"), "version", b.opt.Version)
		dst = appendNumber(appendText(dst, "node", b.opt.Node), "protocol", Protocol)
		dst = append(dst, `,"limits":{"max_queues":`...)
		dst = appendUint(dst, uint64(l.MaxQueues))
		dst = appendNumber(dst, "max_message_bytes", uint64(l.MaxMessageBytes))
		dst = appendNumber(dst, "max_in_flight", uint64(l.MaxInFlight))
		dst = append(dst, `},"totals":{"queues":`...)
		dst = appendNumber(appendUint(dst, queues), "ready", ready)
		dst = appendNumber(appendNumber(dst, "leased", leased), "delayed", delayed)
		dst = append(b.appendAddresses(b.appendStorages(append(dst, '}'))), `,"usage":{`...)
		for i, u := range usage {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = wire.AppendString(dst, u.Storage)
			dst = appendUint(append(dst, `:{"bytes":`...), uint64(u.Total))
			dst = append(appendNumber(dst, "message_bytes", uint64(u.Live)), '}')
		}
		return append(dst, "}}\n"...)
	})
}

// appendSettings appends the settings in force as a queue.create's reply has them.
func appendSettings(dst []byte, s *queue.Settings) []byte {
	dst = append(dst, `,"settings":`...)
	return appendSettingsObject(dst, s)
}

func appendSettingsObject(dst []byte, s *queue.Settings) []byte {
	dst = wire.AppendString(append(dst, `{"storage":`...), s.Storage)
	dst = appendNumber(dst, "max_messages", uint64(s.MaxMessages))
	dst = appendNumber(dst, "max_bytes", uint64(s.MaxBytes))
	dst = appendText(dst, "overflow", overflows[s.Overflow])
	dst = wire.AppendDuration(append(dst, `,"lease":`...), s.Lease)
	dst = appendNumber(dst, "max_deliveries", uint64(s.MaxDeliveries))
	dst = wire.AppendDuration(append(dst, `,"retry":{"min":`...), s.RetryMin)
	dst = wire.AppendDuration(append(dst, `,"max":`...), s.RetryMax)
	dst = appendFloat(append(dst, `,"factor":`...), s.RetryFactor)
	dst = appendFloat(append(dst, `,"jitter":`...), s.RetryJitter)
	dst = wire.AppendDuration(append(dst, `},"ttl":`...), s.TTL)
	dst = wire.AppendDuration(append(dst, `,"dedup_window":`...), s.DedupWindow)
	return append(strconv.AppendBool(append(dst, `,"dead_letter_expired":`...), s.DeadLetterExpired), '}')
}

var bindingsSeparator = [2]string{`,"bindings":[`, `,`}

// appendInfo appends what queue.info tells.
func (sh *shard) appendInfo(dst []byte, q *queue.Queue) []byte {
	s := sh.stats(q)
	c := &s.Counts
	dst = appendText(dst, "queue", q.Name)
	dst = appendSettingsObject(append(dst, `,"settings":`...), &s.Settings)
	dst = append(dst, `,"counts":{"published":`...)
	dst = appendUint(dst, c.Published)
	for _, f := range []struct {
		name string
		v    uint64
	}{
		{"ready", uint64(c.Ready)},
		{"delayed", uint64(c.Delayed)},
		{"leased", uint64(c.Leased)},
		{"acked", c.Acked},
		{"expired", c.Expired},
		{"dead", c.Dead},
		{"dropped", c.Dropped},
		{"cancelled", c.Cancelled},
		{"purged", c.Purged},
		{"redriven", c.Redriven},
	} {
		dst = appendNumber(dst, f.name, f.v)
	}
	dst = wire.AppendDuration(append(dst, `},"oldest_age":`...), s.Oldest.Truncate(time.Millisecond))
	dst = appendNumber(appendNumber(dst, "bytes", uint64(s.Bytes)), "consumers", uint64(s.Consumers))
	for i, pattern := range q.Bindings {
		dst = wire.AppendString(append(dst, bindingsSeparator[min(i, 1)]...), pattern)
	}
	if len(q.Bindings) > 0 {
		dst = append(dst, ']')
	}
	if s.Paused {
		dst = append(dst, `,"paused":true`...)
	} else {
		dst = append(dst, `,"paused":false`...)
	}
	return dst
}

func appendFloat(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'g', -1, 64) }

func appendUint(dst []byte, v uint64) []byte { return strconv.AppendUint(dst, v, 10) }
