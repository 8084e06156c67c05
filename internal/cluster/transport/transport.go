// Package transport carries packets between the nodes of a cluster, over connections that it is given: one for each direction of a
// pair. What cannot be sent at once is bounded and then lost: whoever has sent it says it again.
//
// It owns what waits to be sent, and does not know what a packet holds, nor how nodes find each other and prove who they are.
package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/spare"
)

// A frame: u32 length of the packet | u32 crc32c of it | the packet. TLS protects it on the way; the checksum also finds what a
// faulty memory does to it before or after.
const frameHeader = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options say how nodes are reached.
type Options struct {
	// Dial connects to another node. Who is at the other end is certain when it returns.
	Dial func(ctx context.Context, node uint64) (net.Conn, error)
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
	opt  Options
	ctx  context.Context // ends with the transport
	stop context.CancelFunc
	over sync.WaitGroup

	mu     sync.Mutex // guards the following
	peers  map[uint64]*peer
	conns  map[net.Conn]struct{} // that others have made
	closed bool
}

// New makes connections where something is sent. Serve takes those that others make. Close ends both.
func New(opt Options) *Transport {
	t := &Transport{opt: opt.withDefaults(), peers: map[uint64]*peer{}, conns: map[net.Conn]struct{}{}}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// Close ends all connections and waits for them.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close() // its reader ends with that
	}
	t.mu.Unlock()
	t.stop()
	t.over.Wait()
}

// Serve reads what another node sends on a connection that it has made, until that ends, and closes it.
func (t *Transport) Serve(c net.Conn, from uint64) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		_ = c.Close() // nobody reads it
		return
	}
	t.conns[c] = struct{}{}
	t.over.Add(1)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.conns, c)
		t.mu.Unlock()
		_ = c.Close() // what was not read will be sent again
		t.over.Done()
	}()
	if err := t.read(from, bufio.NewReaderSize(c, 64<<10)); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.opt.Logf("the connection from node %016x: %v", from, err)
	}
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
		packet := spare.Get(int(n))[:n]
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
	case <-t.ctx.Done():
		return false
	}
}
