package gmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gmq/gmq/wire"
)

// An Error is a failure as the server tells it. Two errors of the same code
// are the same to [errors.Is], so the sentinels of this package match whatever
// the message.
type Error struct {
	Code      wire.Code
	Message   string
	Retryable bool     // the same request may succeed later
	Seqs      []uint64 // of lease_lost: the messages that have been delivered again
	Last      *Error   // of unknown_outcome: what the server answered before, and was asked once more; nil: nothing

	cause error // what happened on our side, where something did
}

// The errors of the server that a program may want to tell apart. More codes
// stand in package wire; errors.As with an [*Error] finds them all.
var (
	ErrQueueFull       error = &Error{Code: wire.CodeQueueFull}
	ErrNotFound        error = &Error{Code: wire.CodeNotFound}
	ErrExists          error = &Error{Code: wire.CodeExists}
	ErrTooLarge        error = &Error{Code: wire.CodeMessageTooLarge}
	ErrLeaseLost       error = &Error{Code: wire.CodeLeaseLost}
	ErrPaused          error = &Error{Code: wire.CodePaused}
	ErrNotStored       error = &Error{Code: wire.CodeNotStored}
	ErrOverloaded      error = &Error{Code: wire.CodeOverloaded}
	ErrDiskFull        error = &Error{Code: wire.CodeDiskFull}
	ErrShuttingDown    error = &Error{Code: wire.CodeShuttingDown}
	ErrForbidden       error = &Error{Code: wire.CodeForbidden}
	ErrUnauthenticated error = &Error{Code: wire.CodeUnauthenticated}

	// ErrNoQuorum says that nobody led the queue: the request was certainly not carried out. Of one that may be carried out twice, and was
	// asked again until its context ended, it is what the server said last.
	ErrNoQuorum error = &Error{Code: wire.CodeNoQuorum}
	// ErrUnknownOutcome says that a request may or may not have taken effect:
	// it was sent, and the connection or the caller's patience ended before
	// the reply came, or the node of a cluster that carried it out was lost.
	ErrUnknownOutcome error = &Error{Code: wire.CodeUnknownOutcome}
)

// The errors of the client itself.
var (
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("gmq: client is closed")
	// ErrNotConnected says that a request was not sent, since there was no
	// connection until its context ended.
	ErrNotConnected = errors.New("gmq: not connected")
	// ErrUnsubscribed says that the server ended a subscription.
	ErrUnsubscribed = errors.New("gmq: the server ended the subscription")
)

// Error gives the code and the message.
func (e *Error) Error() string {
	s := "gmq: " + string(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap gives what happened on this side of the connection, if anything did.
func (e *Error) Unwrap() error { return e.cause }

// IsRetryable reports whether the same request may succeed later without
// anybody changing it. A publish with an unknown outcome is retryable in this
// sense, but may then be stored twice.
func IsRetryable(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Retryable
	}
	return errors.Is(err, ErrNotConnected)
}

// fromWire copies the error of a reply, which lives no longer than its line.
func fromWire(f *wire.Frame) *Error {
	e := f.Err
	if e == nil {
		return &Error{Code: wire.CodeInternal, Message: "the reply names no error"}
	}
	return &Error{Code: e.Code, Message: e.Message, Retryable: f.Retryable, Seqs: slices.Clone(e.Seqs)}
}

// unanswered is the fate of a publish whose caller has stopped waiting.
func (cl *call) unanswered(cause error) error {
	err := &Error{Code: wire.CodeUnknownOutcome, Message: "no reply came", Retryable: true, Last: cl.why.Load(), cause: cause}
	if err.Last != nil {
		err.Message += " but " + string(err.Last.Code)
	}
	return err
}

// unknownOutcome is the fate of a request that was sent and not answered.
func unknownOutcome(cause error) error {
	return &Error{
		Code:      wire.CodeUnknownOutcome,
		Message:   "no reply came",
		Retryable: true,
		cause:     cause,
	}
}

// notSent is the fate of a request that waited for a connection in vain.
func notSent(ctx context.Context, last error) error {
	if last == nil {
		return fmt.Errorf("gmq: not sent: %w", ctx.Err())
	}
	return fmt.Errorf("%w (%w): %w", ErrNotConnected, last, ctx.Err())
}
