package queue

import (
	"encoding/binary"
	"math"
)

// Parts cuts the record of a message into what stands before its headers, the headers, and the body: one behind the other
// they are the record. It is false for a record that holds no message.
func Parts(record []byte) (head, headers, body []byte, ok bool) {
	e, err := ParseEnvelope(record)
	if err != nil {
		return nil, nil, nil, false
	}
	n := len(record) - len(e.Body) - len(e.Headers)
	return record[:n:n], e.Headers, e.Body, true
}

// The forms of a stub.
const (
	stubWhole = iota // uvarint length, the record
	stubHead         // uvarint length of the head, the head, uvarint length of the headers, uvarint length of the body
	stubSame         // as stubHead with the head and the headers' length of the one before: uvarint length of the body
	stubVoid         // a record that means nothing: uvarint length
)

// Stubs writes and reads records without the bytes of their messages: what Apply needs is there, and everything is as long as it
// was. What it writes has to be read from the beginning, by another one.
type Stubs struct {
	head    []byte // of the latest stubHead or stubSame
	headers int
	record  []byte // that Read has made
}

// Append appends a record's stub.
func (s *Stubs) Append(dst, record []byte) []byte {
	if len(record) >= headBytes && record[0] == kindNoop {
		return binary.AppendUvarint(append(dst, stubVoid), uint64(len(record)))
	}
	head, headers, body, ok := Parts(record)
	switch {
	case !ok:
		return append(binary.AppendUvarint(append(dst, stubWhole), uint64(len(record))), record...)
	case s.head != nil && string(head) == string(s.head) && len(headers) == s.headers:
		dst = append(dst, stubSame)
	default:
		s.head, s.headers = append(s.head[:0], head...), len(headers)
		dst = append(binary.AppendUvarint(append(dst, stubHead), uint64(len(head))), head...)
		dst = binary.AppendUvarint(dst, uint64(len(headers)))
	}
	return binary.AppendUvarint(dst, uint64(len(body)))
}

// Read reads the first stub of b, and returns the record, with zeros for what was left out, and what is behind the stub. The
// record is valid until the next Read.
func (s *Stubs) Read(b []byte) (record, rest []byte, err error) {
	r := &reader{b: b}
	form := r.byte()
	switch form {
	case stubWhole:
		record = r.bytes(int(min(r.uvarint(), math.MaxInt32)))
		return record, r.b, r.err
	case stubVoid:
		s.zeros(nil, int(min(r.uvarint(), math.MaxInt32)))
	case stubHead, stubSame:
		if form == stubHead {
			s.head = append(s.head[:0], r.bytes(int(min(r.uvarint(), math.MaxInt32)))...)
			s.headers = int(min(r.uvarint(), math.MaxInt32))
		}
		body := int(min(r.uvarint(), math.MaxInt32))
		if len(s.head) < headBytes {
			r.fail(errShort)
		}
		if r.err == nil {
			s.zeros(s.head, s.headers+body)
		}
	default:
		r.fail(errShort)
	}
	return s.record, r.b, r.err
}

// zeros makes the record a head and n zeros.
func (s *Stubs) zeros(head []byte, n int) {
	s.record = append(s.record[:0], head...)
	if cap(s.record) < len(head)+n {
		s.record = append(make([]byte, 0, 2*(len(head)+n)), head...)
	}
	s.record = s.record[:len(head)+n]
	clear(s.record[len(head):])
}
