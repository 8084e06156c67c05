// Package outbox moves rows of a table into queues: what an application has inserted in its own transaction is published
// when that is committed, once as far as a crash can tell.
//
// It reads rows and deletes them through a Table, and publishes through a Session of the broker, as a client does: what a
// publish means, and what is refused, is not decided here. It knows no database.
package outbox

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Row is a message to be published. Texts that are not there are nil, numbers nil pointers.
type Row struct {
	ID                                                  int64
	Queue, Topic, Body, Encoding, Headers, Key, DedupID []byte
	Priority, DelayMS, TTLMS                            *int64
	Created                                             string // tells rows apart that have the same ID, as a table that was emptied counts anew
}

// A Table holds the rows. One goroutine uses it.
type Table interface {
	// Rows are committed rows in the order of their ids, up to limit, and not many more than maxBytes of bodies. Those to the queues and
	// topics named are left out.
	Rows(ctx context.Context, limit, maxBytes int, butQueues, butTopics []string) ([]Row, error)
	// Done deletes those that have been published, and puts those aside that can never be, with the reason; all of it or nothing.
	Done(ctx context.Context, published []int64, refused map[int64]string) error
	Close()
}

// A Reply is the broker's answer to a line.
type Reply struct {
	OK        bool
	Code      string
	Message   string
	Retryable bool
}

// A Publisher carries out lines of the protocol in order, and answers them in order.
type Publisher interface {
	Publish(ctx context.Context, lines [][]byte) ([]Reply, error)
	Close()
}

// Options are what a mover is made from.
type Options struct {
	Table   Table
	Open    func() Publisher
	Poll    time.Duration    // between looks at an empty table; 0: 20 ms
	Ended   func(error) bool // whether an error of the table is the mover's end
	Logf    func(format string, args ...any)
	MaxBody func() int
	Stats   *Stats // nil: nobody wants to know
}

// Stats count what a mover has done. Any goroutine may read them.
type Stats struct {
	Published, Refused atomic.Uint64 // rows
	Held               atomic.Int64  // destinations that take nothing at the moment
}

const (
	poll = 20 * time.Millisecond
	// batchRows and batchBytes bound what is moved in one go.
	batchRows, batchBytes = 2000, 2 << 20
	// A destination that takes nothing is tried again after leastPause, later after mostPause. Where maxPaused are being paused no row is
	// looked for: the names would fill the query.
	leastPause, mostPause, maxPaused = 100 * time.Millisecond, 5 * time.Second, 500
)

// A pause keeps a destination out of the looks until it may take something again.
type pause struct {
	until time.Time
	last  time.Duration
}

// A Mover moves rows until its context ends.
type Mover struct {
	opt    Options
	pub    Publisher
	paused map[destination]*pause
	told   string        // the latest error that was logged
	look   time.Duration // how long the latest look took
}

// Run moves rows until ctx ends; nil then. Its error is one that Options.Ended has named.
func Run(ctx context.Context, opt Options) error {
	if opt.Poll == 0 {
		opt.Poll = poll
	}
	if opt.Stats == nil {
		opt.Stats = &Stats{}
	}
	m := &Mover{opt: opt, paused: map[destination]*pause{}}
	defer func() {
		opt.Table.Close()
		if m.pub != nil {
			m.pub.Close()
		}
	}()
	for ctx.Err() == nil {
		n, err := m.move(ctx)
		switch {
		case err == nil:
			m.told = ""
		case ctx.Err() != nil:
			return nil
		case opt.Ended != nil && opt.Ended(err):
			return err
		default:
			if m.told != err.Error() {
				m.told = err.Error()
				opt.Logf("outbox: nothing is moved for the time being: %v", err)
			}
			wait(ctx, leastPause)
			continue
		}
		if n == 0 {
			wait(ctx, max(opt.Poll, 4*m.look)) // where a look is dear, because rows wait that must be passed over, there are fewer
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// move moves what there is, up to a batch, and returns how many rows are no more.
func (m *Mover) move(ctx context.Context) (int, error) {
	began := time.Now()
	queues, topics := m.resting(began)
	m.opt.Stats.Held.Store(int64(len(queues) + len(topics)))
	if len(queues)+len(topics) >= maxPaused {
		return 0, nil
	}
	rows, err := m.opt.Table.Rows(ctx, batchRows, batchBytes, queues, topics)
	m.look = time.Since(began)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	if m.pub == nil {
		m.pub = m.opt.Open()
	}
	b := &batch{refused: map[int64]string{}, maxBody: m.opt.MaxBody()}
	runs := b.runs(rows)
	if err := m.publish(ctx, b, runs); err != nil {
		m.pub.Close()
		m.pub = nil
		return 0, errors.Join(err, m.done(ctx, b))
	}
	return len(b.published) + len(b.refused), m.done(ctx, b)
}

// done records what has become of a batch. Where that fails the rows are found again, and known by their dedup ids.
func (m *Mover) done(ctx context.Context, b *batch) error {
	if len(b.published) == 0 && len(b.refused) == 0 {
		return nil
	}
	for id, why := range b.refused {
		m.opt.Logf("outbox: row %d cannot be published, and is in gmq_outbox_error: %s", id, why)
	}
	err := m.opt.Table.Done(ctx, b.published, b.refused)
	if err == nil {
		m.opt.Stats.Published.Add(uint64(len(b.published)))
		m.opt.Stats.Refused.Add(uint64(len(b.refused)))
	}
	return err
}

// publish publishes runs, and notes in b what has become of their rows. Runs of which nothing became stay in the table, and so does all
// that must not go before them.
func (m *Mover) publish(ctx context.Context, b *batch, runs []*run) error {
	for len(runs) > 0 {
		now, later := b.round(runs)
		var lines [][]byte
		for _, r := range now {
			lines = append(lines, r.line())
		}
		replies, err := m.pub.Publish(ctx, lines)
		if err != nil {
			return err
		}
		var again []*run
		held := map[destination]bool{}
		for i, r := range now {
			switch reply := &replies[i]; {
			case reply.OK:
				delete(m.paused, r.to)
				for k := range r.rows {
					b.published = append(b.published, r.rows[k].ID)
				}
			case reply.Code == string(wire.CodeQueueFull) && len(r.rows) > 1: // there may be room for some of them
				again = append(again, r.halves()...)
			case reply.Retryable:
				m.rest(r.to)
				held[r.to] = true
			case len(r.rows) > 1: // one of them is at fault: all or none was stored
				again = append(again, r.split()...)
			default:
				b.refused[r.rows[0].ID] = reply.Code + ": " + reply.Message
			}
		}
		if b.topics && len(held) > 0 {
			return nil
		}
		runs = again
		for _, r := range later {
			if !held[r.to] {
				runs = append(runs, r)
			}
		}
	}
	return nil
}

// rest pauses a destination.
func (m *Mover) rest(to destination) {
	p := m.paused[to]
	if p == nil {
		p = &pause{last: leastPause / 2}
		m.paused[to] = p
	}
	p.last = min(2*p.last, mostPause)
	p.until = time.Now().Add(p.last)
}

// resting are the destinations that are paused. Those that nobody has tried for long are forgotten.
func (m *Mover) resting(now time.Time) (queues, topics []string) {
	for to, p := range m.paused {
		switch {
		case now.Sub(p.until) > mostPause:
			delete(m.paused, to)
		case now.After(p.until): // it is tried
		case to.topic:
			topics = append(topics, to.name)
		default:
			queues = append(queues, to.name)
		}
	}
	return queues, topics
}
