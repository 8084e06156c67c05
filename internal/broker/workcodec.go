package broker

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A work on its way to another node: what its requests say, with tags in place of their ids. A tag is the work's number and which
// of its requests it is; the proxy's replies bear it as their id, so that the node where the client is finds what is answered.

// tagOf is the tag of a request of a work: number i of the publishes, or of the acks; a control is publish 0.
func tagOf(number uint64, isAck bool, i int) uint64 {
	tag := number<<tagBits | uint64(i)
	if isAck {
		tag |= tagAck
	}
	return tag
}

const tagBits, tagAck, tagIndex = 20, 1 << 19, 1<<19 - 1

const (
	pubCreate = 1 << iota
	pubArray
	sameName // as the one before
	pubTopic
)

const (
	ackReceipts = 1 << iota
	ackDelayed
	ackDead
	ackCount
	ackSameName
)

// appendWork appends what w asks for.
func appendWork(dst []byte, w *work) []byte {
	if c := w.control; c != nil {
		return appendControl(append(dst, 1), c)
	}
	dst = appendUvarint(append(dst, 0), uint64(len(w.pubs)))
	var last []byte
	for i := range w.pubs {
		p := &w.pubs[i]
		name, flags := w.str(p.name), byte(0)
		if p.create {
			flags |= pubCreate
		}
		if p.array {
			flags |= pubArray
		}
		if p.only != 0 {
			flags |= pubTopic
		}
		if i > 0 && string(name) == string(last) {
			flags |= sameName
		}
		dst = appendUvarint(append(dst, flags, p.demands), uint64(p.n))
		if p.only != 0 {
			dst = appendUvarint(dst, uint64(p.only))
		}
		if flags&sameName == 0 {
			dst = appendTextOf(dst, name)
		}
		last = name
	}
	dst = append(appendUvarint(dst, uint64(len(w.batch.Data))), w.batch.Data...)
	dst = appendUvarint(dst, uint64(len(w.acks)))
	last = nil
	for i := range w.acks {
		dst = appendAck(dst, w, &w.acks[i], last)
		last = w.str(w.acks[i].name)
	}
	return dst
}

func appendAck(dst []byte, w *work, a *ack, last []byte) []byte {
	name, flags := w.str(a.name), byte(0)
	for _, f := range [...]struct {
		is  bool
		bit byte
	}{{a.receipts, ackReceipts}, {a.delayed, ackDelayed}, {a.dead, ackDead}, {a.count, ackCount}, {last != nil && string(name) == string(last), ackSameName}} {
		if f.is {
			flags |= f.bit
		}
	}
	dst = appendUvarint(append(dst, byte(a.op), flags), uint64(a.delay))
	if flags&ackSameName == 0 {
		dst = appendTextOf(dst, name)
	}
	dst = appendUvarint(appendTextOf(dst, w.str(a.reason)), uint64(a.to-a.from))
	for i := a.from; i < a.to; i++ {
		dst = appendUvarint(dst, w.seqs[i])
		if a.receipts {
			r := &w.receipts[i]
			dst = binary.LittleEndian.AppendUint32(dst, r.Boot)
			dst = binary.LittleEndian.AppendUint32(dst, r.Queue)
			dst = binary.LittleEndian.AppendUint32(dst, r.Number)
		}
	}
	return dst
}

// readWork reads what appendWork has written into w. It is false where that is not what it must be.
func readWork(r *reader, w *work, number uint64) bool {
	switch r.byte() {
	case 0:
	case 1:
		w.control = readControl(r)
		w.control.id = strconv.AppendUint(nil, tagOf(number, false, 0), 10)
		w.requests, w.cost = 1, controlCost
		return r.whole()
	default:
		return false
	}
	messages := 0
	for i := range r.count(tagIndex) {
		flags, demands, n := r.byte(), r.byte(), r.count(wire.MaxBatch)
		p := pub{n: int32(n), create: flags&pubCreate != 0, array: flags&pubArray != 0, demands: demands}
		if flags&pubTopic != 0 {
			p.only = uint32(r.uvarint())
		}
		if flags&sameName != 0 && i > 0 {
			p.name = w.pubs[i-1].name
		} else {
			p.name = w.put(r.textOf())
		}
		if p.id = w.putTag(tagOf(number, false, i)); r.bad || n == 0 {
			return false
		}
		w.pubs = append(w.pubs, p)
		messages += n
	}
	w.batch.Data = append(w.batch.Data, r.bytes(r.uvarint())...)
	if !w.place(messages) {
		return false
	}
	for i := range r.count(tagIndex) {
		if !readAck(r, w, number, i) {
			return false
		}
	}
	w.requests = len(w.pubs) + len(w.acks)
	w.cost = len(w.batch.Data) + len(w.text) + 8*len(w.seqs) + 64*w.requests
	return r.whole() && w.requests > 0
}

// place finds the records of the publishes, and reports whether they are what they must be.
func (w *work) place(messages int) bool {
	at := 0
	for i := range w.pubs {
		w.pubs[i].at = int32(at)
		for range w.pubs[i].n {
			payload, next := recordAt(w.batch.Data, at)
			if next == 0 {
				return false
			}
			if _, err := queue.ParseSource(payload, next-at); err != nil {
				return false
			}
			at = next
			messages--
		}
	}
	return at == len(w.batch.Data) && messages == 0
}

// recordAt is journal.NextRecord for what another node has sent; next is 0 where there is no record.
func recordAt(data []byte, at int) (payload []byte, next int) {
	if len(data)-at < journal.HeaderBytes {
		return nil, 0
	}
	if n := int64(binary.LittleEndian.Uint32(data[at:])); n > int64(len(data)-at-journal.HeaderBytes) {
		return nil, 0
	}
	return journal.NextRecord(data, at)
}

func readAck(r *reader, w *work, number uint64, i int) bool {
	op, flags := wire.Op(r.byte()), r.byte()
	a := ack{
		op: op, delay: int64(r.uvarint() & math.MaxInt64), receipts: flags&ackReceipts != 0, delayed: flags&ackDelayed != 0,
		dead: flags&ackDead != 0, count: flags&ackCount != 0, from: int32(len(w.seqs)),
	}
	if flags&ackSameName != 0 && i > 0 {
		a.name = w.acks[i-1].name
	} else {
		a.name = w.put(r.textOf())
	}
	a.reason, a.id = w.put(r.textOf()), w.putTag(tagOf(number, true, i))
	for range r.count(wire.MaxSeqs) {
		w.seqs = append(w.seqs, r.uvarint())
		receipt := queue.Receipt{}
		if b := r.bytesIf(a.receipts, 12); len(b) == 12 {
			receipt = queue.Receipt{Boot: binary.LittleEndian.Uint32(b), Queue: binary.LittleEndian.Uint32(b[4:]), Number: binary.LittleEndian.Uint32(b[8:])}
		}
		w.receipts = append(w.receipts, receipt)
	}
	a.to = int32(len(w.seqs))
	w.acks = append(w.acks, a)
	return !r.bad && (op == wire.OpAck || op == wire.OpNack || op == wire.OpExtend)
}

func (w *work) putTag(tag uint64) span {
	from := uint32(len(w.text))
	w.text = strconv.AppendUint(w.text, tag, 10)
	return span{from, uint32(len(w.text))}
}

const (
	controlCreate = 1 << iota
	controlAuto
	controlDue
	controlTo
	controlTopic
	controlSettings
	controlDrain
)

func appendControl(dst []byte, c *control) []byte {
	flags := byte(0)
	if c.create {
		flags |= controlCreate
	}
	if c.auto {
		flags |= controlAuto
	}
	if !c.due.IsZero() {
		flags |= controlDue
	}
	if c.to != nil {
		flags |= controlTo
	}
	if c.topic != nil {
		flags |= controlTopic
	}
	if c.drain {
		flags |= controlDrain
	}
	var settings []byte
	if c.op == wire.OpQueueCreate || c.op == wire.OpQueueUpdate {
		flags |= controlSettings
		settings, _ = json.Marshal(&c.settings) // numbers and bytes: it cannot fail
	}
	dst = appendTextOf(append(dst, byte(c.op), flags), c.name)
	for _, n := range [...]uint64{uint64(c.max), uint64(c.wait), uint64(c.lease), c.sub, c.seq, c.after, uint64(c.set)} {
		dst = appendUvarint(dst, n)
	}
	if flags&controlDue != 0 {
		dst = binary.AppendVarint(dst, c.due.UnixNano())
	}
	dst = appendTextOf(dst, c.state)
	if c.to != nil {
		dst = appendTextOf(dst, c.to)
	}
	if c.topic != nil {
		dst = appendTextOf(dst, c.topic)
	}
	if settings != nil {
		dst = appendTextOf(dst, settings)
	}
	return dst
}

func readControl(r *reader) *control {
	c := &control{op: wire.Op(r.byte())}
	flags := r.byte()
	c.create, c.auto, c.drain = flags&controlCreate != 0, flags&controlAuto != 0, flags&controlDrain != 0
	c.name = clone(r.textOf())
	c.max = r.count(math.MaxInt32)
	c.wait, c.lease = time.Duration(r.count(math.MaxInt64)), time.Duration(r.count(math.MaxInt64))
	c.sub, c.seq, c.after, c.set = r.uvarint(), r.uvarint(), r.uvarint(), wire.Field(r.uvarint())
	if flags&controlDue != 0 {
		c.due = time.Unix(0, r.varint())
	}
	c.state = string(r.textOf())
	if flags&controlTo != 0 {
		c.to = append([]byte{}, r.textOf()...)
	}
	if flags&controlTopic != 0 {
		c.topic = append([]byte{}, r.textOf()...)
	}
	if flags&controlSettings != 0 {
		if json.Unmarshal(r.textOf(), &c.settings) != nil {
			r.bad = true
		}
	}
	switch c.op {
	case wire.OpReceive, wire.OpSubscribe, wire.OpUnsubscribe, wire.OpQueueCreate, wire.OpQueueUpdate, wire.OpQueueDelete, wire.OpQueuePurge,
		wire.OpQueuePause, wire.OpQueueResume, wire.OpQueueInfo, wire.OpQueuePeek, wire.OpQueueExplain, wire.OpQueueCancel, wire.OpQueueReschedule,
		wire.OpQueueRedrive, wire.OpQueueBind, wire.OpQueueUnbind:
	default:
		r.bad = true
	}
	return c
}

func appendUvarint(dst []byte, n uint64) []byte { return binary.AppendUvarint(dst, n) }

func appendTextOf[S ~string | ~[]byte](dst []byte, s S) []byte {
	return append(appendUvarint(dst, uint64(len(s))), s...)
}

// A reader reads what another node has sent. What is not as it must be makes it bad, and everything that is read from then on 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count is a number that is at most that much. Where that is less than nothing, none is right.
func (r *reader) count(most int64) int {
	n := r.uvarint()
	if most < 0 || n > uint64(most) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) bytesIf(there bool, n uint64) []byte {
	if !there {
		return nil
	}
	return r.bytes(n)
}

func (r *reader) textOf() []byte { return r.bytes(r.uvarint()) }

// whole reports whether all was read, and was as it must be.
func (r *reader) whole() bool { return !r.bad && len(r.b) == 0 }
