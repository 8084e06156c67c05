package outbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/gmq/gmq/wire"
)

// A destination is a queue or a topic.
type destination struct {
	name  string
	topic bool
}

// A run is rows of one destination, in the order of their ids, which are published all or none.
type run struct {
	to    destination
	rows  []*Row
	bytes int
}

// A batch is what is moved in one go.
type batch struct {
	published []int64
	refused   map[int64]string
	maxBody   int
	topics    bool // some of it goes to topics
}

const runRows, runBytes = 500, 256 << 10

// runs cuts rows into runs. Rows of one queue keep their order. Where topics are among them, so do all rows: a topic reaches
// queues that others name.
func (b *batch) runs(rows []Row) (runs []*run) {
	for i := range rows {
		b.topics = b.topics || rows[i].Topic != nil
	}
	open := map[destination]*run{}
	for i := range rows {
		r := &rows[i]
		if why := b.fault(r); why != "" {
			b.refused[r.ID] = why
			continue
		}
		to := destination{string(r.Queue), false}
		if r.Topic != nil {
			to = destination{string(r.Topic), true}
		}
		o := open[to]
		if b.topics && len(runs) > 0 && runs[len(runs)-1] != o {
			o = nil
		}
		if o == nil || len(o.rows) >= runRows || o.bytes+len(r.Body) > runBytes {
			o = &run{to: to}
			open[to] = o
			runs = append(runs, o)
		}
		o.rows = append(o.rows, r)
		o.bytes += len(r.Body) + len(r.Headers)
	}
	return runs
}

// round are the runs that may be on their way at the same time: one for each queue, as the next must not go before it. Where topics
// are among them it is one run.
func (b *batch) round(runs []*run) (now, later []*run) {
	busy := map[destination]bool{}
	for i, r := range runs {
		if busy[r.to] || b.topics && i > 0 {
			later = append(later, r)
			continue
		}
		busy[r.to] = true
		now = append(now, r)
	}
	return now, later
}

// fault says why a row cannot become a line; "" where it can. The broker judges the rest.
func (b *batch) fault(r *Row) string {
	switch {
	case (r.Queue == nil) == (r.Topic == nil):
		return "bad_request: a row has a queue or a topic, and this one has " + map[bool]string{true: "neither", false: "both"}[r.Queue == nil]
	case len(r.Body) > b.maxBody+1024:
		return fmt.Sprintf("message_too_large: the body has %d bytes; max_message_bytes is %d", len(r.Body), b.maxBody)
	case !json.Valid(r.Body) || !utf8.Valid(r.Body):
		return "bad_request: body is no JSON"
	case r.Headers != nil && !json.Valid(r.Headers):
		return "bad_request: headers are no JSON"
	}
	return ""
}

// split is each row as a run of its own.
func (r *run) split() (runs []*run) {
	for _, row := range r.rows {
		runs = append(runs, &run{to: r.to, rows: []*Row{row}})
	}
	return runs
}

// halves are the run as two.
func (r *run) halves() []*run {
	n := len(r.rows) / 2
	return []*run{{to: r.to, rows: r.rows[:n]}, {to: r.to, rows: r.rows[n:]}}
}

// line is the run as a request of the protocol.
func (r *run) line() []byte {
	b := append(make([]byte, 0, r.bytes*9/8+200*len(r.rows)+200), `{"op":"publish","queue":`...)
	if r.to.topic {
		b = append(b[:0], `{"op":"publish","topic":`...)
	}
	b = append(wire.AppendString(b, r.to.name), `,"messages":[`...)
	for i, row := range r.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMessage(b, row)
	}
	return append(b, "]}"...)
}

func appendMessage(b []byte, r *Row) []byte {
	b = appendFlat(append(b, `{"body":`...), r.Body)
	if r.Headers != nil {
		b = appendFlat(append(b, `,"headers":`...), r.Headers)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{"encoding", r.Encoding}, {"key", r.Key}, {"dedup_id", r.dedup()}} {
		if f.text != nil {
			b = append(append(append(b, `,"`...), f.name...), `":`...)
			b = wire.AppendString(b, f.text)
		}
	}
	if r.Priority != nil {
		b = strconv.AppendInt(append(b, `,"priority":`...), *r.Priority, 10)
	}
	if r.DelayMS != nil && *r.DelayMS != 0 {
		b = append(strconv.AppendInt(append(b, `,"delay":"`...), *r.DelayMS, 10), `ms"`...)
	}
	if r.TTLMS != nil {
		b = append(strconv.AppendInt(append(b, `,"ttl":"`...), *r.TTLMS, 10), `ms"`...)
	}
	return append(b, '}')
}

// dedup is the row's own id, or one that no other row has: where the mover dies between a publish and the deletion of
// the row, the next one's publish is known by it.
func (r *Row) dedup() []byte {
	if r.DedupID != nil {
		return r.DedupID
	}
	return fmt.Appendf(nil, "gmq-outbox:%d:%s", r.ID, r.Created)
}

// appendFlat appends JSON without the line ends between its tokens, which a line cannot hold.
func appendFlat(b, text []byte) []byte {
	text = bytes.TrimSpace(text)
	at := len(b)
	b = append(b, text...)
	for i, c := range b[at:] {
		if c == '\n' || c == '\r' {
			b[at+i] = ' '
		}
	}
	return b
}
