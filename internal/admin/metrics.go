package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// maxQueueSeries is how many queues get series of their own. A monitoring
// system pays for each series; the queues beyond are counted in gmq_queues_unlisted,
// and in the totals.
const maxQueueSeries = 1000

// A collector asks the source at scrape time, so that between two scrapes
// metrics cost nothing.
type collector struct{ source Source }

func newRegistry(source Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gmq_"+name, help, labels, nil)
}

// A metric is one number of T under one name; the labels' values come with it.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

func gauge[T any](name, help string, value func(T) float64, labels ...string) metric[T] {
	return metric[T]{desc(name, help, labels...), prometheus.GaugeValue, value}
}

func counter[T any](name, help string, value func(T) float64, labels ...string) metric[T] {
	return metric[T]{desc(name, help, labels...), prometheus.CounterValue, value}
}

func (m metric[T]) of(v T, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(m.desc, m.kind, m.value(v), labels...)
}

type (
	stats  = *Stats
	aQueue = *QueueStats
)

var serverMetrics = []metric[stats]{
	gauge("connections", "Open client connections.", func(s stats) float64 { return float64(s.Connections) }),
	counter("connections_accepted_total", "Client connections accepted since the start.", func(s stats) float64 { return float64(s.ConnectionsTotal) }),
	gauge("queues", "Queues, listed here or not.", func(s stats) float64 { return float64(len(s.Queues)) }),
	gauge("queues_unlisted", "Queues without series of their own, because there are too many.", func(s stats) float64 { return float64(max(0, len(s.Queues)-maxQueueSeries)) }),
	gauge("journal_bytes", "Bytes that the journals take.", func(s stats) float64 { return float64(s.JournalBytes) }),
	gauge("journal_live_bytes", "Bytes of the journals that are still needed.", func(s stats) float64 { return float64(s.JournalLiveBytes) }),
	gauge("memory_used_bytes", "Bytes of message bodies in memory.", func(s stats) float64 { return float64(s.MemoryUsed) }),
	counter("audit_write_failures_total", "Audit records that could not be written into their file.", func(s stats) float64 { return float64(s.AuditFailed) }),
	gauge("memory_limit_bytes", "The limit of gmq_memory_used_bytes.", func(s stats) float64 { return float64(s.MemoryLimit) }),
}

var outboxMetrics = []metric[*OutboxStats]{
	counter("outbox_published_total", "Rows of gmq_outbox that have been published; only where storage.mysql.outbox is on.", func(s *OutboxStats) float64 { return float64(s.Published) }),
	counter("outbox_refused_total", "Rows of gmq_outbox that never can be published.", func(s *OutboxStats) float64 { return float64(s.Refused) }),
	gauge("outbox_held", "Queues and topics that take no rows of gmq_outbox at the moment.", func(s *OutboxStats) float64 { return float64(s.Held) }),
}

var groupMetrics = []metric[*GroupStats]{
	gauge("cluster_groups_leading", "Groups of queues that this node leads; this and the next two are there in a cluster only.", func(g *GroupStats) float64 { return float64(g.Leading) }),
	gauge("cluster_groups_following", "Groups that another node leads.", func(g *GroupStats) float64 { return float64(g.Following) }),
	gauge("cluster_groups_leaderless", "Groups that nobody leads, as far as this node knows.", func(g *GroupStats) float64 { return float64(g.Leaderless) }),
}

var queueMetrics = []metric[aQueue]{
	gauge("queue_bytes", "Bytes of the bodies in the queue.", func(q aQueue) float64 { return float64(q.Bytes) }, "queue"),
	gauge("queue_consumers", "Consumers of the queue.", func(q aQueue) float64 { return float64(q.Consumers) }, "queue"),
	gauge("queue_oldest_age_seconds", "Age of the oldest message in the queue.", func(q aQueue) float64 { return q.OldestAgeSeconds }, "queue"),
	counter("queue_published_total", "Messages stored in the queue.", func(q aQueue) float64 { return float64(q.Published) }, "queue"),
	counter("queue_delivered_total", "Deliveries, repeated ones included.", func(q aQueue) float64 { return float64(q.Delivered) }, "queue"),
	counter("queue_returned_total", "Deliveries that came back without an ack.", func(q aQueue) float64 { return float64(q.Returned) }, "queue"),
	counter("queue_acked_total", "Messages acked.", func(q aQueue) float64 { return float64(q.Acked) }, "queue"),
	counter("queue_expired_total", "Messages that outlived their ttl.", func(q aQueue) float64 { return float64(q.Expired) }, "queue"),
	counter("queue_dead_total", "Messages moved to the dead-letter queue.", func(q aQueue) float64 { return float64(q.Dead) }, "queue"),
	counter("queue_dropped_total", "Messages dropped to make room.", func(q aQueue) float64 { return float64(q.Dropped) }, "queue"),
	counter("queue_cancelled_total", "Messages cancelled.", func(q aQueue) float64 { return float64(q.Cancelled) }, "queue"),
	counter("queue_purged_total", "Messages purged.", func(q aQueue) float64 { return float64(q.Purged) }, "queue"),
	counter("queue_redriven_total", "Messages moved back out of this dead-letter queue.", func(q aQueue) float64 { return float64(q.Redriven) }, "queue"),
}

// states are the values of the label of both metrics about messages.
var states = []struct {
	name  string
	value func(aQueue) uint64
}{
	{"ready", func(q aQueue) uint64 { return q.Ready }},
	{"leased", func(q aQueue) uint64 { return q.Leased }},
	{"delayed", func(q aQueue) uint64 { return q.Delayed }},
}

var (
	buildInfo     = desc("build_info", "Always 1; the version is in the label.", "version")
	ready         = desc("ready", "1 where the server takes work, else 0.")
	requests      = desc("requests_total", "Requests by operation.", "op")
	errorReplies  = desc("errors_total", "Requests that failed, by code.", "code")
	mysqlUp       = desc("mysql_up", "1 where the database of the queues in MySQL takes what is stored, else 0; not there where none is configured.")
	messages      = desc("messages", "Messages in all queues, by state.", "state")
	queueInfo     = desc("queue_info", "Always 1; what the queue is stored in is in the label.", "queue", "storage")
	tlsExpiry     = desc("tls_certificate_expiry_seconds", "Seconds until the server's certificate expires; below 0 it has.")
	tlsFailed     = desc("tls_reload_failures_total", "New certificates that were not taken.")
	tlsHandshakes = desc("tls_handshakes_total", "Connections where TLS is on, by how their handshake ended.", "result")
	clusterAway   = desc("cluster_groups_away", "In how many of the groups that this node leads another node is not heard.", "node")
	queueMessages = desc("queue_messages", "Messages in the queue, by state.", "queue", "state")
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildInfo, ready, requests, errorReplies, messages, queueInfo, queueMessages, tlsExpiry, tlsFailed, tlsHandshakes, clusterAway} {
		out <- d
	}
	out <- mysqlUp
	for _, m := range outboxMetrics {
		out <- m.desc
	}
	for _, m := range groupMetrics {
		out <- m.desc
	}
	for _, m := range serverMetrics {
		out <- m.desc
	}
	for _, m := range queueMetrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Stats()
	// What leases and consumers a queue has only its leader knows; so that nothing is counted twice it tells all of the queue.
	s.Queues = led(s.Queues)
	isReady := 1.0
	if c.source.Ready() != nil {
		isReady = 0
	}
	constant := func(kind prometheus.ValueType) func(*prometheus.Desc, float64, ...string) {
		return func(d *prometheus.Desc, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
	}
	gauge, counter := constant(prometheus.GaugeValue), constant(prometheus.CounterValue)
	gauge(buildInfo, 1, s.Version)
	gauge(ready, isReady)
	for op, n := range s.Requests {
		counter(requests, float64(n), op)
	}
	for code, n := range s.Errors {
		counter(errorReplies, float64(n), code)
	}
	if t := s.TLS; t != nil {
		gauge(tlsExpiry, time.Until(t.Expiry).Seconds())
		counter(tlsFailed, float64(t.ReloadsFailed))
		for result, n := range t.Handshakes {
			counter(tlsHandshakes, float64(n), result)
		}
	}
	for _, m := range serverMetrics {
		out <- m.of(&s)
	}
	if s.MySQL != nil {
		up := 0.0
		if *s.MySQL {
			up = 1
		}
		gauge(mysqlUp, up)
	}
	if s.Outbox != nil {
		for _, m := range outboxMetrics {
			out <- m.of(s.Outbox)
		}
	}
	if g := s.Groups; g != nil {
		for _, m := range groupMetrics {
			out <- m.of(g)
		}
		for node, n := range g.Away {
			gauge(clusterAway, float64(n), node)
		}
	}
	for _, state := range states {
		var total uint64
		for i := range s.Queues {
			total += state.value(&s.Queues[i])
		}
		gauge(messages, float64(total), state.name)
	}
	for _, q := range listed(s.Queues) {
		gauge(queueInfo, 1, q.Name, q.Storage)
		for _, state := range states {
			gauge(queueMessages, float64(state.value(&q)), q.Name, state.name)
		}
		for _, m := range queueMetrics {
			out <- m.of(&q, q.Name)
		}
	}
}

// led are the queues that no other node leads.
func led(queues []QueueStats) []QueueStats {
	elsewhere := func(q QueueStats) bool { return q.Leader != "" }
	if !slices.ContainsFunc(queues, elsewhere) {
		return queues
	}
	return slices.DeleteFunc(slices.Clone(queues), elsewhere) // a copy: they are the source's
}

// listed are the first queues by name: the same ones in every scrape, so that
// no series comes and goes with the load.
func listed(queues []QueueStats) []QueueStats {
	if len(queues) <= maxQueueSeries {
		return queues
	}
	queues = slices.Clone(queues) // it is the source's
	slices.SortFunc(queues, func(a, b QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	return queues[:maxQueueSeries]
}
