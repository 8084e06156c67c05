package server

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"syscall"
)

// recordBytes is the most that one TLS record carries (RFC 8446, 5.1).
const recordBytes = 16 << 10

// headerBytes is the size of a record's header; its last two bytes say how much follows.
const headerBytes = 5

// alertRecord is the type of a record that holds an alert (RFC 8446, 5.1).
const alertRecord = 21

// cipherBytes is the size of the buffer into which encrypted bytes are read.
const cipherBytes = 64 << 10

// helloBytes is what is read at a time while the handshake lasts.
const helloBytes = 4 << 10

// Both are held only while there is something in them.
var (
	ciphers = sync.Pool{New: func() any { return new([cipherBytes]byte) }}
	records = sync.Pool{New: func() any { return new([recordBytes]byte) }}
)

// A secure is the TLS of a connection.
type secure struct {
	tls    *tls.Conn
	socket socket
	raw    syscall.RawConn // nil where the connection is no socket

	// The following belong to the reader.
	over    bool   // TLS may have more of the record that was read last
	late    error  // what followed the bytes that were read
	ended   error  // of the socket
	idle    func() // lets go of what is not needed while nothing comes
	pending func(fd uintptr) bool
}

func newSecure(nc net.Conn, raw syscall.RawConn, hello []byte, idle func()) *secure {
	s := &secure{raw: raw, idle: idle, socket: socket{Conn: nc, buf: hello, w: len(hello), budget: handshakeBytes - len(hello)}}
	s.pending = s.tryRead
	return s
}

// send writes buffers in as few records as they fit in: a record costs more than its bytes.
func (s *secure) send(bufs [][]byte) error {
	if len(bufs) == 1 {
		_, err := s.tls.Write(bufs[0])
		return err
	}
	p := records.Get().(*[recordBytes]byte)
	defer records.Put(p)
	n := 0
	for _, b := range bufs {
		for len(b) > 0 {
			if whole := len(b) - len(b)%recordBytes; n == 0 && whole > 0 {
				if _, err := s.tls.Write(b[:whole]); err != nil {
					return err
				}
				b = b[whole:]
				continue
			}
			took := copy(p[n:], b)
			b, n = b[took:], n+took
			if n == recordBytes {
				if _, err := s.tls.Write(p[:]); err != nil {
					return err
				}
				n = 0
			}
		}
	}
	if n == 0 {
		return nil
	}
	_, err := s.tls.Write(p[:n])
	return err
}

// fillSecure is fill for a TLS connection. It holds a desk only while a whole record is there, and
// then takes all records that are.
func (c *conn) fillSecure(s *secure) error {
	for {
		if s.late != nil {
			return s.late
		}
		if s.over || s.socket.whole() {
			c.takeDesk()
			if c.got = s.decrypt(c.room()); c.got > 0 {
				c.n += c.got
				c.expect()
				return nil
			}
			continue
		}
		if err := s.await(); err != nil {
			return err
		}
	}
}

// decrypt fills b from the records that are there, and gives how much it took.
func (s *secure) decrypt(b []byte) (n int) {
	s.over = true
	for s.over || s.socket.whole() {
		if n == len(b) {
			return n
		}
		got, err := s.tls.Read(b[n:])
		n += got
		s.over = n == len(b)
		if err == errNoRecord {
			s.over = false
			break
		}
		if err != nil {
			s.late, s.over = err, false
			break
		}
	}
	s.socket.release()
	return n
}

// await waits for a whole record. While there is nothing, no buffer is held.
func (s *secure) await() error {
	k := &s.socket
	for !k.whole() {
		if s.raw == nil {
			k.roomy()
			n, err := k.Conn.Read(k.buf[k.w:])
			k.w += n
			if n == 0 {
				return orEOF(err)
			}
			continue
		}
		if err := s.raw.Read(s.pending); err != nil {
			return err
		}
		if s.ended != nil {
			return s.ended
		}
	}
	return nil
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// tryRead is called when the socket may have something; false waits for more.
func (s *secure) tryRead(fd uintptr) bool {
	k := &s.socket
	k.roomy()
	for {
		n, err := syscall.Read(int(fd), k.buf[k.w:])
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			k.putAside()
			s.idle()
			return false
		}
		if n <= 0 {
			s.ended = orEOF(err)
			return true
		}
		k.w += n
		return true
	}
}

// A socket is what crypto/tls takes for the network. It hands out what has been read, at most to the end of a record,
// so that it is always known whether TLS can go on without waiting.
type socket struct {
	net.Conn
	ready bool // the handshake is done: Read never waits
	buf   []byte
	whose *[cipherBytes]byte // buf, where it is of the pool
	r, w  int                // what is in buf and was not handed out
	left  int                // of the record that was begun to be handed out

	budget int // what the handshake may still bring

	// The alert that the client sent in clear, 0 if none. Where it does so in the middle of a TLS 1.3 handshake, as
	// OpenSSL does, crypto/tls can only say that what came was not encrypted.
	alert    byte
	alerting bool // it is being handed out
}

// open ends the handshake.
func (k *socket) open() {
	k.ready = true
	k.release()
}

// Read implements net.Conn for crypto/tls. Only the reader calls it.
func (k *socket) Read(b []byte) (int, error) {
	for k.left == 0 {
		if k.w-k.r >= headerBytes {
			k.left = headerBytes + int(binary.BigEndian.Uint16(k.buf[k.r+3:]))
			k.alerting = !k.ready && k.buf[k.r] == alertRecord && k.left == headerBytes+2
		} else if err := k.refill(); err != nil {
			return 0, err
		}
	}
	if k.r == k.w {
		if err := k.refill(); err != nil {
			return 0, err
		}
	}
	n := copy(b[:min(len(b), k.left)], k.buf[k.r:k.w])
	k.r, k.left = k.r+n, k.left-n
	if k.alerting && k.left == 0 {
		k.alert = b[n-1]
	}
	return n, nil
}

// refill reads more of the handshake. Afterwards there is nothing to be waited for here.
func (k *socket) refill() error {
	if k.ready {
		return errNoRecord
	}
	if k.budget <= 0 {
		return errHandshakeTooLong
	}
	rest := k.buf[k.r:k.w]
	buf := make([]byte, len(rest)+helloBytes)
	copy(buf, rest)
	k.buf, k.r, k.w = buf, 0, len(rest)
	n, err := k.Conn.Read(buf[k.w:])
	k.w += n
	k.budget -= n
	if n == 0 {
		return orEOF(err)
	}
	return nil
}

// whole reports whether a record is there with all its bytes, or one that TLS will refuse for its length.
func (k *socket) whole() bool {
	have := k.w - k.r
	if k.left > 0 {
		return have >= k.left
	}
	if have < headerBytes {
		return false
	}
	n := int(binary.BigEndian.Uint16(k.buf[k.r+3:]))
	return n > recordBytes+2048 || have >= headerBytes+n
}

// roomy makes room for more than what is there; a whole record fits always.
func (k *socket) roomy() {
	if k.whose == nil {
		k.whose = ciphers.Get().(*[cipherBytes]byte)
		k.w = copy(k.whose[:], k.buf[k.r:k.w])
		k.buf, k.r = k.whose[:], 0
		return
	}
	if k.r > 0 {
		k.w = copy(k.buf, k.buf[k.r:k.w])
		k.r = 0
	}
}

// putAside gives the buffer back; what is left of a record is kept in one of its size.
func (k *socket) putAside() {
	if k.whose == nil {
		return
	}
	var kept []byte
	if k.w > k.r {
		kept = append(kept, k.buf[k.r:k.w]...)
	}
	ciphers.Put(k.whose)
	k.whose, k.buf, k.r, k.w = nil, kept, 0, len(kept)
}

// release lets go of a buffer with nothing in it.
func (k *socket) release() {
	if k.r < k.w {
		return
	}
	k.putAside()
	k.buf, k.r, k.w = nil, 0, 0
}

// A tlsPause is an error of the socket that TLS may read on after: by what crypto/tls holds, a net.Error that is temporary.
type tlsPause struct{}

func (tlsPause) Error() string   { return "no whole TLS record has come yet" }
func (tlsPause) Timeout() bool   { return true }
func (tlsPause) Temporary() bool { return true }

var errNoRecord error = tlsPause{}

type tooLong struct{}

func (tooLong) Error() string { return "the client's part of the handshake is too long" }

var errHandshakeTooLong error = tooLong{}
