// Package audit writes down who did what, from where, and with which result: logins, what was refused, and what was
// changed. It never sees a body or a secret.
//
// It knows a logger and a clock. What is worth writing down is decided by those who call it.
package audit

import (
	"log/slog"
	"sync"
	"time"

	"github.com/gmq/gmq/wire"
)

// Those who are refused can make records as fast as they like, so there are so many of theirs a second at most, and as many
// at once; what is left out is counted, and told. What was allowed has no part in that.
const (
	perSecond = 50
	atOnce    = 500
)

// A Log is a stream of records. Its methods may be called from any goroutine.
type Log struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex // guards the following
	room    float64
	at      time.Time
	skipped int
}

// New makes a log that writes to logger.
func New(logger *slog.Logger, now func() time.Time) *Log {
	return &Log{log: logger, now: now, room: atOnce, at: now()}
}

// Note writes down an operation on a name. err is why it was refused, or nil.
func (l *Log) Note(who, from string, op wire.Op, name string, err *wire.Error) {
	l.Record(who, from, op.String(), name, err)
}

// Record is Note for what is no operation of the protocol.
func (l *Log) Record(who, from, what, name string, err *wire.Error) {
	ok, skipped := l.take(err == nil)
	if skipped > 0 {
		l.log.Warn("audit records were left out: there were too many at once", "audit", true, "left_out", skipped)
	}
	if !ok {
		return
	}
	attrs := []any{"audit", true, "op", what, "user", who, "from", from}
	if name != "" {
		attrs = append(attrs, "name", name)
	}
	if err == nil {
		l.log.Info("audit", append(attrs, "result", "allowed")...)
		return
	}
	l.log.Warn("audit", append(attrs, "result", string(err.Code))...)
}

// take says whether there is room for a record, and how many had none since the last one. What was allowed always has.
func (l *Log) take(always bool) (ok bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.room = min(atOnce, l.room+perSecond*max(now.Sub(l.at).Seconds(), 0))
	l.at = now
	if l.room < 1 && !always {
		l.skipped++
		return false, 0
	}
	if l.room >= 1 {
		skipped, l.skipped = l.skipped, 0
	}
	if !always {
		l.room--
	}
	return true, skipped
}
