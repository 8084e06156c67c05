package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A last is what a Decoder keeps of a publish or an ack that it has read. The next line of its kind is likely to differ from it in a few
// values only; then nothing else need be read again.
type last struct {
	op     Op // OpNone: there is none
	set    Field
	quiet  bool
	create bool
	base64 bool

	name   []byte // of the queue or topic of the latest line
	any    shape
	same   shape // any with that name as text
	folded bool  // same is there
}

// A shape is a line as a text, a value that may differ, a text, and so on; behind the last value is a text, too.
type shape struct {
	texts [values + 1][]byte
	kinds [values]Field
	n     int
}

// A place is where a value stands that may differ.
type place struct {
	field    Field
	from, to int
}

// The fields that a publish, and an ack, may have to be kept, and those of them whose values may differ.
const (
	plainPublish = FieldID | FieldQueue | FieldTopic | FieldBody | FieldEncoding | FieldQuiet | FieldCreate
	plainAck     = FieldID | FieldQueue | FieldSeq | FieldReceipt | FieldQuiet
	valueFields  = FieldID | FieldQueue | FieldTopic | FieldBody | FieldSeq | FieldReceipt
	values       = 6
)

// keep keeps what has just been read without an error, where it is plain.
func (d *Decoder) keep() {
	r, line := d.r, d.line
	p, plain := &d.lasts[0], plainPublish
	switch r.Op {
	case OpPublish:
	case OpAck:
		p, plain = &d.lasts[1], plainAck
	default:
		return
	}
	if r.Set&^plain != 0 || r.Op == OpPublish && !d.modest() {
		return
	}
	p.op = OpNone
	for _, v := range d.places[:d.placed] {
		switch v.field {
		case FieldID:
			if line[v.from]-'0' > 9 {
				return
			}
		case FieldQueue:
			if v.to-v.from != len(r.Queue)+2 { // it had escapes
				return
			}
			p.name = append(p.name[:0], r.Queue...)
		case FieldTopic:
			if v.to-v.from != len(r.Topic)+2 {
				return
			}
			p.name = append(p.name[:0], r.Topic...)
		}
	}
	p.any.learn(line, d.places[:d.placed])
	p.folded = false
	p.op, p.set, p.quiet, p.create = r.Op, r.Set, r.Quiet, r.Create
	p.base64 = r.Op == OpPublish && r.Messages[0].Base64
	d.filled = p
}

// learn takes on the shape of a line.
func (s *shape) learn(line []byte, places []place) {
	s.n = 0
	from := 0
	for _, v := range places {
		s.text(line[from:v.from])
		s.kinds[s.n] = v.field
		s.n++
		from = v.to
	}
	s.text(line[from:])
}

func (s *shape) text(t []byte) { s.texts[s.n] = append(s.texts[s.n][:0], t...) }

// fold makes s what the others are with that name: longer texts, and fewer of them.
func (s *shape) fold(of *shape, name []byte) {
	s.n = 0
	s.text(of.texts[0])
	for k, kind := range of.kinds[:of.n] {
		if kind&(FieldQueue|FieldTopic) != 0 {
			t := append(append(append(s.texts[s.n], '"'), name...), '"')
			s.texts[s.n] = append(t, of.texts[k+1]...)
			continue
		}
		s.kinds[s.n] = kind
		s.n++
		s.text(of.texts[k+1])
	}
}

// modest reports whether nothing is held that reset would let go of.
func (d *Decoder) modest() bool {
	r := d.r
	return cap(r.Messages) <= keepItems && cap(r.Seqs) <= keepSeqs && cap(r.Receipts) <= keepItems && cap(d.buf) <= keepBuf
}

// again reads a line that is as the last of its kind was but for some values. It is false where it is not,
// or not certainly right; then r must be read into from the beginning.
func (d *Decoder) again(line []byte, r *Request) bool {
	d.line = line
	if p := d.filled; p != nil && p.folded && d.r == r && d.values(p, &p.same) {
		return true
	}
	for k := range d.lasts {
		p := &d.lasts[k]
		if p.op == OpNone || !bytes.HasPrefix(line, p.any.texts[0]) {
			continue
		}
		if d.filled != p || d.r != r {
			d.reset(line, r)
			if p.op == OpPublish && !d.modest() {
				return false
			}
			r.Op, r.Set, r.Quiet, r.Create = p.op, p.set, p.quiet, p.create
			if p.op == OpPublish {
				r.Messages = append(r.Messages, Message{Set: p.set & messageFields, Base64: p.base64, Priority: DefaultPriority})
			}
			r.setName(p.set, p.name)
			if d.filled = p; p.folded && d.values(p, &p.same) {
				return true
			}
		}
		return d.values(p, &p.any)
	}
	return false
}

// values reads the values of a line that has the shape s.
func (d *Decoder) values(p *last, s *shape) bool {
	line, r := d.line, d.r
	if p.op == OpAck {
		d.arrays, d.buf = 0, d.buf[:0]
		r.SeqArray, r.Seqs, r.Receipts = false, kept(r.Seqs, keepSeqs)[:0], kept(r.Receipts, keepItems)[:0]
	}
	if !bytes.HasPrefix(line, s.texts[0]) {
		return false
	}
	i := len(s.texts[0])
	for k, kind := range s.kinds[:s.n] {
		if i >= len(line) {
			return false
		}
		from := i
		switch kind {
		case FieldID:
			for i < len(line) && line[i]-'0' <= 9 {
				i++
			}
			r.ID = line[from:i:i]
			if n := i - from; n == 0 || n > 1 && line[from] == '0' || n > MaxID {
				return false
			}
		case FieldBody:
			var deepest int
			var seen uint8
			if p.base64 {
				i = base64End(line, i)
			} else {
				i, deepest, seen = scanValue(line, i)
			}
			if i < 0 || seen&strNotUTF8 != 0 || 1+deepest > MaxNesting || d.maxBody > 0 && i-from > d.maxBody {
				return false
			}
			r.Messages[0].Body = line[from:i:i]
		case FieldQueue, FieldTopic:
			i = d.nameAgain(p, i, kind)
		case FieldSeq:
			i = d.seqs(i)
		case FieldReceipt:
			i = d.receipts(i)
		}
		t := s.texts[k+1]
		if i < 0 || len(line)-i < len(t) || string(line[i:i+len(t)]) != string(t) {
			return false
		}
		i += len(t)
	}
	if p.op == OpAck && (d.form != nil || d.value != nil || d.checkReceipts() != nil) {
		return false
	}
	return i == len(line)
}

// nameAgain reads the name of a queue or topic at i; it is negative where there is none, or it has escapes. What it begins
// with as the last one did need not be looked at: names of many queues differ at their ends, as a rule.
func (d *Decoder) nameAgain(p *last, i int, kind Field) int {
	line := d.line
	end := i + 1 + common(line[i+1:], p.name)
	for end < len(line) && class[line[end]]&inName != 0 {
		end++
	}
	name := line[i+1 : end]
	switch {
	case line[i] != '"' || end == len(line) || line[end] != '"':
		return -1
	case kind == FieldTopic && !ValidTopic(name):
		return -1
	case kind == FieldQueue && (len(name) == 0 || len(name) > MaxName || name[0] == '.' && (p.op == OpPublish || len(name) == 1)):
		return -1 // neither ValidQueueName nor, where that is enough, ValidEphemeralName
	}
	if bytes.Equal(name, p.name) { // twice in a row: there may be more
		p.same.fold(&p.any, name)
		p.folded = true
	} else {
		p.name, p.folded = append(p.name[:0], name...), false
	}
	d.r.setName(kind, p.name)
	return end + 1
}

// setName sets the one of queue and topic that is among fields.
func (r *Request) setName(fields Field, name []byte) {
	if fields&FieldQueue != 0 {
		r.Queue = name
	} else {
		r.Topic = name
	}
}

// common is how many bytes a and b have in common at their beginnings; of those behind the last eight it may leave some out.
func common(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	return i
}
