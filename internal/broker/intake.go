package broker

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/wire"
)

// A span is a stretch of a work's text.
type span struct{ from, to uint32 }

// A pub is one publish request: n records in the work's batch from offset at.
type pub struct {
	id, name span
	at, n    int32
	quiet    bool
	create   bool
	array    bool
	refused  bool
	again    bool   // proposed for the second time
	done     bool   // answered by another node
	demands  uint8  // bits of what the confirm must stand for at least
	only     uint32 // the id of the queue that alone is bound to the topic that it was to; 0: it was to the queue
}

// An ack is one ack, nack or extend.
type ack struct {
	op       wire.Op
	id, name span
	from, to int32 // in the work's seqs, and in receipts where there are any
	receipts bool
	quiet    bool
	delayed  bool // nack: delay was there
	dead     bool
	count    bool
	done     bool  // answered by another node
	delay    int64 // nack: delay; extend: lease; ns
	reason   span
}

// A work is what one session asks of one shard in one go: publishes and acks,
// or one control request. It belongs to the session's reader until it is posted, then to the shard.
type work struct {
	s        *Session
	pubs     []pub
	acks     []ack
	seqs     []uint64
	receipts []queue.Receipt
	text     []byte // ids, names, reasons
	batch    journal.Batch
	store    *store // of the batch, once the shard has looked
	cost     int    // bytes accounted to the session
	requests int
	acking   int  // acks that are not recorded yet
	over     bool // everything else is done
	room     []room
	control  *control
	fan      *fanout
	binding  bool // a control that may change what is bound to topics
	call     func(*shard)

	term    uint64  // of the leadership that it is for; 0: any
	doubt   bool    // its acks may have been carried out by a leader that was lost
	lapsed  bool    // answered, though the journal may still keep the batch
	own     bool    // of queues that this node alone has, whoever leads their shard
	counted bool    // in route.local
	turn    uint64  // of a session with a route: the how-manieth work
	visit   uint64  // in which it was posted to a shard of this node (back.go)
	again   []int32 // which of acks are to be asked again, when it ends

	// Of one that is at another node, or may have to go there (route.go).
	number   uint64
	lk       *link
	volley   uint64 // of what was sent before anything came back; 0: it is a work of this node
	since    int64  // when it came, unix ns
	until    int64  // of a receive that waits, unix ns
	left     int    // requests that have not been answered or refused there
	answered int    // requests that have been answered
	back     bool   // some have been refused
}

func (w *work) str(s span) []byte { return w.text[s.from:s.to] }

func (w *work) put(b []byte) span {
	from := uint32(len(w.text))
	w.text = append(w.text, b...)
	return span{from, uint32(len(w.text))}
}

// A room is what publishes to one queue take of it, or may push out.
type room struct {
	queue    *queue.Queue
	n        int
	bytes    int64
	promised int // of n
	era      uint32
}

// An Intake sorts a session's requests by shard. It belongs to the session's reader.
type Intake struct {
	s            *Session
	open         [Shards]*work
	own          [Shards]*work // likewise, of queues that this node alone has
	dirty        bool
	touched      atomic.Uint32 // bits of the shards that may hold something for the session
	lastSub      uint64        // the latest number of a subscription
	subs         map[uint64]home
	topical      int      // of subs, those to topics
	fan          *fanout  // publishes to topics that are not posted yet
	conduct      *conduct // likewise, in a cluster
	topic        []byte   // the topic looked up last, what is bound to it, and when that was so
	matched      []*bound
	topicVersion uint64
	shard        int         // of last
	last         []byte      // the queue name last seen
	marks        marks       // of its hash
	seen         [ops]uint32 // requests by op since the last Flush
	permits      [2]permit   // what the guard has allowed
}

// A home is where a subscription is.
type home struct {
	shard int
	topic bool // it has an ephemeral queue
}

// workBytes is the size at which a work is posted though more may follow.
const workBytes = 256 << 10

func (in *Intake) shardOf(name []byte) int {
	if !bytes.Equal(in.last, name) || in.last == nil {
		in.shard = in.marks.shardOf(name, in.last)
		in.last = append(in.last[:0], name...)
	}
	return in.shard
}

func (in *Intake) work(shard int) *work {
	w := in.open[shard]
	if w == nil {
		w = in.s.b.shards[shard].newWork()
		w.s = in.s
		in.open[shard] = w
	}
	return w
}

// workFor is the work for what is about a queue. What the session's ephemeral queues are asked is for this node, whoever leads the shard.
func (in *Intake) workFor(shard int, name []byte) *work {
	if len(name) == 0 || name[0] != '.' || in.s.route == nil {
		return in.work(shard)
	}
	w := in.own[shard]
	if w == nil {
		w = in.s.b.shards[shard].newWork()
		w.s, w.own = in.s, true
		in.own[shard] = w
	}
	return w
}

// Handle takes in one request. Its bytes may be reused when Handle returns. Flush must follow soon.
func (in *Intake) Handle(r *wire.Request) {
	in.seen[r.Op]++
	in.dirty = true
	if err := in.admit(r); err != nil {
		in.s.Refuse(r.ID, err)
		return
	}
	switch r.Op {
	case wire.OpPublish:
		if len(r.Topic) > 0 {
			in.publishTopic(r)
		} else {
			in.publish(r)
		}
	case wire.OpAck, wire.OpNack, wire.OpExtend:
		in.ack(r)
	case wire.OpPing:
		if !r.Quiet {
			in.s.Reply(func(dst []byte) []byte { return wire.AppendDone(dst, r.ID) })
		}
	case wire.OpHello:
		in.s.Hello(r, nil)
	case wire.OpUserAdd, wire.OpUserRemove, wire.OpUserList, wire.OpUserPassword, wire.OpUserGrant,
		wire.OpTokenAdd, wire.OpTokenRemove, wire.OpTokenList, wire.OpAuthCheck,
		wire.OpClusterToken, wire.OpClusterStatus, wire.OpClusterRemove, wire.OpClusterTransfer:
		in.other(r)
	case wire.OpClusterLeaders:
		in.s.leaders(r)
	case wire.OpQueueList:
		in.Flush()
		in.s.Await()
		in.s.listQueues(r)
	case wire.OpServerInfo:
		in.Flush()
		in.s.Await()
		in.s.serverInfo(r)
	default:
		in.control(r)
	}
}

func (in *Intake) publish(r *wire.Request) {
	in.publishInto(r, in.shardOf(r.Queue), r.Queue, 0)
}

// publishInto takes in a publish that goes to one queue; only is as in pub.
func (in *Intake) publishInto(r *wire.Request, shard int, queue []byte, only uint32) {
	in.postFan()
	w := in.work(shard)
	if n := roomFor(r.Messages); n > spare.Least {
		w = in.enlarge(shard, n)
	}
	data := w.batch.Data
	if data == nil { // it would grow in many small steps
		data = make([]byte, 0, firstBytes)
	}
	if w.pubs == nil {
		w.pubs = make([]pub, 0, firstPubs)
	}
	p := pub{id: w.put(r.ID), at: int32(len(data)), n: int32(len(r.Messages)), quiet: r.Quiet, create: r.Create && only == 0, array: r.Batch, only: only}
	if n := len(w.pubs); n > 0 && bytes.Equal(w.str(w.pubs[n-1].name), queue) {
		p.name = w.pubs[n-1].name
	} else {
		p.name = w.put(queue)
	}
	for i := range r.Messages {
		m := &r.Messages[i]
		data = appendMessage(data, m, r.Topic, only != 0, i+1 < len(r.Messages))
		p.demands |= demand(m.Stored)
	}
	w.batch.Data = data
	w.pubs = append(w.pubs, p)
	w.requests++
	if len(data) >= workBytes {
		in.post(shard)
	}
}

// firstBytes and firstPubs are what a work has room for at first.
const firstBytes, firstPubs = 1 << 10, 8

// roomFor is about how many bytes the records of messages take, rather more.
func roomFor(ms []wire.Message) (n int) {
	for i := range ms {
		n += len(ms[i].Body) + len(ms[i].Headers) + 1024
	}
	return n
}

// enlarge is work for large records: they are written into a buffer that has room for them from the beginning.
func (in *Intake) enlarge(shard, n int) *work {
	w := in.work(shard)
	if len(w.batch.Data) > 0 {
		in.post(shard)
		w = in.work(shard)
	}
	w.batch.Data, w.batch.Lent = spare.Get(n), true
	return w
}

// appendMessage appends the record of a message to be published, to a topic where one is given; whole says that it goes to one queue only.
func appendMessage(dst []byte, m *wire.Message, topic []byte, whole, more bool) []byte {
	start := len(dst)
	dst = journal.BeginRecord(dst)
	p := queue.Publish{
		Headers: m.Headers, Body: m.Body, Base64: m.Base64, Priority: m.Priority,
		Delay: m.Delay, TTL: m.TTL, DedupID: m.DedupID, Key: m.Key, Topic: topic, Whole: whole, More: more,
	}
	if m.Set.Has(wire.FieldAt) {
		p.At = m.At.UnixNano()
	}
	dst = queue.AppendPublish(dst, &p)
	journal.EndRecord(dst, start)
	return dst
}

func (in *Intake) ack(r *wire.Request) {
	if in.s.foreign(r.Queue) {
		in.s.Refuse(r.ID, wire.Errorf(wire.CodeNotFound, "queue %q is none of this connection", r.Queue))
		return
	}
	shard := in.shardOf(r.Queue)
	w := in.workFor(shard, r.Queue)
	a := ack{
		op: r.Op, id: w.put(r.ID), name: w.put(r.Queue), from: int32(len(w.seqs)), quiet: r.Quiet,
		receipts: len(r.Receipts) > 0, dead: r.Dead, count: r.Count, reason: w.put(r.Reason),
		delayed: r.Set.Has(wire.FieldDelay), delay: int64(r.Delay),
	}
	if r.Op == wire.OpExtend {
		a.delay = int64(r.Lease)
	}
	w.seqs = append(w.seqs, r.Seqs...)
	a.to = int32(len(w.seqs))
	for len(w.receipts) < len(w.seqs) {
		w.receipts = append(w.receipts, queue.Receipt{})
	}
	for i, b := range r.Receipts {
		r, ok := queue.ParseReceipt(b)
		if !ok { // none of ours: no delivery ever had it
			r = queue.Receipt{Number: 1<<32 - 1}
		}
		w.receipts[int(a.from)+i] = r
	}
	w.acks = append(w.acks, a)
	w.requests++
}

// post hands the open works of one shard over.
func (in *Intake) post(shard int) {
	in.postOne(shard, &in.open[shard])
	in.postOne(shard, &in.own[shard])
}

func (in *Intake) postOne(shard int, open **work) {
	w := *open
	if w == nil {
		return
	}
	*open = nil
	in.s.awaitLaunched()
	w.cost += len(w.batch.Data) + len(w.text) + 8*len(w.seqs) + 64*w.requests
	in.s.working.Add(int64(w.cost))
	in.s.b.working.Add(int64(w.requests))
	if rt := in.s.route; rt != nil && !w.own {
		rt.post(shard, w)
		return
	}
	in.s.b.shards[shard].post(w)
}

// Flush hands over everything taken in so far.
func (in *Intake) Flush() {
	if !in.dirty {
		return
	}
	in.dirty = false
	few, only := in.s.few(), -1
	for i := range in.open {
		switch {
		case in.open[i] == nil && in.own[i] == nil:
		case few && only < 0:
			only = i
		default:
			in.post(i)
			few = false
		}
	}
	switch {
	case only >= 0 && few:
		in.drive(only)
	case only >= 0:
		in.post(only)
	}
	in.postFan()
	for op, n := range in.seen {
		if n > 0 {
			in.s.b.requests[op].Add(uint64(n))
		}
	}
	clear(in.seen[:])
}

// controlCost is about what a control request takes while it is on its way, bytes.
const controlCost = 1 << 10

// alone posts a control request as a work of its own, behind what was taken in before.
func (in *Intake) alone(shard int, c *control) {
	in.postFan()
	in.post(shard)
	w := in.workFor(shard, c.name)
	w.control, w.requests, w.cost = c, 1, controlCost
	switch c.op {
	case wire.OpQueueBind, wire.OpQueueUnbind, wire.OpQueueDelete, wire.OpSubscribe, wire.OpUnsubscribe:
		w.binding = true
		in.s.binding.Add(1)
	}
	in.touched.Or(1 << shard)
	in.post(shard)
}

// detach tells the shards that the session has ended.
func (in *Intake) detach() {
	in.Flush()
	for i, sh := range in.s.b.shards {
		if in.touched.Load()&(1<<i) != 0 {
			w := sh.newWork()
			s := in.s
			w.call = func(sh *shard) { sh.detach(s) }
			sh.post(w)
		}
	}
}

// unsupported refuses what this version does not do, rather than accept and ignore it.
func (b *Broker) unsupported(r *wire.Request) *wire.Error {
	if r.Set.Has(wire.FieldStorage) && !b.hasStorage(r.Settings.Storage) {
		return wire.Errorf(wire.CodeBadRequest, "storage %s is not configured on this server", r.Settings.Storage)
	}
	return nil
}

// hasStorage reports whether queues can be kept there.
func (b *Broker) hasStorage(name []byte) bool {
	return slices.ContainsFunc(b.opt.Storages, func(s Storage) bool { return s.Name == string(name) && !s.Ephemeral })
}
