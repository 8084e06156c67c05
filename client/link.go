package gmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// A link is one connection: a reader and a writer that live and die together.
type link struct {
	c    *Client
	conn net.Conn
	addr string
	no   uint64 // which connection of the client it is
	lane *lane  // whose it is
	// greeting is what the server has said of itself.
	greeting Hello
	out      atomic.Int64 // messages that have come over it and have not been settled
	received stay         // by which those of receives have come
	in       lineReader
	wake     chan struct{} // tells the writer that there is something to write
	dead     chan struct{} // closed by fail
	once     sync.Once
	err      error // why it died; written before dead closes
	wg       sync.WaitGroup

	heard atomic.Uint64 // lines so far
	// draining: the server is closing down; leaves: the client goes to another node. Guarded by Client.mu.
	draining, leaves bool
	// resting are calls that were refused and are asked again soon. Guarded by Client.mu.
	resting []*call

	// The following belong to the reader.
	subs  map[uint64]*stay
	frame wire.Frame

	// The following belong to the writer, once it runs.
	first []byte // written before anything else
	spare []byte // the buffer that is not being filled
}

func newLink(c *Client, conn net.Conn) *link {
	l := &link{
		c:    c,
		conn: conn,
		in:   lineReader{r: conn, buf: make([]byte, 2*readMin)},
		wake: make(chan struct{}, 1),
		dead: make(chan struct{}),
		subs: make(map[uint64]*stay),
	}
	l.received.link = l
	return l
}

// greet says hello and waits for the answer; nothing else is on the
// connection at that time.
func (l *link) greet(tail []byte) (Hello, error) {
	if _, err := l.conn.Write(appendLine(nil, 0, tail)); err != nil {
		return Hello{}, err
	}
	for {
		line, err := l.in.next()
		if err != nil {
			return Hello{}, err
		}
		if err := wire.DecodeFrame(line, &l.frame); err != nil {
			return Hello{}, fmt.Errorf("the server's greeting: %w", err)
		}
		switch f := &l.frame; {
		case f.IsReply && !f.OK:
			return Hello{}, fromWire(f)
		case f.IsReply:
			return parseHello(f.Raw)
		case f.Op == "closing":
			return Hello{}, &Error{Code: wire.CodeShuttingDown, Message: string(f.Reason), Retryable: true}
		}
	}
}

func (l *link) start() {
	l.wg.Go(func() { l.fail(l.read()) })
	l.wg.Go(func() { l.fail(l.write()) })
}

// greetEvery is how often a client asks which nodes there are.
const greetEvery = 30 * time.Second

// serve waits until the connection is dead and its goroutines have ended, and
// tells why.
func (l *link) serve(ctx context.Context) error {
	var tick, again <-chan time.Time
	b := l.beat()
	if b.every > 0 {
		t, u := time.NewTicker(b.every), time.NewTicker(greetEvery)
		defer t.Stop()
		defer u.Stop()
		tick, again = t.C, u.C
	}
	var heard uint64
	silent, asked := 0, 0 // ticks; asked is the silent one at which it was asked
	for alive := true; alive; {
		select {
		case <-l.dead:
			alive = false
		case <-ctx.Done():
			l.fail(ErrClosed)
		case <-again:
			l.c.greetAgain(l)
		case <-tick:
			if now := l.heard.Load(); now != heard {
				heard, silent, asked = now, 0, 0
				continue
			}
			silent++
			if asked > 0 {
				if silent-asked >= b.answer {
					l.fail(fmt.Errorf("no sign of life within %v", time.Duration(silent)*b.every))
				}
				continue
			}
			l.c.mu.Lock()
			if silent >= b.patience(l) {
				l.c.enqueue(l.lane, &call{kind: callPing}, []byte(",\"op\":\"ping\"}\n"))
				asked = silent
			}
			l.c.mu.Unlock()
		}
	}
	l.wg.Wait()
	return l.err
}

// fail ends the connection; the first one to say why is heard.
func (l *link) fail(err error) {
	l.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = errors.New("the server closed the connection")
		}
		l.err = err
		close(l.dead)
		_ = l.conn.Close()
	})
}

func (l *link) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write sends whatever has gathered, as long as the connection lives.
func (l *link) write() error {
	if len(l.first) > 0 {
		if _, err := l.conn.Write(l.first); err != nil {
			return err
		}
		l.first = nil
	}
	for {
		buf := l.take()
		if len(buf) == 0 {
			select {
			case <-l.wake:
				// Whoever is about to send, too, may do so before the system call.
				runtime.Gosched()
				continue
			case <-l.dead:
				return l.err
			}
		}
		if _, err := l.conn.Write(buf); err != nil {
			return err
		}
	}
}

// take takes the gathered lines and leaves an empty buffer.
func (l *link) take() []byte {
	c, ln := l.c, l.lane
	c.mu.Lock()
	defer c.mu.Unlock()
	if ln.link != l {
		return nil
	}
	c.flushAcks(ln)
	buf := ln.out
	if len(buf) == 0 {
		return nil
	}
	ln.out = l.spare[:0]
	ln.outGen++
	l.spare = nil
	if cap(buf) <= 1<<20 { // a rare flood does not keep its memory
		l.spare = buf
	}
	c.room(ln)
	return buf
}

// read takes lines until the connection is lost.
func (l *link) read() error {
	for {
		line, err := l.in.next()
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		l.heard.Add(1)
		if err := wire.DecodeFrame(line, &l.frame); err != nil {
			return fmt.Errorf("a line of the server: %w", err)
		}
		l.handle(&l.frame)
	}
}

func (l *link) handle(f *wire.Frame) {
	switch {
	case f.IsReply:
		l.reply(f)
	case f.Op == "message":
		// One that comes for a subscription that has just ended has been given
		// back by the server.
		if at := l.subs[f.Message.Sub]; at != nil {
			m := newMessage(at.s.source(l, f.Message.Queue), &f.Message, l.no, at.s.cfg.autoAck)
			m.came(at)
			at.s.deliver(m)
		}
	case f.Op == "unsubscribed":
		if at := l.subs[f.Sub]; at != nil {
			delete(l.subs, f.Sub)
			l.c.dropSubscription(at.s, fmt.Errorf("%w: %s", ErrUnsubscribed, f.Reason))
		}
	case f.Op == "closing":
		l.c.cfg.log.Info("gmq: the server is closing", "server", l.addr, "reason", string(f.Reason))
		l.c.closes(l)
	}
}

// reply hands a reply to the one who waits for it.
func (l *link) reply(f *wire.Frame) {
	id, ok := parseID(f.ID)
	if !ok {
		l.c.cfg.log.Warn("gmq: a reply to no request", "server", l.addr, "reply", string(f.Raw))
		return
	}
	c := l.c
	c.mu.Lock()
	cl := c.pending.get(id)
	if cl == nil {
		c.mu.Unlock()
		return
	}
	if !f.OK && f.Err != nil && f.Err.Code == wire.CodeShuttingDown && cl.tail != nil {
		// It will be asked again over the next connection.
		cl.rests = true
		c.mu.Unlock()
		return
	}
	nowhere := !f.OK && f.Err != nil && f.Err.Code == wire.CodeNoQuorum
	if nowhere {
		c.moveOn(l, cl)
	}
	if !f.OK && f.Err != nil && cl.tail != nil && leaderless(f.Err.Code) && (nowhere || !cl.once) {
		c.askLater(cl, l, fromWire(f))
		c.mu.Unlock()
		return
	}
	c.pending.remove(cl)
	left := cl.left
	c.room(l.lane)
	if c.closing && c.pending.n == 0 {
		c.broadcast()
	}
	c.mu.Unlock()
	switch {
	case cl.kind == callSubscribe:
		l.subscribed(cl.sub, f)
	case cl.kind == callUnsubscribe:
		delete(l.subs, cl.num)
	case cl.kind == callDrain:
		l.drained(cl, f)
	case cl.kind == callLeaders:
		c.told(cl, f)
	case cl.kind == callHello:
		c.greetedAgain(l, f)
	case left && cl.kind == callReceive && f.OK && !cl.auto:
		c.giveBack(l.lane, cl.q, f.Messages)
	default:
		cl.take(f, l)
	}
}

// take copies what the caller wants of the reply and lets it go.
func (cl *call) take(f *wire.Frame, l *link) {
	if !f.OK {
		cl.fail(fromWire(f))
		return
	}
	switch cl.kind {
	case callPing:
	case callPublish:
		cl.published = Published{Seq: f.Seq, Stored: f.Stored, Duplicate: f.Duplicate, Queues: int(f.Queues)}
	case callBatch:
		cl.seqs = append([]uint64(nil), f.Seqs...)
		cl.published = Published{Stored: f.Stored, Duplicate: f.Duplicate, Queues: int(f.Queues)}
	case callReceive:
		cl.messages = make([]*Message, len(f.Messages))
		for i := range f.Messages {
			cl.messages[i] = newMessage(cl.q, &f.Messages[i], l.no, cl.auto)
			cl.messages[i].came(&l.received)
		}
	default:
		cl.raw = bytes.Clone(f.Raw)
	}
	cl.open()
}

func (cl *call) fail(err error) {
	cl.err = err
	cl.open()
}

// replyMax bounds one line of the server.
const replyMax = 1 << 30

// readMin is the least room for one read, after a flood of long lines too.
const readMin = 32 << 10

// A lineReader cuts what it reads into lines. Its buffer grows with the
// longest line and shrinks again.
type lineReader struct {
	r          io.Reader
	buf        []byte
	start, end int // what has been read and not given out
}

// next gives the next line without its end; it is valid until the next call.
func (r *lineReader) next() ([]byte, error) {
	seen := r.start
	for {
		if i := bytes.IndexByte(r.buf[seen:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : seen+i]
			r.start = seen + i + 1
			return line, nil
		}
		seen = r.end
		if r.start > 0 {
			copy(r.buf, r.buf[r.start:r.end])
			seen, r.end, r.start = r.end-r.start, r.end-r.start, 0
		}
		if r.end < readMin && len(r.buf) > 1<<20 {
			r.buf = append(make([]byte, 0, 2*readMin), r.buf[:r.end]...)[:2*readMin]
		}
		if r.end == len(r.buf) {
			if len(r.buf) >= replyMax {
				return nil, fmt.Errorf("a line of more than %d bytes", replyMax)
			}
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}
