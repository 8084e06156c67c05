package relay_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/relay"
	"github.com/gmq/gmq/wire"
)

// A lone is a journal of a shard that another node leads, for ever, or that this one leads.
type lone struct {
	*journal.Memory
	role journal.Role
}

func (l *lone) Role() journal.Role { return l.role }

func (l *lone) Image() journal.Image { return nil }

var _ journal.Replicated = &lone{}

// A node is a broker with its relay.
type node struct {
	b *broker.Broker
	r *relay.Relay
}

type peers []uint64

func (p peers) Nodes() []uint64 { return p }

// twoNodes are node 1, which leads nothing, and node 2, which leads everything, with lines over loopback.
func twoNodes(t testing.TB) (front, leader *node) {
	ls, ns := make([]net.Listener, 2), make([]*node, 2)
	for i := range ns {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls[i] = l
	}
	for i := range ns {
		n, budget := &node{}, journal.NewBudget(1<<30)
		other := uint64(2 - i)
		open := func(_ int, wake func()) journal.Journal {
			return &lone{journal.NewMemory(budget, wake), journal.Role{Leading: i == 1, Leader: 2, Term: 5}}
		}
		var err error
		n.b, err = broker.Start(broker.Options{
			ID: uint64(i + 1), Peers: peers{other}, Boot: uint32(i + 1), Fail: func(err error) { t.Error(err) },
			Limits:   broker.Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1 << 20, AutoCreate: true, Defaults: queue.Settings{Storage: "file", Lease: time.Minute}},
			Storages: []broker.Storage{{Name: "file", Stored: "quorum", Replicated: true, Open: open}},
		})
		if err != nil {
			t.Fatal(err)
		}
		n.r = relay.New(relay.Options{
			Nodes: func() []uint64 { return []uint64{other} },
			Dial: func(ctx context.Context, node uint64) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", ls[node-1].Addr().String())
			},
			Up: func(node uint64, l *relay.Line) (func([]byte), func()) {
				c := n.b.LineUp(node, l)
				return c.Receive, c.Close
			},
			Accept: func(node uint64, l *relay.Line) (func([]byte), func()) {
				g := n.b.Accept(node, l)
				return g.Receive, g.Close
			},
		})
		var over sync.WaitGroup
		over.Go(func() {
			for {
				c, err := ls[i].Accept()
				if err != nil {
					return
				}
				over.Go(func() { n.r.Serve(c, other) })
			}
		})
		t.Cleanup(func() {
			ls[i].Close()
			n.r.Close()
			over.Wait()
			if err := n.b.Close(); err != nil {
				t.Error(err)
			}
		})
		ns[i] = n
	}
	return ns[0], ns[1]
}

// A client is a session with somebody who reads it.
type client struct {
	s     *broker.Session
	dec   *wire.Decoder
	req   wire.Request
	lines func(line []byte)
	over  chan struct{}
}

func newClient(n *node, lines func(line []byte)) *client {
	c := &client{s: n.b.NewSession("test:1"), dec: wire.NewDecoder(1 << 20), lines: lines, over: make(chan struct{})}
	go func() {
		defer close(c.over)
		out, ok := c.s.Outgoing(nil)
		for ; ok; out, ok = c.s.Outgoing(out[:0]) {
			for _, b := range broker.Bytes(nil, out) {
				start := 0
				for i, ch := range b {
					if ch == '\n' {
						c.lines(b[start:i])
						start = i + 1
					}
				}
			}
			c.s.Sent(out)
		}
	}()
	return c
}

func (c *client) say(line string) { c.sayBytes([]byte(line)) }

func (c *client) sayBytes(line []byte) {
	if err := c.dec.Decode(line, &c.req); err != nil {
		panic(err)
	}
	c.s.Intake.Handle(&c.req)
}

func (c *client) end() {
	c.s.Intake.Flush()
	c.s.Close()
	<-c.over
}

// TestThroughARealLine: publishers and consumers at a node that leads nothing, over sockets.
func TestThroughARealLine(t *testing.T) {
	front, _ := twoNodes(t)
	if node, here := front.b.Leader(3); node != 2 || here {
		t.Fatal("the front leads")
	}
	const publishers, each = 4, 500
	var confirmed, delivered atomic.Int64
	all := make(chan struct{})
	var sub *client
	sub = newClient(front, func(line []byte) {
		if len(line) > 6 && string(line[:6]) == `{"op":` && delivered.Add(1) == publishers*each {
			close(all)
		}
	})
	sub.say(`{"op":"subscribe","id":1,"queue":"q","ack":"auto","credit":100}`)
	sub.s.Intake.Flush()
	var pubs sync.WaitGroup
	for p := range publishers {
		pubs.Go(func() {
			next := 1.0
			c := newClient(front, func(line []byte) {
				if want := fmt.Sprintf(`{"id":%v,"ok":true`, next); len(line) < len(want) || string(line[:len(want)]) != want {
					t.Errorf("publisher %d: %s, not %s", p, line, want)
				}
				next++
				confirmed.Add(1)
			})
			for i := range each {
				c.s.Await()
				c.say(fmt.Sprintf(`{"op":"publish","id":%d,"queue":"q","body":"%d-%d"}`, i+1, p, i))
				if i%50 == 49 {
					c.s.Intake.Flush()
				}
			}
			c.end()
		})
	}
	pubs.Wait()
	<-all
	sub.end()
	if confirmed.Load() != publishers*each {
		t.Errorf("%d confirmed", confirmed.Load())
	}
}

// TestForwardingAllocatesNothing for a message: publishes and deliveries through another node, in the steady state.
func TestForwardingAllocatesNothing(t *testing.T) {
	front, _ := twoNodes(t)
	const batch = 200
	done := make(chan struct{}, 1)
	var got atomic.Int64
	c := newClient(front, func([]byte) { // a confirm and a delivery each
		if got.Add(1)%(2*batch) == 0 {
			done <- struct{}{}
		}
	})
	c.say(`{"op":"subscribe","quiet":true,"queue":"q","ack":"auto","credit":1000}`)
	line := []byte(`{"op":"publish","id":1,"queue":"q","body":"0123456789012345678901234567890123456789"}`)
	n := testing.AllocsPerRun(50, func() {
		for range batch {
			c.sayBytes(line)
		}
		c.s.Intake.Flush()
		<-done
	})
	if n /= batch; n > 0.5 {
		t.Errorf("%v allocations a message", n)
	}
	t.Logf("%v allocations a message", n)
	c.end()
}

func BenchmarkForwardedPublish(b *testing.B) {
	for _, where := range []string{"here", "there"} {
		b.Run(where, func(b *testing.B) {
			front, leader := twoNodes(b)
			at := front
			if where == "here" {
				at = leader
			}
			var got atomic.Int64
			done := make(chan struct{})
			c := newClient(at, func([]byte) {
				if got.Add(1) == int64(b.N) {
					close(done)
				}
			})
			line := []byte(`{"op":"publish","id":12345,"queue":"q","body":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"}`)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%100 == 0 {
					c.s.Await()
				}
				c.sayBytes(line)
				if i%100 == 99 {
					c.s.Intake.Flush()
				}
			}
			c.s.Intake.Flush()
			<-done
			b.StopTimer()
			c.end()
		})
	}
}
