package gmqtest

// An Option changes how a server is started.
type Option interface{ apply(*config) }

type config struct {
	file   bool
	tls    bool
	limits Limits
}

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

// File keeps queues in files, in a directory that ends with the test; every confirm is synced. Without it
// all is in memory, also the queues that ask for the storage file and are told that they have it.
func File() Option { return optionFunc(func(c *config) { c.file = true }) }

// TLS lets the server take connections with TLS alone, by a certificate for localhost and 127.0.0.1 that [Server.TLS] trusts.
// The clients of [Server.Client] use it.
func TLS() Option { return optionFunc(func(c *config) { c.tls = true }) }

// Limits are what a server allows. What is 0 stays as the real server has it.
type Limits struct {
	MaxQueues       int
	MaxMessageBytes int
	MaxInFlight     int // leased messages
	MaxConnections  int
	Memory          int64 // bytes of memory queues
}

func (l Limits) apply(c *config) { c.limits = l }

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value *int
		usual int
	}{{&l.MaxQueues, 4096}, {&l.MaxMessageBytes, 1 << 20}, {&l.MaxInFlight, 1_000_000}, {&l.MaxConnections, 10_000}} {
		if *f.value == 0 {
			*f.value = f.usual
		}
	}
	if l.Memory == 0 {
		l.Memory = 1 << 30
	}
	return l
}
