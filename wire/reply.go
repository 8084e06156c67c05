package wire

import (
	"errors"
	"fmt"
	"time"
)

// An Inbound is a message as a consumer gets it. Its slices are views into the
// line, or copies where the line held escapes.
type Inbound struct {
	Sub         uint64
	Queue       []byte
	Seq         uint64
	Attempt     uint32
	Receipt     []byte
	Published   time.Time
	Redelivered bool
	Headers     []byte // the JSON object as it was sent, or nil
	Key         []byte
	Topic       []byte
	Dropped     uint64
	Base64      bool
	Body        []byte // the JSON value as it was sent
}

// A Frame is one line of the server: the reply to a request, or with Op what
// it says unasked. It holds what a client needs at every message; what single
// replies say besides is to be read from Raw.
type Frame struct {
	ID      []byte // the JSON string or number as it was sent; nil where there is none
	IsReply bool   // there is ok
	OK      bool
	Op      string // message, unsubscribed, closing; "" in a reply

	Err       *Error // where OK is false
	Retryable bool   // what the server says of Err

	Seq       uint64
	Seqs      []uint64
	Stored    string
	Duplicate bool
	Settled   uint64
	Queues    uint64 // where queues is a number: how many took a topic's message
	Sub       uint64
	Messages  []Inbound // of the reply to a receive or a peek
	Message   Inbound   // where Op is message
	Reason    []byte    // of unsubscribed and closing
	Raw       []byte    // the whole line
}

var errNotObject = errors.New("the line is no JSON object")

// DecodeFrame reads a line of the server, without its end, into f, whose
// slices it uses again. What it does not know it passes over, be it a field or
// the type of one: servers may be newer than their clients. The views are
// valid as long as the line's buffer is left alone.
func DecodeFrame(line []byte, f *Frame) error {
	seqs, messages := f.Seqs[:0], kept(f.Messages, keepItems)[:0]
	*f = Frame{}
	f.Seqs, f.Messages, f.Raw = seqs, messages, line
	i := space(line, 0)
	if i >= len(line) || line[i] != '{' {
		return fmt.Errorf("%w: %q", errNotObject, line[:min(len(line), quoteMax)])
	}
	i, more := open(line, i, '}')
	for more {
		end, at, seen := scanName(line, i)
		if at >= 0 {
			at = f.member(line, textOf(line, i, end, seen), at)
		}
		if i = at; i < 0 {
			break
		}
		i, more = next(line, i, '}')
	}
	if i >= 0 {
		if i = space(line, i); i < len(line) {
			i = ^i
		}
	}
	if i < 0 {
		return fmt.Errorf("%w: its syntax is broken at byte %d", errNotObject, ^i)
	}
	switch {
	case f.OK:
		f.Err = nil
	case f.IsReply && f.Err == nil:
		f.Err = &Error{Code: CodeInternal, Message: "the reply tells a failure without an error"}
	}
	return nil
}

// member reads one member of the line, whose value stands at i.
func (f *Frame) member(b []byte, name []byte, i int) int {
	switch string(name) {
	case "id":
		end, _ := scanAny(b, i)
		if end >= 0 && (b[i] == '"' || b[i] == '-' || class[b[i]]&inDigit != 0) {
			f.ID = b[i:end:end]
		}
		return end
	case "ok":
		f.IsReply = true
		return scanBool(b, i, &f.OK)
	case "op":
		var s []byte
		i = scanText(b, i, &s)
		f.Op = known(s)
		return i
	case "error":
		return f.failure(b, i)
	case "seqs":
		return scanUints(b, i, &f.Seqs)
	case "stored":
		var s []byte
		i = scanText(b, i, &s)
		f.Stored = known(s)
		return i
	case "duplicate":
		return scanBool(b, i, &f.Duplicate)
	case "settled":
		return scanUint(b, i, &f.Settled)
	case "queues":
		return scanUint(b, i, &f.Queues)
	case "messages":
		return f.messages(b, i)
	case "reason":
		return scanText(b, i, &f.Reason)
	case "seq":
		i = scanUint(b, i, &f.Seq)
		f.Message.Seq = f.Seq
		return i
	case "sub":
		i = scanUint(b, i, &f.Sub)
		f.Message.Sub = f.Sub
		return i
	}
	return f.Message.member(b, name, i)
}

// member reads one member of a delivery.
func (m *Inbound) member(b []byte, name []byte, i int) int {
	switch string(name) {
	case "queue":
		return scanText(b, i, &m.Queue)
	case "seq":
		return scanUint(b, i, &m.Seq)
	case "sub":
		return scanUint(b, i, &m.Sub)
	case "attempt":
		var n uint64
		i = scanUint(b, i, &n)
		m.Attempt = uint32(min(n, 1<<32-1))
		return i
	case "receipt":
		return scanText(b, i, &m.Receipt)
	case "published":
		var s []byte
		i = scanText(b, i, &s)
		if s == nil || m.Published.UnmarshalText(s) != nil {
			m.Published = time.Time{}
		}
		return i
	case "redelivered":
		return scanBool(b, i, &m.Redelivered)
	case "headers":
		end, _ := scanAny(b, i)
		if end >= 0 && b[i] == '{' {
			m.Headers = b[i:end:end]
		}
		return end
	case "key":
		return scanText(b, i, &m.Key)
	case "topic":
		return scanText(b, i, &m.Topic)
	case "dropped":
		return scanUint(b, i, &m.Dropped)
	case "encoding":
		var s []byte
		i = scanText(b, i, &s)
		m.Base64 = string(s) == "base64"
		return i
	case "body":
		end, _ := scanAny(b, i)
		if end >= 0 {
			m.Body = b[i:end:end]
		}
		return end
	}
	end, _ := scanAny(b, i)
	return end
}

// messages reads an array of deliveries.
func (f *Frame) messages(b []byte, i int) int {
	if b[i] != '[' {
		end, _ := scanAny(b, i)
		return end
	}
	i, more := open(b, i, ']')
	for more {
		if i >= len(b) {
			return ^i
		}
		f.Messages = append(f.Messages, Inbound{})
		m := &f.Messages[len(f.Messages)-1]
		if i = eachMember(b, i, m.member); i < 0 {
			return i
		}
		i, more = next(b, i, ']')
	}
	return i
}

// failure reads the object of error.
func (f *Frame) failure(b []byte, i int) int {
	e := &Error{}
	i = eachMember(b, i, func(b, name []byte, i int) int {
		var s []byte
		switch string(name) {
		case "code":
			i = scanText(b, i, &s)
			e.Code = Code(s)
		case "message":
			i = scanText(b, i, &s)
			e.Message = string(s)
		case "retryable":
			i = scanBool(b, i, &f.Retryable)
		case "seqs":
			i = scanUints(b, i, &e.Seqs)
		default:
			i, _ = scanAny(b, i)
		}
		return i
	})
	f.Err = e
	return i
}

// eachMember calls member for each of the object at i, and steps over what is
// no object.
func eachMember(b []byte, i int, member func(b, name []byte, i int) int) int {
	if b[i] != '{' {
		end, _ := scanAny(b, i)
		return end
	}
	i, more := open(b, i, '}')
	for more {
		end, at, seen := scanName(b, i)
		if at < 0 {
			return at
		}
		if i = member(b, textOf(b, i, end, seen), at); i < 0 {
			return i
		}
		i, more = next(b, i, '}')
	}
	return i
}

// textOf gives the text of the string at i, which was scanned to end.
func textOf(b []byte, i, end int, seen uint8) []byte {
	if end <= i {
		return nil
	}
	s := b[i+1 : end-1 : end-1]
	if seen&strEscaped != 0 {
		s, _ = unescape(make([]byte, 0, len(s)), s)
	}
	return s
}

func scanAny(b []byte, i int) (int, uint8) {
	end, _, seen := scanValue(b, i)
	return end, seen
}

// scanText and the next ones read a value of their type and leave dst alone
// where it is another.
func scanText(b []byte, i int, dst *[]byte) int {
	if b[i] != '"' {
		end, _ := scanAny(b, i)
		return end
	}
	end, seen := scanString(b, i)
	if end >= 0 {
		*dst = textOf(b, i, end, seen)
	}
	return end
}

func scanBool(b []byte, i int, dst *bool) int {
	end, _ := scanAny(b, i)
	if end >= 0 && (b[i] == 't' || b[i] == 'f') {
		*dst = b[i] == 't'
	}
	return end
}

func scanUint(b []byte, i int, dst *uint64) int {
	if n, end := quickInteger(b, i); end > 0 {
		*dst = n
		return end
	}
	end, _ := scanAny(b, i)
	if end >= 0 {
		if n, ok := parseInteger(b[i:end]); ok {
			*dst = n
		}
	}
	return end
}

func scanUints(b []byte, i int, dst *[]uint64) int {
	if b[i] != '[' {
		end, _ := scanAny(b, i)
		return end
	}
	i, more := open(b, i, ']')
	for more {
		if i >= len(b) {
			return ^i
		}
		var n uint64
		if i = scanUint(b, i, &n); i < 0 {
			return i
		}
		*dst = append(*dst, n)
		i, more = next(b, i, ']')
	}
	return i
}

// known gives the words that come with every line without allocating them.
func known(s []byte) string {
	if string(s) == "message" {
		return "message"
	}
	for _, w := range levels {
		if string(s) == w {
			return w
		}
	}
	return string(s)
}
