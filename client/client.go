package gmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Client is a connection to a server that comes back when it is lost. It is
// safe for any number of goroutines.
type Client struct {
	given []string // addresses; never empty
	cfg   config
	// life ends when the client does; done is closed when its goroutines have ended.
	life context.Context
	end  context.CancelFunc
	done chan struct{}

	mu      sync.Mutex // guards the following, and what says so elsewhere
	own     *lane      // the way to any server
	lanes   []*lane    // own, and those to single nodes of a cluster
	linkNo  uint64     // how many connections there have been
	last    string     // the address of the latest attempt of own's
	lastErr error      // why own has no connection
	hello   Hello
	changed chan struct{} // see change
	closing bool          // no new work
	closed  bool          // no requests at all
	pending ring
	leaders leaders
	subs    map[*subscription]struct{}
	inbox   *inbox    // takes the replies to requests; nil before the first
	working int       // Works that have not returned
	moved   time.Time // when a node was left as it found no leaders

	cluster atomic.Bool    // the server is one of several nodes
	nodes   sync.WaitGroup // lanes to single nodes, and attempts to make some

	salted salted
}

// Hello is what the server says of itself when a connection begins.
type Hello struct {
	Server          string   `json:"server"`
	Version         string   `json:"version"`
	Node            string   `json:"node"`
	Protocol        int      `json:"protocol"`
	MaxMessageBytes int64    `json:"max_message_bytes"`
	Storages        []string `json:"storages"`
	// Nodes are the addresses at which clients reach the servers of a cluster; none where the server is alone.
	Nodes []string `json:"nodes"`
	// User is who this client is to the server; "" where it has not logged in.
	User string `json:"user"`

	data string // of an exchange
}

// Dial connects to the server at addr ("host:port"), or to any of several nodes of a cluster ("a:4567,b:4567"). It fails where the first
// attempt does with all of them, unless [Lazy] is given; later losses are the client's own
// business: it goes on with another node, also with one that it has learnt of from the cluster itself ([OnlyGiven] prevents that). The client lives until Close, not until ctx ends.
func Dial(ctx context.Context, addr string, opts ...Option) (*Client, error) {
	c := &Client{
		given: addresses(addr),
		cfg:   newConfig(opts),
		done:  make(chan struct{}),
		own:   &lane{outGen: 1},
		subs:  make(map[*subscription]struct{}),
	}
	c.lanes = []*lane{c.own}
	c.life, c.end = context.WithCancel(context.Background())
	var l *link
	if !c.cfg.lazy {
		var err error
		if l, err = c.connectAny(ctx); err != nil {
			c.end()
			return nil, err
		}
	}
	go c.run(l)
	return c, nil
}

// Hello gives the server's greeting of the current or the last connection.
func (c *Client) Hello() Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// run owns the life of the client's own connections, one after the other.
func (c *Client) run(l *link) {
	defer close(c.done)
	for {
		if l == nil {
			if l = c.reconnect(); l == nil {
				break
			}
		}
		c.attach(c.own, l)
		err := l.serve(c.life)
		c.detach(l, err)
		l = nil
		if c.life.Err() != nil {
			break
		}
		c.cfg.log.Warn("gmq: connection lost", "server", c.address(), "error", err)
		if c.cfg.lost != nil {
			c.cfg.lost(err)
		}
	}
	c.nodes.Wait()
	c.abandon()
}

// reconnect tries until there is a connection, or the client is closed: nil.
func (c *Client) reconnect() *link {
	wait := c.cfg.backoffMin
	for {
		l, err := c.connectAny(c.life)
		if err == nil {
			c.cfg.log.Info("gmq: connected", "server", l.addr)
			return l
		}
		c.mu.Lock()
		c.lastErr = err
		c.mu.Unlock()
		most := c.cfg.backoffMax
		if e, ok := errors.AsType[*Error](err); ok && e.Code == wire.CodeUnauthenticated { // time alone does not mend it
			most = max(most, refusedMax)
			c.cfg.log.Warn("gmq: the server refuses the login", "server", c.address(), "error", err)
		} else {
			c.cfg.log.Debug("gmq: cannot connect", "server", c.address(), "error", err)
		}
		wait = min(wait, most)
		// Half of the wait is left to chance, so that the clients of a server
		// that comes back do not come back in step.
		t := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-t.C:
		case <-c.life.Done():
			t.Stop()
			return nil
		}
		wait = min(2*wait, most)
	}
}

// connect makes one connection, within that time, and greets the server.
func (c *Client) connect(ctx context.Context, addr string, within time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := c.cfg.dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("gmq: connect to %s: %w", addr, err)
	}
	if c.cfg.token != "" && c.cfg.tls == nil && !c.cfg.dialWith && !ownMachine(conn.RemoteAddr()) {
		_ = conn.Close()
		return nil, fmt.Errorf("gmq: connect to %s: %w", addr, errReadable)
	}
	if c.cfg.tls != nil {
		plain := conn
		if conn, err = secured(ctx, plain, addr, c.cfg.tls); err != nil {
			_ = plain.Close()
			return nil, fmt.Errorf("gmq: connect to %s: %w", addr, err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	l := newLink(c, conn)
	l.addr = addr
	hello, err := l.hello()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	l.greeting = hello
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, fmt.Errorf("gmq: connect to %s: %w", addr, err)
	}
	return l, nil
}

// errReadable is told instead of sending a token in clear.
var errReadable = errors.New("a token is not sent over an unencrypted connection to another machine; use TLS (WithTLS)")

// ownMachine reports whether nobody else can read what is sent to an address.
func ownMachine(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// helloTail is what every hello begins with.
func (c *Client) helloTail() []byte {
	return appendText([]byte(`,"op":"hello","protocol":1`), "client", c.cfg.name)
}

// hello tells the server who this is.
func (l *link) hello() (Hello, error) {
	if l.c.cfg.user != "" {
		return l.logIn()
	}
	return l.greet(append(appendText(l.c.helloTail(), "token", l.c.cfg.token), "}\n"...))
}

// abandon fails all that is left when the client ends.
func (c *Client) abandon() {
	c.mu.Lock()
	c.closed = true
	left := c.pending.ordered()
	c.pending = ring{next: c.pending.next}
	for _, ln := range c.lanes {
		for _, b := range ln.acks {
			b.q.open = nil
			left = append(left, &b.call)
		}
		ln.acks = nil
	}
	c.leaders.stop()
	subs := c.subs
	c.subs = nil
	c.broadcast()
	c.mu.Unlock()
	for _, cl := range left {
		cl.fail(unknownOutcome(ErrClosed))
	}
	for s := range subs {
		s.finish(ErrClosed)
	}
}

// Close stops the client: subscriptions end, running handlers of
// [Queue.Work] finish, requests in flight get their replies, for at most the
// [CloseTimeout]. It may be called again.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.closeTimeout)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown is Close with the caller's own patience. It fails where something
// was still in flight when ctx ended.
func (c *Client) Shutdown(ctx context.Context) error {
	err := c.drain(ctx)
	c.mu.Lock()
	c.closed = true
	c.broadcast()
	c.mu.Unlock()
	c.end()
	<-c.done
	return err
}

// drain takes no new work and waits until there is none left.
func (c *Client) drain(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.closing = true
		c.broadcast()
		for s := range c.subs {
			s.finish(ErrClosed)
		}
	}
	// One who waits for messages would wait them out; the server takes back
	// what it gives to a connection that closes.
	for _, cl := range c.pending.ordered() {
		switch {
		case cl.givenUp:
			c.pending.remove(cl)
		case cl.kind == callReceive:
			c.pending.remove(cl)
			cl.fail(ErrClosed)
		}
	}
	for !c.closed && (c.working > 0 || c.pending.n > 0 || c.gathered() > 0) {
		ch := c.change()
		c.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			c.mu.Lock()
			return fmt.Errorf("gmq: closed with %d requests and %d workers unfinished: %w",
				c.pending.n+c.gathered(), c.working, ctx.Err())
		}
		c.mu.Lock()
	}
	return nil
}

// parseHello reads the reply to hello.
func parseHello(raw []byte) (Hello, error) {
	var reply struct {
		Hello
		Data string `json:"data"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return reply.Hello, fmt.Errorf("the server's greeting: %w", err)
	}
	reply.data = reply.Data
	return reply.Hello, nil
}

// parseID reads an id as this client writes them.
func parseID(raw []byte) (uint64, bool) {
	var id uint64
	if len(raw) == 0 || len(raw) > 19 {
		return 0, false
	}
	for _, d := range raw {
		if d < '0' || d > '9' {
			return 0, false
		}
		id = id*10 + uint64(d-'0')
	}
	return id, true
}

// appendText appends a string field, unless the string is empty.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return wire.AppendString(b, value)
}

// appendInt appends a field that is a number.
func appendInt(b []byte, name string, value int64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, value, 10)
}

// appendDuration appends a field that is a duration.
func appendDuration(b []byte, name string, d time.Duration) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '"')
	b = append(b, d.String()...)
	return append(b, '"')
}
