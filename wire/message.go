package wire

import (
	"bytes"
	"slices"
)

// messages reads the array of a batch.
func (d *Decoder) messages(i int) int {
	b, r := d.line, d.r
	if b[i] != '[' {
		return d.wrongType(i, FieldMessages, "an array")
	}
	r.Batch = true
	count := 0
	i, more := open(b, i, ']')
	for more {
		m := &d.spare
		if count < MaxBatch && d.value == nil { // behind an error none is of use
			if count == cap(r.Messages) {
				r.Messages = append(r.Messages[:count], Message{})
			}
			r.Messages = r.Messages[:count+1]
			m = &r.Messages[count]
		}
		*m = Message{}
		m.Priority = DefaultPriority
		d.item, d.level = count, 2
		if i = d.message(i, m); i < 0 {
			return i
		}
		count++
		i, more = next(b, i, ']')
	}
	d.item, d.level = -1, 1
	if i >= 0 && (count < 1 || count > MaxBatch) {
		d.wrong("messages must hold 1 to %d messages, not %d", MaxBatch, count)
	}
	return i
}

// message reads one object of a batch.
func (d *Decoder) message(i int, m *Message) int {
	b := d.line
	if i >= len(b) {
		return ^i
	}
	if b[i] != '{' {
		d.wrong("a message must be an object")
		return d.skip(i)
	}
	d.level++
	if end := d.onlyBody(i, m); end > 0 {
		return end
	}
	var name []byte
	i, more := open(b, i, '}')
	for more {
		if name, i = d.name(i); i < 0 {
			return i
		}
		f := lookup(name) & messageFields
		switch {
		case f == 0:
			d.wrong("unknown field %q", name)
			i = d.skip(i)
		case m.Set&f != 0:
			d.malformed("%s stands twice", FieldName(f))
			i = d.skip(i)
		default:
			m.Set |= f
			i = d.messageField(i, f, m)
		}
		if i < 0 {
			return i
		}
		i, more = next(b, i, '}')
	}
	if i < 0 {
		return i
	}
	if m.Set&FieldBody == 0 {
		d.wrong("body is missing")
	}
	d.checkMessage(m)
	return i
}

// onlyBody reads a message that has a body and nothing else, as most have; 0 where this is none.
func (d *Decoder) onlyBody(i int, m *Message) int {
	const begin = `{"body":`
	b, at := d.line, i+len(begin)
	if at >= len(b) || string(b[i:at]) != begin {
		return 0
	}
	end, deepest, seen := scanValue(b, at)
	if end < 0 || end >= len(b) || b[end] != '}' || seen&strNotUTF8 != 0 || d.level+deepest > MaxNesting || d.maxBody > 0 && end-at > d.maxBody {
		return 0
	}
	m.Set, m.Body = FieldBody, b[at:end:end]
	return end + 1
}

func (d *Decoder) messageField(i int, f Field, m *Message) int {
	switch f {
	case FieldBody:
		return d.body(i, m)
	case FieldHeaders:
		return d.headers(i, m)
	case FieldEncoding:
		var s []byte
		i = d.choice(i, f, &s, encodings)
		m.Base64 = s != nil
		return i
	case FieldKey:
		return d.text(i, f, 1, MaxKey, &m.Key)
	case FieldPriority:
		var n int64
		i = d.integer(i, f, 0, MaxPriority, &n)
		m.Priority = uint8(n)
		return i
	case FieldDelay:
		return d.duration(i, f, 0, MaxDelay, &m.Delay)
	case FieldAt:
		return d.instant(i, f, &m.At)
	case FieldTTL:
		return d.duration(i, f, 0, MaxTTL, &m.TTL)
	case FieldDedupID:
		return d.text(i, f, 1, MaxDedupID, &m.DedupID)
	}
	return d.choice(i, FieldStored, &m.Stored, levels)
}

func (d *Decoder) body(i int, m *Message) int {
	end := -1
	if d.sound = nil; m.Base64 {
		end = base64End(d.line, i)
	}
	if end > 0 {
		d.sound = m
	} else if end = d.skip(i); end < 0 {
		return end
	}
	m.Body = d.line[i:end:end]
	if d.maxBody > 0 && end-i > d.maxBody && d.value == nil {
		d.value = d.errorf(CodeMessageTooLarge, "body is %d bytes long, more than the limit of %d", end-i, d.maxBody)
	}
	return end
}

// headers checks an object of strings, which stays as it was sent.
func (d *Decoder) headers(i int, m *Message) int {
	b, start, count := d.line, i, 0
	if b[i] != '{' {
		return d.wrongType(i, FieldHeaders, "an object")
	}
	d.level++
	d.names = d.names[:0]
	i, more := open(b, i, '}')
	for more {
		at := i
		end, value, seen := scanName(b, i)
		if value < 0 {
			return value
		}
		if i = d.headerValue(value); i < 0 {
			return i
		}
		if count++; i-start <= MaxHeaders { // beyond it the names do not matter
			d.headerName(b[at+1:end-1], seen)
		}
		i, more = next(b, i, '}')
	}
	d.level--
	if i < 0 {
		return i
	}
	if i-start > MaxHeaders {
		d.wrong("headers are %d bytes long, more than the limit of %d", i-start, MaxHeaders)
		return i
	}
	d.headersOnce()
	if count > 0 {
		m.Headers = b[start:i:i]
	}
	return i
}

func (d *Decoder) headerName(s []byte, seen uint8) {
	if seen != 0 {
		s = d.plain(s, seen, MaxHeaderName, "the name of a header")
	}
	if len(s) < 1 || len(s) > MaxHeaderName {
		d.wrong("the name of a header must be 1 to %d bytes long, not %d", MaxHeaderName, len(s))
	}
	d.names = append(d.names, s)
}

func (d *Decoder) headerValue(i int) int {
	if d.line[i] != '"' {
		d.wrong("the values of headers must be strings")
		return d.skip(i)
	}
	end, seen := scanString(d.line, i)
	if end < 0 || seen == 0 {
		return end
	}
	if seen&strNotUTF8 != 0 {
		d.malformed("invalid UTF-8 in headers")
	}
	if !pairsWhole(d.line[i+1 : end-1]) {
		d.malformed("half a surrogate pair in headers")
	}
	return end
}

// headersOnce looks for a name that stands twice. Many names are sorted first:
// comparing each with each would let one line cost milliseconds.
func (d *Decoder) headersOnce() {
	names := d.names
	if len(names) > 16 {
		slices.SortFunc(names, bytes.Compare)
		for k := 1; k < len(names); k++ {
			if bytes.Equal(names[k-1], names[k]) {
				d.malformed("the header %q stands twice", names[k])
			}
		}
		return
	}
	for k, s := range names {
		for _, t := range names[:k] {
			if bytes.Equal(s, t) {
				d.malformed("the header %q stands twice", s)
			}
		}
	}
}

// checkMessage checks what needs more than one field of a message.
func (d *Decoder) checkMessage(m *Message) {
	if m.Set.Has(FieldDelay | FieldAt) {
		d.wrong("delay and at exclude each other")
	}
	if m.Set&FieldTTL != 0 && m.TTL <= 0 {
		d.wrong("ttl must be more than 0s")
	}
	if m.Base64 && m.Set&FieldBody != 0 && d.sound != m {
		d.checkBase64(m.Body)
	}
}

// checkBase64 checks that body is a string of base64 with padding. Escapes are
// undone first: some languages write + and / so.
func (d *Decoder) checkBase64(body []byte) {
	if body[0] != '"' {
		d.wrong("with encoding base64 body must be a string")
		return
	}
	s := body[1 : len(body)-1]
	if validBase64(s) {
		return
	}
	if bytes.IndexByte(s, '\\') >= 0 && (d.maxBody <= 0 || len(body) <= d.maxBody) {
		start := len(d.buf)
		d.buf, _ = unescape(d.buf, s)
		ok := validBase64(d.buf[start:])
		d.buf = d.buf[:start]
		if ok {
			return
		}
	}
	d.wrong("with encoding base64 body must be base64 with padding, not %q", s)
}
