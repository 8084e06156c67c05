package mysqljournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// executor is the state of the goroutine that carries transactions out.
type executor struct {
	conn   *sql.Conn // nil: there is none
	id     int64     // the server's name of the connection; of the latest where there is none
	number int64     // of the latest transaction that is done
	place  journal.Ref
	unsure bool // a transaction was under way when the connection went: it may be done
	tries  int  // in vain, one after another
}

// executeLoop is the executor.
func (j *Journal) executeLoop() {
	x := &j.executor
	defer close(j.ended)
	defer func() {
		if x.conn != nil {
			discard(x.conn)
		}
	}()
	x.number, x.place = j.composer.number, j.composer.place
	beat := time.NewTicker(j.opt.Takeover / 5)
	defer beat.Stop()
	signal(j.ready)
	for {
		select {
		case t, ok := <-j.composed:
			if !ok {
				return
			}
			if err := j.carryOut(t); err != nil {
				j.fail(err)
				return
			}
			x.number, x.place = t.number, t.place
			j.answer(t)
			signal(j.ready)
		case <-beat.C:
			if err := j.beat(); err != nil {
				j.fail(err)
				return
			}
		case <-j.ctx.Done():
			j.fail(errors.New("the database did not answer in time; what became of the last requests is unknown"))
			return
		}
	}
}

// carryOut does a transaction, as often as it takes. Its error is the journal's end.
func (j *Journal) carryOut(t *txn) error {
	x := &j.executor
	for {
		done, err := j.ensureConn(t)
		if err == nil && !done {
			err = x.run(j.ctx, t, j.epoch)
		}
		if err == nil {
			if x.tries > 0 {
				x.tries = 0
				j.setOutage(none, nil)
			}
			return nil
		}
		if end := j.stumble(err); end != nil {
			return end
		}
	}
}

// stumble deals with an attempt that failed: nil where another is to be made, which it has waited for.
func (j *Journal) stumble(err error) error {
	x := &j.executor
	if errors.Is(err, ErrFenced) {
		return err
	}
	kind := faultOf(err)
	if kind != again || x.tries > 0 {
		defer func() { x.tries++ }()
	}
	if x.conn != nil {
		if kind == lost {
			x.unsure = true
		} else if _, rollback := x.conn.ExecContext(j.ctx, "ROLLBACK"); rollback != nil {
			kind, x.unsure = lost, true
		}
		if kind != again && kind != noSpace { // another server may answer the next time
			discard(x.conn)
			x.conn = nil
		}
	}
	first := x.tries == 0
	switch {
	case kind == again:
		first = false
	case kind == noSpace:
		j.setOutage(full, err)
	case kind == lost && first: // it may be back at once
	default:
		j.setOutage(away, err)
	}
	if first && kind == lost {
		return nil
	}
	if !sleep(j.ctx, backoff(x.tries)) {
		return fmt.Errorf("the database could not be reached before the end; what became of the last requests is unknown: %w", err)
	}
	return nil
}

// ensureConn sees to it that there is a connection. Where the one before was lost within a transaction, it finds out
// whether that one is done: its number is in the row that it changed.
func (j *Journal) ensureConn(t *txn) (done bool, err error) {
	x := &j.executor
	if x.conn != nil && !x.unsure {
		return false, nil
	}
	if x.conn == nil {
		conn, id, err := j.connect(j.ctx, false)
		if err != nil {
			return false, err
		}
		if x.id != 0 { // not that what it was told last is done after we have looked
			kill(j.ctx, conn, x.id)
		}
		x.conn, x.id = conn, id
	}
	if !x.unsure {
		return false, nil
	}
	var r epochRow
	if err := r.read(j.ctx, x.conn, " FOR UPDATE"); err != nil { // waits for the end of the lost one
		return false, err
	}
	if _, err := x.conn.ExecContext(j.ctx, "COMMIT"); err != nil {
		return false, err
	}
	switch {
	case r.epoch != j.epoch:
		return false, ErrFenced
	case t != nil && r.commits == t.number:
		done = true
	case r.commits != x.number:
		return false, fmt.Errorf("%w: gmq_epoch.commits is %d and should be %d", ErrFenced, r.commits, x.number)
	}
	x.unsure = false
	return done, nil
}

// run does a transaction once.
func (x *executor) run(ctx context.Context, t *txn, epoch int64) error {
	err := x.claim(ctx, epoch, t.number, int64(t.place))
	if err != nil {
		return err
	}
	for _, s := range t.statements {
		if _, err := x.conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	_, err = x.conn.ExecContext(ctx, "COMMIT")
	return err
}

// claim changes the row of gmq_epoch, which nobody else may change before the transaction ends.
func (x *executor) claim(ctx context.Context, epoch, commits, place int64) error {
	res, err := x.conn.ExecContext(ctx, fmt.Sprintf("UPDATE gmq_epoch SET commits = %d, place = %d, connection = %d, beat = UTC_TIMESTAMP(6) WHERE id = 1 AND epoch = %d AND commits = %d",
		commits, place, x.id, epoch, x.number))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return ErrFenced
	}
	return nil
}

// beat tells others that the owner lives, and finds out whether the database does.
func (j *Journal) beat() error {
	x := &j.executor
	for {
		_, err := j.ensureConn(nil)
		if err == nil {
			err = x.claim(j.ctx, j.epoch, x.number, int64(x.place))
		}
		if err == nil {
			_, err = x.conn.ExecContext(j.ctx, "COMMIT")
		}
		if err == nil {
			if x.tries > 0 {
				x.tries = 0
				j.setOutage(none, nil)
			}
			return nil
		}
		if end := j.stumble(err); end != nil {
			return end
		}
	}
}

// answer tells the owners what is kept.
func (j *Journal) answer(t *txn) {
	j.cache.add(t.block)
	touched := map[*Shard]struct{}{}
	bytes := int64(0)
	for _, it := range t.items {
		bytes += int64(len(it.batch.Data)) // not behind handBack: then it is others'
		j.handBack(it, touched)
	}
	for _, w := range t.written {
		touched[w.shard] = struct{}{}
	}
	j.mu.Lock()
	j.answered += uint64(len(t.items))
	j.waiting -= bytes
	j.stats.Transactions++
	j.stats.Records += t.stats.Records
	j.stats.Inserted += t.stats.Inserted
	j.idle.Broadcast()
	j.mu.Unlock()
	for s := range touched {
		s.callWake()
	}
}
