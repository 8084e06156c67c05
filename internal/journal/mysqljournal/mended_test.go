package mysqljournal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/test/mariadb"
)

// replayAll has all shards replayed, of which the first is o's.
func (o *owner) replayAll() {
	o.t.Helper()
	o.replayed()
	for _, s := range o.j.shards[1:] {
		if err := s.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil }); err != nil {
			o.t.Fatal(err)
		}
	}
}

func number(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(query, ": ", err)
	}
	return n
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for patience := time.After(time.Minute); !cond(); {
		select {
		case <-patience:
			t.Fatal("never: ", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// A composer with what it needs, and nothing behind it.
func newComposer(format Format, packet int64) *composer {
	j := &Journal{opt: Options{Format: format}, bodies: map[journal.Ref]*share{}, work: make(chan struct{}, 1)}
	j.shards = []*Shard{newShard(j, 0)}
	j.shards[0].follower = format.NewFollower()
	j.packet.Store(packet)
	c := &j.composer
	c.init(j)
	c.place = 4096
	c.statement.Store(min(roomIn(packet), statementBytes))
	return c
}

// Whatever is written, however many of its bytes need an escape, no statement is longer than the server takes.
func TestStatementsFit(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes long statements, in one goroutine")
	}
	for _, packet := range []int64{384 << 10, 1 << 20, 16 << 20} {
		c := newComposer(plain, packet)
		worst := func(n int64) string { return strings.Repeat(`\`, int(n)) }
		for _, n := range []int64{roomIn(packet) / 2, roomIn(packet), roomIn(packet) * 7 / 10, 1000, roomIn(packet) / 3} {
			b := &journal.Batch{Data: append(journal.BeginRecord(nil), worst(n-journal.HeaderBytes)...)}
			journal.EndRecord(b.Data, 0)
			if err := c.j.tooLarge(b); err != nil {
				t.Fatal(err)
			}
			c.j.pending = append(c.j.pending, item{c.j.shards[0], b})
		}
		w := &snapWriter{shard: c.j.shards[0], place: 8, pieces: [][]byte{[]byte(worst(2 << 20)), []byte(worst(100))}, whole: true}
		c.j.writers = append(c.j.writers, w)
		var all []string
		for {
			more, err := c.add()
			if err != nil {
				t.Fatal(err)
			}
			if c.txn == nil {
				break
			}
			if s := c.j.shards[0]; s.stubs != nil && more {
				s.command = append(s.command, worst(2<<20)...)
			}
			all = append(all, c.seal().statements...)
		}
		for _, s := range all {
			if int64(len(s)) > packet-8 {
				t.Errorf("a packet has %d bytes; a statement of %d: %.60s", packet, len(s), s)
			}
		}
		if len(all) < 8 {
			t.Errorf("%d statements were no test", len(all))
		}
	}
}

// scripted is a format whose records say what they mean: a change, as "op queue seq body".
var scripted = Format{
	NewFollower: func() Follower { return &scriptFollower{} },
	NewStubs:    func() Stubs { return wholeStubs{} },
	Parts:       func(p []byte) (head, headers, body []byte, ok bool) { return p, nil, nil, true },
}

type scriptFollower struct{ changes []Change }

func (*scriptFollower) LoadSnapshot([]byte) error { return nil }

func (f *scriptFollower) Apply(ref journal.Ref, _ uint32, p []byte) ([]Change, error) {
	var op string
	c := Change{Ref: ref, Own: ref, Published: 1}
	var body uint64
	if _, err := fmt.Sscan(string(p), &op, &c.Queue, &c.Seq, &body); err != nil {
		return nil, err
	}
	if body != 0 {
		c.Ref = journal.Ref(body)
	}
	c.Op = map[string]Op{"insert": Insert, "delete": Delete}[op]
	f.changes = append(f.changes[:0], c)
	return f.changes, nil
}

// wholeStubs keep all of a record.
type wholeStubs struct{}

func (wholeStubs) Append(dst, p []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(p))), p...)
}

func (wholeStubs) Read(b []byte) (p, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	return b[k : k+int(n)], b[k+int(n):], nil
}

// A queue that had a copy of a message to a topic is deleted, and made anew with a message of the same number, within one transaction: what is
// deleted is the copy.
func TestNumbersAgain(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	opt := options(t, dsn)
	opt.Format = scripted
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayAll()
	records := func(all ...string) *journal.Batch {
		b := &journal.Batch{}
		for _, r := range all {
			start := len(b.Data)
			b.Data = append(journal.BeginRecord(b.Data), r...)
			journal.EndRecord(b.Data, start)
		}
		return b
	}
	place := j.composer.place
	topic := records("the bytes of all", fmt.Sprintf("insert q 1 %d", place))
	topic.Parts = []journal.Part{{Shard: journal.Nobody, End: journal.HeaderBytes + len("the bytes of all")}, {Shard: 0, End: len(topic.Data)}}
	j.Spread(topic)
	if err := o.wait(topic); err != nil || topic.Base != place {
		t.Fatal(err, topic.Base)
	}
	db := mariadb.Connect(t, dsn)
	if n := number(t, db, fmt.Sprint("SELECT COUNT(*) FROM gmq_message WHERE body_place = ", place)); n != 1 {
		t.Fatal(n, " rows of the copy")
	}
	again := records(fmt.Sprintf("delete q 1 %d", place), "insert q 1 0")
	o.s.Propose(again)
	if err := o.wait(again); err != nil {
		t.Fatal(err)
	}
	if n := number(t, db, "SELECT COUNT(*) FROM gmq_message WHERE queue = 'q' AND body_place IS NULL"); n != 1 {
		t.Errorf("%d rows of the newer message", n)
	}
	if n := number(t, db, "SELECT COUNT(*) FROM gmq_message WHERE queue = 'q'"); n != 1 {
		t.Errorf("%d rows in all", n)
	}
	shut(t, j)
}

// Batches without a byte have places, too.
func TestEmptyBatches(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	j := open(t, dsn)
	o := own(t, j)
	o.replayed()
	for range 3 {
		b := &journal.Batch{}
		o.s.Propose(b)
		if err := o.wait(b); err != nil {
			t.Fatal(err)
		}
	}
	o.keep("one")
	shut(t, j)
	j = open(t, dsn)
	if n := own(t, j).replayed(); n != 1 {
		t.Errorf("%d records", n)
	}
	shut(t, j)
}

// A row of gmq_command that is not there, or is not as it was, is missed at the start.
func TestCommandsTampered(t *testing.T) {
	for _, c := range []struct {
		statement string
		want      error
	}{
		{"DELETE FROM gmq_command ORDER BY place LIMIT 1", errMissing},
		{"DELETE FROM gmq_command WHERE place > (SELECT * FROM (SELECT MIN(place) FROM gmq_command) a) ORDER BY place LIMIT 1", errMissing},
		{"DELETE FROM gmq_command ORDER BY place DESC LIMIT 1", errMissing},
		{"TRUNCATE gmq_command", errMissing},
		{"UPDATE gmq_command SET records = CONCAT(LEFT(records, LENGTH(records) - 1), 'z') ORDER BY place LIMIT 1", errCommand},
	} {
		dsn := mariadb.Get(t).Database(t)
		j := open(t, dsn)
		o := own(t, j)
		o.replayed()
		for i := range 3 {
			o.keep(fmt.Sprint("record ", i))
		}
		shut(t, j)
		if _, err := mariadb.Connect(t, dsn).Exec(c.statement); err != nil {
			t.Fatal(err)
		}
		j = open(t, dsn)
		err := own(t, j).s.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.statement, err)
		}
		shut(t, j)
	}
}

// Snapshots that an earlier life has begun, or has not got to delete, go.
func TestSnapshotsLeft(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	shut(t, open(t, dsn))
	db := mariadb.Connect(t, dsn)
	for part := range 2*choreParts + 1 {
		if _, err := db.Exec("INSERT INTO gmq_snapshot VALUES (0, 5000, ?, 'half'), (3, 6000, ?, 'half')", part, part); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dsn)
	own(t, j).replayAll()
	until(t, "no snapshots are left", func() bool { return number(t, db, "SELECT COUNT(*) FROM gmq_snapshot") == 0 })
	shut(t, j)
}

// Somebody else's lock: publishes are refused soon, the owner is heard of all the same, and nobody takes its tables.
func TestLocked(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the database to lose its patience")
	}
	dsn := mariadb.Get(t).Database(t)
	opt := options(t, dsn)
	opt.Takeover = 4 * time.Second
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayed()
	o.keep("one")
	db := mariadb.Connect(t, dsn)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE gmq_message SET attempts = attempts + 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("SELECT * FROM gmq_message WHERE place >= 0 FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	o.s.Release([]journal.Span{{Ref: 4096, Size: 100}})
	until(t, "an outage", func() bool { return j.Outage() != nil })
	if err := o.wait(o.propose(false, "refused")); !errors.Is(err, journal.ErrUnavailable) {
		t.Error(err)
	}
	waits := o.propose(true, "waits")
	opt.Node, opt.Owner = "another", "another"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Open(ctx, opt)
		ended <- err
	}()
	beat := func() (at string) {
		if err := db.QueryRow("SELECT beat FROM gmq_epoch").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for range 3 {
		last := beat()
		until(t, "the owner is heard of", func() bool { return beat() != last })
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the other one: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := o.wait(waits); err != nil {
		t.Error(err)
	}
	o.keep("all is well again")
	shut(t, j)
}

// A database that does not answer is an outage, though no connection is lost.
func TestSlow(t *testing.T) {
	p := newProxy(t, mariadb.Get(t).Database(t))
	opt := options(t, p.dsn)
	opt.Slow = 20 * time.Millisecond
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayed()
	going := make(chan struct{})
	p.on(func(q string) action {
		if is(q, "INSERT INTO gmq_command") {
			<-going
		}
		return action{}
	})
	caught := o.propose(false, "caught")
	until(t, "an outage", func() bool { return j.Outage() != nil })
	if err := o.wait(o.propose(false, "refused")); !errors.Is(err, journal.ErrUnavailable) {
		t.Error(err)
	}
	close(going)
	if err := o.wait(caught); err != nil {
		t.Error(err)
	}
	o.keep("all is well again")
	if err := j.Outage(); err != nil {
		t.Error(err)
	}
	shut(t, j)
}

// A COMMIT that was done, and answered with an error: whether it was is looked up.
func TestCommitDoneAndRefused(t *testing.T) {
	p := newProxy(t, mariadb.Get(t).Database(t))
	j := open(t, p.dsn)
	o := own(t, j)
	o.replayed()
	for _, code := range []uint16{1180, 1213, 1030} {
		last := ""
		p.on(func(q string) action {
			defer func() { last = q }()
			if is(q, "COMMIT") && !is(last, "UPDATE gmq_epoch") && !is(last, "SELECT") { // of a transaction with rows
				p.on(nil)
				return action{code: code, text: "Got error 28 during COMMIT", done: true}
			}
			return action{}
		})
		if err := o.wait(o.propose(false, fmt.Sprint(code))); err != nil {
			t.Error(code, ": ", err)
		}
	}
	shut(t, j)
	j = open(t, p.dsn)
	if n := own(t, j).replayed(); n != 3 {
		t.Errorf("%d records, not 3", n)
	}
	shut(t, j)
}

// No connection is ended that is not our own, whatever its number.
func TestOthersConnections(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	opt := options(t, dsn)
	opt.Takeover = time.Second
	first, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	app, err := mariadb.Connect(t, dsn).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if _, err := app.ExecContext(t.Context(), "UPDATE gmq_epoch SET connection = CONNECTION_ID()"); err != nil {
		t.Fatal(err)
	}
	second := open(t, dsn) // of the same node: at once
	if err := app.PingContext(t.Context()); err != nil {
		t.Error("the application's connection: ", err)
	}
	if err := first.Close(); err != nil && !errors.Is(err, ErrFenced) {
		t.Error(err)
	}
	shut(t, second)
}

// A journal that owes no answer ends well, though its database is away.
func TestCloseAwayAndIdle(t *testing.T) {
	p := newProxy(t, mariadb.Get(t).Database(t))
	opt := options(t, p.dsn)
	opt.Patience, opt.Takeover = 100*time.Millisecond, time.Second
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayed()
	o.keep("one")
	p.on(func(string) action { return action{cut: true} })
	until(t, "an outage", func() bool { return j.Outage() != nil })
	shut(t, j)
}

func TestLackOfSpace(t *testing.T) {
	for text, want := range map[string]fault{
		`1030 Got error 28 "No space left on device" from storage engine InnoDB`: noSpace,
		`1030 Got error 128 "Index file is crashed" from storage engine Aria`:    refused,
		`3 Error writing file '/tmp/x28' (Errcode: 13 "Permission denied")`:      refused,
		`1026 Error writing file './t.MYD' (Errcode: 28 - No space left)`:        noSpace,
		`1114 The table 'gmq_message' is full`:                                   noSpace,
		`1037 Out of memory; restart server and try again (needed 12288 bytes)`:  refused,
		`1213 Deadlock found`:             again,
		`1205 Lock wait timeout exceeded`: held,
	} {
		e := mysqlError(text)
		if got := faultOf(fmt.Errorf("wrapped: %w", e)); got != want {
			t.Errorf("%s: %d, not %d", text, got, want)
		}
	}
}

func TestOwnerFits(t *testing.T) {
	opt := options(t, mariadb.Get(t).Database(t))
	opt.Owner = strings.Repeat("ä", 300) + "\xff"
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, j)
}

// An owner that may have been replaced hands nothing out, not even what it has in memory, until it knows better. And what cannot
// be fetched for long is said to be so.
func TestReadsEnd(t *testing.T) {
	p := newProxy(t, mariadb.Get(t).Database(t))
	opt := options(t, p.dsn)
	opt.Slow, opt.Takeover = 20*time.Millisecond, time.Second
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayed()
	b := o.propose(false, "one")
	if err := o.wait(b); err != nil {
		t.Fatal(err)
	}
	read := func() error { _, err := o.s.Read([]journal.Ref{b.Base}, nil); return err }
	if err := read(); err != nil {
		t.Error(err)
	}
	woken := func(want error) {
		t.Helper()
		until(t, fmt.Sprint("Read returns ", want), func() bool {
			<-o.woken
			return errors.Is(read(), want)
		})
	}
	p.on(func(q string) action { return action{cut: is(q, "SELECT place")} })
	j.cache.blocks, j.cache.head = nil, 0
	if err := read(); !errors.Is(err, journal.ErrNotYet) {
		t.Error("at first: ", err)
	}
	woken(journal.ErrUnavailable)
	p.on(nil)
	woken(nil)
	p.on(func(string) action { return action{cut: true} })
	until(t, "it may be another's", func() bool { return errors.Is(read(), journal.ErrUnavailable) })
	p.on(nil)
	woken(nil)
	shut(t, j)
}

// A look at the outbox asks for about as many rows as its bytes allow, however large they are.
func TestOutboxRowsFit(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	j := open(t, dsn)
	db := mariadb.Connect(t, dsn)
	for i := range 300 {
		size := 10
		if i >= 100 && i < 150 {
			size = 100_000
		}
		if _, err := db.Exec("INSERT INTO gmq_outbox (queue, body) VALUES ('q', REPEAT('1', ?))", size); err != nil {
			t.Fatal(err)
		}
	}
	o := j.Outbox()
	seen, least := int64(0), 1000
	for looks := 0; ; looks++ {
		rows, err := o.Rows(t.Context(), 2000, 300_000, nil, nil)
		if err != nil || looks > 300 {
			t.Fatal(looks, err)
		}
		if len(rows) == 0 {
			break
		}
		var done []int64
		bytes := 0
		for i := range rows {
			if rows[i].ID <= seen {
				t.Fatalf("row %d comes behind %d", rows[i].ID, seen)
			}
			seen = rows[i].ID
			done = append(done, seen)
			bytes += len(rows[i].Body)
		}
		if bytes > 400_000 {
			t.Errorf("%d bytes", bytes)
		}
		least = min(least, o.fit)
		if err := o.Done(t.Context(), done, nil); err != nil {
			t.Fatal(err)
		}
	}
	if seen != 300 || least > 4 || o.fit < 20 {
		t.Errorf("up to row %d; at the least %d rows a look, at the end %d", seen, least, o.fit)
	}
	o.Close()
	shut(t, j)
}

// What no waiting mends ends the start at once.
func TestHopeless(t *testing.T) {
	server := mariadb.Get(t)
	server.NeedPrivate(t)
	dsn := server.Database(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	shut(t, open(t, dsn))
	for _, c := range []struct{ dsn, statement, want string }{
		{dsn + "?tls=true", "", "TLS"},
		{dsn + "?foo=bar", "", "foo"},
		{strings.Replace(dsn, "root@", "root:wrong@", 1), "", "denied"},
		{dsn, "DROP TABLE gmq_message", "gmq_message"},
		{dsn, "DELETE FROM gmq_epoch", "gmq_epoch has lost its row"},
	} {
		if c.statement != "" {
			if _, err := mariadb.Connect(t, dsn).Exec(c.statement); err != nil {
				t.Fatal(err)
			}
		}
		opt := options(t, c.dsn)
		opt.Patience = time.Hour
		if _, err := Open(ctx, opt); err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
