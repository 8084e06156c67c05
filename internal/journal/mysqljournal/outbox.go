package mysqljournal

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// An OutboxRow is a row of gmq_outbox. Texts that are NULL are nil.
type OutboxRow struct {
	ID                                                  int64
	Queue, Topic, Body, Encoding, Headers, Key, DedupID []byte
	Priority, DelayMS, TTLMS                            *int64
	Created                                             string
}

const outboxColumns = "id, queue, topic, body, encoding, headers, message_key, priority, delay_ms, ttl_ms, dedup_id, created"

// Outbox is the table of messages to be published, for whoever moves them. It belongs to one goroutine.
type Outbox struct {
	j    *Journal
	conn *sql.Conn
	fit  int // rows that one look asks for: about as many as its bytes allow
}

// Outbox is the table gmq_outbox.
func (j *Journal) Outbox() *Outbox { return &Outbox{j: j, fit: firstRows} }

// firstRows is how many rows the first look asks for.
const firstRows = 64

// Rows are committed rows, those with the lowest ids first: up to limit of them, and not many more than maxBytes. Rows to the
// queues and topics named are left out. It locks nothing. There may be more rows where it returns fewer than limit.
func (o *Outbox) Rows(ctx context.Context, limit, maxBytes int, butQueues, butTopics []string) (got []OutboxRow, err error) {
	defer o.dropOn(&err)
	if err := o.ensure(ctx); err != nil {
		return nil, err
	}
	query := []byte("SELECT " + outboxColumns + " FROM gmq_outbox WHERE 1 = 1")
	for _, but := range []struct {
		column string
		names  []string
	}{{"queue", butQueues}, {"topic", butTopics}} {
		if len(but.names) == 0 {
			continue
		}
		query = fmt.Appendf(query, " AND (%[1]s IS NULL OR %[1]s NOT IN (", but.column)
		for i, n := range but.names {
			if i > 0 {
				query = append(query, ',')
			}
			query = appendQuoted(query, []byte(n))
		}
		query = append(query, "))"...)
	}
	n := min(limit, max(o.fit, 1))
	rows, err := o.conn.QueryContext(ctx, string(fmt.Appendf(query, " ORDER BY id LIMIT %d", n)))
	if err != nil {
		return nil, err
	}
	defer rows.Close() // reads what is left of them
	bytes := 0
	for bytes < maxBytes && rows.Next() {
		var r OutboxRow
		if err := rows.Scan(&r.ID, &r.Queue, &r.Topic, &r.Body, &r.Encoding, &r.Headers, &r.Key, &r.Priority, &r.DelayMS, &r.TTLMS, &r.DedupID, &r.Created); err != nil {
			return nil, err
		}
		bytes += len(r.Body) + len(r.Headers)
		got = append(got, r)
	}
	if bytes >= maxBytes {
		o.fit = len(got)
	} else if len(got) == n {
		o.fit = min(2*n, limit)
	}
	return got, rows.Err()
}

// Done deletes rows that have been published, and puts those aside that never can be, with the reason; all in one transaction.
// ErrFenced says that the tables are another process's now, and nothing was changed.
func (o *Outbox) Done(ctx context.Context, published []int64, refused map[int64]string) (err error) {
	defer o.dropOn(&err)
	if err := o.ensure(ctx); err != nil {
		return err
	}
	if _, err := o.conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	for id, why := range refused {
		if len(why) > 990 {
			why = strings.ToValidUTF8(why[:990], "") + "…"
		}
		_, err := o.conn.ExecContext(ctx, "INSERT INTO gmq_outbox_error ("+outboxColumns+", failed, reason) SELECT "+outboxColumns+", UTC_TIMESTAMP(6), ? FROM gmq_outbox WHERE id = ?", why, id)
		if err != nil {
			return err
		}
		published = append(published, id)
	}
	for len(published) > 0 {
		n := min(len(published), maxPlaces)
		query := []byte("DELETE FROM gmq_outbox WHERE id IN (")
		for i, id := range published[:n] {
			if i > 0 {
				query = append(query, ',')
			}
			query = appendInt(query, id)
		}
		if _, err := o.conn.ExecContext(ctx, string(append(query, ')'))); err != nil {
			return err
		}
		published = published[n:]
	}
	var r epochRow
	if err := r.read(ctx, o.conn, " FOR UPDATE"); err != nil { // last: the journal's transactions need the row, too
		return err
	}
	if r.epoch != o.j.epoch {
		return ErrFenced
	}
	_, err = o.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (o *Outbox) ensure(ctx context.Context) error {
	if o.conn != nil {
		return nil
	}
	conn, err := o.j.connect(ctx, changes)
	o.conn = conn
	return err
}

// dropOn gives the connection up where something went wrong, and with it what was not committed.
func (o *Outbox) dropOn(err *error) {
	if *err != nil {
		o.Close()
	}
}

// Close gives the connection back.
func (o *Outbox) Close() {
	if o.conn != nil {
		discard(o.conn)
		o.conn = nil
	}
}
