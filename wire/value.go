package wire

import (
	"bytes"
	"strconv"
	"time"
)

// name reads a member's name at i and steps to its value. A name too long for
// any field of ours, or half in surrogates, is given as it was sent.
func (d *Decoder) name(i int) (name []byte, at int) {
	end, at, seen := scanName(d.line, i)
	if at < 0 {
		return nil, at
	}
	name = d.line[i+1 : end-1 : end-1]
	if seen != 0 {
		name = d.plain(name, seen, maxWord, "the name of a field")
	}
	return name, at
}

// plain unescapes s, the inside of a string, unless it is certain to be longer
// than most: then it stays escaped, and is still longer than most. Errors say
// what s is and never quote it, for it may be a secret.
func (d *Decoder) plain(s []byte, seen uint8, most int, what string) []byte {
	if seen&strNotUTF8 != 0 {
		d.malformed("invalid UTF-8 in %s", what)
	}
	if seen&strEscaped == 0 || len(s) > 6*most {
		return s
	}
	start := len(d.buf)
	var ok bool
	if d.buf, ok = unescape(d.buf, s); !ok {
		d.malformed("half a surrogate pair in %s", what)
	}
	return d.buf[start:len(d.buf):len(d.buf)]
}

// skip steps over any value.
func (d *Decoder) skip(i int) int {
	end, deepest, seen := scanValue(d.line, i)
	if end < 0 {
		return end
	}
	if seen&strNotUTF8 != 0 {
		d.malformed("invalid UTF-8 in the value that begins at byte %d", i)
	}
	if d.level+deepest > MaxNesting {
		d.malformed("the line is nested %d levels deep, more than the limit of %d", d.level+deepest, MaxNesting)
	}
	return end
}

// wrongType steps over a value that is not of the field's type.
func (d *Decoder) wrongType(i int, f Field, want string) int {
	got := "a number"
	switch d.line[i] {
	case '{':
		got = "an object"
	case '[':
		got = "an array"
	case '"':
		got = "a string"
	case 't', 'f':
		got = "a boolean"
	case 'n':
		got = "null"
	}
	// An op that is not known here may well have a field of another type.
	if f == fieldOp || f == FieldID {
		d.malformed("%s must be %s, not %s", FieldName(f), want, got)
	} else {
		d.wrong("%s must be %s, not %s", FieldName(f), want, got)
	}
	return d.skip(i)
}

// text reads a string of least to most bytes, counted without escapes.
func (d *Decoder) text(i int, f Field, least, most int, dst *[]byte) int {
	if d.line[i] != '"' {
		return d.wrongType(i, f, "a string")
	}
	end, seen := scanString(d.line, i)
	if end < 0 {
		return end
	}
	s := d.line[i+1 : end-1 : end-1]
	if seen != 0 {
		s = d.plain(s, seen, most, FieldName(f))
	}
	if len(s) < least || len(s) > most {
		d.wrong("%s must be %d to %d bytes long, not %d", FieldName(f), least, most, len(s))
	}
	*dst = s
	return end
}

// The choices. They are no arguments because those would be allocated anew.
var (
	ackModes  = []string{"manual", "auto"}
	encodings = []string{"base64"}
	states    = []string{"ready", "delayed", "leased"}
	levels    = []string{"memory", "written", "disk", "mysql", "memory_quorum", "quorum"}
	storages  = []string{"memory", "file", "mysql"}
	overflows = []string{"reject", "drop_oldest", "dead_letter"}
)

// choice reads a string that is one of a few.
func (d *Decoder) choice(i int, f Field, dst *[]byte, of []string) int {
	if d.line[i] != '"' {
		return d.wrongType(i, f, "a string")
	}
	end, seen := scanString(d.line, i)
	if end < 0 {
		return end
	}
	s := d.line[i+1 : end-1 : end-1]
	if seen != 0 {
		s = d.plain(s, seen, maxWord, FieldName(f))
	}
	for _, o := range of {
		if string(s) == o {
			*dst = s
			return end
		}
	}
	d.wrong("%s must be one of %v, not %q", FieldName(f), of, s)
	return end
}

func (d *Decoder) boolean(i int, f Field, dst *bool) int {
	switch d.line[i] {
	case 't':
		*dst = true
		return scanWord(d.line, i, "true")
	case 'f':
		*dst = false
		return scanWord(d.line, i, "false")
	}
	return d.wrongType(i, f, "true or false")
}

// isNumber reports whether the value at i is one, if it is a value.
func (d *Decoder) isNumber(i int) bool {
	return d.line[i] == '-' || class[d.line[i]]&inDigit != 0
}

func (d *Decoder) integer(i int, f Field, least, most uint64, dst *int64) int {
	if n, end := quickInteger(d.line, i); end > 0 && n >= least && n <= most {
		*dst = int64(n)
		return end
	}
	if !d.isNumber(i) {
		return d.wrongType(i, f, "an integer")
	}
	end := scanNumber(d.line, i)
	if end < 0 {
		return end
	}
	n, ok := parseInteger(d.line[i:end])
	if !ok || n < least || n > most {
		d.wrong("%s must be an integer from %d to %d, not %s", FieldName(f), least, most, d.line[i:end])
	}
	*dst = int64(n)
	return end
}

// quickInteger reads a number of 1 to 15 digits with a comma or a closing
// bracket right behind it; end is 0 where there is none. What it does not read
// is not wrong yet.
func quickInteger(b []byte, i int) (n uint64, end int) {
	start := i
	for i < len(b) && b[i]-'0' <= 9 {
		n = n*10 + uint64(b[i]-'0')
		i++
	}
	if i == start || i-start > 15 || i >= len(b) || b[start] == '0' && i-start > 1 {
		return 0, 0
	}
	if c := b[i]; c != ',' && c != '}' && c != ']' {
		return 0, 0
	}
	return n, i
}

// parseInteger gives the value of a JSON number that is digits only and at
// most MaxInteger. A fraction or exponent is refused even where the value is
// whole: clients disagree about those.
func parseInteger(s []byte) (uint64, bool) {
	if len(s) > 16 {
		return 0, false
	}
	var n uint64
	for _, c := range s {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, n <= MaxInteger
}

func (d *Decoder) float(i int, f Field, least, most float64, dst *float64) int {
	if !d.isNumber(i) {
		return d.wrongType(i, f, "a number")
	}
	end := scanNumber(d.line, i)
	if end < 0 {
		return end
	}
	if end-i <= maxWord {
		if v, err := strconv.ParseFloat(string(d.line[i:end]), 64); err == nil && v >= least && v <= most {
			*dst = v
			return end
		}
	}
	d.wrong("%s must be a number from %v to %v, not %s", FieldName(f), least, most, d.line[i:end])
	return end
}

func (d *Decoder) duration(i int, f Field, least, most time.Duration, dst *time.Duration) int {
	var s []byte
	end := d.text(i, f, 1, maxDurationLen, &s)
	if end < 0 || d.line[i] != '"' {
		return end
	}
	v, ok := parseDuration(s)
	switch {
	case !ok:
		d.wrong(`%s must be a duration such as "30s" or "1h30m", not %q`, FieldName(f), s)
	case v < least || v > most:
		d.wrong("%s must be %v to %v, not %q", FieldName(f), least, most, s)
	}
	*dst = v
	return end
}

func (d *Decoder) instant(i int, f Field, dst *time.Time) int {
	var s []byte
	end := d.text(i, f, 1, maxTimeLen, &s)
	if end < 0 || d.line[i] != '"' {
		return end
	}
	if err := dst.UnmarshalText(s); err != nil {
		d.wrong(`%s must be a time of RFC 3339 such as "2006-01-02T15:04:05Z", not %q`, FieldName(f), s)
		return end
	}
	*dst = dst.UTC()
	if y := dst.Year(); y < MinYear || y > MaxYear {
		d.wrong("%s must be in the years %d to %d, not %q", FieldName(f), MinYear, MaxYear, s)
	}
	return end
}

// opName reads op. Its own faults are the line's: nothing else can be judged.
func (d *Decoder) opName(i int) int {
	if d.line[i] != '"' {
		return d.wrongType(i, fieldOp, "a string")
	}
	end, seen := scanString(d.line, i)
	if end < 0 {
		return end
	}
	d.op = d.line[i+1 : end-1]
	if seen != 0 {
		d.op = d.plain(d.op, seen, maxWord, "op")
	}
	return end
}

// id reads the id and keeps it as it was sent, quotes and all.
func (d *Decoder) id(i int) int {
	var end int
	var seen uint8
	switch {
	case d.line[i] == '"':
		end, seen = scanString(d.line, i)
	case d.isNumber(i):
		end = scanNumber(d.line, i)
	default:
		return d.wrongType(i, FieldID, "a string or a number")
	}
	switch {
	case end < 0:
	case seen&strNotUTF8 != 0:
		d.malformed("invalid UTF-8 in id")
	case end-i > MaxID:
		d.malformed("id must be at most %d bytes long, not %d", MaxID, end-i)
	default:
		d.r.ID = d.line[i:end:end]
	}
	return end
}

// seqs reads seq: a number or an array of them.
func (d *Decoder) seqs(i int) int {
	b, r := d.line, d.r
	if b[i] != '[' {
		var seq int64
		r.Seqs = append(r.Seqs, 0)
		i = d.integer(i, FieldSeq, 0, MaxInteger, &seq)
		r.Seqs[0] = uint64(seq)
		return i
	}
	r.SeqArray = true
	d.arrays |= FieldSeq
	d.level++
	count := 0
	i, more := open(b, i, ']')
	for more {
		if i >= len(b) {
			return ^i
		}
		var seq int64
		if i = d.integer(i, FieldSeq, 0, MaxInteger, &seq); i < 0 {
			return i
		}
		if count++; count <= MaxSeqs {
			r.Seqs = append(r.Seqs, uint64(seq))
		}
		i, more = next(b, i, ']')
	}
	d.level--
	if i >= 0 && (count < 1 || count > MaxSeqs) {
		d.wrong("seq must hold 1 to %d numbers, not %d", MaxSeqs, count)
	}
	return i
}

// receipts reads receipt, which has the shape of seq.
func (d *Decoder) receipts(i int) int {
	b, r := d.line, d.r
	if b[i] != '[' {
		r.Receipts = append(r.Receipts, nil)
		return d.text(i, FieldReceipt, 1, MaxReceipt, &r.Receipts[0])
	}
	d.arrays |= FieldReceipt
	d.level++
	i, more := open(b, i, ']')
	for more {
		if i >= len(b) {
			return ^i
		}
		var s []byte
		if i = d.text(i, FieldReceipt, 1, MaxReceipt, &s); i < 0 {
			return i
		}
		if len(r.Receipts) <= MaxSeqs { // one more than fits tells of all the others
			r.Receipts = append(r.Receipts, s)
		}
		i, more = next(b, i, ']')
	}
	d.level--
	return i
}

// after reads after, whose type depends on an op that may not be known yet.
func (d *Decoder) after(i int) int {
	if d.isNumber(i) {
		var seq int64
		i = d.integer(i, FieldAfter, 0, MaxInteger, &seq)
		d.r.AfterSeq = uint64(seq)
		return i
	}
	d.afterText = d.line[i] == '"'
	return d.text(i, FieldAfter, 0, MaxName, &d.r.After)
}

// grants reads an array of grants and checks their form.
func (d *Decoder) grants(i int, f Field, dst *[][]byte) int {
	b := d.line
	if b[i] != '[' {
		return d.wrongType(i, f, "an array")
	}
	d.level++
	i, more := open(b, i, ']')
	for more {
		if i >= len(b) {
			return ^i
		}
		var s []byte
		text := b[i] == '"'
		if i = d.text(i, f, 1, MaxName+maxWord, &s); i < 0 {
			return i
		}
		if text {
			if verb, pattern, found := bytes.Cut(s, []byte(":")); !found || ParseVerb(string(verb)) == 0 || !ValidGrantPattern(pattern) {
				d.wrong("%s must hold grants such as publish:orders.*, with one of the verbs %v or *, not %q", FieldName(f), verbNames, s)
			}
		}
		if len(*dst) <= MaxGrants { // one more than fits tells of all the others
			*dst = append(*dst, s)
		}
		i, more = next(b, i, ']')
	}
	d.level--
	if i >= 0 && len(*dst) > MaxGrants {
		d.wrong("%s must hold at most %d grants", FieldName(f), MaxGrants)
	}
	return i
}
