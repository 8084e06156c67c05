package mysqljournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// executor is the state of the goroutine that carries transactions out.
type executor struct {
	conn   *sql.Conn // nil: there is none
	number int64     // of the latest transaction that is done
	unsure bool      // the latest attempt may be done: the connection was lost, or COMMIT has failed
	silent bool      // attempts fail though the database answers, and nobody hears of the owner
	tries  int       // in vain, one after another
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
	x.number = j.composer.number
	beat := time.NewTicker(j.beatEvery())
	defer beat.Stop()
	signal(j.ready)
	for {
		select {
		case t, ok := <-j.composed:
			if !ok {
				return
			}
			if err := j.persist(func() error { return j.carryOut(t) }); err != nil {
				j.give(err)
				return
			}
			x.number = t.number
			j.answer(t)
			signal(j.ready)
		case <-beat.C:
			if err := j.persist(j.beat); err != nil {
				j.give(err)
				return
			}
		case <-j.paced:
			beat.Reset(j.beatEvery())
			if x.conn != nil && !x.unsure { // what the database knows of its waits is out of date
				discard(x.conn)
				x.conn = nil
			}
		case <-j.ctx.Done():
			j.give(errors.New("the database did not answer in time"))
			return
		}
	}
}

// give ends the executor's work. Where the journal is being closed and nobody waits for an answer, nothing is wrong.
func (j *Journal) give(err error) {
	j.mu.Lock()
	owes := j.answered < j.proposed
	j.mu.Unlock()
	switch {
	case j.ctx.Err() == nil || isEnd(err):
		j.fail(err)
	case owes:
		j.fail(fmt.Errorf("what became of the last requests is unknown: %w", err))
	}
}

// watch notes an outage where an attempt takes long: what could be refused need not wait for its end. over ends that, and reports
// whether it did.
func (j *Journal) watch() (over func() bool) {
	noted := make(chan struct{})
	t := time.AfterFunc(j.opt.Slow, func() {
		j.setOutage(away, fmt.Errorf("the database has not answered for %v", j.opt.Slow))
		close(noted)
	})
	return func() bool {
		if t.Stop() {
			return false
		}
		<-noted
		return true
	}
}

// persist tries something until it works. Its error is the journal's end.
func (j *Journal) persist(try func() error) error {
	for x := &j.executor; ; {
		over := j.watch()
		err := try()
		if over() {
			x.tries++
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

// carryOut does a transaction, unless it turns out to be done.
func (j *Journal) carryOut(t *txn) error {
	x := &j.executor
	done, err := j.ensureConn(t)
	if err != nil || done {
		return err
	}
	if x.silent {
		if err := j.beat(); err != nil {
			return err
		}
	}
	sent := j.age()
	if err = x.run(j.ctx, t, j.epoch); err == nil {
		j.renew(sent)
	}
	return err
}

// beat tells others that the owner lives, and finds out whether the database does.
func (j *Journal) beat() error {
	x := &j.executor
	if _, err := j.ensureConn(nil); err != nil {
		return err
	}
	sent := j.age()
	if err := x.claim(j.ctx, j.epoch, ""); err != nil {
		return err
	}
	_, err := x.conn.ExecContext(j.ctx, "COMMIT")
	if err == nil {
		x.silent = false
		j.renew(sent)
	}
	return err
}

// stumble deals with an attempt that failed: nil where another is to be made, which it has waited for.
func (j *Journal) stumble(err error) error {
	x := &j.executor
	if isEnd(err) {
		return err
	}
	kind := faultOf(err)
	x.silent = x.silent || kind == held || kind == noSpace || kind == refused
	if kind != again || x.tries > 0 {
		defer func() { x.tries++ }()
	}
	if x.conn != nil {
		if kind == lost {
			x.unsure = true
		} else if _, rollback := x.conn.ExecContext(j.ctx, "ROLLBACK"); rollback != nil {
			kind, x.unsure = lost, true
		}
		if kind != again && kind != held && kind != noSpace { // another server may answer the next time
			discard(x.conn)
			x.conn = nil
		}
	}
	first := x.tries == 0
	switch {
	case kind == again: // within a moment
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
		return fmt.Errorf("the database could not be reached before the end: %w", err)
	}
	return nil
}

// ensureConn sees to it that there is a connection. Where nobody knows whether the latest attempt is done it finds out: its number
// is in the row that it changed.
func (j *Journal) ensureConn(t *txn) (done bool, err error) {
	x := &j.executor
	if x.conn != nil && !x.unsure {
		return false, nil
	}
	if x.conn == nil {
		conn, err := j.connect(j.ctx, carries)
		if err != nil {
			return false, err
		}
		x.conn = conn
	}
	if !x.unsure {
		return false, nil
	}
	var r epochRow
	if err := r.read(j.ctx, x.conn, " FOR UPDATE"); err != nil { // waits for the end of a lost one: that has changed the row
		return false, err
	}
	if _, err := x.conn.ExecContext(j.ctx, "COMMIT"); err != nil {
		return false, err
	}
	switch {
	case r.epoch == j.epoch && t != nil && r.commits == t.number:
		done = true
	case r.epoch != j.epoch || r.commits != x.number:
		return false, x.fenced(&r, j.epoch)
	}
	x.unsure = false
	return done, nil
}

// run does a transaction once.
func (x *executor) run(ctx context.Context, t *txn, epoch int64) error {
	err := x.claim(ctx, epoch, fmt.Sprintf("commits = %d, place = %d, latest = x'%x', ", t.number, t.place, t.latest))
	if err != nil {
		return err
	}
	for _, s := range t.statements {
		if _, err := x.conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	x.unsure = true // whatever it answers but yes
	if _, err = x.conn.ExecContext(ctx, "COMMIT"); err == nil {
		x.unsure = false
	}
	return err
}

// claim changes the row of gmq_epoch, which nobody else may change before the transaction ends. set is what else it says from now on.
func (x *executor) claim(ctx context.Context, epoch int64, set string) error {
	res, err := x.conn.ExecContext(ctx, fmt.Sprintf("UPDATE gmq_epoch SET %sconnection = CONNECTION_ID(), beat = UTC_TIMESTAMP(6) WHERE id = 1 AND epoch = %d AND commits = %d",
		set, epoch, x.number))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var r epochRow
	if err := r.read(ctx, x.conn, ""); err != nil {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return x.fenced(&r, epoch)
}

// isEnd reports whether an error says that the tables are this process's no more, or not as it knows them.
func isEnd(err error) bool { return errors.Is(err, ErrFenced) || errors.Is(err, ErrRestored) }

// fenced is the end of an owner that finds another row than it has left.
func (x *executor) fenced(r *epochRow, epoch int64) error {
	why := ErrFenced
	if r.epoch <= epoch {
		why = ErrRestored
	}
	return fmt.Errorf("%w: gmq_epoch says epoch %d, %d commits, owner %q; it was left with epoch %d, %d commits", why, r.epoch, r.commits, r.owner, epoch, x.number)
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
