package wire

import "strconv"

// The headers that a message gains when it is moved to a dead-letter queue.
const (
	HeaderDeadQueue    = "gmq-dead-queue"
	HeaderDeadSeq      = "gmq-dead-seq"
	HeaderDeadAttempts = "gmq-dead-attempts"
	HeaderDeadReason   = "gmq-dead-reason"
)

// A Delivery is a message on its way to a consumer.
type Delivery struct {
	Sub         uint64
	Pushed      bool // to the subscription Sub; else part of a reply
	Queue       string
	Seq         uint64
	Attempt     uint32
	Receipt     []byte
	Published   int64 // nanoseconds since 1970
	Redelivered bool
	Headers     []byte // a JSON object as the publisher sent it, or nil
	Key         []byte // unescaped
	Topic       []byte // unescaped
	Base64      bool
	Body        []byte    // a JSON value as the publisher sent it
	Dead        *DeadInfo // where the message died

	// Dropped is how many messages before this one an ephemeral queue had to drop; 0 is left out.
	Dropped uint64

	// State and Until are for queue.peek: where the message stands, and until when (nanoseconds
	// since 1970); "" and 0 are left out.
	State string
	Until int64

	// The time last appended, and its text: messages that came together have the same one.
	time int64
	text [29]byte
}

// DeadInfo is where a message died, and of what.
type DeadInfo struct {
	Queue    string
	Seq      uint64
	Attempts uint32
	Reason   []byte // unescaped
}

// AppendDelivery appends the delivery's object. Nothing that a client chose
// precedes "seq", so that it can be found without parsing.
func AppendDelivery(dst []byte, m *Delivery) []byte {
	if m.Pushed {
		dst = append(dst, `{"op":"message","sub":`...)
		dst = strconv.AppendUint(dst, m.Sub, 10)
		dst = append(dst, `,"queue":`...)
	} else {
		dst = append(dst, `{"queue":`...)
	}
	dst = AppendString(dst, m.Queue)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, m.Seq, 10)
	dst = append(dst, `,"attempt":`...)
	dst = strconv.AppendUint(dst, uint64(m.Attempt), 10)
	if m.State != "" {
		dst = AppendString(append(dst, `,"state":`...), m.State)
	}
	if m.Until != 0 {
		dst = AppendTime(append(dst, `,"until":`...), m.Until)
	}
	if len(m.Receipt) > 0 {
		dst = append(dst, `,"receipt":`...)
		dst = AppendString(dst, m.Receipt)
	}
	dst = append(dst, `,"published":`...)
	if m.Published != m.time || m.text[0] == 0 {
		m.time = m.Published
		copy(m.text[:], AppendTime(m.text[:0], m.Published))
	}
	dst = append(dst, m.text[:]...)
	if m.Redelivered {
		dst = append(dst, `,"redelivered":true`...)
	}
	switch {
	case m.Dead != nil:
		dst = append(dst, `,"headers":`...)
		dst = AppendDeadHeaders(dst, m.Headers, m.Dead)
	case len(m.Headers) > 0:
		dst = append(dst, `,"headers":`...)
		dst = append(dst, m.Headers...)
	}
	if len(m.Key) > 0 {
		dst = append(dst, `,"key":`...)
		dst = AppendString(dst, m.Key)
	}
	if len(m.Topic) > 0 {
		dst = append(dst, `,"topic":`...)
		dst = AppendString(dst, m.Topic)
	}
	if m.Dropped > 0 {
		dst = strconv.AppendUint(append(dst, `,"dropped":`...), m.Dropped, 10)
	}
	if m.Base64 {
		dst = append(dst, `,"encoding":"base64"`...)
	}
	dst = append(dst, `,"body":`...)
	dst = append(dst, m.Body...)
	return append(dst, '}')
}

// AppendDeadHeaders appends headers, an object that a Decoder passed or nil,
// with those of a dead message. Ours take the place of any of their name, for
// a name may stand once only.
func AppendDeadHeaders(dst, headers []byte, dead *DeadInfo) []byte {
	dst = append(dst, '{')
	if len(headers) > 0 {
		dst = appendOthers(dst, headers)
	}
	dst = append(dst, `"`+HeaderDeadQueue+`":`...)
	dst = AppendString(dst, dead.Queue)
	dst = append(dst, `,"`+HeaderDeadSeq+`":"`...)
	dst = strconv.AppendUint(dst, dead.Seq, 10)
	dst = append(dst, `","`+HeaderDeadAttempts+`":"`...)
	dst = strconv.AppendUint(dst, uint64(dead.Attempts), 10)
	dst = append(dst, `","`+HeaderDeadReason+`":`...)
	dst = AppendString(dst, dead.Reason)
	return append(dst, '}')
}

// appendOthers appends the members of headers that are not ours, each with a
// comma behind it.
func appendOthers(dst, headers []byte) []byte {
	i, more := open(headers, 0, '}')
	for more {
		start := i
		end, at, seen := scanName(headers, i)
		if at < 0 {
			return dst
		}
		if i, _ = scanScalar(headers, at); i < 0 {
			return dst
		}
		if !isDeadHeader(headers[start+1:end-1], seen) {
			dst = append(dst, headers[start:end]...)
			dst = append(dst, ':')
			dst = append(dst, headers[at:i]...)
			dst = append(dst, ',')
		}
		i, more = next(headers, i, '}')
	}
	return dst
}

// isDeadHeader reports whether the name, as it was sent, is one of ours.
func isDeadHeader(name []byte, seen uint8) bool {
	var room [maxWord]byte // a longer name is none
	if seen&strEscaped != 0 {
		if len(name) > 6*len(HeaderDeadAttempts) {
			return false
		}
		name, _ = unescape(room[:0], name)
	}
	switch string(name) {
	case HeaderDeadQueue, HeaderDeadSeq, HeaderDeadAttempts, HeaderDeadReason:
		return true
	}
	return false
}
