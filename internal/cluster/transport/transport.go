// Package transport carries packets between the nodes of a cluster: TCP, TLS in both directions, one connection for each direction of a
// pair. What cannot be sent at once is bounded and then lost: whoever has sent it says it again.
//
// It owns connections and who is at their other end, and does not know what a packet holds.
package transport

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"
)

// A frame: u32 length of the packet | u32 crc32c of it | the packet. TLS protects it on the way; the checksum also finds what a
// faulty memory does to it before or after.
const frameHeader = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options say how nodes are reached.
type Options struct {
	// ID is this node's.
	ID uint64
	// TLS has this node's certificate and the authorities of others', as server and as client. It must demand a certificate of
	// clients (tls.RequireAndVerifyClientCert): a transport without that is not made.
	TLS *tls.Config
	// Peer is the node whose certificate that is; an error where it is none of the cluster's. It is asked for each connection.
	Peer func(tls.ConnectionState) (uint64, error)
	// Address is where a node listens now; "" where nobody knows.
	Address func(node uint64) string
	// Deliver takes a packet. It must not wait. The bytes are its own.
	Deliver func(from uint64, packet []byte)
	// Unreachable is told that packets to a node were lost. It must not wait.
	Unreachable func(node uint64)
	// QueueBytes is how much may wait for a node, 16 MiB; what is more is lost. MaxPacket is the greatest that is taken, 64 MiB.
	QueueBytes, MaxPacket int
	// Timeout is for a connection to come about, and for a write, 5 s; RetryAfter is how long nothing is tried after a failure, 200 ms.
	Timeout, RetryAfter time.Duration
	// Logf is told what an operator should know; nil tells nobody.
	Logf func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	if o.QueueBytes == 0 {
		o.QueueBytes = 16 << 20
	}
	if o.MaxPacket == 0 {
		o.MaxPacket = 64 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 200 * time.Millisecond
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Unreachable == nil {
		o.Unreachable = func(uint64) {}
	}
	return o
}

// A Transport sends and receives. Each peer's queue belongs to its lock, each connection to the goroutine that reads or writes it.
type Transport struct {
	opt      Options
	listener net.Listener
	over     sync.WaitGroup
	done     chan struct{}

	mu     sync.Mutex // guards the following
	peers  map[uint64]*peer
	conns  map[net.Conn]struct{} // that others have made
	closed bool
}

// New takes connections from the listener, and makes connections where something is sent. Close ends both.
func New(l net.Listener, opt Options) (*Transport, error) {
	opt = opt.withDefaults()
	if opt.TLS == nil || opt.TLS.ClientAuth != tls.RequireAndVerifyClientCert || opt.TLS.ClientCAs == nil || opt.TLS.RootCAs == nil {
		return nil, errors.New("transport: nodes must prove to each other who they are: TLS with certificates of both sides is needed")
	}
	t := &Transport{opt: opt, listener: l, done: make(chan struct{}), peers: map[uint64]*peer{}, conns: map[net.Conn]struct{}{}}
	t.over.Go(t.accept)
	return t, nil
}

// Close ends all connections and waits for them.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	for c := range t.conns {
		_ = c.Close() // its reader ends with that
	}
	for _, p := range t.peers {
		p.signal()
	}
	t.mu.Unlock()
	err := t.listener.Close()
	t.over.Wait()
	return err
}

func (t *Transport) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			select {
			case <-t.done:
				return
			default:
			}
			t.opt.Logf("the cluster's listener: %v", err)
			if !t.pause() {
				return
			}
			continue
		}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			_ = c.Close() // nobody reads it
			return
		}
		t.conns[c] = struct{}{}
		t.mu.Unlock()
		t.over.Go(func() { t.serve(c) })
	}
}

// serve reads what another node sends.
func (t *Transport) serve(raw net.Conn) {
	defer func() {
		t.mu.Lock()
		delete(t.conns, raw)
		t.mu.Unlock()
		_ = raw.Close() // what was not read will be sent again
	}()
	c := tls.Server(raw, t.opt.TLS)
	from, err := t.shake(c)
	if err != nil {
		t.opt.Logf("a connection from %s is no node's: %v", raw.RemoteAddr(), err)
		return
	}
	if err := t.read(from, bufio.NewReaderSize(c, 64<<10)); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.opt.Logf("the connection from node %d: %v", from, err)
	}
}

// shake finds out who is there.
func (t *Transport) shake(c *tls.Conn) (uint64, error) {
	if err := c.SetDeadline(time.Now().Add(t.opt.Timeout)); err != nil {
		return 0, err
	}
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	node, err := t.opt.Peer(c.ConnectionState())
	if err == nil && (node == 0 || node == t.opt.ID) {
		err = fmt.Errorf("node %d is not another one", node)
	}
	return node, errors.Join(err, c.SetDeadline(time.Time{}))
}

func (t *Transport) read(from uint64, r *bufio.Reader) error {
	var head [frameHeader]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if int64(n) > int64(t.opt.MaxPacket) {
			return fmt.Errorf("a packet of %d bytes; at most %d are taken", n, t.opt.MaxPacket)
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(r, packet); err != nil {
			return err
		}
		if crc32.Checksum(packet, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return errors.New("a packet's checksum is wrong")
		}
		t.opt.Deliver(from, packet)
	}
}

// pause waits a while; false where the transport is closed meanwhile.
func (t *Transport) pause() bool {
	timer := time.NewTimer(t.opt.RetryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.done:
		return false
	}
}
