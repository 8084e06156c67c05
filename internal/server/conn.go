package server

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/wire"
)

// deskBytes is the size of the buffer a reader works with while there is something to read; where that is little, a little one does. Many
// connections that are about to read or have just read hold one each, and large ones are hard on the memory for a few lines.
const deskBytes, littleDesk = 64 << 10, 8 << 10

// lastWords bounds the sending of what is left for a client that sends no more.
const lastWords = 30 * time.Second

// lingerTime bounds the reading of what a connection sends while it is closed from here.
const lingerTime = time.Second

// A desk is what reading takes: it is shared by all connections, so that one with nothing
// to read holds no buffer.
type desk struct {
	buf   []byte
	small []byte // buf, but while a longer line comes in
	dec   *wire.Decoder
	req   wire.Request
	max   int // of the decoder
}

var desks, littleDesks = deskPool(deskBytes), deskPool(littleDesk)

func deskPool(bytes int) *sync.Pool {
	return &sync.Pool{New: func() any {
		small := make([]byte, bytes)
		return &desk{buf: small, small: small}
	}}
}

// putBack gives back a desk.
func (d *desk) putBack() {
	if len(d.small) == deskBytes {
		desks.Put(d)
	} else {
		littleDesks.Put(d)
	}
}

// A conn is one connection. Its reader owns everything but nc and session, which reader and writer share, and what sendNow uses.
type conn struct {
	server  *Server
	nc      net.Conn
	raw     syscall.RawConn // nil where nc is no socket
	session *broker.Session
	dead    atomic.Bool // nothing more is read from it, and what was read is let be

	desk    *desk
	n       int         // bytes in desk.buf that are not dealt with
	part    []byte      // a line's beginning, while there is no desk; has its buffer where that is large
	long    int         // bytes of the last line that was longer than a desk
	skip    bool        // the rest of the line is to be thrown away
	first   atomic.Bool // the first byte has been seen
	modern  bool        // a line was not for the first protocol, so none will be
	glance  glance      // of the first line, while it has no end
	got     int         // what fill read
	much    int         // for how many reads more it is to be expected that a little desk is too small
	err     error
	pending func(fd uintptr) bool
	ready   func(fd uintptr) bool
	bytes   []byte                 // to be sent by sendNow, whose caller has this and put
	put     int                    // of bytes, those that are sent
	secure  atomic.Pointer[secure] // of a TLS connection, from its first byte on

	classic atomic.Bool // an object of the first protocol is being answered

	login login
}

func newConn(s *Server, nc net.Conn, v *auth.Visitor) *conn {
	c := &conn{server: s, nc: nc, session: s.opt.Broker.NewSession(nc.RemoteAddr().String())}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	if c.raw != nil {
		c.pending, c.ready = c.tryRead, c.tryWrite
		c.session.Direct(c.sendNow)
	}
	c.arrive(v)
	return c
}

// end lets the connection finish what it has to send and close.
func (c *conn) end() {
	c.dead.Store(true)
	c.nc.SetReadDeadline(time.Now()) // ends the reader
	c.nc.SetWriteDeadline(time.Now().Add(farewell))
}

// read is the reader.
func (c *conn) read() {
	for {
		c.session.Await()
		if err := c.fill(); err != nil {
			c.tooSlow(err)
			break
		}
		if !c.lines() {
			break
		}
		c.session.Intake.Flush()
	}
	c.leaveDesk()
	if !c.server.ended.Load() { // else end has set an earlier one
		c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	}
	c.session.Close()
}

// write is the writer; it closes the socket when there is nothing more to come.
func (c *conn) write() {
	var bufs, list net.Buffers
	out, ok := c.session.Outgoing(nil)
	for ; ok; out, ok = c.session.Outgoing(out[:0]) {
		var err error
		if bufs = broker.Bytes(bufs[:0], out); c.secure.Load() != nil {
			err = c.secure.Load().send(bufs)
		} else if len(bufs) == 1 {
			_, err = c.nc.Write(bufs[0])
		} else {
			list = bufs
			_, err = list.WriteTo(c.nc)
		}
		clear(bufs)
		c.session.Sent(out)
		clear(out)
		if err != nil { // the reader ends the session; until then, what comes is for nobody
			c.dead.Store(true)
			c.nc.Close()
		}
	}
	c.linger()
	c.leave()
	c.server.forget(c)
}

// linger closes the socket. A socket that is closed with something unread is reset, and a
// reset can destroy replies that the other side has not read yet; so what still comes is read first.
func (c *conn) linger() {
	defer c.nc.Close()
	if s := c.secure.Load(); s != nil {
		s.tls.CloseWrite() // fails where the handshake did; what is left is the same for both
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	var small [512]byte
	buf := small[:] // enough for who has not said who he is
	if !c.strange() {
		d := desks.Get().(*desk)
		defer desks.Put(d)
		buf = d.buf
	}
	for {
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}

// fill reads what there is, at least one byte. While there is nothing, no buffer is held.
func (c *conn) fill() error {
	if s := c.secure.Load(); s != nil {
		return c.fillSecure(s)
	}
	if c.raw == nil {
		c.takeDesk()
		c.got, c.err = c.nc.Read(c.room())
	} else if err := c.raw.Read(c.pending); err != nil {
		return err
	}
	if c.got > 0 {
		c.n += c.got
		c.expect()
		return nil
	}
	if c.err == nil {
		return io.EOF
	}
	return c.err
}

// tryRead is called when the socket may have something; false waits for more.
func (c *conn) tryRead(fd uintptr) bool {
	c.takeDesk()
	for {
		n, err := readSocket(fd, c.room())
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			c.leaveDesk()
			return false
		}
		c.got, c.err = max(n, 0), err
		return true
	}
}

// sendNow sends what the socket takes at once of b, and says how much that was. It never waits, and leaves errors to the writer.
func (c *conn) sendNow(b []byte) int {
	if c.secure.Load() != nil {
		return 0
	}
	c.bytes, c.put = b, 0
	c.raw.Write(c.ready) // fails where the connection is closed: then nothing was sent
	c.bytes = nil
	return c.put
}

func (c *conn) tryWrite(fd uintptr) bool {
	n, _ := writeSocket(fd, c.bytes)
	c.put = max(n, 0)
	return true
}

// takeDesk makes sure of a desk with room behind the c.n bytes.
func (c *conn) takeDesk() {
	if c.desk != nil {
		if c.much > 0 && len(c.desk.buf) == littleDesk {
			c.moveDesk()
		}
		return
	}
	pool := littleDesks
	if c.much > 0 || len(c.part) > littleDesk/2 {
		pool = desks
	}
	d := c.newDesk(pool)
	if cap(c.part) > deskBytes {
		c.n, d.buf = len(c.part), c.part[:cap(c.part)]
	} else {
		c.n = copy(d.buf, c.part)
	}
	c.part = nil
}

func (c *conn) newDesk(pool *sync.Pool) *desk {
	d := pool.Get().(*desk)
	if limit := c.server.opt.Broker.Limits().MaxMessageBytes; d.dec == nil || d.max != limit {
		d.dec, d.max = wire.NewDecoder(limit), limit
	}
	c.desk = d
	return d
}

// muchLasts is for how many reads a connection that has sent much is given a large desk.
const muchLasts = 32

// expect notes how much has been read.
func (c *conn) expect() {
	if c.got > littleDesk/2 {
		c.much = muchLasts
	} else if c.much > 0 {
		c.much--
	}
}

// moveDesk moves from a little desk to a large one.
func (c *conn) moveDesk() {
	little := c.desk
	copy(c.newDesk(desks).buf, little.buf[:c.n])
	little.putBack()
}

// roomFor is the size of a buffer that holds n bytes of a line and has room for more of it. Who has sent a long
// line is likely to send another: there is room for as much, and for the beginning of the next.
func (c *conn) roomFor(n int) int {
	return min(max(2*n, c.long+deskBytes), c.lineLimit()+1)
}

// enlarge makes room behind a desk that is full.
func (c *conn) enlarge() {
	d := c.desk
	if len(d.buf) == littleDesk {
		c.moveDesk()
		return
	}
	buf := spare.Get(c.roomFor(c.n))
	buf = buf[:cap(buf)]
	copy(buf, d.buf[:c.n])
	c.letGo()
	d.buf = buf
}

// letGo gives back a large buffer.
func (c *conn) letGo() {
	if d := c.desk; len(d.buf) > deskBytes {
		spare.Put(d.buf)
		d.buf = d.small
	}
}

func (c *conn) lineLimit() int {
	if c.strange() {
		return strangerLine
	}
	return c.server.opt.Broker.Limits().MaxMessageBytes + lineOverhead
}

// leaveDesk gives the desk back; what is left of a line is kept aside.
func (c *conn) leaveDesk() {
	d := c.desk
	if d == nil {
		return
	}
	switch {
	case c.n == 0:
		c.letGo()
	case c.n < deskBytes:
		c.part = append(make([]byte, 0, c.n), d.buf[:c.n]...)
		c.letGo()
	case c.n <= len(d.buf)/4: // nobody is to hold much memory for little
		c.part = append(spare.Get(2*c.n), d.buf[:c.n]...)
		c.letGo()
	default:
		c.part, d.buf = d.buf[:c.n], d.small
	}
	c.desk = nil
	d.putBack()
}

// lines deals with the whole lines that have been read. It is false where
// the connection cannot go on.
func (c *conn) lines() bool {
	if !c.first.Load() {
		c.first.Store(true)
		if ok := c.begin(); !ok || c.secure.Load() != nil {
			return ok
		}
	}
	d := c.desk
	rest := d.buf[:c.n]
	from := len(rest) - c.got // nothing before it holds a newline
	for {
		if c.dead.Load() {
			return false
		}
		i := bytes.IndexByte(rest[from:], '\n')
		if i < 0 {
			break
		}
		line := rest[:from+i]
		if len(line) > deskBytes {
			c.long = len(line)
		}
		rest, from = rest[from+i+1:], 0
		if c.skip {
			c.skip = false
			continue
		}
		if !c.line(line) {
			return false
		}
	}
	if c.skip {
		rest = nil
	}
	if c.isClassic(&c.glance, rest) {
		return false
	}
	c.n = copy(d.buf, rest)
	if c.n > c.lineLimit() {
		c.tooLong()
		c.skip, c.n, c.modern = true, 0, true
	}
	if c.n == len(d.buf) {
		c.enlarge()
	}
	return true
}

func (c *conn) tooLong() {
	if c.strange() {
		c.session.Refuse(nil, wire.Errorf(wire.CodeLineTooLong, "the line is longer than %d bytes, the limit before a login, and was skipped", c.lineLimit()))
		return
	}
	c.session.Refuse(nil, wire.Errorf(wire.CodeLineTooLong, "the line is longer than %d bytes (max_message_bytes and 64 KiB) and was skipped", c.lineLimit()))
}

// line deals with one line. It is false where the connection ends with it.
func (c *conn) line(line []byte) bool {
	if !c.heard() {
		return false
	}
	if len(line) > c.lineLimit() {
		if c.isClassic(new(glance), line) {
			return false
		}
		c.modern = true
		c.tooLong()
		return true
	}
	if len(bytes.TrimSpace(line)) == 0 {
		c.glance = glance{} // the next one may be the first
		return true
	}
	d := c.desk
	if err := d.dec.Decode(line, &d.req); err != nil {
		if c.isClassic(new(glance), line) {
			return false
		}
		c.modern = true
		c.session.Refuse(d.req.ID, err)
		return true
	}
	c.modern = true
	if d.req.Op == wire.OpHello && (d.req.Set&whoFields != 0 || c.identity() != nil) {
		return c.hello(&d.req)
	}
	c.session.Intake.Handle(&d.req)
	return true
}
