// Package outbox publishes messages in the caller's own database transaction: if and only if that commits, the broker publishes them.
// It inserts rows into the table gmq_outbox of a MySQL or MariaDB database, whose broker runs with storage.mysql.outbox.
//
//	tx, err := db.BeginTx(ctx, nil)
//	…
//	_, err = tx.ExecContext(ctx, "UPDATE orders SET paid = 1 WHERE id = ?", id)
//	…
//	err = outbox.Publish(ctx, tx, outbox.Message{Queue: "receipts", Body: receipt})
//	…
//	err = tx.Commit()
//
// It imports the standard library only.
package outbox

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Message is what is to be published. Either Queue or Topic is set.
type Message struct {
	Queue string
	Topic string

	// Body: a json.RawMessage is sent as it is, a []byte as base64 with the encoding base64, anything else as the JSON that
	// encoding/json makes of it.
	Body any

	Headers map[string]string
	Key     string // messages of one key are delivered one at a time, in order

	// DedupID is for messages that may be inserted more than once. Without it a row is told from others by its number.
	DedupID string

	Delay    time.Duration // in whole milliseconds, rounded up; 0: none
	TTL      time.Duration // in whole milliseconds, rounded up; 0: the queue's
	Priority int           // 1 to 9; 0: the default. Lowest says the priority 0
	Lowest   bool
}

// An Execer is a *sql.Tx; or a *sql.Conn or *sql.DB, with which the row is a transaction of its own.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

var _ Execer = (*sql.Tx)(nil)

// Publish inserts the message. It is published soon after the transaction has been committed, and never if that is rolled
// back. The error is the message's fault, or the database's: then the transaction should be rolled back.
func Publish(ctx context.Context, tx Execer, m Message) error {
	if (m.Queue == "") == (m.Topic == "") {
		return errors.New("outbox: a message has a Queue or a Topic")
	}
	body, encoding, err := encode(m.Body)
	if err != nil {
		return fmt.Errorf("outbox: body: %w", err)
	}
	var headers any
	if len(m.Headers) > 0 {
		text, err := json.Marshal(m.Headers)
		if err != nil {
			return fmt.Errorf("outbox: headers: %w", err)
		}
		headers = string(text)
	}
	var priority any
	switch {
	case m.Delay < 0:
		return fmt.Errorf("outbox: delay %s is negative", m.Delay)
	case m.TTL < 0:
		return fmt.Errorf("outbox: ttl %s is negative", m.TTL)
	case m.Lowest:
		priority = 0
	case m.Priority < 0 || m.Priority > 9:
		return fmt.Errorf("outbox: priority %d is not between 0 and 9", m.Priority)
	case m.Priority > 0:
		priority = m.Priority
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO gmq_outbox (queue, topic, body, encoding, headers, message_key, priority, delay_ms, ttl_ms, dedup_id) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		text(m.Queue), text(m.Topic), body, text(encoding), headers, text(m.Key), priority, millis(m.Delay), millis(m.TTL), text(m.DedupID))
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// encode is the body as the table holds it.
func encode(body any) (text, encoding string, err error) {
	switch b := body.(type) {
	case json.RawMessage:
		if !json.Valid(b) {
			return "", "", errors.New("is no JSON")
		}
		return string(b), "", nil
	case []byte:
		return `"` + base64.StdEncoding.EncodeToString(b) + `"`, "base64", nil
	}
	raw, err := json.Marshal(body)
	return string(raw), "", err
}

// text is NULL where nothing is said.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// millis is NULL for nothing.
func millis(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return int64((d-1)/time.Millisecond) + 1
}
