package wire

// A Decoder turns lines into requests. It reads a line once, from the front,
// and leaves bodies where they are. It is for one goroutine at a time.
type Decoder struct {
	maxBody int

	line []byte
	r    *Request

	op        []byte // the value of op
	unknown   []byte // the first name that is no field of any op
	stranger  bool   // there is such a name
	arrays    Field  // those of seq and receipt that were arrays
	afterText bool   // after was a string
	item      int    // which of messages is being read; negative outside
	level     int    // open brackets around what is being read

	// The first error of either kind. Scanning goes on behind an error, for
	// only the whole line tells whether it is JSON and what its id is.
	form  *Error // in the line's form: told before anything the op would say
	value *Error // in a field's value: told if the op has the field at all

	top   Message  // the fields of a message that stand in the line itself
	spare Message  // takes what is beyond MaxBatch
	sound *Message // the one whose body was seen to be base64 while it was read

	buf   []byte   // unescaped text
	names [][]byte // the names of the headers being read

	places [values]place
	placed int
	lasts  [2]last // a publish, and an ack
	filled *last   // the one whose fields r has; nil: none
}

// NewDecoder makes a Decoder that refuses bodies of more than maxBody bytes;
// 0 is no limit.
func NewDecoder(maxBody int) *Decoder { return &Decoder{maxBody: maxBody} }

// What may stay allocated from one call to the next.
const (
	keepBuf   = 64 << 10
	keepItems = 1024
	keepSeqs  = 8192
)

// Decode reads a line, without its end, into r. Whatever the error, r.ID is
// the request's id if one could be read, and r.Op its operation likewise. What was decoded into r
// is to be left as it is: the next Decode may build on it.
func (d *Decoder) Decode(line []byte, r *Request) *Error {
	if d.again(line, r) {
		return nil
	}
	d.filled = nil
	d.reset(line, r)
	end := d.object(space(line, 0))
	if end >= 0 {
		if end = space(line, end); end < len(line) {
			end = ^end
		}
	}
	if end < 0 {
		return notJSON(line, ^end)
	}
	err := d.finish()
	if err == nil {
		d.keep()
	}
	return err
}

func (d *Decoder) reset(line []byte, r *Request) {
	d.line, d.r = line, r
	d.op, d.unknown, d.stranger = nil, nil, false
	d.arrays, d.afterText, d.placed = 0, false, 0
	d.item, d.level = -1, 1
	d.form, d.value = nil, nil
	d.top = Message{}
	d.top.Priority = DefaultPriority
	d.buf, d.names = kept(d.buf, keepBuf)[:0], kept(d.names, keepItems)[:0]
	messages := kept(r.Messages, keepItems)[:0]
	seqs := kept(r.Seqs, keepSeqs)[:0]
	receipts := kept(r.Receipts, keepItems)[:0]
	*r = Request{} // cleared in place, and not copied from a filled one: it is large
	r.Messages, r.Seqs, r.Receipts = messages, seqs, receipts
	r.Create, r.Count = true, true
	r.Max, r.Credit, r.Limit = 1, 1, DefaultLimit
}

// kept lets go of a large slice of which the last call used little, so that
// one large batch does not cost its memory for as long as a connection lives.
func kept[T any](s []T, most int) []T {
	if cap(s) > most && len(s) < cap(s)/8 {
		return nil
	}
	return s
}

func notJSON(line []byte, at int) *Error {
	if at >= len(line) {
		return Errorf(CodeBadJSON, "the line is no JSON object: it ends too early, after %d bytes", len(line))
	}
	return Errorf(CodeBadJSON, "the line is no JSON object: unexpected %q at byte %d", line[at:at+1], at)
}

// object reads the line's own object.
func (d *Decoder) object(i int) int {
	b := d.line
	if i >= len(b) || b[i] != '{' {
		return ^i
	}
	var name []byte
	i, more := open(b, i, '}')
	for more {
		if name, i = d.name(i); i < 0 {
			return i
		}
		f := lookup(name)
		switch {
		case f == 0:
			if !d.stranger {
				d.stranger, d.unknown = true, name
			}
			i = d.skip(i)
		case d.r.Set&f != 0:
			d.malformed("%s stands twice", FieldName(f))
			i = d.skip(i)
		default:
			d.r.Set |= f
			at := i
			i = d.field(i, f)
			if f&valueFields != 0 {
				d.places[d.placed] = place{f, at, i}
				d.placed++
			}
		}
		if i < 0 {
			return i
		}
		i, more = next(b, i, '}')
	}
	return i
}

// field reads the value at i of a field of the line. The functions it calls
// all take the place of a value, which is inside the line, and give the place
// behind it, negative as in scan.go.
func (d *Decoder) field(i int, f Field) int {
	r := d.r
	switch f {
	case fieldOp:
		return d.opName(i)
	case FieldID:
		return d.id(i)
	case FieldQueue:
		return d.text(i, f, 0, MaxName, &r.Queue)
	case FieldTopic:
		return d.text(i, f, 0, MaxName, &r.Topic)
	case FieldMessages:
		return d.messages(i)
	case FieldSeq:
		return d.seqs(i)
	case FieldReceipt:
		return d.receipts(i)
	case fieldOperation:
		return d.skip(i)
	}
	switch {
	case messageFields&f != 0:
		return d.messageField(i, f, &d.top)
	case settingFields&f != 0:
		return d.settingField(i, f)
	}
	return d.otherField(i, f)
}

// otherField reads what is neither hot nor part of a message or of settings.
func (d *Decoder) otherField(i int, f Field) int {
	r := d.r
	switch f {
	case FieldQuiet:
		return d.boolean(i, f, &r.Quiet)
	case FieldUser:
		return d.text(i, f, 1, MaxUser, &r.User)
	case FieldPassword:
		return d.text(i, f, 0, MaxPassword, &r.Password)
	case FieldToken:
		return d.text(i, f, 1, MaxToken, &r.Token)
	case FieldClient:
		return d.text(i, f, 0, MaxClient, &r.Client)
	case FieldProtocol:
		return d.integer(i, f, 0, MaxInteger, &r.Protocol)
	case FieldCreate:
		return d.boolean(i, f, &r.Create)
	case FieldMax:
		return d.integer(i, f, 1, MaxInteger, &r.Max)
	case FieldWait:
		return d.duration(i, f, 0, MaxWait, &r.Wait)
	case FieldAck:
		var mode []byte
		i = d.choice(i, f, &mode, ackModes)
		r.AutoAck = string(mode) == "auto"
		return i
	case FieldCredit:
		return d.integer(i, f, 1, MaxCredit, &r.Credit)
	case FieldSub:
		var sub int64
		i = d.integer(i, f, 0, MaxInteger, &sub)
		r.Sub = uint64(sub)
		return i
	case FieldDrain:
		return d.boolean(i, f, &r.Drain)
	case FieldReason:
		return d.text(i, f, 0, MaxReason, &r.Reason)
	case FieldDead:
		return d.boolean(i, f, &r.Dead)
	case FieldCount:
		return d.boolean(i, f, &r.Count)
	case FieldPrefix:
		return d.text(i, f, 0, MaxName, &r.Prefix)
	case FieldAfter:
		return d.after(i)
	case FieldLimit:
		return d.integer(i, f, 1, MaxLimit, &r.Limit)
	case FieldState:
		return d.choice(i, f, &r.State, states)
	case FieldTo:
		return d.text(i, f, 0, MaxName, &r.To)
	}
	return d.userField(i, f)
}

// userField reads what is about users and their rights.
func (d *Decoder) userField(i int, f Field) int {
	r := d.r
	switch f {
	case FieldMechanism:
		return d.text(i, f, 1, maxWord, &r.Mechanism)
	case FieldData:
		return d.text(i, f, 1, MaxData, &r.Data)
	case FieldOf:
		return d.text(i, f, 1, MaxName, &r.Name)
	case FieldVerb:
		return d.choice(i, f, &r.Verb, verbNames)
	case FieldAllow:
		return d.grants(i, f, &r.Allow)
	case FieldDeny:
		return d.grants(i, f, &r.Deny)
	case FieldRevoke:
		return d.grants(i, f, &r.Revoke)
	}
	// A field in the table of names without a reader here is a mistake of ours that the first test meets.
	panic("wire: no reader for the field " + FieldName(f))
}

// settingField reads one of the settings that is not a message's field too.
func (d *Decoder) settingField(i int, f Field) int {
	s := &d.r.Settings
	switch f {
	case FieldStorage:
		return d.choice(i, f, &s.Storage, storages)
	case FieldMaxMessages:
		return d.integer(i, f, 0, MaxInteger, &s.MaxMessages)
	case FieldMaxBytes:
		return d.integer(i, f, 0, MaxInteger, &s.MaxBytes)
	case FieldOverflow:
		return d.choice(i, f, &s.Overflow, overflows)
	case FieldLease:
		return d.duration(i, f, MinLease, MaxLease, &d.r.Lease)
	case FieldMaxDeliveries:
		return d.integer(i, f, 0, MaxMaxDeliveries, &s.MaxDeliveries)
	case FieldRetry:
		return d.retry(i)
	case FieldRetryMin:
		return d.duration(i, f, 0, MaxRetry, &s.RetryMin)
	case FieldRetryMax:
		return d.duration(i, f, 0, MaxRetry, &s.RetryMax)
	case FieldRetryFactor:
		return d.float(i, f, MinRetryFactor, MaxRetryFactor, &s.RetryFactor)
	case FieldRetryJitter:
		return d.float(i, f, 0, MaxRetryJitter, &s.RetryJitter)
	case FieldDedupWindow:
		return d.duration(i, f, 0, MaxDedupWindow, &s.DedupWindow)
	}
	return d.boolean(i, f, &s.DeadLetterExpired)
}

// retry reads the object of that name.
func (d *Decoder) retry(i int) int {
	b := d.line
	if b[i] != '{' {
		return d.wrongType(i, FieldRetry, "an object")
	}
	d.level++
	var name []byte
	i, more := open(b, i, '}')
	for more {
		if name, i = d.name(i); i < 0 {
			return i
		}
		f := lookupRetry(name)
		switch {
		case f == 0:
			d.wrong("unknown field %q in retry", name)
			i = d.skip(i)
		case d.r.Set&f != 0:
			d.malformed("%s stands twice", FieldName(f))
			i = d.skip(i)
		default:
			d.r.Set |= f
			i = d.settingField(i, f)
		}
		if i < 0 {
			return i
		}
		i, more = next(b, i, '}')
	}
	d.level--
	return i
}

// malformed notes the first error in the line's form.
func (d *Decoder) malformed(format string, args ...any) {
	if d.form == nil {
		d.form = d.errorf(CodeBadRequest, format, args...)
	}
}

// wrong notes the first error in a value.
func (d *Decoder) wrong(format string, args ...any) {
	if d.value == nil {
		d.value = d.errorf(CodeBadRequest, format, args...)
	}
}

// errorf makes an error that says in which message of a batch it is.
func (d *Decoder) errorf(code Code, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	if d.item >= 0 {
		e.Message = Errorf(code, "messages[%d]: ", d.item).Message + e.Message
	}
	return e
}
