package queue

// A RowOp says what becomes of a message's row in a table of messages.
type RowOp uint8

// The ops.
const (
	RowInsert RowOp = iota + 1
	RowUpdate       // it waits for another time, counts another attempt, or has moved to another queue
	RowDelete
)

// A RowChange is what a record means for one row of a table that has one for each message.
type RowChange struct {
	Op        RowOp
	Ref       Ref // of the record that holds the message's bytes
	Own       Ref // RowInsert: of the record that put it into its queue; Ref, but for a message to a topic
	Queue     string
	Seq       uint64
	FromQueue string // RowUpdate: where it was before; the same where it has not moved
	FromSeq   uint64
	Published int64  // RowInsert; unix ns
	Due       int64  // unix ns; 0: nothing is waited for
	Attempts  uint32 // that have counted
}

// Rows is a state that has no owner: it only follows the records, and says what they mean for a table of messages. It holds
// what a State does, without leases and without memory of what was settled.
type Rows struct {
	st      *State
	changes []RowChange
}

// NewRows is a state without queues.
func NewRows() *Rows {
	r := &Rows{st: New(0)}
	r.st.rows = r
	return r
}

// LoadSnapshot is State.LoadSnapshot.
func (r *Rows) LoadSnapshot(b []byte) error {
	err := r.st.LoadSnapshot(b)
	r.changes = r.changes[:0]
	return err
}

// Apply is State.Apply. The changes are in the order in which they have to be made, and valid until the next call.
func (r *Rows) Apply(span Span, record []byte) ([]RowChange, error) {
	r.changes = r.changes[:0]
	_, err := r.st.Apply(span, record)
	r.st.Spans()
	r.st.removed = nil
	return r.changes, err
}

// inserted notes that a message has come to q.
func (r *Rows) inserted(q *Queue, seq uint64, c *chunk, m *msg, p *piece) {
	r.changes = append(r.changes, RowChange{Op: RowInsert, Ref: m.ref, Own: p.own, Queue: q.Name, Seq: seq, Published: p.at, Due: c.due(seq).at})
}

// updated notes that a message is not what it was, and perhaps not where.
func (r *Rows) updated(from *Queue, fromSeq uint64, q *Queue, seq uint64) {
	if r == nil {
		return
	}
	c, m := q.find(seq)
	r.changes = append(r.changes, RowChange{Op: RowUpdate, Ref: m.ref, Queue: q.Name, Seq: seq, FromQueue: from.Name, FromSeq: fromSeq,
		Due: c.due(seq).at, Attempts: uint32(m.attempts)})
}

// deleted notes that a message is no more.
func (r *Rows) deleted(q *Queue, seq uint64, m *msg) {
	r.changes = append(r.changes, RowChange{Op: RowDelete, Ref: m.ref, Queue: q.Name, Seq: seq})
}
