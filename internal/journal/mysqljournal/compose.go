package mysqljournal

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/gmq/gmq/internal/journal"
)

// A txn is one transaction: what it says to the database, and whom to tell when it is done.
type txn struct {
	number     int64 // in gmq_epoch.commits, when it is done
	place      journal.Ref
	latest     []byte // of the runs of commands of all shards, when it is done: gmq_epoch.latest
	statements []string
	items      []item
	block      *block // of the records, for the cache
	written    []*snapWriter
	stats      Stats
}

// composer is the state of the goroutine that makes transactions.
type composer struct {
	j         *Journal
	number    int64       // of the latest transaction
	place     journal.Ref // of the next record
	statement atomic.Int64

	txn      *txn
	inserts  builder // rows of gmq_message, gmq_body, gmq_command, gmq_snapshot
	bodies   builder
	commands builder
	pieces   builder
	changes  []string // updates and deletes that must keep their order
	spans    []journal.Span
	deleted  uint64        // spans that have ever come
	pieced   int           // bytes of snapshots
	whole    []*snapWriter // that end with this transaction
	chores   []string      // deletes of what is garbage, one for each transaction; what is left at the end the next life finds
	updates  []Change
	updating map[journal.Ref]int // indices in updates
	runs     []run
	run      []byte              // of commands
	gone     map[string][]copied // messages that are no more, of those that share their bytes, by queue
	when     int64               // of whenText
	whenText []byte
}

// A builder makes multi-row INSERT statements of limited length.
type builder struct {
	head  string
	text  []byte
	limit int
	into  *[]string
}

// row begins a row: the next one, in this statement or a new one. n is about how long it will be.
func (b *builder) row(n int) {
	if len(b.text) > 0 && len(b.text)+n > b.limit {
		b.flush()
	}
	if len(b.text) == 0 {
		b.text = append(b.text, b.head...)
	} else {
		b.text = append(b.text, ',')
	}
}

func (b *builder) flush() {
	if len(b.text) > 0 {
		*b.into = append(*b.into, string(b.text))
		b.text = b.text[:0]
	}
}

func (c *composer) init(j *Journal) {
	c.j = j
	c.inserts.head = "INSERT INTO gmq_message (place, queue, seq, published, due, attempts, headers, body, body_place, head, crc) VALUES "
	c.bodies.head = "INSERT INTO gmq_body (place, headers, body, head, crc) VALUES "
	c.commands.head = "INSERT INTO gmq_command (shard, place, part, records) VALUES "
	c.pieces.head = "INSERT INTO gmq_snapshot (shard, place, part, data) VALUES "
	c.updating, c.gone = map[journal.Ref]int{}, map[string][]copied{}
}

// composeLoop is the composer: while one transaction is carried out it makes the next, of all that is proposed meanwhile.
func (j *Journal) composeLoop() {
	c := &j.composer
	defer close(j.composed)
	free := false // the executor waits
	for {
		for c.mayAdd() {
			more, err := c.add()
			if err != nil {
				j.fail(err)
				return
			}
			if !more {
				break
			}
		}
		if free && c.txn != nil {
			free = false
			select {
			case j.composed <- c.seal():
			case <-j.ended:
				return
			}
			continue
		}
		if c.txn == nil && j.isClosing() && !j.hasWork() || j.Failed() != nil {
			return
		}
		select {
		case <-j.work:
		case <-j.ready:
			free = true
		case <-j.ended:
			return
		}
	}
}

// maxSpans is how many rows one transaction deletes, about.
const maxSpans = 20_000

// mayAdd reports whether the transaction has room.
func (c *composer) mayAdd() bool {
	return c.txn == nil || len(c.txn.block.data) < txnBytes && len(c.spans) < maxSpans && c.pieced < txnBytes
}

// add adds what there is to the transaction; false where nothing is.
func (c *composer) add() (bool, error) {
	items, spans, writers := c.take()
	t := c.txn
	if len(items) == 0 && len(spans) == 0 && len(writers) == 0 && (len(c.chores) == 0 || t != nil || c.j.isClosing()) {
		return false, nil
	}
	if t == nil {
		c.number++
		t = &txn{number: c.number, block: &block{base: c.place}}
		c.txn, c.changes, c.spans, c.pieced = t, nil, c.spans[:0], 0
		limit := int(c.statement.Load())
		for _, b := range []*builder{&c.inserts, &c.bodies, &c.commands, &c.pieces} {
			b.limit, b.into = limit, &t.statements
		}
	}
	for _, it := range items {
		it.batch.Base, it.batch.Err = c.place, nil
		t.block.data = append(t.block.data, it.batch.Data...)
		if err := c.follow(it); err != nil {
			return false, err
		}
		c.place += journal.Ref(len(it.batch.Data))
	}
	t.items = append(t.items, items...)
	c.spans = append(c.spans, spans...)
	c.deleted += uint64(len(spans))
	for _, w := range writers {
		c.snapshot(w)
	}
	return true, nil
}

// take takes as much of what waits as goes into a transaction.
func (c *composer) take() (items []item, spans []journal.Span, writers []*snapWriter) {
	j := c.j
	j.mu.Lock()
	defer j.mu.Unlock()
	bytes := 0
	if c.txn != nil {
		bytes = len(c.txn.block.data)
	}
	n := 0
	for n < len(j.pending) && (bytes == 0 || bytes+len(j.pending[n].batch.Data) <= txnBytes) {
		bytes += len(j.pending[n].batch.Data)
		n++
	}
	items = append(items, j.pending[:n]...)
	rest := copy(j.pending, j.pending[n:])
	clear(j.pending[rest:])
	j.pending = j.pending[:rest]
	if j.hurried || j.leaves {
		return items, nil, nil
	}
	c.chores = append(c.chores, j.garbage...)
	j.garbage = nil
	waiting := j.released[j.releasedHead:]
	k := min(len(waiting), maxSpans)
	spans = append(spans, waiting[:k]...)
	if j.releasedHead += k; j.releasedHead > len(j.released)/2 {
		j.released = append(j.released[:0], j.released[j.releasedHead:]...)
		j.releasedHead = 0
	}
	writers, j.writers = j.writers, nil
	return items, spans, writers
}

// seal ends the transaction.
func (c *composer) seal() *txn {
	t := c.txn
	c.place = (c.place + 8) &^ 7 // no two transactions have a place in common, also where there were no bytes
	c.flushUpdates()
	for _, s := range c.j.shards {
		c.command(s)
	}
	c.inserts.flush()
	c.bodies.flush()
	c.commands.flush()
	c.pieces.flush()
	t.statements = append(t.statements, c.changes...)
	c.deleteCopies()
	c.deleteSpans(c.spans)
	if len(c.chores) > 0 {
		t.statements = append(t.statements, c.chores[0])
		c.chores = c.chores[1:]
	}
	for _, w := range c.whole {
		c.conclude(w)
	}
	c.whole = c.whole[:0]
	t.place = c.place
	for _, s := range c.j.shards {
		t.latest = binary.BigEndian.AppendUint64(t.latest, uint64(s.latest))
	}
	c.txn = nil
	return t
}

// follow lets the followers see the records of a batch, and notes what they mean for the rows.
func (c *composer) follow(it item) error {
	b := it.batch
	if it.shard != nil && len(b.Parts) == 0 {
		return c.records(it.shard, b, 0, len(b.Data))
	}
	from := 0
	for _, p := range b.Parts {
		if p.Shard == journal.Nobody {
			c.shareds(b, from, p.End)
		} else if err := c.records(c.j.shards[p.Shard], b, from, p.End); err != nil {
			return err
		}
		from = p.End
	}
	return nil
}

func (c *composer) records(s *Shard, b *journal.Batch, from, to int) error {
	if s.follower == nil {
		return fmt.Errorf("shard %d was not replayed before something was proposed", s.number)
	}
	if s.stubs == nil {
		s.stubs, s.command, s.first, s.last = c.j.opt.Format.NewStubs(), s.command[:0], b.Base+journal.Ref(from), b.Base+journal.Ref(from)
	}
	for at := from; at < to; {
		payload, next := journal.NextRecord(b.Data, at)
		ref := b.Base + journal.Ref(at)
		s.command = appendUvarint(s.command, uint64(ref-s.last))
		s.command = s.stubs.Append(s.command, payload)
		s.last = b.Base + journal.Ref(next)
		changes, err := s.follower.Apply(ref, uint32(next-at), payload)
		if err != nil {
			return fmt.Errorf("shard %d: %w", s.number, err)
		}
		for i := range changes {
			c.change(&changes[i])
		}
		at = next
		c.txn.stats.Records++
	}
	return nil
}

// change notes what becomes of a row.
func (c *composer) change(ch *Change) {
	switch ch.Op {
	case Insert:
		c.insert(ch)
	case Update:
		if c.shared(ch.Ref) {
			c.changes = append(c.changes, fmt.Sprintf("UPDATE gmq_message SET queue = %s, seq = %d, due = %s, attempts = %d WHERE queue = %s AND seq = %d AND body_place = %d",
				appendQuoted(nil, []byte(ch.Queue)), ch.Seq, c.time(nil, ch.Due), ch.Attempts, appendQuoted(nil, []byte(ch.FromQueue)), ch.FromSeq, ch.Ref))
		} else if i, ok := c.updating[ch.Ref]; ok {
			c.updates[i] = *ch
		} else {
			c.updating[ch.Ref] = len(c.updates)
			c.updates = append(c.updates, *ch)
		}
	case Delete: // of others the owner says when the row is needed no more
		if c.shared(ch.Ref) {
			c.gone[ch.Queue] = append(c.gone[ch.Queue], copied{ch.Seq, ch.Ref})
		}
	}
}

// maxUpdates is how many rows one UPDATE changes.
const maxUpdates = 500

// flushUpdates makes a statement of the updates so far. The rows may be ones that this transaction inserts: those come first.
func (c *composer) flushUpdates() {
	for from := 0; from < len(c.updates); from += maxUpdates {
		part := c.updates[from:min(from+maxUpdates, len(c.updates))]
		text := []byte("UPDATE gmq_message m JOIN (")
		for i := range part {
			u := &part[i]
			if i == 0 {
				text = append(text, "SELECT "...)
			} else {
				text = append(text, " UNION ALL SELECT "...)
			}
			text = append(appendInt(text, int64(u.Ref)), " AS place, "...)
			text = append(appendQuoted(text, []byte(u.Queue)), " AS queue, "...)
			text = append(appendInt(text, int64(u.Seq)), " AS seq, CAST("...)
			text = append(c.time(text, u.Due), " AS DATETIME(6)) AS due, "...)
			text = append(appendInt(text, int64(u.Attempts)), " AS attempts"...)
		}
		text = append(text, ") c ON m.place = c.place SET m.queue = c.queue, m.seq = c.seq, m.due = c.due, m.attempts = c.attempts"...)
		c.changes = append(c.changes, string(text))
	}
	c.updates = c.updates[:0]
	clear(c.updating)
}

// time appends a time; many rows have the same.
func (c *composer) time(dst []byte, ns int64) []byte {
	if ns == 0 {
		return append(dst, "NULL"...)
	}
	if us := ns / 1000; us != c.when || c.whenText == nil {
		c.when, c.whenText = us, appendTime(c.whenText[:0], ns)
	}
	return append(dst, c.whenText...)
}

// insert adds a row.
func (c *composer) insert(ch *Change) {
	payload := c.txn.block.payload(ch.Ref)
	shared := ch.Own != ch.Ref
	b := &c.inserts
	if shared {
		b.row(400)
		c.share(ch.Ref)
	} else {
		b.row(len(payload)*9/8 + 400)
	}
	b.text = append(appendInt(append(b.text, '('), int64(ch.Own)), ',')
	b.text = append(appendQuoted(b.text, []byte(ch.Queue)), ',')
	b.text = append(appendInt(b.text, int64(ch.Seq)), ',')
	b.text = append(c.time(b.text, ch.Published), ',')
	b.text = append(appendTime(b.text, ch.Due), ',')
	b.text = append(appendInt(b.text, int64(ch.Attempts)), ',')
	if shared {
		b.text = append(appendInt(append(b.text, "NULL,NULL,"...), int64(ch.Ref)), ",NULL,NULL)"...)
	} else {
		b.text = c.content(b.text, ch.Ref, payload, "NULL,")
	}
	c.txn.stats.Inserted++
}

// content appends the columns headers, body, head, crc; between stands before head.
func (c *composer) content(dst []byte, ref journal.Ref, payload []byte, between string) []byte {
	head, headers, body, ok := c.j.opt.Format.Parts(payload)
	if !ok {
		head, headers, body = payload, nil, nil
	}
	dst = append(appendText(dst, headers), ',')
	dst = append(append(appendText(dst, body), ','), between...)
	dst = append(appendBinary(dst, head), ',')
	return append(appendInt(dst, int64(sum(ref, payload))), ')')
}

// shareds adds rows for the records from..to of b, which are nobody's.
func (c *composer) shareds(b *journal.Batch, from, to int) {
	for at := from; at < to; {
		payload, next := journal.NextRecord(b.Data, at)
		ref, t := b.Base+journal.Ref(at), &c.bodies
		t.row(len(payload)*9/8 + 400)
		t.text = append(appendInt(append(t.text, '('), int64(ref)), ',')
		t.text = c.content(t.text, ref, payload, "")
		c.j.bodiesMu.Lock()
		c.j.bodies[ref] = &share{}
		c.j.bodiesMu.Unlock()
		at = next
	}
}

// shared reports whether messages of several queues may refer to the record.
func (c *composer) shared(ref journal.Ref) bool {
	c.j.bodiesMu.Lock()
	defer c.j.bodiesMu.Unlock()
	return c.j.bodies[ref] != nil
}

// share counts one more message that refers to the record.
func (c *composer) share(ref journal.Ref) {
	c.j.bodiesMu.Lock()
	defer c.j.bodiesMu.Unlock()
	if s := c.j.bodies[ref]; s != nil {
		s.messages++
	}
}

// commandBytes is how long a row of gmq_command gets.
const commandBytes = 512 << 10

// command adds the rows of a shard's records in this transaction: a run. It begins with how far behind it the one before lies, so
// that a row that is missing is missed.
func (c *composer) command(s *Shard) {
	if s.stubs == nil {
		return
	}
	back := uint64(0)
	if s.latest != 0 {
		back = uint64(s.first - s.latest)
	}
	s.latest = s.first
	c.run = append(appendUvarint(append(c.run[:0], 0, 0, 0, 0), back), s.command...)
	binary.LittleEndian.PutUint32(c.run, sum(s.first, c.run[4:]))
	t, rest := &c.commands, c.run
	for part := 0; part == 0 || len(rest) > 0; part++ {
		data := rest[:min(len(rest), commandBytes, t.limit)]
		rest = rest[len(data):]
		t.row(len(data)*9/8 + 100)
		t.text = append(appendInt(append(t.text, '('), int64(s.number)), ',')
		t.text = append(appendInt(t.text, int64(s.first)), ',')
		t.text = append(appendInt(t.text, int64(part)), ',')
		t.text = append(appendBinary(t.text, data), ')')
	}
	s.noteCommand(s.first, len(c.run))
	s.stubs = nil
}
