package mysqljournal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// The row of gmq_epoch says who owns the tables. Its owner changes it in every transaction, and only while it is as the
// owner believes: so of two who both believe to be the owner, one can commit. The other finds that out with its next
// commit, and has promised nothing since.

// ErrFenced is why a journal ends whose tables another process has taken over, ErrRestored why where nobody has: what was confirmed may not be
// in them.
var (
	ErrFenced   = errors.New("another process has taken over the tables")
	ErrRestored = errors.New("the tables are not as they were left")
)

// backoff is how long is waited before the n-th attempt.
func backoff(n int) time.Duration {
	return min(10*time.Millisecond<<min(n, 10), time.Second)
}

// sleep waits; it is false where ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// acquire makes the tables this process's.
func (j *Journal) acquire(ctx context.Context) error {
	began, told := time.Now(), ""
	for n := 0; ; n++ {
		wait, err := j.tryAcquire(ctx)
		switch {
		case err == nil && wait == "":
			return nil
		case err != nil && (isHopeless(err) || time.Since(began) > j.opt.Patience && faultOf(err) != held):
			return fmt.Errorf("mysql: %w", err)
		case err != nil:
			wait = err.Error()
		}
		if err == nil || faultOf(err) == held {
			began = time.Now() // it answers; how long the owner lives, or a lock is held, is up to others
		}
		if wait != told {
			told = wait
			j.opt.Logf("mysql: waiting: %s", wait)
		}
		if !sleep(ctx, min(backoff(n), 200*time.Millisecond)) {
			return fmt.Errorf("mysql: %s: %w", wait, ctx.Err())
		}
	}
}

// An epochRow is what the row of gmq_epoch says.
type epochRow struct {
	epoch, commits, place int64
	silent                int64 // for how long nothing was heard of the owner, µs
	node, owner           string
	latest                []byte
}

func (r *epochRow) read(ctx context.Context, conn *sql.Conn, lock string) error {
	err := conn.QueryRowContext(ctx, "SELECT epoch, node, owner, commits, place, latest, TIMESTAMPDIFF(MICROSECOND, beat, UTC_TIMESTAMP(6)) FROM gmq_epoch WHERE id = 1"+lock).
		Scan(&r.epoch, &r.node, &r.owner, &r.commits, &r.place, &r.latest, &r.silent)
	if errors.Is(err, sql.ErrNoRows) {
		return permanent{errors.New("gmq_epoch has lost its row: restore a backup of all tables")}
	}
	if err != nil {
		return fmt.Errorf("the row of gmq_epoch: %w", err)
	}
	return nil
}

// mustWait says for whom one has to wait; "": for nobody.
func (j *Journal) mustWait(r *epochRow) string {
	takeover := j.opt.Takeover
	if j.opt.Mate != nil && j.opt.Mate(r.node) {
		takeover = j.mateTakeover()
	}
	if r.owner == "" || r.node == j.opt.Node || time.Duration(r.silent)*time.Microsecond >= takeover {
		return ""
	}
	return fmt.Sprintf("the tables belong to %s; they are taken over when it has ended, or been silent for %v", r.owner, takeover)
}

// mateTakeover is after how long nodes of a cluster take over from each other: it has elected another leader meanwhile.
func (j *Journal) mateTakeover() time.Duration { return min(j.opt.Takeover, mostMateTakeover) }

// Share says that nodes of a cluster may take the tables over: from now on what is read is handed out for a shorter time behind the last commit.
func (j *Journal) Share() {
	j.hold.Store(int64(j.mateTakeover()))
	j.tenure.Store(min(j.tenure.Load(), j.age()+j.handOut()))
	signal(j.paced)
}

// handOut is for how long behind a commit what is read may be handed out, ns.
func (j *Journal) handOut() int64 {
	hold := j.hold.Load()
	return hold - hold/10
}

// What an owner reads it may hand out only as long as nobody else can have taken over: for Takeover from when it was heard of
// last, or less where nodes of a cluster have the tables in turn, less a tenth for what happens on the way.

// renew notes that the owner was heard of, by a statement that was sent at that time, ns after born.
func (j *Journal) renew(sent int64) {
	over := !j.tenured()
	j.tenure.Store(sent + j.handOut())
	if over {
		for _, s := range j.shards {
			s.callWake()
		}
	}
}

// tenured reports whether the tables are this process's for certain.
func (j *Journal) tenured() bool { return j.age() < j.tenure.Load() }

func (j *Journal) age() int64 { return int64(time.Since(j.born)) }

// tryAcquire is one attempt; wait says for whom one has to wait.
func (j *Journal) tryAcquire(ctx context.Context) (wait string, err error) {
	conn, err := j.connect(ctx, changes)
	if err != nil {
		return "", err
	}
	defer discard(conn)
	if err := migrate(ctx, conn, 1); err != nil { // there must be something to own; what is newer is the owner's to make
		return "", err
	}
	var r epochRow
	if err := r.read(ctx, conn, ""); err != nil { // without waiting for a transaction of the owner's
		return "", err
	}
	if wait := j.mustWait(&r); wait != "" {
		return wait, nil
	}
	if wait, err := j.takeOver(ctx, conn); wait != "" || err != nil {
		return wait, err
	}
	if err := migrate(ctx, conn, newest); err != nil {
		return "", err
	}
	for _, table := range []string{"gmq_message", "gmq_body", "gmq_command", "gmq_snapshot", "gmq_outbox", "gmq_outbox_error"} {
		if _, err := conn.ExecContext(ctx, "SELECT 1 FROM "+table+" LIMIT 0"); err != nil {
			return "", fmt.Errorf("table %s: %w", table, err)
		}
	}
	return "", j.loadBodies(ctx, conn)
}

// takeOver makes the tables this process's, unless somebody else was quicker. An owner that stands still in the middle of a
// transaction has the row locked, until the server ends its connection.
func (j *Journal) takeOver(ctx context.Context, conn *sql.Conn) (wait string, err error) {
	if _, err := conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return "", err
	}
	var r epochRow
	if err := r.read(ctx, conn, " FOR UPDATE"); err != nil {
		return "", err
	}
	if wait := j.mustWait(&r); wait != "" {
		return wait, nil
	}
	for i := range j.opt.Shards {
		if _, err := conn.ExecContext(ctx, "INSERT INTO gmq_shard (shard, snapshot) VALUES (?, 0) ON DUPLICATE KEY UPDATE snapshot = snapshot", i); err != nil {
			return "", err
		}
	}
	sent := j.age()
	_, err = conn.ExecContext(ctx, "UPDATE gmq_epoch SET epoch = epoch + 1, node = ?, owner = ?, connection = CONNECTION_ID(), beat = UTC_TIMESTAMP(6) WHERE id = 1", j.opt.Node, j.opt.Owner)
	if err != nil {
		return "", err
	}
	if err := j.checkShards(ctx, conn); err != nil {
		return "", err
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return "", err
	}
	j.renew(sent)
	j.epoch = r.epoch + 1
	j.composer.number, j.composer.place = r.commits, journal.Ref(r.place)
	for i, s := range j.shards {
		if s.latest = 0; 8*i+8 <= len(r.latest) {
			s.latest = journal.Ref(binary.BigEndian.Uint64(r.latest[8*i:]))
		}
	}
	return "", nil
}

// checkShards refuses tables that were written with another number of shards.
func (j *Journal) checkShards(ctx context.Context, conn *sql.Conn) error {
	var most sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT MAX(shard) FROM gmq_shard").Scan(&most); err != nil {
		return err
	}
	if most.Int64 >= int64(j.opt.Shards) {
		return permanent{fmt.Errorf("the tables were written with at least %d shards; this program has %d", most.Int64+1, j.opt.Shards)}
	}
	return nil
}

// giveBack lets the next owner begin at once.
func (j *Journal) giveBack() error {
	ctx, cancel := context.WithTimeout(context.Background(), j.patience())
	defer cancel()
	conn, err := j.connect(ctx, changes)
	if err != nil {
		return err
	}
	defer discard(conn)
	_, err = conn.ExecContext(ctx, "UPDATE gmq_epoch SET owner = '' WHERE id = 1 AND epoch = ?", j.epoch)
	return err
}
