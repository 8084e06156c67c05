package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// The kinds of records. They are a file format: a number, once given, keeps its meaning.
const (
	kindNoop     = 0 // a publish that was refused after it had been written down
	kindCreate   = 1
	kindUpdate   = 2
	kindDelete   = 3
	kindPurge    = 4
	kindPause    = 5
	kindPublish  = 6
	kindSettle   = 7
	kindReturn   = 8
	kindRelocate = 9 // a message's own bytes once more, so that an old segment can go
	kindShield   = 10
	kindExpire   = 11
	kindCancel   = 12
	kindMoveTo   = 13 // a message becomes due at another time
	kindRedrive  = 14
	kindBind     = 15
	kindUnbind   = 16
	kindBody     = 17 // a message published to a topic: what its copies refer to
	kindCopy     = 18 // a message in one queue whose bytes are those of a kindBody before it

	kindRebase = 19 // as kindRelocate for a kindCopy: the kindBody lies before it once more

	kindDocument = 20

	lastKind = kindDocument
)

// Every record begins with these 16 bytes:
//
//	0      1       2                    4           8
//	+------+-------+--------------------+-----------+-----------+
//	| kind | flags | options length u16 | queue u32 | at i64 ns |
//	+------+-------+--------------------+-----------+-----------+
const headBytes = 16

// Flags of kindPublish, kindRelocate, kindBody and kindCopy.
const (
	flagBase64  = 1 << 0
	flagHeaders = 1 << 1
	flagMore    = 1 << 2 // the next record belongs to the same all-or-none publish
)

// Flags of kindReturn, kindPause.
const (
	flagUncounted = 1 << 0 // the attempt does not count
	flagDead      = 1 << 1 // straight to the dead-letter queue
	flagOn        = 1 << 0
)

func appendHead(dst []byte, kind, flags byte, queue uint32, at int64) []byte {
	dst = append(dst, kind, flags, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, queue)
	return binary.LittleEndian.AppendUint64(dst, uint64(at))
}

// A Publish is a message to be published, and what is asked of it.
type Publish struct {
	Headers, Body []byte // Headers: a JSON object, or empty
	Base64        bool
	Priority      uint8         // 0 to 9, DefaultPriority where nothing is asked
	Delay         time.Duration // 0: none
	At            int64         // due at, unix ns; 0: at once, or after Delay
	TTL           time.Duration // 0: the queue's
	DedupID       []byte        // nil: none
	Key           []byte        // nil: none
	Topic         []byte        // what the message was published to; nil: its queue
	Whole         bool          // though to a topic, it goes to one queue only
	More          bool          // the next record belongs to the same batch, which is stored all or none
}

// DefaultPriority is that of a message of which nothing is said; 9 goes first.
const DefaultPriority = 4

// The options of a message, each a tag and a value, in the order of their tags.
const (
	optionPriority = 1 // u8
	optionDelay    = 2 // uvarint, ns
	optionAt       = 3 // varint, unix ns
	optionTTL      = 4 // uvarint, ns
	optionDedupID  = 5 // string
	optionKey      = 6 // string
	optionTopic    = 7 // string
)

// AppendPublish appends a message to be published; Address gives it its queue
// and time later. One to a topic is in no queue until AppendCopy puts it there.
//
//	head | options | [headers length u32 | headers] | body to the end
func AppendPublish(dst []byte, p *Publish) []byte {
	var flags byte
	if p.Base64 {
		flags |= flagBase64
	}
	if p.More {
		flags |= flagMore
	}
	if len(p.Headers) > 0 {
		flags |= flagHeaders
	}
	kind := byte(kindPublish)
	if p.Topic != nil && !p.Whole {
		kind = kindBody
	}
	start := len(dst)
	dst = appendHead(dst, kind, flags, 0, 0)
	dst = appendOptions(dst, p)
	binary.LittleEndian.PutUint16(dst[start+2:], uint16(len(dst)-start-headBytes))
	if len(p.Headers) > 0 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p.Headers)))
		dst = append(dst, p.Headers...)
	}
	return append(dst, p.Body...)
}

func appendOptions(dst []byte, p *Publish) []byte {
	if p.Priority != DefaultPriority {
		dst = append(dst, optionPriority, p.Priority)
	}
	if p.Delay > 0 {
		dst = binary.AppendUvarint(append(dst, optionDelay), uint64(p.Delay))
	}
	if p.At != 0 {
		dst = binary.AppendVarint(append(dst, optionAt), p.At)
	}
	if p.TTL > 0 {
		dst = binary.AppendUvarint(append(dst, optionTTL), uint64(p.TTL))
	}
	if len(p.DedupID) > 0 {
		dst = binary.AppendUvarint(append(dst, optionDedupID), uint64(len(p.DedupID)))
		dst = append(dst, p.DedupID...)
	}
	if len(p.Key) > 0 {
		dst = binary.AppendUvarint(append(dst, optionKey), uint64(len(p.Key)))
		dst = append(dst, p.Key...)
	}
	if len(p.Topic) > 0 {
		dst = binary.AppendUvarint(append(dst, optionTopic), uint64(len(p.Topic)))
		dst = append(dst, p.Topic...)
	}
	return dst
}

// options are what a publish record asks for, its times made absolute.
type options struct {
	priority uint8
	due      int64 // 0: at once
	expires  int64 // 0: when the queue's ttl says
	dedup    []byte
	key      []byte
	topic    []byte
}

func parseOptions(b []byte, at int64) (o options, err error) {
	o.priority = DefaultPriority
	r := reader{b: b}
	for len(r.b) > 0 {
		switch tag := r.byte(); tag {
		case optionPriority:
			if o.priority = r.byte(); o.priority > 9 {
				r.fail(errOption)
			}
		case optionDelay:
			o.due = later(at, r.uvarint())
		case optionAt:
			o.due = r.varint()
		case optionTTL:
			o.expires = later(at, r.uvarint())
		case optionDedupID:
			o.dedup = r.bytes(int(min(r.uvarint(), 1<<16)))
		case optionKey:
			o.key = r.bytes(int(min(r.uvarint(), 1<<16)))
		case optionTopic:
			o.topic = r.bytes(int(min(r.uvarint(), 1<<16)))
		default:
			r.fail(errOption)
		}
	}
	return o, r.err
}

var errOption = errors.New("record asks for what this version does not know")

// later is at and ns, at most the end of time.
func later(at int64, ns uint64) int64 {
	if ns > math.MaxInt64/2 {
		ns = math.MaxInt64 / 2
	}
	return min(max(at, 0), math.MaxInt64/2) + int64(ns)
}

// Address writes the queue and the time into a record made by AppendPublish.
func Address(record []byte, queue uint32, at int64) {
	binary.LittleEndian.PutUint32(record[4:], queue)
	binary.LittleEndian.PutUint64(record[8:], uint64(at))
}

// Void turns a record made by AppendPublish into one that does nothing.
func Void(record []byte) { record[0], record[1] = kindNoop, 0 }

// An Envelope is what the record of a message holds for its consumer. Its
// slices are views into the record.
type Envelope struct {
	Published int64 // unix, ns
	options   []byte
	Headers   []byte
	Base64    bool
	Body      []byte
}

// Names are the message's key and the topic that it was published to, nil where there is none.
func (e *Envelope) Names() (key, topic []byte) {
	if len(e.options) == 0 {
		return nil, nil
	}
	o, _ := parseOptions(e.options, 0) // Apply has read them before
	return o.key, o.topic
}

// ParseEnvelope reads the record of a message.
func ParseEnvelope(record []byte) (e Envelope, err error) {
	if len(record) < headBytes || record[0] != kindPublish && record[0] != kindRelocate && record[0] != kindBody {
		return e, errors.New("record holds no message")
	}
	e.Published = int64(binary.LittleEndian.Uint64(record[8:]))
	flags, rest := record[1], record[headBytes:]
	e.Base64 = flags&flagBase64 != 0
	if record[0] == kindRelocate {
		if len(rest) < 8 {
			return e, errShort
		}
		rest = rest[8:]
	}
	n := int(binary.LittleEndian.Uint16(record[2:]))
	if n > len(rest) {
		return e, errShort
	}
	e.options, rest = rest[:n], rest[n:]
	if flags&flagHeaders != 0 {
		if len(rest) < 4 || uint64(binary.LittleEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return e, errShort
		}
		n := binary.LittleEndian.Uint32(rest)
		e.Headers, rest = rest[4:4+n], rest[4+n:]
	}
	e.Body = rest
	return e, nil
}

// AppendRelocate appends the message seq of queue anew, from its record.
//
//	head | seq u64 | as kindPublish behind its head
func AppendRelocate(dst []byte, queue uint32, seq uint64, record []byte) ([]byte, error) {
	e, err := ParseEnvelope(record)
	if err != nil {
		return dst, err
	}
	flags := record[1] &^ (flagMore | flagHeaders)
	if len(e.Headers) > 0 {
		flags |= flagHeaders
	}
	start := len(dst)
	dst = appendHead(dst, kindRelocate, flags, queue, e.Published)
	binary.LittleEndian.PutUint16(dst[start+2:], uint16(len(e.options)))
	dst = append(binary.LittleEndian.AppendUint64(dst, seq), e.options...)
	if len(e.Headers) > 0 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Headers)))
		dst = append(dst, e.Headers...)
	}
	return append(dst, e.Body...), nil
}

// AppendNoop appends a record that does nothing: when it is kept, so is what was proposed before it.
func AppendNoop(dst []byte) []byte { return appendHead(dst, kindNoop, 0, 0, 0) }

// AppendCreate appends the making of a queue. id must come from NewID.
func AppendCreate(dst []byte, id uint32, at int64, name string, s *Settings) []byte {
	dst = appendHead(dst, kindCreate, 0, id, at)
	return appendSettings(appendString(dst, name), s)
}

// A Source is a message that was published to a topic, as its copies need it.
type Source struct {
	options []byte // without the topic
	body    int
	size    int // of the record with its header in the journal
}

// ParseSource reads a record made by AppendPublish for a topic; size is its length with its header in the journal. The
// result holds a view into the record.
func ParseSource(record []byte, size int) (Source, error) {
	e, err := ParseEnvelope(record)
	if err != nil {
		return Source{}, err
	}
	s := Source{options: e.options, body: len(e.Body), size: size}
	if _, topic := e.Names(); len(topic) > 0 { // the last of the options
		var length [binary.MaxVarintLen64]byte
		s.options = s.options[:len(s.options)-len(topic)-binary.PutUvarint(length[:], uint64(len(topic)))-1]
	}
	return s, nil
}

// BodyBytes is the length of the message's body.
func (s *Source) BodyBytes() int { return s.body }

// AppendCopy appends that the message is in a queue as well: one of copies that share its bytes in this journal. The copy's
// record is to begin back bytes behind that of the message. With more, the next record is of the same queue and belongs to the same batch.
//
//	head | options | back | size | body length | log2 of copies (varints)
func AppendCopy(dst []byte, queue uint32, at int64, s *Source, back, copies int, more bool) []byte {
	var flags byte
	if more {
		flags = flagMore
	}
	start := len(dst)
	dst = append(appendHead(dst, kindCopy, flags, queue, at), s.options...)
	binary.LittleEndian.PutUint16(dst[start+2:], uint16(len(s.options)))
	dst = binary.AppendUvarint(dst, uint64(back))
	dst = binary.AppendUvarint(dst, uint64(s.size))
	dst = binary.AppendUvarint(dst, uint64(s.body))
	return binary.AppendUvarint(dst, copyShares(copies))
}

// copyShares is the power of two that is nearest to how many copies there are.
func copyShares(copies int) uint64 {
	n := uint(max(copies, 1))
	shares := bits.Len(n) - 1
	if n > 3<<shares/2 {
		shares++
	}
	return uint64(min(shares, maxShares))
}

// AppendRebase appends that the message seq of queue, a copy, refers to another record with the same bytes, of that size
// with its header: the one that begins back bytes before this one.
//
//	head | seq | back | size | log2 of copies (varints)
func AppendRebase(dst []byte, queue uint32, at int64, seq uint64, back, size, copies int) []byte {
	dst = binary.AppendUvarint(appendHead(dst, kindRebase, 0, queue, at), seq)
	dst = binary.AppendUvarint(dst, uint64(back))
	dst = binary.AppendUvarint(dst, uint64(size))
	return binary.AppendUvarint(dst, copyShares(copies))
}

// AppendBind appends that a queue is to have what is published to the topics that match a pattern, or (off) no longer.
func AppendBind(dst []byte, id uint32, at int64, pattern string, off bool) []byte {
	kind := byte(kindBind)
	if off {
		kind = kindUnbind
	}
	return appendString(appendHead(dst, kind, 0, id, at), pattern)
}

// AppendUpdate appends the change of a queue's settings.
func AppendUpdate(dst []byte, id uint32, at int64, s *Settings) []byte {
	return appendSettings(appendHead(dst, kindUpdate, 0, id, at), s)
}

// AppendDelete appends the end of a queue and of all its messages.
func AppendDelete(dst []byte, id uint32, at int64) []byte {
	return appendHead(dst, kindDelete, 0, id, at)
}

// AppendPause appends a queue's ceasing (on) or resuming to deliver.
func AppendPause(dst []byte, id uint32, at int64, on bool) []byte {
	var flags byte
	if on {
		flags = flagOn
	}
	return appendHead(dst, kindPause, flags, id, at)
}

// AppendSettle appends the settling of messages.
//
//	head | count | seq … (all varints)
func AppendSettle(dst []byte, id uint32, at int64, seqs []uint64) []byte {
	dst = appendHead(dst, kindSettle, 0, id, at)
	dst = binary.AppendUvarint(dst, uint64(len(seqs)))
	for _, s := range seqs {
		dst = binary.AppendUvarint(dst, s)
	}
	return dst
}

// AppendExpire appends the end of messages whose time is over.
func AppendExpire(dst []byte, id uint32, at int64, seqs []uint64) []byte {
	n := len(dst)
	dst = AppendSettle(dst, id, at, seqs)
	dst[n] = kindExpire
	return dst
}

// AppendCancel appends the end of a message that its publisher no longer wants delivered.
func AppendCancel(dst []byte, id uint32, at int64, seq uint64) []byte {
	return binary.AppendUvarint(appendHead(dst, kindCancel, 0, id, at), seq)
}

// AppendMoveTo appends that a message is to be due at another time, unix ns.
//
//	head | seq | due (varints)
func AppendMoveTo(dst []byte, id uint32, at int64, seq uint64, due int64) []byte {
	dst = binary.AppendUvarint(appendHead(dst, kindMoveTo, 0, id, at), seq)
	return binary.AppendVarint(dst, due)
}

// A Return is a message's way back into its queue.
type Return struct {
	Seq    uint64
	Due    int64  // ready again at, unix ns; 0: at once
	Number uint32 // of the delivery that ends: a second end of it counts for nothing; 0: of any
}

// AppendReturn appends messages' way back. Whatever ends a delivery without an ack comes through here.
//
//	head | reason | count | (seq, due, number) … (all varints)
func AppendReturn(dst []byte, id uint32, at int64, rs []Return, reason string, counted, dead bool) []byte {
	var flags byte
	if !counted {
		flags |= flagUncounted
	}
	if dead {
		flags |= flagDead
	}
	dst = appendString(appendHead(dst, kindReturn, flags, id, at), reason)
	dst = binary.AppendUvarint(dst, uint64(len(rs)))
	for _, r := range rs {
		dst = binary.AppendUvarint(dst, r.Seq)
		dst = binary.AppendVarint(dst, r.Due)
		dst = binary.AppendUvarint(dst, uint64(r.Number))
	}
	return dst
}

// AppendShield appends which messages an overflow in the records behind it must not take: those
// that are leased. Leases are the owner's alone, so it must say.
func AppendShield(dst []byte, id uint32, at int64, seqs []uint64) []byte {
	n := len(dst)
	dst = AppendSettle(dst, id, at, seqs)
	dst[n] = kindShield
	return dst
}

// ReturnedSeqs are the messages that a record made by AppendReturn returns; none of any other record.
func ReturnedSeqs(record []byte) (seqs []uint64) {
	if len(record) < headBytes || record[0] != kindReturn {
		return nil
	}
	r := reader{b: record[headBytes:]}
	r.string()
	for _, m := range r.returns() {
		seqs = append(seqs, m.Seq)
	}
	return seqs
}

// HeldSeqs are the messages that are kept from consumers for the sake of a record that ends or moves them; none of
// any other record.
func HeldSeqs(record []byte) []uint64 {
	if len(record) < headBytes {
		return nil
	}
	r := reader{b: record[headBytes:]}
	switch record[0] {
	case kindExpire:
		return r.seqs(nil)
	case kindCancel, kindMoveTo:
		return []uint64{r.uvarint()}
	case kindRedrive:
		r.uvarint()
		return r.seqs(nil)
	case kindPurge:
		if record[1]&flagOnly != 0 {
			r.uvarint()
			return r.ascending()
		}
	}
	return nil
}

// Describe says in one line what a record means, for people. What messages hold, which may be a secret, is in it
// only where contents are asked for; of documents never.
func Describe(record []byte, contents bool) (string, error) {
	if len(record) < headBytes {
		return "", errShort
	}
	r := reader{b: record[headBytes:]}
	q := binary.LittleEndian.Uint32(record[4:])
	line := ""
	switch record[0] {
	case kindNoop:
		return "noop", nil
	case kindCreate:
		line = fmt.Sprintf("create queue=%d name=%q settings=%+v", q, r.string(), r.settings())
	case kindUpdate:
		line = fmt.Sprintf("update queue=%d settings=%+v", q, r.settings())
	case kindDelete:
		line = fmt.Sprintf("delete queue=%d", q)
	case kindPurge:
		line = fmt.Sprintf("purge queue=%d", q)
		if record[1] != 0 {
			line += fmt.Sprintf(" only=%v up to=%d seqs=%v", record[1]&flagOnly != 0, r.uvarint(), r.ascending())
		}
	case kindPause:
		line = fmt.Sprintf("pause queue=%d on=%v", q, record[1]&flagOn != 0)
	case kindPublish, kindRelocate, kindBody:
		e, err := ParseEnvelope(record)
		if err != nil {
			return "", err
		}
		name, seq := "publish", ""
		if record[0] == kindRelocate {
			name, seq = "relocate", fmt.Sprintf(" seq=%d", r.uint64())
		} else if _, topic := e.Names(); topic != nil {
			name, seq = "body", fmt.Sprintf(" topic=%s", topic)
		}
		line = fmt.Sprintf("%s queue=%d%s published=%d base64=%v more=%v ", name, q, seq, e.Published, e.Base64, record[1]&flagMore != 0)
		if contents {
			line += fmt.Sprintf("headers=%s body=%.200s", e.Headers, e.Body)
		} else {
			line += fmt.Sprintf("headers_bytes=%d body_bytes=%d", len(e.Headers), len(e.Body))
		}
	case kindSettle, kindShield, kindExpire:
		line = fmt.Sprintf("%s queue=%d seqs=%v", map[byte]string{kindSettle: "settle", kindShield: "shield", kindExpire: "expire"}[record[0]], q, r.seqs(nil))
	case kindRedrive:
		line = fmt.Sprintf("redrive queue=%d to=%d seqs=%v", q, r.uvarint(), r.seqs(nil))
	case kindBind:
		line = fmt.Sprintf("bind queue=%d pattern=%q", q, r.string())
	case kindUnbind:
		line = fmt.Sprintf("unbind queue=%d pattern=%q", q, r.string())
	case kindDocument:
		line = fmt.Sprintf("document queue=%d name=%q bytes=%d", q, r.string(), len(r.b))
	case kindRebase:
		line = fmt.Sprintf("rebase queue=%d seq=%d back=%d size=%d", q, r.uvarint(), r.uvarint(), r.uvarint())
	case kindCopy:
		r.bytes(int(binary.LittleEndian.Uint16(record[2:])))
		line = fmt.Sprintf("copy queue=%d back=%d size=%d more=%v", q, r.uvarint(), r.uvarint(), record[1]&flagMore != 0)
	case kindCancel:
		line = fmt.Sprintf("cancel queue=%d seq=%d", q, r.uvarint())
	case kindMoveTo:
		line = fmt.Sprintf("move to queue=%d seq=%d due=%d", q, r.uvarint(), r.varint())
	case kindReturn:
		line = fmt.Sprintf("return queue=%d counted=%v dead=%v reason=%q messages=%v", q, record[1]&flagUncounted == 0, record[1]&flagDead != 0, r.string(), r.returns())
	default:
		return "", fmt.Errorf("record of unknown kind %d", record[0])
	}
	return line, r.err
}

func (r *reader) seqs(into []uint64) []uint64 {
	n := r.uvarint()
	if n > uint64(len(r.b)) { // each takes a byte at least
		r.fail(errShort)
		return into
	}
	for range n {
		into = append(into, r.uvarint())
	}
	return into
}

func (r *reader) returns() (rs []Return) {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	for range n {
		rs = append(rs, Return{Seq: r.uvarint(), Due: r.varint(), Number: uint32(r.uvarint())})
	}
	return rs
}
