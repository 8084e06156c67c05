package gmq

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// An Option changes how a client connects.
type Option func(*config)

// A DialFunc makes a connection to a server.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

type config struct {
	name           string
	user, password string
	token          string
	dial           DialFunc
	dialWith       bool        // dial is the caller's, who knows whether others can read what goes over it
	tls            *tls.Config // nil is plain
	log            *slog.Logger
	lost           func(error)
	backoffMin     time.Duration
	backoffMax     time.Duration
	dialTimeout    time.Duration
	closeTimeout   time.Duration
	heartbeat      time.Duration
	maxInFlight    int
	lazy           bool
	onlyGiven      bool
	oneConnection  bool
}

// refusedMax bounds the wait before another login where the last one was refused.
const refusedMax = 2 * time.Minute

// outMax is how many bytes may wait for the writer before callers wait too.
const outMax = 4 << 20

func newConfig(opts []Option) config {
	var d net.Dialer
	cfg := config{
		dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr)
		},
		log:          slog.New(slog.DiscardHandler),
		backoffMin:   50 * time.Millisecond,
		backoffMax:   5 * time.Second,
		dialTimeout:  10 * time.Second,
		closeTimeout: 5 * time.Second,
		heartbeat:    20 * time.Second,
		maxInFlight:  16384,
	}
	for _, o := range opts {
		o(&cfg)
	}
	return cfg
}

// ClientName is the name under which the server lists this client.
func ClientName(name string) Option { return func(c *config) { c.name = name } }

// Login authenticates with a user's name and password, at each connection. The password is proved by
// SCRAM-SHA-256 and not sent, and the server has to prove that it knows it.
func Login(user, password string) Option {
	return func(c *config) { c.user, c.password = user, password }
}

// Token authenticates with a token, at each connection. It is sent, so without TLS the client
// connects to servers on this machine only, unless it is told how ([DialWith]).
func Token(token string) Option { return func(c *config) { c.token = token } }

// DialWith makes connections with dial instead of plain TCP. A token is sent over them as they are.
func DialWith(dial DialFunc) Option {
	return func(c *config) { c.dial, c.dialWith = dial, true }
}

// Logger is where the client tells of lost and new connections. It is silent
// without one.
func Logger(log *slog.Logger) Option { return func(c *config) { c.log = log } }

// Backoff bounds the wait between two attempts to connect; it doubles from
// least to most, with jitter. The defaults are 50 ms and 5 s. Where the server
// refuses who the client says it is, it goes on doubling, up to two minutes.
func Backoff(least, most time.Duration) Option {
	return func(c *config) {
		c.backoffMin = max(least, time.Millisecond)
		c.backoffMax = max(most, c.backoffMin)
	}
}

// DialTimeout bounds one attempt to connect, the greeting included. The
// default is 10 s.
func DialTimeout(d time.Duration) Option { return func(c *config) { c.dialTimeout = d } }

// CloseTimeout bounds how long [Client.Close] waits. The default is 5 s.
func CloseTimeout(d time.Duration) Option { return func(c *config) { c.closeTimeout = d } }

// Heartbeat is how long the server may be silent before it is asked whether it
// is there, and then again before the connection is given up. The default is
// 20 s; 0 switches it off, and that the client asks every 30 s which nodes there are. A node of a cluster for which something waits is asked after 2 s at the latest.
func Heartbeat(d time.Duration) Option { return func(c *config) { c.heartbeat = d } }

// MaxInFlight bounds the requests that wait for their reply; further ones wait
// for room. A Receive, which waits for messages, does not count. The default
// is 16384.
func MaxInFlight(n int) Option { return func(c *config) { c.maxInFlight = max(n, 1) } }

// Lazy lets Dial return at once and connect in the background. Requests wait
// for the connection within their contexts.
func Lazy() Option { return func(c *config) { c.lazy = true } }

// OnlyGiven connects to the given addresses only, and not to those of the other nodes that a cluster tells of.
func OnlyGiven() Option { return func(c *config) { c.onlyGiven = true } }

// OneConnection keeps the client to one connection, also to a cluster. Without it the client connects to each node that leads a queue it uses, too,
// and asks there, where it can reach that node at the address that the cluster tells; so a message need not cross two nodes.
func OneConnection() Option { return func(c *config) { c.oneConnection = true } }

// OnLost has f called each time the client's connection is lost, with the reason, before the client connects again, perhaps to another node. It must not close the client.
// Of the connections to other nodes that a client of a cluster has besides it is not told.
func OnLost(f func(reason error)) Option { return func(c *config) { c.lost = f } }
