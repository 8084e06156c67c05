package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Code is an error code of the protocol. The list is closed: clients may
// switch on it.
type Code string

// The codes.
const (
	CodeBadJSON            Code = "bad_json"
	CodeBadRequest         Code = "bad_request"
	CodeUnknownOp          Code = "unknown_op"
	CodeLineTooLong        Code = "line_too_long"
	CodeUnauthenticated    Code = "unauthenticated"
	CodeForbidden          Code = "forbidden"
	CodeNotFound           Code = "not_found"
	CodeExists             Code = "exists"
	CodeTooManyQueues      Code = "too_many_queues"
	CodeTooManyConnections Code = "too_many_connections"
	CodeMessageTooLarge    Code = "message_too_large"
	CodeQueueFull          Code = "queue_full"
	CodeLeaseLost          Code = "lease_lost"
	CodePaused             Code = "paused"
	CodeNotStored          Code = "not_stored"
	CodeNoQuorum           Code = "no_quorum"
	CodeUnknownOutcome     Code = "unknown_outcome"
	CodeDiskFull           Code = "disk_full"
	CodeOverloaded         Code = "overloaded"
	CodeRateLimited        Code = "rate_limited"
	CodeShuttingDown       Code = "shutting_down"
	CodeInternal           Code = "internal"
)

// Retryable reports whether the same request may succeed later although
// nobody changes it, its rights or the configuration.
func (c Code) Retryable() bool {
	switch c {
	case CodeQueueFull, CodePaused, CodeNoQuorum, CodeDiskFull, CodeOverloaded,
		CodeRateLimited, CodeShuttingDown, CodeTooManyConnections, CodeUnknownOutcome:
		return true
	}
	return false
}

// An Error is a failure as the protocol tells it.
type Error struct {
	Code    Code
	Message string
	Seqs    []uint64 // of lease_lost: the stale ones
}

// Error gives the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// quoteMax is how many bytes of a text from outside a message repeats.
const quoteMax = 64

// Errorf makes an Error. Arguments that are strings or bytes are taken for
// text from outside: they are cut to 64 bytes, so that no message grows with
// what was sent. The message is always valid UTF-8.
func Errorf(code Code, format string, args ...any) *Error {
	short := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			short[i] = cut(v)
		case []byte:
			short[i] = cut(string(v[:min(len(v), quoteMax+utf8.UTFMax)]))
		default:
			short[i] = a
		}
	}
	return &Error{Code: code, Message: strings.ToValidUTF8(fmt.Sprintf(format, short...), "\uFFFD")}
}

// cut shortens s to quoteMax bytes at a border between runes.
func cut(s string) string {
	if len(s) <= quoteMax {
		return s
	}
	n := quoteMax
	for n > quoteMax-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
