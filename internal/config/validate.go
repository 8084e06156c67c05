package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A problem is a value that cannot be, and the key that holds it.
type problem struct{ key, text string }

// Validate says everything that is wrong, each with its key, value and limit.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, fmt.Errorf("%s: %s", p.key, p.text))
	}
	return errors.Join(errs...)
}

func (c *Config) problems() []problem {
	all := c.refused()
	all = append(all, c.outOfRange()...)
	all = append(all, c.notOneOf()...)
	all = append(all, c.contradictions()...)
	all = append(all, c.TLS.problems()...)
	all = append(all, c.clusterProblems()...)
	return append(all, c.addresses()...)
}

// maxExact is the largest number that every JSON reader gets right.
const maxExact = 1<<53 - 1

func (c *Config) outOfRange() []problem {
	const day = 24 * time.Hour
	var all []problem
	whole := func(key string, value, least, most int64) {
		if value < least || value > most {
			all = append(all, problem{key, fmt.Sprintf("%d is not between %d and %d", value, least, most)})
		}
	}
	size := func(key string, value, least, most Size) {
		if value < least || value > most {
			all = append(all, problem{key, fmt.Sprintf("%v is not between %v and %v", value, least, most)})
		}
	}
	duration := func(key string, value Duration, least, most time.Duration) {
		if value < Duration(least) || value > Duration(most) {
			all = append(all, problem{key, fmt.Sprintf("%v is not between %v and %v", value, Duration(least), Duration(most))})
		}
	}
	number := func(key string, value, least, most float64) {
		if !(value >= least && value <= most) { // so that NaN is refused
			all = append(all, problem{key, fmt.Sprintf("%v is not between %v and %v", value, least, most)})
		}
	}
	l, q := c.Limits, c.QueueDefaults
	whole("limits.max_queues", int64(l.MaxQueues), 1, 1_000_000)
	size("limits.max_message_bytes", l.MaxMessageBytes, 1, GiB)
	whole("limits.max_connections", int64(l.MaxConnections), 1, 1_000_000)
	whole("limits.max_in_flight", int64(l.MaxInFlight), 1, 1_000_000_000)
	size("limits.memory", l.Memory, MiB, 1024*TiB)
	whole("limits.max_connections_per_address", int64(l.MaxConnectionsPerAddress), 0, 1_000_000)
	whole("limits.max_connections_per_user", int64(l.MaxConnectionsPerUser), 0, 1_000_000)
	whole("limits.max_rate_per_address", int64(l.MaxRatePerAddress), 0, 1_000_000_000)
	whole("limits.max_rate_per_user", int64(l.MaxRatePerUser), 0, 1_000_000_000)
	whole("queue_defaults.max_messages", q.MaxMessages, 0, maxExact)
	size("queue_defaults.max_bytes", q.MaxBytes, 0, maxExact)
	duration("queue_defaults.lease", q.Lease, time.Millisecond, day)
	whole("queue_defaults.max_deliveries", int64(q.MaxDeliveries), 0, math.MaxUint16)
	duration("queue_defaults.retry.min", q.Retry.Min, 0, 30*day)
	duration("queue_defaults.retry.max", q.Retry.Max, 0, 30*day)
	number("queue_defaults.retry.factor", q.Retry.Factor, 1, 100)
	number("queue_defaults.retry.jitter", q.Retry.Jitter, 0, 1)
	duration("queue_defaults.ttl", q.TTL, 0, 10*365*day)
	duration("queue_defaults.dedup_window", q.DedupWindow, 0, 30*day)
	if m := c.Storage.MySQL; m != nil {
		duration("storage.mysql.takeover", m.Takeover, time.Second, time.Hour)
	}
	duration("drain_timeout", c.DrainTimeout, 0, time.Hour)
	return all
}

func (c *Config) notOneOf() []problem {
	var all []problem
	for _, w := range []struct {
		key, value string
		names      []string
	}{
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
		{"log.format", c.Log.Format, []string{"auto", "text", "json"}},
		{"queue_defaults.storage", c.QueueDefaults.Storage, []string{"file", "memory", "mysql"}},
		{"queue_defaults.overflow", c.QueueDefaults.Overflow, []string{"reject", "drop_oldest", "dead_letter"}},
		{"storage.file.sync", c.Storage.File.Sync, []string{"always", "never"}},
	} {
		if !slices.Contains(w.names, w.value) {
			all = append(all, problem{w.key, fmt.Sprintf("%q is none of %s%s", w.value, strings.Join(w.names, ", "), didYouMean(w.value, w.names))})
		}
	}
	return all
}

func (c *Config) contradictions() []problem {
	var all []problem
	if r := c.QueueDefaults.Retry; r.Max < r.Min {
		all = append(all, problem{"queue_defaults.retry.max", fmt.Sprintf("%v is less than retry.min, %v", r.Max, r.Min)})
	}
	if l := c.Limits; l.Memory < l.MaxMessageBytes {
		all = append(all, problem{"limits.memory", fmt.Sprintf("%v does not hold one message of limits.max_message_bytes, %v", l.Memory, l.MaxMessageBytes)})
	}
	switch m := c.Storage.MySQL; {
	case m != nil && m.DSN == "":
		all = append(all, problem{"storage.mysql", "has no dsn; want user:password@tcp(host:3306)/database"})
	case m == nil && c.QueueDefaults.Storage == "mysql":
		all = append(all, problem{"queue_defaults.storage", "is mysql, and storage.mysql.dsn does not say where that is"})
	}
	if c.Data == "" {
		all = append(all, problem{"data", "has no value; want a directory"})
	}
	return all
}

func (c *Config) addresses() []problem {
	var all []problem
	missing, mend := c.unprotected()
	check := func(key, address, orElse string) {
		host, err := splitAddress(address)
		switch {
		case err != nil:
			all = append(all, problem{key, fmt.Sprintf("%q is no address; want host:port such as 127.0.0.1:4567%s", address, orElse)})
		case !isLoopback(host) && missing != "" && !c.Insecure:
			all = append(all, problem{key, fmt.Sprintf("%s can be reached from other machines, and %s; listen on 127.0.0.1, or add to the configuration: %s; "+
				"or give --insecure if you trust everybody on that network", address, missing, mend)})
		}
	}
	check("listen", c.Listen, "")
	if c.Admin != AdminOff {
		check("admin", c.Admin, ", or off")
		if c.Admin == c.Listen && !strings.HasSuffix(c.Admin, ":0") {
			all = append(all, problem{"admin", c.Admin + " is the address of listen too; each needs its own"})
		}
	}
	return all
}

// unprotected says what a server lacks that other machines can reach, and with which lines of the file it is mended; "" where nothing.
func (c *Config) unprotected() (missing, mend string) {
	const tls, auth = "tls: {cert: cert.pem, key: key.pem}", "auth: {required: true}"
	switch {
	case c.TLS == nil && !c.Auth.Required:
		return "neither TLS nor authentication is on", tls + " and " + auth
	case c.TLS == nil:
		return "TLS is not on", tls
	case !c.Auth.Required:
		return "authentication is not on", auth
	}
	return "", ""
}

func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err
}

// isLoopback trusts no name but localhost: what another one resolves to can
// change while the server runs. No host means every interface.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
