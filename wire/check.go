package wire

// finish judges the line as a whole, now that its op is known.
func (d *Decoder) finish() *Error {
	r := d.r
	classic := r.Set&fieldOperation != 0
	hasOp := r.Set&fieldOp != 0
	r.Set &= fieldEnd - 1
	r.Op = ParseOp(d.op)
	switch {
	case classic && !hasOp:
		return Errorf(CodeBadRequest, "operation belongs to the first protocol of 2015, which is not enabled (classic), or not after other lines; a request has op")
	case d.form != nil:
		return d.form
	case !hasOp:
		return Errorf(CodeBadRequest, "op is missing")
	case r.Op == OpNone:
		return Errorf(CodeUnknownOp, "unknown op %q", d.op)
	case d.stranger:
		return Errorf(CodeBadRequest, "unknown field %q for %s", d.unknown, r.Op)
	case classic:
		return Errorf(CodeBadRequest, "unknown field %q for %s", "operation", r.Op)
	}
	if extra := r.Set &^ OpFields(r.Op); extra != 0 {
		return Errorf(CodeBadRequest, "unknown field %q for %s", FieldName(extra), r.Op)
	}
	if d.value != nil {
		return d.value
	}
	if err := d.checkNeeds(); err != nil {
		return err
	}
	if err := d.checkNames(); err != nil {
		return err
	}
	return d.checkOp()
}

// checkNeeds checks that what the op needs is there.
func (d *Decoder) checkNeeds() *Error {
	r, op := d.r, &ops[d.r.Op]
	if missing := op.needs &^ r.Set; missing != 0 {
		return Errorf(CodeBadRequest, "%s needs %s", op.name, FieldName(missing))
	}
	if op.one == 0 {
		return nil
	}
	first := op.one & -op.one
	second := op.one &^ first
	switch r.Set & op.one {
	case 0:
		return Errorf(CodeBadRequest, "%s needs %s or %s", op.name, FieldName(first), FieldName(second))
	case op.one:
		return Errorf(CodeBadRequest, "%s and %s exclude each other", FieldName(first), FieldName(second))
	}
	return nil
}

// checkNames checks the alphabets of names and topics.
func (d *Decoder) checkNames() *Error {
	r := d.r
	if r.Set&FieldQueue != 0 && !ValidQueueName(r.Queue) {
		ephemeral := r.Op == OpAck || r.Op == OpNack || r.Op == OpExtend
		if !ephemeral || !ValidEphemeralName(r.Queue) {
			return badName(FieldQueue, r.Queue)
		}
	}
	if r.Set&FieldTo != 0 && !ValidQueueName(r.To) {
		return badName(FieldTo, r.To)
	}
	if r.Set&FieldPrefix != 0 && r.Op == OpQueueList && !all(r.Prefix, inName) {
		return badName(FieldPrefix, r.Prefix)
	}
	if r.Set&FieldUser != 0 && !ValidUserName(r.User) {
		return badUser(FieldUser, r.User)
	}
	if r.Set&FieldTopic == 0 {
		return nil
	}
	if r.Op == OpPublish {
		if !ValidTopic(r.Topic) {
			return Errorf(CodeBadRequest, "topic must be words of A-Z a-z 0-9 _ - with dots between them, at most %d bytes, not %q", MaxName, r.Topic)
		}
	} else if !ValidPattern(r.Topic) {
		return Errorf(CodeBadRequest, "topic must be words of A-Z a-z 0-9 _ -, or * for one and > for the rest, with dots between them, at most %d bytes, not %q", MaxName, r.Topic)
	}
	return nil
}

func badName(f Field, name []byte) *Error {
	return Errorf(CodeBadRequest, "%s must be 1 to %d of A-Z a-z 0-9 . _ - and not begin with a dot, not %q", FieldName(f), MaxName, name)
}

// checkOp checks what only single operations know.
func (d *Decoder) checkOp() *Error {
	r := d.r
	switch r.Op {
	case OpPublish:
		return d.checkPublish()
	case OpAck, OpNack, OpExtend:
		r.Delay = d.top.Delay
		return d.checkReceipts()
	case OpHello:
		return d.checkHello()
	case OpReceive:
		if r.Max > MaxReceive {
			return Errorf(CodeBadRequest, "max must be an integer from 1 to %d, not %d", MaxReceive, r.Max)
		}
	case OpQueueCreate, OpQueueUpdate:
		r.Settings.Lease, r.Settings.TTL = r.Lease, d.top.TTL
		s := &r.Settings
		if r.Set.Has(FieldRetryMin|FieldRetryMax) && s.RetryMin > s.RetryMax {
			return Errorf(CodeBadRequest, "retry.min of %v is more than retry.max of %v", s.RetryMin, s.RetryMax)
		}
	case OpQueueList, OpUserList, OpTokenList:
		if r.Set&FieldAfter != 0 && !d.afterText {
			return Errorf(CodeBadRequest, "after must be a string for %s: a name", r.Op)
		}
		if r.Op == OpQueueList && !all(r.After, inName) {
			return badName(FieldAfter, r.After)
		}
	case OpTokenAdd, OpTokenRemove:
		if r.TTL = d.top.TTL; r.Set&FieldTTL != 0 && r.TTL <= 0 {
			return Errorf(CodeBadRequest, "ttl must be more than 0s")
		}
		if !ValidUserName(r.Name) {
			return badUser(FieldOf, r.Name)
		}
	case OpClusterToken:
		if r.TTL = d.top.TTL; r.Set&FieldTTL != 0 && r.TTL <= 0 {
			return Errorf(CodeBadRequest, "ttl must be more than 0s")
		}
	case OpClusterRemove, OpClusterTransfer:
		if r.Set&FieldOf != 0 && !ValidUserName(r.Name) {
			return badUser(FieldOf, r.Name)
		}
	case OpAuthCheck:
		if !ValidGrantPattern(r.Name) {
			return Errorf(CodeBadRequest, "name must be that of a queue or a topic, or a pattern, not %q", r.Name)
		}
	case OpQueuePeek:
		if d.afterText {
			return Errorf(CodeBadRequest, "after must be a number for %s: a seq", r.Op)
		}
	case OpQueueExplain, OpQueueCancel, OpQueueReschedule:
		r.Delay, r.At = d.top.Delay, d.top.At
		if r.SeqArray {
			return Errorf(CodeBadRequest, "seq must be a number for %s, not an array", r.Op)
		}
	}
	return nil
}

func (d *Decoder) checkPublish() *Error {
	r := d.r
	if r.Set&FieldMessages == 0 {
		if r.Set&FieldBody == 0 {
			return Errorf(CodeBadRequest, "publish needs body or messages")
		}
		d.top.Set = r.Set & messageFields
		if d.checkMessage(&d.top); d.value != nil {
			return d.value
		}
		r.Messages = append(r.Messages[:0], d.top)
		return nil
	}
	if r.Set&FieldBody != 0 {
		return Errorf(CodeBadRequest, "body and messages exclude each other")
	}
	if extra := r.Set & (messageFields &^ FieldStored); extra != 0 {
		return Errorf(CodeBadRequest, "%s belongs into each of messages, not beside them", FieldName(extra))
	}
	if r.Set&FieldStored != 0 { // said once for all that say nothing themselves
		for k := range r.Messages {
			if m := &r.Messages[k]; m.Set&FieldStored == 0 {
				m.Set |= FieldStored
				m.Stored = d.top.Stored
			}
		}
	}
	return nil
}

func (d *Decoder) checkReceipts() *Error {
	r := d.r
	if r.Set&FieldReceipt == 0 {
		return nil
	}
	if (d.arrays&FieldReceipt != 0) != r.SeqArray {
		return Errorf(CodeBadRequest, "receipt must have the shape of seq: a string for a number, an array for an array")
	}
	if len(r.Receipts) != len(r.Seqs) {
		return Errorf(CodeBadRequest, "receipt must be as many as seq: %d, not %d", len(r.Seqs), len(r.Receipts))
	}
	return nil
}

func (d *Decoder) checkHello() *Error {
	const exchange, secret = FieldMechanism | FieldData, FieldUser | FieldPassword | FieldToken
	switch has := d.r.Set; {
	case has&exchange != 0 && has&secret != 0:
		return Errorf(CodeBadRequest, "mechanism and data exclude user, password and token")
	case has&FieldMechanism != 0 && has&FieldData == 0:
		return Errorf(CodeBadRequest, "mechanism needs data")
	case has&FieldToken != 0 && has&(FieldUser|FieldPassword) != 0:
		return Errorf(CodeBadRequest, "token excludes user and password")
	case has&FieldUser != 0 && has&FieldPassword == 0:
		return Errorf(CodeBadRequest, "user needs password")
	case has&FieldPassword != 0 && has&FieldUser == 0:
		return Errorf(CodeBadRequest, "password needs user")
	}
	return nil
}

func badUser(f Field, name []byte) *Error {
	return Errorf(CodeBadRequest, "%s must be 1 to %d of A-Z a-z 0-9 . _ - @ : / +, not %q", FieldName(f), MaxUser, name)
}
