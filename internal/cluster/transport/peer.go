package transport

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/spare"
)

// fullWrite is how many bytes are gathered for one write, and largePacket the size from which on a packet is not copied for it.
const fullWrite, largePacket = 256 << 10, 128 << 10

// A peer is another node, as something is sent to it.
type peer struct {
	t    *Transport
	node uint64
	wake chan struct{}
	buf  []byte // run's, of what is written

	mu    sync.Mutex // guards the following
	queue [][]byte
	bytes int
	lost  bool // something was, since the last report
}

// Send sends a packet to a node, or loses it. It never waits. The bytes are the transport's from here on.
func (t *Transport) Send(node uint64, packet []byte) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	p := t.peers[node]
	if p == nil {
		p = &peer{t: t, node: node, wake: make(chan struct{}, 1)}
		t.peers[node] = p
		t.over.Go(p.run)
	}
	t.mu.Unlock()

	p.mu.Lock()
	full := len(p.queue) > 0 && p.bytes+len(packet) > t.opt.QueueBytes
	if !full {
		p.queue = append(p.queue, packet)
		p.bytes += len(packet)
	}
	p.lost = p.lost || full
	p.mu.Unlock()
	p.signal()
}

func (p *peer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take is all that waits.
func (p *peer) take() (packets [][]byte, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	packets, lost = p.queue, p.lost
	p.queue, p.bytes, p.lost = nil, 0, false
	return packets, lost
}

// run is the peer's goroutine.
func (p *peer) run() {
	var c net.Conn
	defer func() {
		if c != nil {
			_ = c.Close() // what it did not carry is lost, as it may be
		}
	}()
	for {
		select {
		case <-p.wake:
			runtime.Gosched() // the host may have more for the same write
		case <-p.t.ctx.Done():
			return
		}
		packets, lost := p.take()
		var err error
		if len(packets) > 0 && c == nil {
			c, err = p.dial()
		}
		if err == nil && len(packets) > 0 {
			err = p.write(c, packets)
		}
		if lost || err != nil {
			p.t.opt.Unreachable(p.node)
		}
		if err != nil {
			if c != nil {
				_ = c.Close() // it has failed already
				c = nil
			}
			p.t.opt.Logf("node %016x cannot be reached: %v", p.node, err)
			if !p.t.pause() {
				return
			}
		}
	}
}

func (p *peer) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.t.ctx, p.t.opt.Timeout)
	defer cancel()
	return p.t.opt.Dial(ctx, p.node)
}

// write sends packets, as few writes as possible. Large ones go as they are, and are somebody else's buffers then.
func (p *peer) write(c net.Conn, packets [][]byte) error {
	buf := p.buf[:0]
	for i, packet := range packets {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(packet)))
		buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(packet, castagnoli))
		large := len(packet) >= largePacket
		if !large {
			buf = append(buf, packet...)
		}
		if len(buf) < fullWrite && i+1 < len(packets) && !large {
			continue
		}
		if err := c.SetWriteDeadline(time.Now().Add(p.t.opt.Timeout)); err != nil {
			return err
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
		if large {
			if _, err := c.Write(packet); err != nil {
				return err
			}
			spare.Put(packet)
		}
	}
	p.buf = buf // at most a full write and a packet that is not large
	return nil
}
