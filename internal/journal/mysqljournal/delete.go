package mysqljournal

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/gmq/gmq/internal/journal"
)

// A row goes when the owner says that it needs the record no more (Release), with the next transaction: until then it may
// want to read it, though the record that settles the message is kept already. Where a crash comes between the two, the
// records that settle messages are replayed, and their rows deleted once more.

// A run is places from..to of records that lie one behind the other.
type run struct{ from, to journal.Ref }

// deleteSpans deletes the rows of spans.
func (c *composer) deleteSpans(spans []journal.Span) {
	if len(spans) == 0 {
		return
	}
	bodies := c.unshare(spans)
	slices.SortFunc(spans, func(a, b journal.Span) int {
		if a.Ref < b.Ref {
			return -1
		}
		return 1
	})
	c.runs = c.runs[:0]
	for _, s := range spans {
		if s.Size == 0 { // it is a body, or no more
			continue
		}
		if n := len(c.runs); n > 0 && c.runs[n-1].to == s.Ref {
			c.runs[n-1].to += journal.Ref(s.Size)
			continue
		}
		c.runs = append(c.runs, run{s.Ref, s.Ref + journal.Ref(s.Size)})
	}
	c.deleteRuns("gmq_message", c.runs, spans)
	if len(bodies) > 0 {
		slices.Sort(bodies)
		c.deletePlaces("gmq_body", bodies)
	}
}

// copied is a message that shares its bytes with others: its number, and where those are.
type copied struct {
	seq  uint64
	body journal.Ref
}

// deleteCopies deletes the rows of messages that share their bytes: with what settles them, as nobody reads those rows. They are
// named by their numbers and their bytes: a number alone may be a newer message's, in a queue that was deleted and made anew.
func (c *composer) deleteCopies() {
	for _, queue := range slices.Sorted(maps.Keys(c.gone)) {
		for part := range slices.Chunk(c.gone[queue], maxPlaces) {
			text := append(appendQuoted([]byte("DELETE FROM gmq_message WHERE queue = "), []byte(queue)), " AND seq IN ("...)
			bodies := map[journal.Ref]struct{}{}
			for _, m := range part {
				text = append(appendInt(text, int64(m.seq)), ',')
				bodies[m.body] = struct{}{}
			}
			text = append(text[:len(text)-1], ") AND body_place IN ("...)
			for _, ref := range slices.Sorted(maps.Keys(bodies)) {
				text = append(appendInt(text, int64(ref)), ',')
			}
			text[len(text)-1] = ')'
			c.txn.statements = append(c.txn.statements, string(text))
		}
	}
	clear(c.gone)
}

// unshare takes those spans out that are bodies which several queues share, and returns those that none needs any more.
func (c *composer) unshare(spans []journal.Span) (over []journal.Ref) {
	j := c.j
	j.bodiesMu.Lock()
	defer j.bodiesMu.Unlock()
	if len(j.bodies) == 0 {
		return nil
	}
	known := j.settled.Load() >= int64(len(j.shards)) // who refers to what was there before
	for i := range spans {
		ref := spans[i].Ref
		s := j.bodies[ref]
		if s == nil {
			continue
		}
		spans[i].Size = 0
		if s.messages--; s.messages <= 0 && (known || !s.old) {
			over = append(over, ref)
			delete(j.bodies, ref)
		}
	}
	return over
}

// longRun is from how many rows on a range is deleted as one. Shorter ones are named one by one.
const longRun = 4

// deleteRuns deletes the rows of runs. spans are what they were made of, sorted.
func (c *composer) deleteRuns(table string, runs []run, spans []journal.Span) {
	var single []journal.Ref
	at := 0
	for _, r := range runs {
		first := at
		for at < len(spans) && (spans[at].Size == 0 || spans[at].Ref < r.to) {
			at++
		}
		if at-first >= longRun {
			text := append([]byte("DELETE FROM "), table...)
			text = appendInt(append(text, " WHERE place BETWEEN "...), int64(r.from))
			text = appendInt(append(text, " AND "...), int64(r.to-1))
			c.txn.statements = append(c.txn.statements, string(text))
			continue
		}
		for _, s := range spans[first:at] {
			if s.Size != 0 {
				single = append(single, s.Ref)
			}
		}
	}
	c.deletePlaces(table, single)
}

// maxPlaces is how many places one statement names.
const maxPlaces = 2000

func (c *composer) deletePlaces(table string, places []journal.Ref) {
	for len(places) > 0 {
		part := places[:min(len(places), maxPlaces)]
		places = places[len(part):]
		text := append(append([]byte("DELETE FROM "), table...), " WHERE place IN ("...)
		for i, p := range part {
			if i > 0 {
				text = append(text, ',')
			}
			text = appendInt(text, int64(p))
		}
		c.txn.statements = append(c.txn.statements, string(append(text, ')')))
	}
}

// release notes rows that nobody needs.
func (j *Journal) release(spans []journal.Span) {
	j.mu.Lock()
	j.released = append(j.released, spans...)
	j.releases += uint64(len(spans))
	j.mu.Unlock()
	signal(j.work)
}

// loadBodies finds out which records queues share. How many messages refer to each, the owners say by Retain.
func (j *Journal) loadBodies(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, "SELECT place FROM gmq_body")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var place int64
		if err := rows.Scan(&place); err != nil {
			return err
		}
		j.bodies[journal.Ref(place)] = &share{old: true}
	}
	return rows.Err()
}

// retained counts what an owner refers to at the start; later it is the followers that count.
func (j *Journal) retained(spans []journal.Span) {
	j.bodiesMu.Lock()
	defer j.bodiesMu.Unlock()
	if len(j.bodies) == 0 {
		return
	}
	for _, s := range spans {
		if b := j.bodies[s.Ref]; b != nil {
			b.messages++
		}
	}
}

// settle is told that one more owner has said all that it retains. After the last one the bodies go to which nobody refers.
func (j *Journal) settle() {
	if j.settled.Add(1) != int64(len(j.shards)) {
		return
	}
	var spans []journal.Span
	j.bodiesMu.Lock()
	for ref, b := range j.bodies {
		if b.old && b.messages <= 0 {
			b.messages = 1 // which unshare takes away
			spans = append(spans, journal.Span{Ref: ref, Size: 1})
		}
	}
	j.bodiesMu.Unlock()
	if len(spans) > 0 {
		j.release(spans)
	}
}
