package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"runtime"
	"sync"
	"time"
)

// A frame: u32 length of the message | u32 crc32c of it | the message. An empty message is a sign of life.
const frameHeader = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// spareBytes is the size up to which a buffer is kept when a flood is over.
const spareBytes = 1 << 20

// A Line carries messages to another node and from it, each whole, in order, until it breaks.
type Line struct {
	c    net.Conn
	opt  *Options
	wake chan struct{} // there is something to write; holds one
	dead chan struct{} // closed by fail
	once sync.Once
	err  error // why it broke; written before dead is closed

	mu     sync.Mutex // guards the following
	out    []byte     // frames
	broken bool
}

func newLine(c net.Conn, opt *Options) *Line {
	return &Line{c: c, opt: opt, wake: make(chan struct{}, 1), dead: make(chan struct{})}
}

// Send sends head and body as one message. It copies them and does not wait. On a broken line they are lost. Any goroutine may call it.
func (l *Line) Send(head, body []byte) {
	var h [frameHeader]byte
	binary.LittleEndian.PutUint32(h[:], uint32(len(head)+len(body)))
	binary.LittleEndian.PutUint32(h[4:], crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, body))
	l.mu.Lock()
	if l.broken {
		l.mu.Unlock()
		return
	}
	first, full := len(l.out) == 0, len(l.out) > l.opt.QueueBytes
	l.out = append(append(append(l.out, h[:]...), head...), body...)
	l.mu.Unlock()
	if full {
		l.fail(fmt.Errorf("more than %d bytes wait for it", l.opt.QueueBytes))
	} else if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// fail breaks the line; the first reason counts.
func (l *Line) fail(err error) {
	l.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = errors.New("the other node has ended it")
		}
		l.err = err
		l.mu.Lock()
		l.broken, l.out = true, nil
		l.mu.Unlock()
		close(l.dead)
		if !errors.Is(err, context.Canceled) {
			forget(l.c)
		}
		_ = l.c.Close() // what it has not carried is lost, and whoever sent it is told
	})
}

// forget has the kernel throw away what it has not carried: a cable that is put back in would still bring it to the other node, long after
// others have been given what was on its way.
func forget(c net.Conn) {
	for {
		under, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = under.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // where it is not possible nothing is worse than without
	}
}

// write writes all that has come up in one go, and a sign of life where nothing has.
func (l *Line) write() error {
	beat := time.NewTicker(l.opt.Beat)
	defer beat.Stop()
	var spare, alive [frameHeader]byte
	buf := spare[:0]
	for {
		l.mu.Lock()
		buf, l.out = l.out, buf[:0]
		l.mu.Unlock()
		if len(buf) == 0 {
			select {
			case <-l.wake:
				runtime.Gosched() // whoever is about to send may do so before the system call
				continue
			case <-beat.C:
				buf = append(buf, alive[:]...)
			case <-l.dead:
				return l.err
			}
		}
		if err := l.c.SetWriteDeadline(time.Now().Add(l.opt.Silence)); err != nil {
			return err
		}
		if _, err := l.c.Write(buf); err != nil {
			return err
		}
		if cap(buf) > spareBytes {
			buf = nil
		}
	}
}

// read gives messages to receive.
func (l *Line) read(receive func([]byte)) error {
	buf, start, end := make([]byte, 64<<10), 0, 0
	for {
		for {
			message, next, err := frame(buf[start:end], l.opt.MaxMessage)
			if err != nil {
				return err
			}
			if next == 0 {
				break
			}
			if len(message) > 0 {
				receive(message)
			}
			start += next
		}
		buf, start, end = room(buf, start, end)
		if err := l.c.SetReadDeadline(time.Now().Add(l.opt.Silence)); err != nil {
			return err
		}
		n, err := l.c.Read(buf[end:])
		if end += n; n == 0 && err != nil {
			return err
		}
	}
}

// room makes room behind what has been read and not dealt with, as much as the frame that has begun needs.
func room(buf []byte, start, end int) ([]byte, int, int) {
	rest, need := buf[start:end], 64<<10
	if len(rest) >= 4 {
		need = max(need, frameHeader+int(binary.LittleEndian.Uint32(rest)))
	}
	if need = max(need, len(rest)+frameHeader); len(buf) < need && start+need > len(buf) {
		// It grows with what comes, not with what is announced.
		grown := make([]byte, min(need, max(2*len(buf), 64<<10)))
		return grown, 0, copy(grown, rest)
	}
	if len(rest) == 0 && len(buf) > spareBytes {
		return make([]byte, 64<<10), 0, 0
	}
	return buf, 0, copy(buf, rest)
}

// frame is the message that b begins with and where the next frame begins; 0 where it is not all there.
func frame(b []byte, most int) (message []byte, next int, err error) {
	if len(b) < frameHeader {
		return nil, 0, nil
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > int64(most) {
		return nil, 0, fmt.Errorf("a message of %d bytes has come; %d are taken", n, most)
	}
	if int64(len(b)-frameHeader) < n {
		return nil, 0, nil
	}
	next = frameHeader + int(n)
	message = b[frameHeader:next:next]
	if crc32.Checksum(message, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, errors.New("a message has come whose checksum is wrong")
	}
	return message, next, nil
}
