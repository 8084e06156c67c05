package wire

import "bytes"

// A last is what a Decoder keeps of a publish that it has just read. The next line of the same client is likely to differ from it in id and
// body only; then nothing else need be read again.
type last struct {
	r    *Request // that it was read into; nil: there is none
	head []byte   // up to the id's value, up to the body's where there is no id
	id   bool     // a number
	mid  []byte   // from behind the id to the body's value
	name []byte   // of the queue or the topic
}

// plainFields are those that a publish may have to be kept.
const plainFields = FieldID | FieldQueue | FieldTopic | FieldBody | FieldQuiet | FieldCreate

// keep keeps the publish of a line that has been read without an error, where it is plain and ends with its body.
func (d *Decoder) keep() {
	r, p, line := d.r, &d.last, d.line
	if r.Op != OpPublish || r.Set&^plainFields != 0 {
		return
	}
	if cap(r.Messages) > keepItems || cap(r.Seqs) > keepSeqs || cap(r.Receipts) > keepItems || cap(d.buf) > keepBuf { // reset is to let go of it
		return
	}
	body := r.Messages[0].Body
	at := len(line) - 1 - len(body)
	if at < 1 || &line[at] != &body[0] {
		return
	}
	p.head, p.mid = append(p.head[:0], line[:at]...), p.mid[:0]
	if p.id = r.ID != nil; p.id {
		from := 0
		for from < at && &line[from] != &r.ID[0] {
			from++
		}
		if from == at || r.ID[0] == '"' {
			return
		}
		p.head, p.mid = p.head[:from], append(p.mid, line[from+len(r.ID):at]...)
	}
	name := &r.Queue
	if r.Set&FieldTopic != 0 {
		name = &r.Topic
	}
	p.name = append(p.name[:0], *name...)
	*name = p.name
	p.r = r
}

// again reads a line that is as the last one was but for its id and its body. It is false, and has changed
// nothing, where it is not, or not certainly right.
func (d *Decoder) again(line []byte, r *Request) bool {
	p := &d.last
	if p.r != r || !bytes.HasPrefix(line, p.head) {
		return false
	}
	i := len(p.head)
	var id []byte
	if p.id {
		from := i
		for i < len(line) && line[i]-'0' <= 9 {
			i++
		}
		id = line[from:i:i]
		if n := len(id); n == 0 || n > 1 && id[0] == '0' || n > MaxID || !bytes.HasPrefix(line[i:], p.mid) {
			return false
		}
		i += len(p.mid)
	}
	if i >= len(line) {
		return false
	}
	end, deepest, seen := scanValue(line, i)
	if end != len(line)-1 || line[end] != '}' || seen&strNotUTF8 != 0 || 1+deepest > MaxNesting || d.maxBody > 0 && end-i > d.maxBody {
		return false
	}
	r.ID, r.Messages[0].Body = id, line[i:end:end]
	return true
}
