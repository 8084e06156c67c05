package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// How TLS connections begin, or do not. The names are those of the metric's label.
const (
	handshakeDone    = iota
	handshakeTimeout // not finished in time
	handshakeBroken  // gone in the middle, or no common version or cipher
	clientRefused    // by us: its certificate
	serverRefused    // by the client: our certificate
	plainRefused     // no TLS where it is required
	handshakeKinds
)

var handshakeNames = [handshakeKinds]string{"ok", "timeout", "failed", "client_certificate_refused", "server_certificate_refused", "plain_refused"}

// Handshakes is how many there were, by how they ended.
func (s *Server) Handshakes() map[string]uint64 {
	all := make(map[string]uint64, handshakeKinds)
	for i := range s.handshakes {
		all[handshakeNames[i]] = s.handshakes[i].Load()
	}
	return all
}

// handshakeFailed counts and logs a connection that TLS has kept out.
func (s *Server) handshakeFailed(c *conn, kind int, err error) {
	s.handshakes[kind].Add(1)
	if ok, left := s.refusals.take(time.Now()); ok {
		args := []any{"client", c.nc.RemoteAddr().String(), "err", err}
		if left > 0 {
			args = append(args, "others_not_logged", left)
		}
		s.opt.Log.Warn("a TLS connection was refused", args...)
	}
}

// explainHandshake says in words for people why a handshake failed; alert is what the client sent in clear, or 0.
func explainHandshake(err error, alert byte) (kind int, _ error) {
	header, isHeader := errors.AsType[tls.RecordHeaderError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	text, said := printable(err.Error()), ""
	switch {
	case alert != 0:
		said = tls.AlertError(alert).Error()
	case isOp && op.Op == "remote error": // crypto/tls has no better sign of an alert that was received
		said = op.Err.Error()
	}
	switch {
	case strings.Contains(said, "certificate"):
		return serverRefused, fmt.Errorf("the client does not accept this server's certificate: %s", said)
	case said != "":
		return handshakeBroken, fmt.Errorf("the client ended the handshake: %s", said)
	case errors.Is(err, os.ErrDeadlineExceeded): // of the connection: it was to end, or to have said who it is
		return handshakeTimeout, errors.New("its time was over before the handshake was finished")
	case isHeader:
		return handshakeBroken, fmt.Errorf("what began like TLS is none: %s", printable(header.Msg))
	case strings.Contains(text, "unsupported versions"):
		return handshakeBroken, errors.New("the client speaks no version of TLS that is taken here; see tls.min_version")
	case errors.Is(err, io.EOF):
		return handshakeBroken, errors.New("the client went away in the middle of the handshake")
	}
	return handshakeBroken, fmt.Errorf("the handshake failed: %s", text)
}

// refusalsLogged is how many refused connections are logged in a refusalsEvery; a flood of them must not fill the disk.
const (
	refusalsLogged = 10
	refusalsEvery  = 10 * time.Second
)

// A refusalLog bounds what is logged of refused connections.
type refusalLog struct {
	mu    sync.Mutex // guards the following; nothing else is locked under it
	since time.Time
	n     int // logged since then
	left  int // not logged, and not told yet
}

// take reports whether the next one is to be logged, and how many before it were not.
func (l *refusalLog) take(now time.Time) (ok bool, left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= refusalsEvery {
		l.since, l.n = now, 0
	}
	if l.n++; l.n > refusalsLogged {
		l.left++
		return false, 0
	}
	left, l.left = l.left, 0
	return true, left
}
